"""What the host does at the worst moment: resets and masks under load, rings that change."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import cocotb
from cocotb.triggers import Timer, with_timeout
from system_helper import bus_master_off, write_descriptor

from lib.net_system import NetSystem, exchange, random_frame, small_config
from lib.pcie.latency import ReadLatency
from lib.sim import params, simulate
from lib.streams import cycles
from virtio_model.rings.packed import DESC_SIZE, DescFlags
from virtio_rtl.top import VirtioDevice

NEXT, AVAIL = DescFlags.NEXT, DescFlags.AVAIL

LOADS = (
    # Chance that the link takes no TLP in a cycle, bytes of a received frame, link changes.
    ("tx_stall", "longest", "flapping"),
    [
        (0.0, 1514, False),
        (0.0, 9000, True),
        (0.85, 4000, True),
    ],
)


def make_system(dut, **options) -> NetSystem:
    return NetSystem(dut, small_config(params().config), **options)


class Load:
    """Keeps both virtqueues full, and the link's state changing, until it is stopped."""

    def __init__(self, system: NetSystem, longest: int, flapping: bool):
        self.system, self.longest, self.flapping = system, longest, flapping
        self._stopped = False
        self._task = cocotb.start_soon(self._run())

    async def stop(self) -> None:
        """The last doorbell has been rung; what is in the device stays there."""
        self._stopped = True
        await self._task

    async def _run(self) -> None:
        system = self.system
        receive, transmit = system.queues
        while not self._stopped:
            while transmit.free_slots >= 2:
                system.net.send(random_frame(100), cookie=0)
            await system.kick(1)
            while receive.free_slots:
                system.net.post(9100)
            await system.kick(0)
            while system.source.waiting < 4:
                system.source.send(bytes(self.longest))
            if self.flapping:
                system.dut.link_up.value = random.getrandbits(1)
            await cycles(system.dut, 20)
            if not self._stopped:
                system.poll()
                system.received.clear()


async def strike(
    dut,
    action: Callable[[NetSystem], Awaitable[None]],
    rounds: int,
    *,
    tx_stall: float,
    longest: int,
    flapping: bool,
) -> None:
    """Under this load, at random moments, do `action`; then the device must work again."""
    system = make_system(dut)
    await system.bring_up()
    system.endpoint.tx_stall = tx_stall
    for _ in range(rounds):
        load = Load(system, longest, flapping)
        await cycles(dut, random.randint(2000, 4500))
        await load.stop()
        await action(system)
        system.source.clear()
        await system.until(lambda: system.source.idle, 60_000)
        await system.start()
    system.endpoint.tx_stall = 0.0
    await exchange(system, 8)


async def reset_in_time(system: NetSystem) -> None:
    """A device reset ends, and nothing is signalled after its end."""
    await with_timeout(system.pci.reset(), 60, "us")
    before = len(system.interrupts)
    await cycles(system.dut, 2000)
    assert len(system.interrupts) == before, "an interrupt after status has read 0"


@cocotb.test(timeout_time=2, timeout_unit="ms")
@cocotb.parametrize(LOADS)
async def device_reset_under_load(dut, tx_stall: float, longest: int, flapping: bool) -> None:
    """Data and interrupts wait for a link that is full: a reset ends all the same."""
    await strike(dut, reset_in_time, 3, tx_stall=tx_stall, longest=longest, flapping=flapping)


@cocotb.test(timeout_time=2, timeout_unit="ms")
@cocotb.parametrize(LOADS)
async def vector_table_without_bus_mastering(
    dut, tx_stall: float, longest: int, flapping: bool
) -> None:
    """With a message that may not leave, the vector table is still read and written."""

    async def mask_and_unmask(system: NetSystem) -> None:
        async with bus_master_off(system):
            await system.pci.msix.mask(1)
            await system.pci.msix.mask(1, False)
        await reset_in_time(system)

    await strike(dut, mask_and_unmask, 3, tx_stall=tx_stall, longest=longest, flapping=flapping)


@cocotb.test(timeout_time=3, timeout_unit="ms")
@cocotb.parametrize(LOADS)
async def function_level_reset_under_load(
    dut, tx_stall: float, longest: int, flapping: bool
) -> None:
    """It ends in the time that PCIe gives it; no interrupt afterwards."""

    async def function_level_reset(system: NetSystem) -> None:
        await system.initiate_flr()
        for _ in range(10):
            if flapping:
                system.dut.link_up.value = random.getrandbits(1)
            await cycles(system.dut, 1000)
        assert await system.access.config_read(0x10, 4) & ~0xF == 0, "it has not ended"
        before = len(system.interrupts)
        await system.restore()
        assert await system.pci.status() == 0
        await cycles(system.dut, 1000)
        assert len(system.interrupts) == before, "an interrupt after its end"

    await strike(
        dut, function_level_reset, 2, tx_stall=tx_stall, longest=longest, flapping=flapping
    )


