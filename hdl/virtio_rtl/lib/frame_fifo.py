"""Store-and-forward FIFO of whole frames, for an Ethernet port."""

from amaranth.hdl import Module, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from ..types.packet import packet_stream
from .stream import StreamFIFO

__all__ = ["FrameFIFO", "frame_length"]


def frame_length(dest_bits: int = 0) -> data.StructLayout:
    """Length of a frame in bytes, and its ``dest`` if ``dest_bits`` is not 0."""
    return data.StructLayout(
        {"bytes": unsigned(16)} | ({"dest": unsigned(dest_bits)} if dest_bits else {})
    )


class FrameFIFO(wiring.Component):
    """Queue of frames that gives a frame out only when all of it is there, and good.

    Parameters
    ----------
    width
        Data bits of a beat.
    depth_beats
        Beats held, a power of two, at least 2.
    max_frames
        Frames whose length has not been taken from ``lengths``, at least 1.
    max_bytes
        Longest frame, 1 to 65535; longer ones are dropped.
    drop_when_full
        What happens to a frame that finds no room: 0, ``input`` stalls; 1, it is dropped.
    dest_bits
        Bits of the frames' ``dest``, or 0.

    Ports
    -----
    input: packet_stream(width, dest_bits)
        Frames; ``error`` on the last beat condemns the frame.
    output: packet_stream(width, dest_bits)
        Good frames, whole, in order; ``error`` is 0.
    lengths: stream of ``frame_length(dest_bits)``
        Length and ``dest`` of each frame of ``output``, offered no later than its first beat.
    dropped
        Strobe: a frame has been dropped because it is longer than ``max_bytes`` or than the whole
        FIFO, or, with ``drop_when_full``, found no room. Not for ``error`` and ``abort``.
    abort
        Drop the frame that is being written, and ignore its beats up to and including its last
        one. Between two frames it does nothing. A beat that is taken in the same cycle belongs to
        the frame that is dropped.

    One beat per cycle in and out, also when each is a frame. Latency from a frame's last beat to
    its first one at ``output`` 2 cycles. A frame's beats at ``output`` are never interrupted by
    ``input``. A dropped frame takes no room. While a frame is being ignored, ``input`` never
    stalls. Without ``drop_when_full`` nothing is lost for want of room, but whoever reads must
    take ``output`` and ``lengths``: if either is not taken, ``input`` stalls at last, with room
    for a beat or two unused; its ``ready`` is one gate behind registers.
    """

    def __init__(
        self,
        width: int,
        depth_beats: int,
        max_frames: int,
        max_bytes: int = 65535,
        *,
        drop_when_full: bool = False,
        dest_bits: int = 0,
    ):
        if width < 8 or width % 8:
            raise ValueError(f"width = {width!r}: a multiple of 8")
        if depth_beats < 2 or depth_beats.bit_count() != 1:
            raise ValueError(f"depth_beats = {depth_beats!r}: a power of two, at least 2")
        if max_frames < 1:
            raise ValueError(f"max_frames = {max_frames!r}: at least 1")
        if not 1 <= max_bytes <= 65535:
            raise ValueError(f"max_bytes = {max_bytes!r}: 1 to 65535")
        self.width = width
        self.depth_beats = depth_beats
        self.max_frames = max_frames
        self.max_bytes = max_bytes
        self.drop_when_full = drop_when_full
        self.dest_bits = dest_bits
        super().__init__(
            {
                "input": In(packet_stream(width, dest_bits)),
                "output": Out(packet_stream(width, dest_bits)),
                "lengths": Out(stream.Signature(frame_length(dest_bits))),
                "dropped": Out(1),
                "abort": In(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        lanes = self.width // 8
        pointer = range(2 * self.depth_beats)  # one bit more than an address: full, or empty
        longest = min(self.max_bytes, self.depth_beats * lanes)

        dest_bits = self.dest_bits
        stored = data.StructLayout(
            {"data": self.width, "count": range(lanes + 1), "last": 1, "dest": dest_bits}
        )
        m.submodules.memory = memory = Memory(shape=stored, depth=self.depth_beats, init=[])
        write, read = memory.write_port(), memory.read_port()
        m.submodules.lengths = lengths = StreamFIFO(frame_length(dest_bits), self.max_frames)
        wiring.connect(m, lengths.output, wiring.flipped(self.lengths))

        # Input: written at once, counted as a frame only when its end is there and is good.
        written, committed, read_next = Signal(pointer), Signal(pointer), Signal(pointer)
        ignoring = Signal()  # up to the end of the frame
        inside = Signal()  # a frame has begun
        before = Signal(range(longest + lanes + 1))  # bytes of the frame in earlier beats
        length = Signal(range(longest + 2 * lanes + 1))
        # The longest frame ends in beat `final`, which then has `rest` bytes.
        final, rest = (longest - 1) // lanes, (longest - 1) % lanes + 1
        in_final, past_final = Signal(init=final == 0), Signal()
        beat = self.input.payload
        taken, stores, commits = Signal(), Signal(), Signal()
        full, no_room, too_long, bad = Signal(), Signal(), Signal(), Signal()
        m.d.comb += [
            full.eq((written ^ read_next) == self.depth_beats),
            taken.eq(self.input.valid & self.input.ready),
            length.eq(before + beat.count),
            too_long.eq(past_final | (in_final & (beat.count > rest))),
        ]
        if self.drop_when_full:
            m.d.comb += [
                self.input.ready.eq(1),
                no_room.eq(full | (beat.last & ~lengths.input.ready)),
            ]
        else:
            # One beat may be on its way in when room is looked for. What fills the FIFO alone must
            # be let in: whether it is as long as the FIFO or longer is seen then.
            room = Signal(init=1)
            used = Signal(pointer)
            alone = (committed == read_next) & ~(taken & beat.last)
            m.d.comb += [
                used.eq(written - read_next),
                self.input.ready.eq(ignoring | (room & lengths.input.ready)),
            ]
            m.d.sync += room.eq((used <= self.depth_beats - 2) | alone)
        m.d.comb += [
            bad.eq(too_long | no_room),
            stores.eq(taken & ~ignoring & ~bad & ~self.abort),
            commits.eq(stores & beat.last & ~beat.error),
            self.dropped.eq(taken & ~ignoring & bad & ~self.abort),
            write.addr.eq(written[:-1]),
            write.data.data.eq(beat.data),
            write.data.count.eq(beat.count),
            write.data.last.eq(beat.last),
            write.en.eq(stores),
            lengths.input.payload.bytes.eq(length),
            lengths.input.valid.eq(commits),
        ]
        if dest_bits:
            m.d.comb += [
                write.data.dest.eq(beat.dest),
                lengths.input.payload.dest.eq(beat.dest),
                self.output.payload.dest.eq(read.data.dest),
            ]
        with m.If(taken):
            m.d.sync += [
                inside.eq(~beat.last),
                before.eq(before + lanes),
                in_final.eq(before == (final - 1) * lanes),
                past_final.eq(past_final | in_final),
            ]
            with m.If(beat.last):
                m.d.sync += [
                    ignoring.eq(0),
                    before.eq(0),
                    in_final.eq(final == 0),
                    past_final.eq(0),
                ]
            with m.Elif(bad | self.abort):
                m.d.sync += ignoring.eq(1)
        with m.Elif(self.abort & inside):
            m.d.sync += ignoring.eq(1)
        with m.If(commits):
            m.d.sync += [written.eq(written + 1), committed.eq(written + 1)]
        with m.Elif(stores & ~beat.last):
            m.d.sync += written.eq(written + 1)
        with m.Elif(taken | self.abort):
            m.d.sync += written.eq(committed)

        # Output: the memory's own register is the output register.
        offered, fetch = Signal(), Signal()
        m.d.comb += [
            fetch.eq((committed != read_next) & (~offered | self.output.ready)),
            read.addr.eq(read_next[:-1]),
            read.en.eq(fetch),
            self.output.valid.eq(offered),
            self.output.payload.data.eq(read.data.data),
            self.output.payload.count.eq(read.data.count),
            self.output.payload.last.eq(read.data.last),
        ]
        with m.If(fetch):
            m.d.sync += [offered.eq(1), read_next.eq(read_next + 1)]
        with m.Elif(self.output.ready):
            m.d.sync += offered.eq(0)
        return m
