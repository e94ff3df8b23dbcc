"""Driver notifications become doorbells."""

from __future__ import annotations

import random
from typing import Any

import cocotb
import pytest
from cocotb.triggers import RisingEdge
from register_helper import RegisterInitiator, access

from lib.sim import params, simulate
from lib.streams import StreamSink, cycles, reset, start_clock
from virtio_rtl.transport.notify import Notify
from virtio_rtl.types.virtqueue import Doorbell


class Strobes:
    """Counts the cycles in which an output is set."""

    def __init__(self, dut: Any, name: str) -> None:
        self.count = 0
        self._signal, self._edge = getattr(dut, name), RisingEdge(dut.clk)
        cocotb.start_soon(self._run())

    async def _run(self) -> None:
        while True:
            await self._edge
            self.count += int(self._signal.value)


def start(dut: Any) -> None:
    """Clock, and inputs at rest."""
    start_clock(dut)
    dut.discard.value = dut.use_data.value = dut.use_config_data.value = 0


@cocotb.test(timeout_time=1500, timeout_unit="us")
async def good_writes_ring_bad_ones_count(dut: Any) -> None:
    """Every write as negotiated comes out in order, with its data; the others are counted."""
    start(dut)
    queues, built = params().queues, params().built
    for stall, data, config in (
        (0.0, 0, 0), (0.5, 0, 0), (0.5, 1, 0), (0.5, 0, 1), (0.0, 1, 1), (0.5, 1, 1),
    ):  # fmt: skip
        dut.use_data.value, dut.use_config_data.value = data, config
        data, config = data and built, config and built
        base = 0x8000 if config else 0
        bus = RegisterInitiator(dut, stall=stall)
        doorbells = StreamSink(dut, "doorbell", Doorbell, stall=stall)
        bad = Strobes(dut, "bad_doorbell")
        await reset(dut)
        expected, expected_bad = [], 0
        for _ in range(400):
            address = 0x3000 + 4 * random.randrange(queues)
            good = random.randrange(queues)
            index = random.choice([good, good + 0x8000, queues, 0xFFFF, queues | 0x8000])
            index = random.choice([index, base + good])
            kind = random.choice(["half", "word", "byte", "upper", "read", "nothing"])
            if kind == "read":
                assert await bus.read(address) == 0
                continue
            if kind in ("half", "word"):
                upper = random.getrandbits(16) if kind == "word" else 0
                await bus.write(address, index | upper << 16, 4 if kind == "word" else 2)
                if base <= index < base + queues and (kind == "word" or not data):
                    position = upper if data else 0
                    expected.append({"function": 0, "queue": index - base,
                                     "next_offset": position & 0x7FFF,
                                     "next_wrap": position >> 15})  # fmt: skip
                else:
                    expected_bad += 1
            elif kind == "byte":
                await bus.write(address + random.randrange(4), index & 0xFF, 1)
                expected_bad += 1
            elif kind == "upper":
                await bus.write(address + 2, index, 2)
                expected_bad += 1
            else:
                await bus.raw(address=address, write=1, data=index, byte_enable=0)
        assert await doorbells.take(len(expected)) == expected
        await cycles(dut, 20)
        assert len(doorbells) == 0
        assert bad.count == expected_bad
        bus.stop()
        doorbells.stop()


@cocotb.test(timeout_time=100, timeout_unit="us")
async def one_doorbell_a_cycle(dut: Any) -> None:
    """64 notifications in 64 cycles, each out one cycle after its write."""
    start(dut)
    bus, doorbells = RegisterInitiator(dut), StreamSink(dut, "doorbell", Doorbell)
    await reset(dut)
    await cycles(dut, 3)
    queues = params().queues
    indices = [i % queues for i in range(64)]
    bus.request.queue(access(0x3000 + 4 * index, 2, index) for index in indices)
    while not int(dut.bus__request__valid.value):
        await RisingEdge(dut.clk)
    await cycles(dut, 65)
    assert doorbells.count == 64
    assert [doorbell.queue for doorbell in await doorbells.take(64)] == indices


@cocotb.test(timeout_time=100, timeout_unit="us")
async def a_reset_discards(dut: Any) -> None:
    """While discarding, writes vanish, even behind untaken doorbells; those stay."""
    start(dut)
    bus, doorbells = RegisterInitiator(dut), StreamSink(dut, "doorbell", Doorbell, stall=1.0)
    bad = Strobes(dut, "bad_doorbell")
    await reset(dut)
    bus.request.queue([access(0x3000, 2, 0), access(0x3000, 2, 1), access(0x3000, 2, 1)])
    await cycles(dut, 20)
    assert bus.request.count == 2  # the third waits for the doorbells
    dut.discard.value = 1
    await cycles(dut, 5)
    assert bus.request.count == 3
    await bus.write(0x3000, 0xFFFF, 2)
    await bus.write(0x3004, 1, 2)
    dut.discard.value = 0
    doorbells.stall = 0.0
    assert [doorbell.queue for doorbell in await doorbells.take(2)] == [0, 1]
    await cycles(dut, 20)
    assert len(doorbells) == 0
    assert bad.count == 0
    await bus.write(0x3004, 1, 2)
    assert (await doorbells.receive()).queue == 1


@pytest.mark.parametrize(("queues", "built"), [(2, True), (6, True), (512, True), (6, False)])
def test_notify(queues: int, built: bool) -> None:
    """The notification structure in simulation."""
    context = {"queues": queues, "built": built}
    simulate(
        Notify(queues, notification_data=built, notif_config_data=built),
        module=__name__,
        name=f"notify_{queues}" + ("" if built else "_plain"),
        params=context,
    )


@pytest.mark.filterwarnings("ignore::amaranth.hdl.UnusedElaboratable")
def test_an_index_is_never_mistaken_for_config_data() -> None:
    """More virtqueues than `queue_notif_config_data` can tell from indices are refused."""
    Notify(0x8000, notif_config_data=True)
    with pytest.raises(ValueError, match="queues"):
        Notify(0x8001, notif_config_data=True)
