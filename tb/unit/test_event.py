"""EventCheck: asks the driver whether it wants an interrupt."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import cocotb
import pytest
from virtqueue_helper import Moves, Strobes, queue_config, serve_lookups, until

from lib.dma_model import ReadClientModel
from lib.sim import params, simulate
from lib.streams import StreamSink, StreamSource, cycles, reset, start_clock
from virtio_rtl.types.virtqueue import InterruptRequest
from virtio_rtl.virtqueue.event import EventCheck


class Flags:
    """Driver event suppression structures; notes what was read and what it said."""

    def __init__(self, queues: int):
        self.configs = [queue_config(16, (queue + 1) << 24) for queue in range(queues)]
        self.flags = [0] * queues
        self.read: list[tuple[int, int]] = []
        self.failing: set[int] = set()

    def device_read(self, address: int, length: int) -> bytes:
        """Answer a read of a whole structure. [virtio 1.4 §2.8.14]"""
        queue = (address >> 24) - 1
        assert address == self.configs[queue]["driver_area"]
        assert length == 4
        self.read.append((queue, self.flags[queue]))
        reserved = random.getrandbits(14) << 2  # not ours to look at
        return random.randbytes(2) + (reserved | self.flags[queue]).to_bytes(2, "little")


class Rig:
    """EventCheck, the structures, and what arrives."""

    def __init__(self, dut: Any, *, stall: float, latency=(3, 60)):
        self.dut = dut
        start_clock(dut)
        self.flags = Flags(params().queues)
        self.written = StreamSource(dut, "written", stall=stall)
        self.reads = ReadClientModel(
            dut, "request", "packet", self.flags, params().width, latency=latency, stall=stall
        )
        self.reads.fail = lambda address: (address >> 24) - 1 in self.flags.failing
        self.interrupts = StreamSink(dut, "interrupt", InterruptRequest, stall=stall)
        self.failed = Strobes(dut, "failed")
        serve_lookups(dut, ["lookup"], self.flags.configs)

    async def start(self) -> None:
        await reset(self.dut)

    async def quiet(self) -> None:
        """Wait until all is done."""
        await self.written.idle()
        await cycles(self.dut, 300)
        assert self.reads.requests == len(self.flags.read) + self.failed.count

    def told(self) -> Counter[int]:
        """Interrupts by virtqueue."""
        found: Counter[int] = Counter()
        while (interrupt := self.interrupts.now()) is not None:
            assert (interrupt.config, interrupt.function) == (0, 0)
            found[interrupt.queue] += 1
        return found


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def one_interrupt_for_each_read_that_wants_it(dut: Any) -> None:
    """Flags at random: interrupts are those of the reads, and each write is covered by a read."""
    rig = Rig(dut, stall=0.2)
    await rig.start()
    queues = params().queues
    wrote: Counter[int] = Counter()
    for _ in range(60):
        rig.flags.flags = [random.choice([0, 1, 1, 2, 3]) for _ in range(queues)]
        for _ in range(random.choice([1, 1, 5])):
            queue = random.randrange(queues)
            wrote[queue] += 1
            await rig.written.send(queue)
        await cycles(dut, random.choice([0, 5, 100]))
    await rig.quiet()
    reads = Counter(queue for queue, _ in rig.flags.read)
    assert rig.told() == Counter(queue for queue, flags in rig.flags.read if flags != 1)
    assert all(1 <= reads[queue] <= wrote[queue] for queue in wrote)
    assert set(reads) == set(wrote)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def a_write_during_the_read_is_read_for_again(dut: Any) -> None:
    """The driver enables interrupts after the first read and before the second write."""
    rig = Rig(dut, stall=0.0, latency=(80, 80))
    await rig.start()
    queue = params().queues - 1
    rig.flags.flags[queue] = 1
    await rig.written.send(queue)
    await until(dut, lambda: rig.reads.requests == 1, 200)
    await until(dut, lambda: len(rig.flags.read) == 1, 200)
    rig.flags.flags[queue] = 0
    for _ in range(5):
        await rig.written.send(queue)
    await rig.quiet()
    # Five writes while the first read was in flight: one more read for all of them, at most two.
    assert 2 <= rig.reads.requests <= 3
    assert sum(rig.told().values()) == rig.reads.requests - 1


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def one_read_in_flight_for_a_virtqueue(dut: Any) -> None:
    """A flood of one virtqueue costs one read per round trip, not one per write."""
    rig = Rig(dut, stall=0.0, latency=(100, 100))
    await rig.start()
    sent = Moves(dut, "request")
    rig.written.queue([1] * 400)
    await rig.quiet()
    assert 4 <= len(sent.cycles) <= 6
    gaps = [after - before for before, after in zip(sent.cycles, sent.cycles[1:])]
    assert min(gaps) >= 100


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def reads_of_different_virtqueues_overlap(dut: Any) -> None:
    """A request every cycle, none waits for another one's answer."""
    rig = Rig(dut, stall=0.0, latency=(150, 150))
    await rig.start()
    await cycles(dut, params().queues)
    sent = Moves(dut, "request")
    count = min(params().queues, 16)
    rig.written.queue(range(count))
    await rig.quiet()
    assert sent.cycles[-1] - sent.cycles[0] == count - 1
    assert rig.told() == Counter(range(count))


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def a_lone_virtqueue_waits_for_nothing(dut: Any) -> None:
    """One cycle from the used write to the read, one from the answer to the interrupt."""
    rig = Rig(dut, stall=0.0)
    await rig.start()
    await cycles(dut, params().queues + 5)
    names = ("written", "request", "packet", "interrupt")
    moves = {name: Moves(dut, name) for name in names}
    for queue in range(params().queues):
        rig.written.queue([queue])
        await rig.quiet()
    written, request, packet, interrupt = (moves[name].cycles for name in names)
    assert len(written) == len(interrupt) == params().queues
    assert all(after - before == 1 for before, after in zip(written, request, strict=True))
    assert all(after - before == 1 for before, after in zip(packet, interrupt, strict=True))


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def a_failed_read_sends_nothing(dut: Any) -> None:
    """It is reported, and the next write asks again."""
    rig = Rig(dut, stall=0.0)
    await rig.start()
    rig.flags.failing = {1}
    rig.written.queue([0, 1])
    await rig.quiet()
    assert rig.failed.count == 1
    assert rig.told() == Counter([0])
    rig.flags.failing = set()
    rig.written.queue([1])
    await rig.quiet()
    assert rig.told() == Counter([1])


@pytest.mark.parametrize(("width", "queues"), [(64, 2), (128, 3), (256, 64), (512, 4)])
def test_event(width: int, queues: int) -> None:
    simulate(
        EventCheck(width, queues),
        module=__name__,
        name=f"event_{width}",
        params={"width": width, "queues": queues},
    )
