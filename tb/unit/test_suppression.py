"""The device's own event suppression structure, and the second look behind it."""

from __future__ import annotations

import random
from typing import Any

import cocotb
import pytest
from virtqueue_helper import Moves, PatternMemory, nothing_more

from lib.dma_model import WriteClientModel
from lib.sim import params, simulate
from lib.streams import StreamSink, StreamSource, cycles, reset, start_clock
from virtio_rtl.types.virtqueue import SuppressionUpdate
from virtio_rtl.virtqueue.suppression import Suppression


class Rig:
    """Suppression with updates in, writes and second looks out."""

    def __init__(self, dut: Any, *, stall: float, latency: tuple[int, int]):
        start_clock(dut)
        self.memory = PatternMemory()
        self.updates = StreamSource(dut, "update", SuppressionUpdate, stall=stall)
        self.writes = WriteClientModel(
            dut, "request", "packet", "done", self.memory, params().width,
            latency=latency, stall=stall,
        )  # fmt: skip
        self.recheck = StreamSink(dut, "recheck", stall=stall)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def publishes_and_looks_again(dut: Any) -> None:
    """Every update is written, in order; those that ask for it, and no others, lead to a look."""
    rig = Rig(dut, stall=0.3, latency=(1, 20))
    await reset(dut)
    updates = [
        {"queue": random.getrandbits(16), "address": random.getrandbits(62) << 2,
         "data": random.getrandbits(32), "length": random.choice([2, 4]),
         "recheck": random.getrandbits(1)}
        for _ in range(120)
    ]  # fmt: skip
    rig.updates.queue(updates)
    want = [update["queue"] for update in updates if update["recheck"]]
    assert await rig.recheck.take(len(want)) == want
    await rig.updates.idle()
    await nothing_more(dut, rig.recheck)
    assert dut.idle.value == 1
    assert rig.memory.writes == [
        (update["address"], update["data"].to_bytes(4, "little")[: update["length"]])
        for update in updates
    ]


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def looks_again_only_behind_the_write(dut: Any) -> None:
    """Not before the posted path has accepted the write; at most four of them on their way."""
    rig = Rig(dut, stall=0.0, latency=(200, 200))
    requests = Moves(dut, "request")
    await reset(dut)
    rig.updates.queue(
        {"queue": k, "address": 8 * k, "data": k, "length": 4, "recheck": 1} for k in range(6)
    )
    await cycles(dut, 100)
    assert len(requests.cycles) == 4
    assert [after - before for before, after in zip(requests.cycles, requests.cycles[1:])] == [
        2
    ] * 3
    assert len(rig.recheck) == 0
    assert dut.idle.value == 0
    assert await rig.recheck.take(6) == list(range(6))


@pytest.mark.parametrize("width", [64, 512])
def test_suppression(width: int) -> None:
    simulate(
        Suppression(width), module=__name__, name=f"suppression_{width}", params={"width": width}
    )
