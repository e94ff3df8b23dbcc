"""FrameFIFO with models at all ports, and what has to come out.

The golden model looks at what happened at the input in each cycle (a beat taken, an abort), and
says which frames are to come out and in which cycle a drop is to be reported.
"""

import random

import cocotb
from cocotb.triggers import RisingEdge

from lib.sim import params
from lib.streams import StreamSink, StreamSource, cycles, reset, start_clock, unpack
from virtio_rtl.lib.frame_fifo import frame_length
from virtio_rtl.types.packet import packet_beat


def beats_of(frame: bytes, lanes: int, error: bool = False) -> list[dict]:
    """Return the beats of a frame; `error` before the last beat is random, it must not count.

    With `dest`, a random one for the frame.
    """
    items = []
    dest_bits = params().dest_bits
    dest = {"dest": random.getrandbits(dest_bits)} if dest_bits else {}
    for start in range(0, len(frame), lanes):
        part = frame[start : start + lanes]
        last = start + lanes >= len(frame)
        junk = random.randbytes(lanes - len(part))
        items.append(
            {
                "data": int.from_bytes(part + junk, "little"),
                "count": len(part),
                "last": last,
                "error": error if last else random.getrandbits(1),
            }
            | dest
        )
    return items


class Golden:
    """Frames that must come out, from what was seen at the input, cycle by cycle."""

    def __init__(self, longest: int):
        self.longest = longest
        self.frames: list[bytes] = []
        self.dests: list[int] = []
        self.drops = 0
        self.frame = b""
        self.inside = self.ignoring = False

    def cycle(self, beat, abort: bool, dropped: bool, may_be_full: bool) -> None:
        """Follow one cycle; `beat` is None if none was taken."""
        if beat is None:
            assert not dropped, "a drop without a beat"
            self.ignoring |= abort and self.inside
            return
        if not self.inside:
            self.frame, self.ignoring = b"", False
        self.frame += beat.data.to_bytes(64, "little")[: beat.count]
        too_long = len(self.frame) > self.longest
        if self.ignoring or abort:
            assert not dropped, "a drop that is none"
            self.ignoring = True
        elif dropped:
            assert too_long or may_be_full, "a drop without a reason"
            self.drops += 1
            self.ignoring = True
        else:
            assert not too_long, "a drop was not reported"
        if beat.last and not self.ignoring and not beat.error:
            self.frames.append(self.frame)
            self.dests.append(beat.get("dest", 0))
        self.inside = not beat.last


class Bench:
    """The FIFO with models at all ports and the golden model beside it."""

    def __init__(self, dut, stalls=(0.0, 0.0, 0.0)):
        given = params()
        self.dut, self.lanes = dut, given.width // 8
        self.depth, self.max_frames = given.depth_beats, given.max_frames
        self.longest = min(given.max_bytes, given.depth_beats * self.lanes)
        self.drops_when_full = given.drop_when_full
        self.layout = packet_beat(given.width, given.dest_bits)
        start_clock(dut)
        dut.abort.value = 0
        self.source = StreamSource(dut, "input", self.layout, stall=stalls[0])
        self.sink = StreamSink(dut, "output", self.layout, stall=stalls[1])
        self.lengths = StreamSink(dut, "lengths", frame_length(given.dest_bits), stall=stalls[2])
        self.golden = Golden(self.longest)
        self.cycle = 0
        self.taken: list[int] = []  # cycles
        self.given: list[tuple[int, dict]] = []  # cycle, beat
        self.offers: list[int] = []  # cycles in which a length was taken
        self.held_in = 0  # beats taken and not dropped at once
        self.aborts = 0.0

    async def start(self) -> "Bench":
        await reset(self.dut)
        cocotb.start_soon(self._watch())
        return self

    def stop(self) -> None:
        for model in (self.source, self.sink, self.lengths):
            model.stop()

    async def _watch(self) -> None:
        dut = self.dut
        while True:
            await RisingEdge(dut.clk)
            self.cycle += 1
            beat = None
            if int(dut.input__valid.value) and int(dut.input__ready.value):
                beat = unpack(self.layout, int(dut.input__payload.value))
                self.taken.append(self.cycle)
            pending = sum(map(len_beats(self.lanes), self.golden.frames)) - len(self.given)
            pending += len_beats(self.lanes)(self.golden.frame) if self.golden.inside else 0
            may_be_full = self.drops_when_full and (
                pending >= self.depth
                or len(self.golden.frames) - len(self.offers) >= self.max_frames
            )
            dropped = bool(int(dut.dropped.value))
            self.golden.cycle(beat, bool(int(dut.abort.value)), dropped, may_be_full)
            if int(dut.output__valid.value) and int(dut.output__ready.value):
                out = unpack(self.layout, int(dut.output__payload.value))
                self.given.append((self.cycle, out))
            if int(dut.lengths__valid.value) and int(dut.lengths__ready.value):
                self.offers.append(self.cycle)
            if self.aborts:
                dut.abort.value = int(random.random() < self.aborts)

    async def drained(self) -> None:
        """Wait until nothing moves any more."""
        await self.source.idle()
        seen = None
        while seen != (len(self.given), len(self.offers), len(self.taken)):
            seen = (len(self.given), len(self.offers), len(self.taken))
            await cycles(self.dut, 60)

    def check(self) -> list[bytes]:
        """Frames, lengths and `dest` that came out are the golden ones; returns the frames."""
        frames, frame, dests = [], b"", iter(self.golden.dests)
        dest = next(dests, 0)
        for _, beat in self.given:
            assert not beat.error
            assert beat.last or beat.count == self.lanes
            assert beat.get("dest", 0) == dest
            frame += beat.data.to_bytes(self.lanes, "little")[: beat.count]
            if beat.last:
                frames.append(frame)
                frame, dest = b"", next(dests, 0)
        assert not frame, "a frame without an end"
        assert frames == self.golden.frames
        taken = [self.lengths.now() for _ in range(len(self.lengths))]
        assert [length.bytes for length in taken] == [len(frame) for frame in frames]
        assert [length.get("dest", 0) for length in taken] == self.golden.dests
        return frames


def len_beats(lanes: int):
    """Return a function that gives the number of beats of a frame."""
    return lambda frame: -(-len(frame) // lanes)


def random_frames(bench: Bench, count: int, long: float = 0.1) -> list[tuple[bytes, bool]]:
    """Frames of all lengths, some longer than allowed, some with an error."""
    result = []
    for _ in range(count):
        kind = random.random()
        if kind < long:
            length = bench.longest + random.choice((0, 1, 2, bench.lanes, 3 * bench.longest))
        elif kind < 0.5:
            length = random.randint(1, 2 * bench.lanes)
        else:
            length = random.randint(1, bench.longest)
        result.append((random.randbytes(length), random.random() < 0.2))
    return result
