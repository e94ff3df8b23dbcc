"""Random traffic through a `NetSystem`, both ways, everything compared."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from lib.streams import cycles

if TYPE_CHECKING:
    from lib.net_system import NetSystem

__all__ = ["exchange", "random_cuts", "random_frame"]


def random_frame(longest: int = 1514) -> bytes:
    """Random bytes; short frames as often as all the others."""
    return random.randbytes(random.choice([random.randint(14, 120), random.randint(14, longest)]))


def random_cuts(length: int) -> tuple[int, ...]:
    """Positions at which a buffer is cut into segments; often none."""
    return tuple(random.randrange(1, length) for _ in range(random.choice([0, 0, 0, 1, 2, 3, 7])))


async def exchange(system: NetSystem, count: int) -> None:
    """Send `count` random frames each way, framed at random; everything is compared.

    Frames and completions must come in order, each once; the rings must be as the driver expects.
    """
    first, earlier = len(system.sink.frames), len(system.received)
    sent: list[bytes] = []
    replies: list[bytes] = []
    done: list[int] = []
    while len(done) < count or len(system.received) < earlier + count:
        for _ in range(random.randint(0, 16)):
            frame = random_frame()
            cuts = random_cuts(len(frame) + 12)
            table = random.random() < 0.4 and system.queues[1].indirect
            if len(sent) == count or system.queues[1].free_slots < len(cuts) + 1:
                break
            system.net.send(
                frame, cuts=cuts, indirect=table, skew=random.randrange(64), cookie=len(sent)
            )
            sent.append(frame)
        await system.kick(1)
        for _ in range(random.randint(0, 16)):
            cuts = random_cuts(1600)
            if system.queues[0].free_slots < len(cuts) + 1:
                break
            table = random.random() < 0.4 and system.queues[1].indirect
            system.net.post(1600, cuts=cuts, indirect=table, skew=random.randrange(64), fill=0xA5)
        await system.kick(0)
        while len(replies) < count and system.source.waiting < 8:
            replies.append(random_frame())
            system.source.send(replies[-1])
        await cycles(system.dut, random.choice([10, 100, 400]))
        done += system.poll()
        for queue in system.queues:
            queue.audit()
    # A buffer is used when the device has its bytes; the frame leaves when it is whole.
    await system.until(lambda: len(system.sink.frames) >= first + count)
    assert done == list(range(count))
    assert system.sink.frames[first:] == sent
    assert [got.frame for got in system.received[earlier:]] == replies
    assert not system.net.unused
    system.host.check()
