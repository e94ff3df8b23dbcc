"""The net device: frames between AXI4-Stream ports and packets, and what a reset does to them."""

from __future__ import annotations

import random
from collections import deque
from dataclasses import replace
from typing import Any

import cocotb
import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from cocotb.triggers import RisingEdge
from virtqueue_helper import Moves, Strobes, nothing_more, spread, until

from lib.dma_model import packet_beats, packet_bytes
from lib.port import reader, writer
from lib.sim import params, simulate
from lib.streams import StreamSink, StreamSource, cycles, reset, start_clock
from virtio_rtl.config import named_config
from virtio_rtl.device.net import NetDevice
from virtio_rtl.device.net_ports import CutPacket, PacketToPort, PortToPacket
from virtio_rtl.types.axis import AXIStream
from virtio_rtl.types.packet import packet_beat, packet_stream
from virtio_rtl.types.virtqueue import WritableRequest

MAX_FRAME = 400
MTU = MAX_FRAME - 18
MAX_RECEIVED = MTU + 14
RECEIVE_HEADER = bytes(10) + b"\x01\x00"


class PortSource:
    """Drives an AXI4-Stream port with frames (bytes, tuser); holds what it offers."""

    def __init__(self, dut: Any, name: str, width: int, *, stall: float):
        self.stall = stall
        self.frames: deque[tuple[bytes, int]] = deque()
        self.begun: list[int] = []  # cycle of each frame's first beat
        self.now = 0
        self._dut, self._lanes = dut, width // 8
        self._put = {
            n: writer(getattr(dut, f"{name}__{n}"))
            for n in ("tdata", "tkeep", "tvalid", "tlast", "tuser")
        }
        self._ready = reader(getattr(dut, f"{name}__tready"))
        self._put["tvalid"](0)
        cocotb.start_soon(self._run())

    def idle(self) -> bool:
        return not self.frames

    async def _edge(self) -> None:
        await RisingEdge(self._dut.clk)
        self.now += 1

    async def _run(self) -> None:
        lanes, put = self._lanes, self._put
        await self._edge()
        while True:
            if not self.frames:
                await self._edge()
                continue
            frame, bad = self.frames[0]
            for start in range(0, len(frame), lanes):
                while random.random() < self.stall:
                    put["tvalid"](0)
                    put["tdata"](random.getrandbits(8 * lanes))
                    await self._edge()
                piece = frame[start : start + lanes]
                last = start + lanes >= len(frame)
                put["tdata"](int.from_bytes(piece, "little"))
                put["tkeep"]((1 << len(piece)) - 1)
                put["tlast"](int(last))
                put["tuser"](int(last and bad) if last else random.getrandbits(1))
                put["tvalid"](1)
                if not start:
                    self.begun.append(self.now)
                await self._edge()
                while not self._ready():
                    await self._edge()
            self.frames.popleft()
            put["tvalid"](0)


class PortSink:
    """Takes frames from an AXI4-Stream port, and checks its rules."""

    def __init__(self, dut: Any, name: str, width: int, *, stall: float):
        self.stall = stall
        self.frames: deque[tuple[bytes, int]] = deque()
        self.beats: list[int] = []
        self._dut, self._lanes = dut, width // 8
        self._get = {
            n: reader(getattr(dut, f"{name}__{n}"))
            for n in ("tdata", "tkeep", "tvalid", "tlast", "tuser")
        }
        self._ready = writer(getattr(dut, f"{name}__tready"))
        cocotb.start_soon(self._run())

    async def _run(self) -> None:
        lanes, get = self._lanes, self._get
        in_reset = reader(self._dut.rst)
        data, ready, now, held = b"", False, 0, None
        self._ready(0)
        while True:
            await RisingEdge(self._dut.clk)
            now += 1
            live = get["tvalid"]() and not in_reset()
            seen = tuple(read() for read in get.values()) if live else None
            assert held is None or seen == held, "the offer changed before tready"
            held = None if ready else seen
            if seen and ready:
                self.beats.append(now)
                keep = get["tkeep"]()
                assert keep & (keep + 1) == 0
                assert keep
                last = get["tlast"]()
                assert last or keep == (1 << lanes) - 1, "tkeep all ones but on the last beat"
                data += get["tdata"]().to_bytes(lanes, "little")[: keep.bit_count()]
                if last:
                    self.frames.append((data, get["tuser"]()))
                    data = b""
            ready = random.random() >= self.stall
            self._ready(int(ready))


