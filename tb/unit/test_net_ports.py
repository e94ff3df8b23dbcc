"""Rooms of the network side: AXI4-Stream ports to packets and back, and what a cut does."""

from __future__ import annotations

import random
from typing import Any

import cocotb
import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from dest_helper import random_dest, steered_beats, steered_packet
from net_port_rig import PortFrame, PortSink, PortSource, random_frame
from virtqueue_helper import until

from lib.sim import params, simulate
from lib.streams import StreamSink, StreamSource, cycles, reset, start_clock
from virtio_rtl.device.net_ports import PacketToPort, PortToPacket
from virtio_rtl.lib.cut_packet import CutPacket
from virtio_rtl.types.axis import AXIStream
from virtio_rtl.types.packet import packet_beat, packet_stream


def beat_layout() -> Any:
    return packet_beat(params().width, params().dest_bits)


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

    def __init__(self, width: int, dest_bits: int):
        self.width, self.dest_bits = width, dest_bits
        port, packets = AXIStream(width, dest_bits), packet_stream(width, dest_bits)
        super().__init__(
            {
                "rx": In(port),
                "received": Out(packets),
                "open": In(1),
                "cut": In(1),
                "sent": In(packets),
                "tx": Out(port),
                "cut_in": In(packets),
                "cut_out": Out(packets),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Wire them to the ports."""
        m = Module()
        m.submodules.receive = receive = PortToPacket(self.width, self.dest_bits)
        m.submodules.transmit = transmit = PacketToPort(self.width, self.dest_bits)
        m.submodules.cutter = cutter = CutPacket(self.width, self.dest_bits)
        wiring.connect(m, wiring.flipped(self.rx), receive.port)
        wiring.connect(m, receive.output, wiring.flipped(self.received))
        wiring.connect(m, wiring.flipped(self.sent), transmit.input)
        wiring.connect(m, transmit.port, wiring.flipped(self.tx))
        wiring.connect(m, wiring.flipped(self.cut_in), cutter.input)
        wiring.connect(m, cutter.output, wiring.flipped(self.cut_out))
        m.d.comb += [receive.open.eq(self.open), receive.cut.eq(self.cut), cutter.cut.eq(self.cut)]
        return m


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def ports_pass_frames_unchanged(dut: Any) -> None:
    """Bytes, ends, marks and destinations, both ways, whoever stalls."""
    width, layout = params().width, beat_layout()
    start_clock(dut)
    dut.open.value, dut.cut.value = 1, 0
    rx = PortSource(dut, "rx", width, stall=0.2)
    received = StreamSink(dut, "received", layout, stall=0.3)
    sent = StreamSource(dut, "sent", layout, stall=0.2)
    tx = PortSink(dut, "tx", width, stall=0.3)
    await reset(dut)
    frames = [PortFrame(random_frame(), random.getrandbits(1), random_dest()) for _ in range(40)]
    rx.frames.extend(frames)
    for frame, bad, dest in frames:
        sent.queue(steered_beats(frame, width, dest, error=bool(bad)))
    for frame in frames:
        assert await steered_packet(received) == frame
    await until(dut, lambda: len(tx.frames) == len(frames), 8000)
    assert list(tx.frames) == frames


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def a_closed_port_drops_whole_frames(dut: Any) -> None:
    """What begins while nobody can take it is dropped to its end; what has begun goes on."""
    width, layout = params().width, beat_layout()
    start_clock(dut)
    dut.open.value, dut.cut.value = 0, 0
    rx = PortSource(dut, "rx", width, stall=0.3)
    received = StreamSink(dut, "received", layout, stall=0.5)
    await reset(dut)
    frames = [PortFrame(random.randbytes(4) + random_frame(), 0, random_dest()) for _ in range(60)]
    rx.frames.extend(frames)
    opened = []
    while not rx.idle():
        opened.append([True, False, random.random() < 0.5][len(opened) % 3])
        dut.open.value = int(opened[-1])
        # Each once for long enough that frames begin.
        await cycles(dut, 100 if len(opened) < 3 else random.choice([1, 2, 10, 60]))
    got = []
    await cycles(dut, 60)
    while len(received):
        got.append(await steered_packet(received))
    rest = iter(frames)
    assert all(frame in rest for frame in got), "not whole frames in order"
    assert 0 < len(got) < len(frames)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def a_cut_drops_the_rest_of_a_received_frame(dut: Any) -> None:
    """At any beat: the frame being received ends there, the next one passes whole."""
    width, layout = params().width, beat_layout()
    start_clock(dut)
    dut.open.value, dut.cut.value = 1, 0
    rx = PortSource(dut, "rx", width, stall=0.2)
    received = cut_sink(dut, "received", layout, 0.3)
    await reset(dut)
    for moment in range(40):
        first, second = random.randbytes(300), random.randbytes(70)
        rx.frames.append(PortFrame(first, 0, random_dest()))
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
        rx.frames.append(PortFrame(second, 0, dest := random_dest()))
        assert await steered_packet(received) == (second, False, dest)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def a_cut_packet_is_ended_in_error(dut: Any) -> None:
    """At any beat, for one cycle or many: one more beat, last and in error, then new packets."""
    width, layout = params().width, beat_layout()
    lanes = width // 8
    start_clock(dut)
    dut.open.value, dut.cut.value = 1, 0
    output = cut_sink(dut, "cut_out", layout, 0.4)
    await reset(dut)
    ended = 0
    for moment in range(40):
        source = StreamSource(dut, "cut_in", layout, stall=0.2)
        first, second = random.randbytes(12 * lanes), random.randbytes(3 * lanes)
        source.queue(steered_beats(first, width, random_dest()))
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
        source = StreamSource(dut, "cut_in", layout, stall=0.2)
        source.queue(steered_beats(second, width, dest := random_dest()))
        assert await steered_packet(output) == (second, False, dest)
        source.stop()
    assert ended > 10


@pytest.mark.parametrize(("width", "dest_bits"), [(64, 2), (128, 0), (256, 7), (512, 0)])
def test_net_ports(width: int, dest_bits: int) -> None:
    simulate(
        Ports(width, dest_bits), module=__name__, name=f"net_ports_{width}_{dest_bits}",
        params={"width": width, "dest_bits": dest_bits},
    )  # fmt: skip
