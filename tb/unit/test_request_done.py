"""RequestDone: a buffer is given back when it was both read and answered."""

from __future__ import annotations

import random
from typing import Any

import cocotb
from virtqueue_helper import Moves, nothing_more, spread

from lib.sim import params, simulate
from lib.streams import StreamSink, StreamSource, cycles, reset, start_clock
from virtio_rtl.types.virtqueue import Completion
from virtio_rtl.virtqueue.request_done import RequestDone


class Rig:
    """RequestDone between both sides and the used ring."""

    def __init__(self, dut: Any, *, stall: float):
        start_clock(dut)
        self.read = StreamSource(dut, "read", Completion, stall=stall)
        self.written = StreamSource(dut, "written", Completion, stall=stall)
        self.done = StreamSink(dut, "completion", Completion, stall=stall)


def answers(count: int, start: int = 0) -> list[dict[str, int]]:
    return [
        {"queue": 3, "id": start + k, "slots": 2, "written": random.getrandbits(25), "error": k & 1}
        for k in range(count)
    ]


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def waits_for_both(dut: Any) -> None:
    """Never more given back than read or answered, either side ahead; order and content kept."""
    rig = Rig(dut, stall=random.choice([0.0, 0.4]))
    await reset(dut)
    expected: list[dict[str, int]] = []
    given = read = 0
    for _ in range(40):
        more = answers(random.randint(0, 6), len(expected))
        expected += more
        rig.written.queue(more)
        behind = random.randint(0, len(expected) - read)
        rig.read.queue([{}] * behind)
        read += behind
        await cycles(dut, random.randint(1, 12))
        assert rig.done.count <= min(rig.read.count, rig.written.count)
        while len(rig.done):
            got = rig.done.now()
            assert {**expected[given], "function": 0} == got
            given += 1
    rig.read.queue([{}] * (len(expected) - read))
    while given < len(expected):
        assert {**expected[given], "function": 0} == await rig.done.receive()
        given += 1
    await nothing_more(dut, rig.done)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def read_ahead_is_bounded(dut: Any) -> None:
    """Reads that are too far ahead wait; none is forgotten. Then one buffer a cycle."""
    rig = Rig(dut, stall=0.0)
    moves = Moves(dut, "completion")
    await reset(dut)
    count = params().ahead
    rig.read.queue([{}] * (count + 5))
    await cycles(dut, count + 50)
    assert rig.read.count == count
    rig.written.queue(answers(count + 7))
    await cycles(dut, count + 50)
    assert rig.done.count == count + 5
    assert spread(moves.cycles) == count + 5


def test_request_done() -> None:
    simulate(RequestDone(12), module=__name__, name="request_done", params={"ahead": 12})
