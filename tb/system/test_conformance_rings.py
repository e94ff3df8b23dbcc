"""Both ring formats in the whole device: rows that each format has under a name of its own."""

from __future__ import annotations

import random
from typing import Any

import cocotb

from lib.net_system import NetSystem, exchange, random_cuts, random_frame, small_config
from lib.sim import params, simulate
from lib.streams import cycles
from virtio_rtl.top import VirtioDevice

PLAIN: tuple[str, ...] = ()
TABLES = ("indirect_desc",)
EVENTS = ("indirect_desc", "event_idx")
ORDERED = ("indirect_desc", "in_order")
ALL = ("indirect_desc", "event_idx", "in_order", "notification_data", "notif_config_data")


def make_system(dut: Any, **options: Any) -> NetSystem:
    return NetSystem(dut, small_config(params().config), **options)


async def use_one(system: NetSystem, number: int) -> None:
    """Send a frame, and wait until its buffer is used."""
    system.net.send(random_frame(300), cookie=number)
    await system.pci.notify(1)
    await system.until(lambda: system.poll() == [number])


async def flood(system: NetSystem, count: int) -> None:
    """Send short frames both ways as fast as it goes, with rings that are kept full."""
    sent, first, received = 0, len(system.sink.frames), len(system.received)
    for _ in range(count):
        system.source.send(random.randbytes(60))
    done: list[int] = []
    while len(done) < count or len(system.received) < received + count:
        while sent < count and system.queues[1].free_slots:
            system.net.send(random.randbytes(60), cuts=(), cookie=sent)
            sent += 1
        while system.queues[0].free_slots:
            system.net.post(128)
        await system.kick(1)
        await system.kick(0)
        await cycles(system.dut, 20)
        done += system.poll()
    assert done == list(range(count))
    await system.until(lambda: len(system.sink.frames) == first + count)
    system.host.check()


@cocotb.test(timeout_time=4, timeout_unit="ms")
@cocotb.parametrize(ring=["split", "packed"], features=[PLAIN, TABLES, EVENTS, ORDERED, ALL])
async def any_framing_under_all_features(dut: Any, ring: str, features: tuple[str, ...]) -> None:
    """Headers and frames cut anywhere, over many laps: whole, in order, within their windows."""
    system = make_system(dut, ring=ring, features=features, rx_size=16, tx_size=8)
    await system.bring_up()
    await exchange(system, 60)


@cocotb.test(timeout_time=4, timeout_unit="ms")
@cocotb.parametrize(policy=["linux", "fifo", "random"])
async def any_place_in_the_descriptor_table(dut: Any, policy: str) -> None:
    """Chains in order, in descending runs and far apart; the table is never written."""
    system = make_system(dut, ring="split", features=EVENTS, policy=policy, split=True)
    await system.bring_up()
    tables = [(queue.desc_addr, queue.desc_addr + 16 * queue.size) for queue in system.queues]
    written: list[int] = []
    system.memory.write_hooks.append(lambda address, _: written.append(address))
    await exchange(system, 60)
    assert written
    assert not [at for at in written if any(start <= at < end for start, end in tables)]


@cocotb.test(timeout_time=4, timeout_unit="ms")
@cocotb.parametrize(ring=["split", "packed"], features=[TABLES, ORDERED])
async def used_is_the_last_to_be_seen(dut: Any, ring: str, features: tuple[str, ...]) -> None:
    """A driver that looks at its rings after every write of the device: each is consistent.

    Whatever shows as used then has its id, its length, and all of its bytes.
    """
    system = make_system(dut, ring=ring, features=features)
    await system.bring_up()
    done: list[int] = []
    system.memory.write_hooks.append(lambda *_: done.extend(system.poll()))
    frames = [random_frame() for _ in range(40)]
    for number, frame in enumerate(frames):
        while not (system.queues[0].free_slots > 8 and system.queues[1].free_slots > 8):
            await cycles(dut, 20)
        system.net.post(1600, cuts=random_cuts(1600), fill=0xA5)
        system.net.send(frame, cuts=random_cuts(len(frame) + 12), cookie=number)
        await system.kick(0)
        await system.kick(1)
        system.source.send(frame)
    await system.until(lambda: len(system.received) == len(frames) == len(done))
    assert [got.frame for got in system.received] == frames
    assert done == list(range(len(frames)))
    system.host.check()


