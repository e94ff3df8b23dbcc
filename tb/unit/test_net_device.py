"""The net device: frames between AXI4-Stream ports and packets, and what a reset does to them."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import cocotb
import pytest
from dest_helper import random_dest, steered_beats
from net_port_rig import (
    MAX_FRAME,
    MAX_RECEIVED,
    MTU,
    PortFrame,
    PortSink,
    PortSource,
    random_frame,
)
from virtqueue_helper import Moves, Strobes, nothing_more, spread, until

from lib.dma_model import packet_bytes
from lib.sim import params, simulate
from lib.streams import StreamSink, StreamSource, cycles, reset, start_clock
from virtio_rtl.config import named_config
from virtio_rtl.device.net import NetDevice
from virtio_rtl.types.packet import packet_beat
from virtio_rtl.types.virtqueue import WritableRequest

RECEIVE_HEADER = bytes(10) + b"\x01\x00"


def receive_queue(dest: int) -> int:
    """Where a frame goes: to the receive virtqueue of its pair, or of pair 0 if there is none."""
    return 2 * dest if dest < params().pairs else 0


class Rig:
    """The device between the engine's door and a network."""

    def __init__(self, dut: Any, *, stall: float):
        self.dut, self.width = dut, params().width
        start_clock(dut)
        dut.open.value, dut.engine_reset.value, dut.link_up.value = 1, 0, 0
        self.stall = stall
        self.tx = PortSink(dut, "net_tx", self.width, stall=stall)
        self.rx = PortSource(dut, "net_rx", self.width, stall=stall)
        names = ("transmit", "receive")  # the order of the bits
        self.dropped = {n: Strobes(dut, "events", bit) for bit, n in enumerate(names)}
        self.attach()

    def attach(self) -> None:
        """The engine's side; it can be taken away and come back."""
        dut = self.dut
        readable = packet_beat(self.width, params().dest_bits)
        self.readable = StreamSource(dut, "readable", readable, stall=self.stall)
        self.wanted = StreamSink(dut, "wanted", WritableRequest, stall=self.stall)
        self.writable = StreamSink(dut, "writable", packet_beat(self.width), stall=self.stall)

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
    """Good frames leave as they are, with their pair; too long, empty, erroneous ones do not."""
    rig = Rig(dut, stall=0.2)
    await reset(dut)
    expected, lost = [], 0
    for _ in range(60):
        length = random.choice([1, 60, random.randint(1, MAX_FRAME), MAX_FRAME, MAX_FRAME + 1, 999])
        packet, pair = random.randbytes(12 + length), random_dest()
        error = random.random() < 0.15
        if random.random() < 0.1:
            packet = packet[: random.randint(1, 12)]
        rig.readable.queue(steered_beats(packet, rig.width, pair, error=error))
        if len(packet) - 12 > MAX_FRAME:
            lost += 1
        elif len(packet) > 12 and not error:
            expected.append(PortFrame(packet[12:], 0, pair))
        elif not error:
            lost += 1
    await rig.readable.idle()
    await until(dut, lambda: len(rig.tx.frames) >= len(expected), 8000)
    await cycles(dut, 50)
    assert list(rig.tx.frames) == expected
    assert rig.dropped["transmit"].count == lost


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def receives_with_a_header(dut: Any) -> None:
    """A buffer of the frame's pair is asked for with the packet's length; the header is plain."""
    rig = Rig(dut, stall=0.2)
    await reset(dut)
    expected, too_long = [], 0
    for _ in range(60):
        frame = random_frame()
        if random.random() < 0.1:
            frame = random.randbytes(MAX_RECEIVED + random.choice([1, 4, 5, 300]))
        bad, dest = int(random.random() < 0.15), random_dest()
        rig.rx.frames.append(PortFrame(frame, bad, dest))
        if len(frame) > MAX_RECEIVED:
            too_long += 1
        elif not bad:
            expected.append((RECEIVE_HEADER + frame, receive_queue(dest)))
    for packet, queue in expected:
        request = await rig.wanted.receive()
        assert request == {"queue": queue, "length": len(packet)}
        assert await packet_bytes(rig.writable) == (packet, False)
    await until(dut, rig.rx.idle, 4000)
    await nothing_more(dut, rig.wanted, rig.writable)
    assert rig.dropped["receive"].count == too_long


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def sends_on_what_it_gave(dut: Any) -> None:
    """A driver may send a received frame on with the header it came with: num_buffers is ignored.

    DPDK's does, though it must not; the device has to cope with any number there.
    """
    rig = Rig(dut, stall=0.2)
    await reset(dut)
    expected = []
    for count in [1, 1, 1, 2, 0x100, 0xFFFF]:
        frame, pair = random_frame(), random_dest()
        rig.rx.frames.append(PortFrame(frame))
        await rig.wanted.receive()
        packet, error = await packet_bytes(rig.writable)
        assert (packet, error) == (RECEIVE_HEADER + frame, False)
        sent_on = packet[:10] + count.to_bytes(2, "little") + packet[12:]
        rig.readable.queue(steered_beats(sent_on, rig.width, pair))
        expected.append(PortFrame(frame, 0, pair))
    await until(dut, lambda: len(rig.tx.frames) >= len(expected), 8000)
    await cycles(dut, 50)
    assert list(rig.tx.frames) == expected
    assert rig.dropped["transmit"].count == 0


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def waits_for_buffers_and_loses_nothing(dut: Any) -> None:
    """Without a buffer frames wait, then the port; all arrive when there are buffers."""
    rig = Rig(dut, stall=0.0)
    rig.wanted.stall = rig.writable.stall = 1.0
    await reset(dut)
    frames = [random.randbytes(MAX_RECEIVED) for _ in range(12)]
    rig.rx.frames.extend(PortFrame(frame) for frame in frames)
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
    rig.rx.frames.extend(PortFrame(random.randbytes(300)) for _ in range(3))
    beats = -(-300 * 8 // rig.width)
    await cycles(dut, 2 * beats + beats // 2 + 2)
    dut.open.value = 1
    last = random.randbytes(77)
    await until(dut, rig.rx.idle, 2000)
    rig.rx.frames.append(PortFrame(last))
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
            rig.readable.queue(steered_beats(bytes(12) + frame, rig.width, random_dest()))
            rig.rx.frames.append(PortFrame(frame, 0, random_dest()))
        await cycles(dut, random.randint(1, 3 * MAX_FRAME // (rig.width // 8)))
        # What the device had handed over before its end is the engine's affair.
        await rig.reset_engine()
        await until(dut, rig.rx.idle, 3000)
        await cycles(dut, 200)
        whole = [frame for frame, bad, _ in rig.tx.frames if not bad]
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
        marker, pair = random.randbytes(99), random_dest()
        rig.readable.queue(steered_beats(bytes(12) + marker, rig.width, pair))
        rig.rx.frames.append(PortFrame(marker, 0, pair))
        assert await rig.wanted.receive() == {"queue": receive_queue(pair), "length": 111}
        assert await packet_bytes(rig.writable) == (RECEIVE_HEADER + marker, False)
        await until(dut, lambda: len(rig.tx.frames) == 1, 500)
        assert rig.tx.frames.pop() == (marker, 0, pair)
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
        rig.readable.queue(steered_beats(bytes(12) + frame, rig.width, random_dest()))
    packets = -(-(12 + sizes[0]) // lanes)
    await until(dut, lambda: len(rig.tx.frames) == 10, 2000)
    assert spread(taken.cycles) == 10 * packets
    rig.writable.stall = 1.0
    rig.rx.frames.extend(PortFrame(random.randbytes(size)) for size in sizes[:4])
    await until(dut, rig.rx.idle, 1000)
    await cycles(dut, 10)
    rig.writable.stall = 0.0
    await cycles(dut, 100)
    assert len(given.cycles) == 4 * packets
    assert spread(given.cycles[1:]) == 4 * packets - 1


@pytest.mark.parametrize(("width", "pairs"), [(64, 3), (128, 1), (256, 3), (512, 1)])
def test_net_device(width: int, pairs: int) -> None:
    """Of three pairs, `tdest` has one value more than there are."""
    config = replace(
        named_config("net-x8"), width=width, mtu=MTU, max_frame=MAX_FRAME, queue_pairs=pairs
    )
    simulate(
        NetDevice(config), module=__name__, name=f"net_device_{width}_{pairs}",
        params={"width": width, "pairs": pairs, "dest_bits": config.pair_bits},
    )  # fmt: skip
