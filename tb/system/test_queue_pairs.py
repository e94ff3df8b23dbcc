"""Several queue pairs behind one link: each gets its own frames, and its own interrupts."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

import cocotb
import pytest
from queue_pair_helper import (
    BUFFER,
    PAIRS,
    frames_of,
    make_system,
    nothing_broken,
    pairs_config,
    poll,
    post,
    sent_by,
)
from system_helper import counter

from lib.net_system import NetSystem, random_cuts, random_frame
from lib.queue_pair import QueuePair
from lib.sim import simulate
from lib.streams import cycles
from virtio_rtl.top import VirtioDevice

_WAIT_US = 200.0
"""Nothing is to be dropped here, however long stalls keep a buffer from being found."""


@dataclass
class Traffic:
    """What one pair is to see, and has seen."""

    pair: QueuePair
    sent: list[bytes] = field(default_factory=list)
    done: list[int] = field(default_factory=list)
    replies: list[bytes] = field(default_factory=list)
    posted: int = 0

    def send(self, count: int) -> None:
        """Send up to so many frames, framed at random."""
        for _ in range(count):
            frame = random_frame()
            cuts = random_cuts(len(frame) + 12)
            if self.pair.net.tx.free_slots < len(cuts) + 1:
                return
            self.pair.net.send(
                frame,
                cuts=cuts,
                indirect=random.random() < 0.4,
                skew=random.randrange(64),
                cookie=len(self.sent),
            )
            self.sent.append(frame)

    def post(self, count: int) -> None:
        """Post up to so many receive buffers, framed at random."""
        for _ in range(count):
            cuts = random_cuts(BUFFER)
            if self.pair.net.rx.free_slots < len(cuts) + 1:
                return
            indirect = random.random() < 0.4
            self.pair.net.post(BUFFER, cuts=cuts, indirect=indirect, skew=random.randrange(64))
            self.posted += 1

    def poll(self) -> None:
        self.done += self.pair.poll()


async def exchange(system: NetSystem, count: int) -> None:
    """Send `count` random frames each way on every pair, in random turns; compare all."""
    traffic = [Traffic(pair) for pair in system.pairs]

    def busy(one: Traffic) -> bool:
        return len(one.done) < count or len(one.pair.received) < count

    while any(map(busy, traffic)):
        for number in random.sample(range(PAIRS), random.randint(1, PAIRS)):
            one = traffic[number]
            one.send(min(random.randint(0, 8), count - len(one.sent)))
            await system.kick(2 * number + 1)
            one.post(random.randint(0, 8))
            await system.kick(2 * number)
        # No frame without a buffer that its virtqueue has been told of: nothing may be dropped.
        able = [n for n, one in enumerate(traffic) if len(one.replies) < min(one.posted, count)]
        while able and system.source.waiting < 8:
            number = random.choice(able)
            one = traffic[number]
            one.replies.append(random_frame())
            system.source.send(one.replies[-1], dest=number)
            if len(one.replies) >= min(one.posted, count):
                able.remove(number)
        await cycles(system.dut, random.choice([10, 100, 400]))
        for one in traffic:
            one.poll()
        for queue in system.queues:
            queue.audit()
    await system.until(lambda: len(system.sink.frames) >= count * PAIRS)
    for number, one in enumerate(traffic):
        assert one.done == list(range(count))
        assert sent_by(system, number) == one.sent
        assert frames_of(system, number) == one.replies
    assert await counter(system, "receive_dropped") == 0
    await nothing_broken(system)


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def random_traffic_on_all_pairs(dut: Any) -> None:
    """All frames of a pair, in order and only those, in both directions at once."""
    system = make_system(dut, rx_size=random.choice([33, 64]), tx_size=random.choice([29, 64]))
    await system.bring_up()
    await exchange(system, 30)
    # All eight virtqueues have told their own vectors.
    assert {index + 1 for index in range(2 * PAIRS)} == set(system.interrupts)


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def random_traffic_with_stalls(dut: Any) -> None:
    """The same with completions in pieces, small payloads and everybody stalling."""
    system = make_system(dut, split=True, stall=0.2, max_payload=128, max_read_request=128)
    await system.bring_up()
    await exchange(system, 12)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def each_virtqueue_has_its_interrupt(dut: Any) -> None:
    """A lone frame each way on each pair: one message, of that virtqueue's vector."""
    system = make_system(dut)
    await system.bring_up()
    told = []
    for number in random.sample(range(PAIRS), PAIRS):
        pair, frame, reply = system.pairs[number], random_frame(), random_frame()
        pair.net.send(frame, cookie="sent")
        await system.kick(2 * number + 1)
        told.append(2 * number + 2)
        await system.until(lambda: system.interrupts == told)
        assert pair.poll() == ["sent"]
        await system.until(lambda n=number: len(sent_by(system, n)) == 1)
        assert sent_by(system, number) == [frame]
        await post(system, number, 1)
        system.source.send(reply, dest=number)
        told.append(2 * number + 1)
        await system.until(lambda: system.interrupts == told)
        poll(system, number)
        assert frames_of(system, number) == [reply]
    await nothing_broken(system)


@pytest.mark.sweep
@pytest.mark.parametrize("config", ["net-x8"])
def test_queue_pairs(config: str) -> None:
    simulate(
        VirtioDevice(pairs_config(config, _WAIT_US)),
        module=__name__,
        name=f"queue_pairs_{config}",
        params={"config": config, "wait_us": _WAIT_US},
    )