@cocotb.test(timeout_time=1, timeout_unit="ms")
@cocotb.parametrize(features=[PLAIN, EVENTS])
async def kicks_without_buffers_are_harmless(dut: Any, features: tuple[str, ...]) -> None:
    """Doorbells on an empty split ring, at every position of it: nothing is taken or written."""
    system = make_system(dut, ring="split", features=features, rx_size=2, tx_size=4)
    await system.bring_up()
    for number in range(12):
        before = (len(system.interrupts), len(system.sink.frames))
        for queue in random.choices((0, 1), k=random.randint(1, 6)):
            await system.pci.notify(queue)
        await cycles(dut, 400)
        assert system.poll() == []
        assert (len(system.interrupts), len(system.sink.frames)) == before
        for queue in system.queues:
            queue.audit()
        await use_one(system, number)
        # With EVENT_IDX a driver that has polled already wants no interrupt any more.
        if "event_idx" not in features:
            await system.until(lambda told=number + 1: len(system.interrupts) == told)
        await cycles(dut, 500)
    system.host.check()


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def flags_alone_decide_without_event_idx(dut: Any) -> None:
    """avail.flags 1: silence; 0: a message for each; whatever stands at used_event."""
    system = make_system(dut, ring="split", features=TABLES, tx_size=8)
    await system.bring_up()
    queue = system.queues[1]
    told = 0
    for number in range(16):
        event = queue.driver_addr + 4 + 2 * queue.size
        system.memory.write_u16(event, random.choice([number, number + 5, 0xFFFF]))
        silent = bool(random.getrandbits(1))
        if silent:
            queue.disable_interrupts()
        else:
            queue.enable_interrupts()
        await use_one(system, number)
        told += not silent
        await cycles(dut, 500)
        assert len(system.interrupts) == told
    assert 0 < told < 16


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def used_event_decides_with_event_idx(dut: Any) -> None:
    """A message when the element of index used_event is written, none else; flags mean nothing."""
    system = make_system(dut, ring="split", features=EVENTS, tx_size=8)
    await system.bring_up()
    queue = system.queues[1]
    event = queue.driver_addr + 4 + 2 * queue.size
    told = 0
    for number in range(24):
        system.memory.write_u16(queue.driver_addr, random.getrandbits(1))
        wanted = random.choice([number, number, number + 1, number + 300, number - 1]) & 0xFFFF
        queue.disable_interrupts()  # so that polling leaves used_event alone
        system.memory.write_u16(event, wanted)
        await use_one(system, number)
        told += wanted == number
        await cycles(dut, 500)
        assert len(system.interrupts) == told, (number, wanted)
    assert 0 < told < 24


@cocotb.test(timeout_time=2, timeout_unit="ms")
@cocotb.parametrize(features=[PLAIN, EVENTS])
async def used_flags_hold_what_they_may(dut: Any, features: tuple[str, ...]) -> None:
    """used.flags is 0 without EVENT_IDX, and 1 in a flood; with it always 0: after every write."""
    # More frames than the device reads ahead: only so it is never dry.
    system = make_system(dut, ring="split", features=features, policy="linux", tx_size=256)
    await system.bring_up()
    floods = {0} if "event_idx" in features else {0, 1}
    seen: list[set[int]] = [set(), set()]

    def flags() -> list[int]:
        return [system.memory.read_u16(queue.device_addr) for queue in system.queues]

    def look(*_: Any) -> None:
        for values, value in zip(seen, flags(), strict=True):
            values.add(value)

    system.memory.write_hooks.append(look)
    await exchange(system, 60)
    assert {0} <= seen[0] <= floods
    assert {0} <= seen[1] <= floods
    for _ in range(2):
        await cycles(dut, 1500)
        # Of receive buffers some are left: there the device need not be notified yet.
        assert flags()[1] == 0, "a device that has nothing to send wants to be notified"
        for values in seen:
            values.clear()
        await flood(system, 800)
        assert {max(floods)} <= seen[0] <= floods
        assert {max(floods)} <= seen[1] <= floods


@cocotb.test(timeout_time=2, timeout_unit="ms")
@cocotb.parametrize(ring=["split", "packed"])
async def buffers_are_used_in_their_order(dut: Any, ring: str) -> None:
    """IN_ORDER: of each virtqueue the buffers come back in the order in which they were added."""
    system = make_system(dut, ring=ring, features=ALL, rx_size=8, tx_size=8)
    await system.bring_up()
    for queue in system.queues:
        assert queue.in_order
    await exchange(system, 80)


def test_conformance_rings() -> None:
    simulate(
        VirtioDevice(small_config("net-x8")),
        module=__name__,
        name="conformance_rings",
        params={"config": "net-x8"},
    )