@cocotb.test(timeout_time=3, timeout_unit="ms")
async def both_resets_at_once(dut) -> None:
    """A device reset in the middle of a function level reset, and the other way round."""
    system = make_system(dut)
    await system.bring_up()
    for number in range(6):
        load = Load(system, 600, False)
        await cycles(dut, random.randint(300, 1500))
        await load.stop()
        if number % 2:
            await system.pci.write_common("device_status", 0)
            await cycles(dut, random.randint(0, 200))
            await system.initiate_flr()
        else:
            await system.initiate_flr()
            await cycles(dut, random.randint(0, 100))
            # Where the function level reset has ended, nobody answers at this address.
            await system.pci.write_common("device_status", 0)
        await cycles(dut, 4000)
        system.source.clear()
        await system.until(lambda: system.source.idle)
        await system.restore()
        assert await system.pci.status() == 0
        await system.start()
        await exchange(system, 8)


@cocotb.test(timeout_time=400, timeout_unit="us")
async def pending_bits_end_with_a_reset(dut) -> None:
    """An interrupt that was masked before a device reset does not come after it."""
    system = make_system(dut)
    await system.bring_up()
    await system.pci.msix.mask(2)
    system.net.send(random_frame(), cookie=0)
    await system.kick(1)
    await cycles(dut, 1000)
    assert await system.pci.msix.pending(2)
    await system.pci.reset()
    assert not await system.pci.msix.pending(2)
    await system.pci.msix.mask(2, False)
    await cycles(dut, 1000)
    assert system.interrupts == []


@contextmanager
def slow_descriptors(system: NetSystem, first_slow: int, slow_ns: float) -> Iterator[list[int]]:
    """Reads of the ring from a slot on answer late, those before it soon; gives their slots."""
    queue, target = system.queues[1], system.host.target
    soon, late = ReadLatency(400, None), ReadLatency(slow_ns, None)
    read, slots = target.read, []

    def delayed(packet, send) -> None:
        slot = (packet.address - queue.desc_addr) // DESC_SIZE
        in_ring = 0 <= slot < queue.size
        if in_ring:
            slots.append(slot)
        target.latency = soon if in_ring and slot >= first_slow else late
        read(packet, send)

    target.read = delayed
    yield slots
    target.read = read


@cocotb.test(timeout_time=400, timeout_unit="us")
async def body_of_a_chain_is_not_older_than_its_head(dut) -> None:
    """A driver writes a chain's body, then its head; the device must not mix two states of it.

    With reads of 128 bytes, the read with the body may be answered before the one with the head:
    what was in the body's slot before is then not to be used.
    """
    system = make_system(dut, max_read_request=128)
    await system.bring_up()
    await cycles(dut, 1000)
    queue, memory = system.queues[1], system.memory
    stale, fresh = (system.allocator.alloc(4096, 64) for _ in range(2))
    for buffer in (stale, fresh):
        memory.grant(buffer, 4096)
    memory.write(stale, b"\xee" * 200)
    memory.write(fresh, bytes(12) + b"\x11" * 188)
    system.host.target.piece_gap_ns = (0, 0.001)  # every answer on its own clock
    with slow_descriptors(system, 8, 1000) as slots:
        for slot in range(7):
            write_descriptor(queue, slot, fresh, 112, slot, AVAIL)
        # An older use of the slot left this address; its flags are new already.
        write_descriptor(queue, 8, stale, 100, 9, AVAIL)
        await system.pci.notify(1)
        while not slots:
            await Timer(4, "ns")
        await Timer(700, "ns")
        write_descriptor(queue, 8, fresh + 100, 100, 9, AVAIL)
        write_descriptor(queue, 7, fresh, 100, 9, AVAIL | NEXT)
        await system.pci.notify(1)
        await cycles(dut, 3000)
    assert len(system.sink.frames) == 8
    assert system.sink.frames[7] == b"\x11" * 188


def test_races():
    simulate(
        VirtioDevice(small_config("net-x8")),
        module=__name__,
        name="races",
        params={"config": "net-x8"},
    )