class CutSink(StreamSink):
    """A sink that knows that a cut withdraws what was offered."""

    def _in_reset(self) -> bool:
        return bool(int(self.dut.cut.value))

    dut: Any


def cut_sink(dut: Any, name: str, layout: Any, stall: float) -> CutSink:
    CutSink.dut = dut
    return CutSink(dut, name, layout, stall=stall)


class Ports(wiring.Component):
    """The three rooms of the network side, side by side."""

    def __init__(self, width: int):
        self.width = width
        super().__init__(
            {
                "rx": In(AXIStream(width)),
                "received": Out(packet_stream(width)),
                "open": In(1),
                "cut": In(1),
                "sent": In(packet_stream(width)),
                "tx": Out(AXIStream(width)),
                "cut_in": In(packet_stream(width)),
                "cut_out": Out(packet_stream(width)),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Wire them to the ports."""
        m = Module()
        m.submodules.receive = receive = PortToPacket(self.width)
        m.submodules.transmit = transmit = PacketToPort(self.width)
        m.submodules.cutter = cutter = CutPacket(self.width)
        wiring.connect(m, wiring.flipped(self.rx), receive.port)
        wiring.connect(m, receive.output, wiring.flipped(self.received))
        wiring.connect(m, wiring.flipped(self.sent), transmit.input)
        wiring.connect(m, transmit.port, wiring.flipped(self.tx))
        wiring.connect(m, wiring.flipped(self.cut_in), cutter.input)
        wiring.connect(m, cutter.output, wiring.flipped(self.cut_out))
        m.d.comb += [receive.open.eq(self.open), receive.cut.eq(self.cut), cutter.cut.eq(self.cut)]
        return m


def random_frame(longest: int = MAX_RECEIVED) -> bytes:
    return random.randbytes(random.choice([1, 14, 60, random.randint(1, longest), longest]))


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def ports_pass_frames_unchanged(dut: Any) -> None:
    """Bytes, ends and marks, both ways, whoever stalls."""
    width = params().width
    start_clock(dut)
    dut.open.value, dut.cut.value = 1, 0
    rx = PortSource(dut, "rx", width, stall=0.2)
    received = StreamSink(dut, "received", packet_beat(width), stall=0.3)
    sent = StreamSource(dut, "sent", packet_beat(width), stall=0.2)
    tx = PortSink(dut, "tx", width, stall=0.3)
    await reset(dut)
    frames = [(random_frame(), random.getrandbits(1)) for _ in range(40)]
    rx.frames.extend(frames)
    for frame, bad in frames:
        sent.queue(packet_beats(frame, width, error=bool(bad)))
    for frame, bad in frames:
        assert await packet_bytes(received) == (frame, bool(bad))
    await until(dut, lambda: len(tx.frames) == len(frames), 8000)
    assert list(tx.frames) == frames


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def a_closed_port_drops_whole_frames(dut: Any) -> None:
    """What begins while nobody can take it is dropped to its end; what has begun goes on."""
    width = params().width
    start_clock(dut)
    dut.open.value, dut.cut.value = 0, 0
    rx = PortSource(dut, "rx", width, stall=0.3)
    received = StreamSink(dut, "received", packet_beat(width), stall=0.5)
    await reset(dut)
    frames = [random.randbytes(4) + random_frame() for _ in range(60)]
    rx.frames.extend((frame, 0) for frame in frames)
    opened = []
    while not rx.idle():
        opened.append([True, False, random.random() < 0.5][len(opened) % 3])
        dut.open.value = int(opened[-1])
        # Each once for long enough that frames begin.
        await cycles(dut, 100 if len(opened) < 3 else random.choice([1, 2, 10, 60]))
    got = []
    await cycles(dut, 60)
    while len(received):
        data, error = await packet_bytes(received)
        assert not error
        got.append(data)
    rest = iter(frames)
    assert all(frame in rest for frame in got), "not whole frames in order"
    assert 0 < len(got) < len(frames)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def a_cut_drops_the_rest_of_a_received_frame(dut: Any) -> None:
    """At any beat: the frame being received ends there, the next one passes whole."""
    width = params().width
    start_clock(dut)
    dut.open.value, dut.cut.value = 1, 0
    rx = PortSource(dut, "rx", width, stall=0.2)
    received = cut_sink(dut, "received", packet_beat(width), 0.3)
    await reset(dut)
    for moment in range(40):
        first, second = random.randbytes(300), random.randbytes(70)
        rx.frames.append((first, 0))
        before = received.count
        await cycles(dut, 1 + moment % 30)
        dut.cut.value = 1
        begun = received.count > before
        await cycles(dut, 1)
        in_middle = begun and not rx.idle()
        dut.cut.value = 0
        await until(dut, rx.idle, 2000)
        await cycles(dut, 30)
        beats = await received.take(len(received))
        whole = b"".join(int(b.data).to_bytes(64, "little")[: b.count] for b in beats)
        ended = bool(beats) and beats[-1].last
        assert first.startswith(whole)
        assert ended == (whole == first)
        assert not (ended and in_middle), "the rest came after the cut"
        assert not any(beat.last for beat in beats[:-1])
        rx.frames.append((second, 0))
        assert await packet_bytes(received) == (second, False)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def a_cut_packet_is_ended_in_error(dut: Any) -> None:
    """At any beat, for one cycle or many: one more beat, last and in error, then new packets."""
    width = params().width
    lanes = width // 8
    start_clock(dut)
    dut.open.value, dut.cut.value = 1, 0
    output = cut_sink(dut, "cut_out", packet_beat(width), 0.4)
    await reset(dut)
    ended = 0
    for moment in range(40):
        source = StreamSource(dut, "cut_in", packet_beat(width), stall=0.2)
        first, second = random.randbytes(12 * lanes), random.randbytes(3 * lanes)
        source.queue(packet_beats(first, width))
        await cycles(dut, 2 + moment % 25)
        dut.cut.value = 1
        source.stop()  # its part is reset
        dut.cut_in__valid.value = 0
        await cycles(dut, random.choice([1, 1, 4]))
        dut.cut.value = 0
        await cycles(dut, 15)
        beats = await output.take(len(output))
        if beats:
            assert beats[-1].last
            whole = b"".join(int(b.data).to_bytes(lanes, "little")[: b.count] for b in beats)
            if beats[-1].error:
                ended += 1
                assert first.startswith(whole[:-1])
                assert beats[-1].count == 1
            else:
                assert whole == first
        source = StreamSource(dut, "cut_in", packet_beat(width), stall=0.2)
        source.queue(packet_beats(second, width))
        assert await packet_bytes(output) == (second, False)
        source.stop()
    assert ended > 10


class Rig:
    """The device between the engine's door and a network."""

    def __init__(self, dut: Any, *, stall: float):
        self.dut, self.width = dut, params().width
        start_clock(dut)
        dut.open.value, dut.engine_reset.value = 1, 0
        self.stall = stall
        self.tx = PortSink(dut, "tx", self.width, stall=stall)
        self.rx = PortSource(dut, "rx", self.width, stall=stall)
        self.dropped = {n: Strobes(dut, f"{n}_dropped") for n in ("transmit", "receive")}
        self.attach()

    def attach(self) -> None:
        """The engine's side; it can be taken away and come back."""
        dut, layout = self.dut, packet_beat(self.width)
        self.readable = StreamSource(dut, "readable", layout, stall=self.stall)
        self.wanted = StreamSink(dut, "wanted", WritableRequest, stall=self.stall)
        self.writable = StreamSink(dut, "writable", layout, stall=self.stall)

    async def reset_engine(self) -> None:
        """One cycle, as the reset control does it; the engine's models start over."""
        self.dut.engine_reset.value = 1
        for model in (self.readable, self.wanted, self.writable):
            model.stop()
        self.dut.readable__valid.value = 0
        self.dut.wanted__ready.value = self.dut.writable__ready.value = 0
        await cycles(self.dut, 1)
        self.dut.engine_reset.value = 0
        await cycles(self.dut, 1)
        self.attach()


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def transmits_without_the_header(dut: Any) -> None:
    """Good frames leave as they are; too long ones, empty ones and those in error do not."""
    rig = Rig(dut, stall=0.2)
    await reset(dut)
    expected, lost = [], 0
    for _ in range(60):
        length = random.choice([1, 60, random.randint(1, MAX_FRAME), MAX_FRAME, MAX_FRAME + 1, 999])
        packet = random.randbytes(12 + length)
        error = random.random() < 0.15
        if random.random() < 0.1:
            packet = packet[: random.randint(1, 12)]
        rig.readable.queue(packet_beats(packet, rig.width, error=error))
        if len(packet) - 12 > MAX_FRAME:
            lost += 1
        elif len(packet) > 12 and not error:
            expected.append((packet[12:], 0))
        elif not error:
            lost += 1
    await rig.readable.idle()
    await until(dut, lambda: len(rig.tx.frames) >= len(expected), 8000)
    await cycles(dut, 50)
    assert list(rig.tx.frames) == expected
    assert rig.dropped["transmit"].count == lost


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def receives_with_a_header(dut: Any) -> None:
    """A buffer is asked for with the packet's length; the header says one buffer, no offload."""
    rig = Rig(dut, stall=0.2)
    await reset(dut)
    expected, too_long = [], 0
    for _ in range(60):
        frame = random_frame()
        if random.random() < 0.1:
            frame = random.randbytes(MAX_RECEIVED + random.choice([1, 4, 5, 300]))
        bad = int(random.random() < 0.15)
        rig.rx.frames.append((frame, bad))
        if len(frame) > MAX_RECEIVED:
            too_long += 1
        elif not bad:
            expected.append(RECEIVE_HEADER + frame)
    for packet in expected:
        request = await rig.wanted.receive()
        assert request == {"queue": 0, "length": len(packet)}
        assert await packet_bytes(rig.writable) == (packet, False)
    await until(dut, rig.rx.idle, 4000)
    await nothing_more(dut, rig.wanted, rig.writable)
    assert rig.dropped["receive"].count == too_long


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def waits_for_buffers_and_loses_nothing(dut: Any) -> None:
    """Without a buffer frames wait, then the port; all arrive when there are buffers."""
    rig = Rig(dut, stall=0.0)
    rig.wanted.stall = rig.writable.stall = 1.0
    await reset(dut)
    frames = [random.randbytes(MAX_RECEIVED) for _ in range(12)]
    rig.rx.frames.extend((frame, 0) for frame in frames)
    await cycles(dut, 1500)
    assert not rig.rx.idle(), "no room for twelve of the longest frames"
    rig.wanted.stall = rig.writable.stall = 0.0
    for frame in frames:
        assert await packet_bytes(rig.writable) == (RECEIVE_HEADER + frame, False)
    assert rig.dropped["receive"].count == 0


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def drops_what_arrives_before_the_driver_is_ready(dut: Any) -> None:
    """Whole frames only, also the one that is arriving when the driver becomes ready."""
    rig = Rig(dut, stall=0.0)
    dut.open.value = 0
    await reset(dut)
    rig.rx.frames.extend((random.randbytes(300), 0) for _ in range(3))
    beats = -(-300 * 8 // rig.width)
    await cycles(dut, 2 * beats + beats // 2 + 2)
    dut.open.value = 1
    last = random.randbytes(77)
    await until(dut, rig.rx.idle, 2000)
    rig.rx.frames.append((last, 0))
    assert await packet_bytes(rig.writable) == (RECEIVE_HEADER + last, False)
    await nothing_more(dut, rig.writable)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def engine_reset_in_mid_frame(dut: Any) -> None:
    """Both ways, at any beat: whole frames leave, received ones are dropped, later ones pass."""
    rig = Rig(dut, stall=0.1)
    await reset(dut)
    for _ in range(25):
        given = [random.randbytes(random.randint(30, MAX_RECEIVED)) for _ in range(3)]
        for frame in given:
            rig.readable.queue(packet_beats(bytes(12) + frame, rig.width))
            rig.rx.frames.append((frame, 0))
        await cycles(dut, random.randint(1, 3 * MAX_FRAME // (rig.width // 8)))
        # What the device had handed over before its end is the engine's affair.
        await rig.reset_engine()
        await until(dut, rig.rx.idle, 3000)
        await cycles(dut, 200)
        whole = [frame for frame, bad in rig.tx.frames if not bad]
        assert whole == given[: len(whole)], "a frame that was cut, or not one of ours"
        assert len(whole) == len(rig.tx.frames)
        rig.tx.frames.clear()
        while len(rig.wanted):  # frames that began after the reset
            length = (await rig.wanted.receive()).length
            data, error = await packet_bytes(rig.writable)
            assert not error
            assert len(data) == length
            assert data[:12] == RECEIVE_HEADER
            assert data[12:] in given
        marker = random.randbytes(99)
        rig.readable.queue(packet_beats(bytes(12) + marker, rig.width))
        rig.rx.frames.append((marker, 0))
        assert await rig.wanted.receive() == {"queue": 0, "length": 111}
        assert await packet_bytes(rig.writable) == (RECEIVE_HEADER + marker, False)
        await until(dut, lambda: len(rig.tx.frames) == 1, 500)
        assert rig.tx.frames.pop() == (marker, 0)
    assert rig.dropped["transmit"].count == 0


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def one_beat_a_cycle(dut: Any) -> None:
    """Transmit takes a beat every cycle; receive gives one, back to back."""
    rig = Rig(dut, stall=0.0)
    taken, given = Moves(dut, "readable"), Moves(dut, "writable")
    await reset(dut)
    lanes = rig.width // 8
    sizes = [max(4 * lanes - 12, 60)] * 10
    for size in sizes:
        frame = random.randbytes(size)
        rig.readable.queue(packet_beats(bytes(12) + frame, rig.width))
    packets = -(-(12 + sizes[0]) // lanes)
    await until(dut, lambda: len(rig.tx.frames) == 10, 2000)
    assert spread(taken.cycles) == 10 * packets
    rig.writable.stall = 1.0
    rig.rx.frames.extend((random.randbytes(size), 0) for size in sizes[:4])
    await until(dut, rig.rx.idle, 1000)
    await cycles(dut, 10)
    rig.writable.stall = 0.0
    await cycles(dut, 100)
    assert len(given.cycles) == 4 * packets
    assert spread(given.cycles[1:]) == 4 * packets - 1


PORT_TESTS = [
    "ports_pass_frames_unchanged", "a_closed_port_drops_whole_frames",
    "a_cut_drops_the_rest_of_a_received_frame", "a_cut_packet_is_ended_in_error",
]  # fmt: skip

DEVICE_TESTS = [
    "transmits_without_the_header", "receives_with_a_header",
    "waits_for_buffers_and_loses_nothing", "drops_what_arrives_before_the_driver_is_ready",
    "engine_reset_in_mid_frame", "one_beat_a_cycle",
]  # fmt: skip


@pytest.mark.parametrize("width", [64, 128, 256, 512])
def test_net_ports(width: int) -> None:
    simulate(
        Ports(width), module=__name__, name=f"net_ports_{width}", testcase=PORT_TESTS,
        params={"width": width},
    )  # fmt: skip


@pytest.mark.parametrize("width", [64, 128, 256, 512])
def test_net_device(width: int) -> None:
    config = replace(named_config("net-x8"), width=width, mtu=MTU, max_frame=MAX_FRAME)
    simulate(
        NetDevice(config), module=__name__, name=f"net_device_{width}", testcase=DEVICE_TESTS,
        params={"width": width},
    )  # fmt: skip
