"""Several queue pairs behind one link: none can stop the others."""

from __future__ import annotations

import random
from typing import Any

import cocotb
import pytest
from queue_pair_helper import (
    PAIRS,
    frames_of,
    make_system,
    nothing_broken,
    pairs_config,
    poll,
    post,
    sent_by,
)
from system_helper import counter, write_descriptor

from lib.net_system import random_frame
from lib.pcie.latency import ReadLatency
from lib.sim import simulate
from lib.streams import cycles
from virtio_model.rings.packed import DESC_SIZE, DescFlags
from virtio_model.spec.status import DeviceStatus
from virtio_rtl.top import VirtioDevice


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def a_pair_without_buffers_does_not_stop_the_others(dut: Any) -> None:
    """Its frames are dropped and counted, theirs all arrive; with buffers it receives again."""
    system = make_system(dut)
    await system.bring_up()
    others = (0, 1, 3)
    for number in others:
        await post(system, number, 40)
    want: dict[int, list[bytes]] = {number: [] for number in others}
    lost = 0
    for number in random.sample([*range(PAIRS)] * 25, 100):
        frame = random_frame(600)
        system.source.send(frame, dest=number)
        if number == 2:
            lost += 1
        else:
            want[number].append(frame)

    def arrived() -> bool:
        poll(system, *others)
        return all(len(frames_of(system, n)) == len(want[n]) for n in others)

    # One wait (1000 cycles) for all frames of the pair together.
    await system.until(arrived, 6000)
    for number in others:
        assert frames_of(system, number) == want[number]
    await system.until(lambda: system.source.idle)
    while await counter(system, "receive_dropped") < lost:
        pass
    # From the doorbell on it is a question of time when the device knows of the buffers.
    await post(system, 2, 20)
    got: list[bytes] = []
    for _ in range(40):
        frame, seen = random_frame(), len(frames_of(system, 2))
        system.source.send(frame, dest=2)
        while len(frames_of(system, 2)) == seen:
            poll(system, 2)
            if await counter(system, "receive_dropped") > lost:
                lost += 1
                assert not got, "dropped after the buffers had been found"
                break
        else:
            got.append(frame)
        if len(got) == 20:
            break
    assert len(got) == 20
    assert frames_of(system, 2) == got
    assert await counter(system, "receive_dropped") == lost
    await nothing_broken(system)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def drops_do_not_delay_a_lone_frame(dut: Any) -> None:
    """From doorbell to interrupt as long as before, once frames without a buffer were dropped."""
    system = make_system(dut, latency=ReadLatency(600, None))
    await system.bring_up()

    async def lone_frame() -> int:
        """Cycles from the doorbell to the interrupt."""
        before = len(system.interrupts)
        system.pairs[1].net.send(bytes(60), cuts=())  # a chain's used descriptor never waits
        await system.kick(3)
        taken = 0
        while len(system.interrupts) == before:
            await cycles(dut)
            taken += 1
        poll(system, 1)
        return taken

    await lone_frame()  # the first publishes the suppression state as well
    times = [await lone_frame() for _ in range(3)]
    for _ in range(20):
        system.source.send(random_frame(100), dest=2)
    while await counter(system, "receive_dropped") < 20:
        pass
    assert await lone_frame() < max(times) + 30
    await nothing_broken(system)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def a_chain_that_is_not_finished(dut: Any) -> None:
    """A driver makes a long chain available and not its end: an error, and the others work on.

    Long enough that the device has begun to execute it: its walker must not wait for the rest.
    """
    system = make_system(dut)
    await system.bring_up()
    queue, buffer = system.queues[3], system.allocator.alloc(4096, 64)
    system.memory.grant(buffer, 4096)
    for slot in range(queue.size - 1):
        write_descriptor(queue, slot, buffer, 8, 0, DescFlags.AVAIL | DescFlags.NEXT)
    await system.pci.notify(3)
    sent: dict[int, list[bytes]] = {number: [] for number in (0, 2, 3)}
    for number in random.choices([0, 2, 3], k=30):
        sent[number].append(random_frame())
        system.pairs[number].net.send(sent[number][-1])
        await system.kick(2 * number + 1)
    await system.until(lambda: len(system.sink.frames) >= 30)
    for number, frames in sent.items():
        assert sent_by(system, number) == frames
    await system.until(lambda: bool(system.interrupts))
    assert await system.pci.status() & DeviceStatus.DEVICE_NEEDS_RESET
    system.host.check()


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def a_chain_whose_rest_cannot_be_read(dut: Any) -> None:
    """A read of descriptors fails when the device has begun to execute their chain.

    What was sent before it and what other pairs send goes out; resets of virtqueues end, and after
    its reset the virtqueue works again.
    """
    system = make_system(dut, features=("indirect_desc", "ring_reset"))
    await system.bring_up()
    queue, driver = system.queues[3], system.pairs[1].net
    before = [random_frame() for _ in range(14)]
    for frame in before:
        driver.send(frame, cuts=())
    pieces = queue.size - len(before)  # longer than what the device keeps until it has the end
    assert pieces > system.config.read_ahead - system.config.fetch_batch
    frame = random.randbytes(20 * pieces)
    driver.send(frame, cuts=range(20, 20 * pieces, 20))
    last = queue.desc_addr + DESC_SIZE * (queue.size - 1)
    system.host.fault(last, last + DESC_SIZE, "ur", count=1)
    await system.pci.notify(3)
    await system.until(lambda: 0 in system.interrupts)
    assert await system.pci.status() & DeviceStatus.DEVICE_NEEDS_RESET
    sent: dict[int, list[bytes]] = {number: [] for number in (0, 2, 3)}
    for number in random.choices([0, 2, 3], k=20):
        sent[number].append(random_frame())
        system.pairs[number].net.send(sent[number][-1])
        await system.kick(2 * number + 1)
    await system.until(lambda: len(system.sink.frames) >= 34)
    assert sent_by(system, 1) == before
    for number, frames in sent.items():
        assert sent_by(system, number) == frames
    for number in (2, 1):
        await system.reset_queue(2 * number + 1)
        again = random_frame()
        system.pairs[number].net.send(again)
        await system.kick(2 * number + 1)
        await system.until(lambda again=again: system.sink.frames[-1] == again)
    system.host.check()


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def virtqueues_that_are_not_enabled(dut: Any) -> None:
    """No access, no interrupt and no waiting for them; their frames are dropped and counted."""
    system = make_system(dut)
    await system.bring_up()
    await system.start(leave_out=(4, 7))
    for number in (0, 1, 3):
        await post(system, number, 20)
    await system.access.bar_write(0, 0x3000 + 4 * 7, 7, 2)
    want: dict[int, list[bytes]] = {number: [] for number in range(PAIRS)}
    for _ in range(15):
        for number in random.sample(range(PAIRS), PAIRS):
            frame = random_frame(300)
            system.source.send(frame, dest=number)
            want[number] += [frame] * (number != 2)
    sent: dict[int, list[bytes]] = {number: [] for number in range(PAIRS)}
    for number in (0, 1, 2):
        sent[number].append(random_frame())
        system.pairs[number].net.send(sent[number][0])
        await system.kick(2 * number + 1)

    def arrived() -> bool:
        poll(system, 0, 1, 3)
        return all(len(frames_of(system, n)) == len(want[n]) for n in range(PAIRS))

    await system.until(arrived)
    await system.until(lambda: len(system.sink.frames) == 3)
    for number in range(PAIRS):
        assert frames_of(system, number) == want[number]
        assert sent_by(system, number) == sent[number]
    await system.until(lambda: system.source.idle)
    while await counter(system, "receive_dropped") < 15:
        pass
    await cycles(dut, 500)
    assert await counter(system, "receive_dropped") == 15
    assert not {5, 8} & set(system.interrupts)
    for index in (4, 7):
        system.queues[index].audit()
    await nothing_broken(system)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def frames_that_do_not_fit(dut: Any) -> None:
    """Above the MTU or the buffers of a pair: dropped and counted; buffers come back, empty."""
    system = make_system(dut)
    await system.bring_up()
    small, others = 1, (0, 2, 3)
    for number in others:
        await post(system, number, 40)
    await post(system, small, 40, 200)
    want: dict[int, list[bytes]] = {number: [] for number in range(PAIRS)}
    lengths = []  # of what comes back from the pair with small buffers
    above = 0
    for turn, number in enumerate(random.sample([*range(PAIRS)] * 15, 60)):
        length = random.choice([60, 188, 189, 1000, 9100 if turn % 20 == 0 else 100])
        frame = random.randbytes(length)
        system.source.send(frame, dest=number)
        if length > system.config.mtu + 14:
            above += 1
        elif number != small:
            want[number].append(frame)
        else:
            lengths.append(12 + length if length <= 188 else 0)
            if length <= 188:
                want[small].append(frame)
    back: list[int] = []

    def arrived() -> bool:
        poll(system, *others)
        while (used := system.queues[2 * small].poll()) is not None:
            back.append(used.length)
            if used.length:
                want_next = want[small][sum(map(bool, back)) - 1]
                assert used.cookie.layout.read(system.memory, used.length)[12:] == want_next
            used.cookie.layout.free(system.allocator)
        return len(back) == len(lengths) and all(
            len(frames_of(system, n)) == len(want[n]) for n in others
        )

    await system.until(arrived, 40_000)
    assert back == lengths
    for number in others:
        assert frames_of(system, number) == want[number]
    assert await counter(system, "receive_dropped") == above + lengths.count(0)
    await nothing_broken(system)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def a_packet_too_long_to_send(dut: Any) -> None:
    """One pair's driver gives a longer one than the device sends: used, counted; others pass."""
    system = make_system(dut)
    await system.bring_up()
    frames: dict[int, list[bytes]] = {number: [] for number in range(PAIRS)}
    given = [0] * PAIRS
    for turn in range(12):
        for number in random.sample(range(PAIRS), PAIRS):
            hostile = number == 2 and turn % 4 == 0
            longest = system.config.max_frame
            frame = random.randbytes(longest + 1) if hostile else random_frame(300)
            system.pairs[number].net.send(frame, cookie=turn)
            given[number] += 1
            frames[number] += [frame] * (not hostile)
            await system.kick(2 * number + 1)
    done: list[list[int]] = [[] for _ in range(PAIRS)]

    def used() -> bool:
        for number, pair in enumerate(system.pairs):
            done[number] += pair.poll()
        return [len(one) for one in done] == given

    await system.until(used, 40_000)
    total = sum(map(len, frames.values()))
    await system.until(lambda: len(system.sink.frames) == total)
    for number in range(PAIRS):
        assert sent_by(system, number) == frames[number]
        assert done[number] == list(range(12))
    assert await counter(system, "transmit_dropped") == 3
    await nothing_broken(system)


@pytest.mark.parametrize("config", ["net-x4"])
def test_queue_pair_isolation(config: str) -> None:
    simulate(
        VirtioDevice(pairs_config(config)),
        module=__name__,
        name=f"queue_pair_isolation_{config}",
        params={"config": config, "wait_us": 4.0},
    )
