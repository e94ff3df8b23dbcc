"""From committed descriptors to payload requests: latency to the cycle, and rate."""

from __future__ import annotations

from typing import Any

import cocotb
import pytest
from virtqueue_helper import Moves, PatternMemory, queue_config, serve_lookups, spread, until
from walk_paths import WalkPath

from lib.dma_model import ReadClientModel, WriteClientModel, packet_beats
from lib.layout import pack
from lib.sim import params, simulate
from lib.streams import StreamSink, StreamSource, cycles, reset, start_clock
from virtio_rtl.types.packet import packet_beat
from virtio_rtl.types.virtqueue import Completion, Descriptor, WritableRequest

QUEUES, BATCH, DEPTH = 6, 16, 64
LENGTH = 60


class Rig:
    """A path, its driver's side, and a DMA engine that is never in the way."""

    def __init__(self, dut: Any, *, latency: tuple[int, int] = (20, 20)):
        self.dut, self.width = dut, params().width
        start_clock(dut)
        memory = PatternMemory()
        serve_lookups(dut, ["lookup"], [queue_config(256, q << 24) for q in range(QUEUES)])
        StreamSink(dut, "rearm")
        ReadClientModel(dut, "table_request", "table_packet", memory, self.width)
        self.completions = StreamSink(dut, "completion", Completion)
        if params().receive:
            self.wanted = StreamSource(dut, "wanted", WritableRequest)
            self.packets = StreamSource(dut, "packet", packet_beat(self.width))
            self.writes = WriteClientModel(
                dut, "request", "write_packet", "done", memory, self.width, latency=latency
            )
        else:
            self.committed = StreamSource(dut, "committed")
            self.readable = StreamSink(dut, "readable", packet_beat(self.width))
            ReadClientModel(dut, "request", "packet", memory, self.width, latency=latency)
        dut.write_en.value = dut.commit_en.value = dut.issue_queue.value = 0
        self.pointer = [0] * QUEUES
        self.moves: dict[str, Moves] = {}

    async def start(self, *streams: str) -> None:
        """Reset, wait for the sweeps, and note when these streams move."""
        await reset(self.dut)
        await cycles(self.dut, QUEUES + 2)
        self.moves = {name: Moves(self.dut, name) for name in streams}

    async def write(self, queue: int, count: int) -> None:
        """Put descriptors of one-segment buffers into the store."""
        dut = self.dut
        for _ in range(count):
            descriptor = {
                "address": self.pointer[queue] << 12, "length": LENGTH,
                "write": params().receive, "id": self.pointer[queue],
            }  # fmt: skip
            dut.write_queue.value = queue
            dut.write_pointer.value = self.pointer[queue]
            dut.write_descriptor.value = pack(Descriptor, descriptor)
            dut.write_en.value = 1
            await cycles(dut)
            self.pointer[queue] = (self.pointer[queue] + 1) % (2 * DEPTH)
        dut.write_en.value = 0

    async def commit(self, queue: int) -> None:
        """Give them to the walker."""
        self.dut.commit_queue.value = queue
        self.dut.commit_pointer.value = self.pointer[queue]
        self.dut.commit_en.value = 1
        await cycles(self.dut)
        self.dut.commit_en.value = 0

    def ask(self, queue: int) -> None:
        """Want a buffer for a packet, which is there as well."""
        self.wanted.queue([{"queue": queue, "length": LENGTH}])
        self.packets.queue(packet_beats(bytes(LENGTH), self.width))

    def since(self, first: str, then: str) -> list[int]:
        """Cycles between the moves of two streams; forget them."""
        pairs = zip(self.moves[first].cycles, self.moves[then].cycles, strict=True)
        found = [after - before for before, after in pairs]
        for moves in self.moves.values():
            moves.cycles.clear()
        return found


@cocotb.test(timeout_time=200, timeout_unit="us")
async def a_lone_transmit_buffer_is_read_at_once(dut: Any) -> None:
    """Four cycles from the announcement to the read of the payload, on any virtqueue."""
    rig = Rig(dut)
    await rig.start("committed", "request")
    for queue in (0, 1, 5, 5, 5, 0):
        await rig.write(queue, 1)
        await rig.commit(queue)
        rig.committed.queue([queue])
        await rig.completions.receive()
        await cycles(dut, 10)
        assert rig.since("committed", "request") == [4]


@cocotb.test(timeout_time=200, timeout_unit="us")
async def a_delivered_packet_completes_its_buffer(dut: Any) -> None:
    """The completion is offered in the cycle after the packet's last beat."""
    rig = Rig(dut)
    beats = -(-LENGTH * 8 // rig.width)
    await rig.start("readable", "completion")
    for _ in range(3):
        await rig.write(2, 1)
        await rig.commit(2)
        rig.committed.queue([2])
        await rig.completions.receive()
        await cycles(dut, 10)
        del rig.moves["readable"].cycles[: beats - 1]
        assert rig.since("readable", "completion") == [1]


@cocotb.test(timeout_time=200, timeout_unit="us")
async def a_waiting_packet_is_written_at_once(dut: Any) -> None:
    """Five cycles from the packet's announcement to the write request, with a buffer there."""
    rig = Rig(dut)
    await rig.start("wanted", "request")
    for queue in (0, 1, 5, 5, 5, 0):
        await rig.write(queue, 1)
        await rig.commit(queue)
        await cycles(dut, 10)
        rig.ask(queue)
        await rig.completions.receive()
        await cycles(dut, 10)
        assert rig.since("wanted", "request") == [5]


@cocotb.test(timeout_time=200, timeout_unit="us")
async def a_new_buffer_is_written_at_once(dut: Any) -> None:
    """Five cycles from the commit of a buffer to the write request of a packet that waits."""
    rig = Rig(dut)
    await rig.start("request")
    commits = Moves(dut, "commit_en", valid="", ready="")
    for queue in (0, 1, 5, 5, 5, 0):
        rig.ask(queue)
        await cycles(dut, 10)
        await rig.write(queue, 1)
        await rig.commit(queue)
        await rig.completions.receive()
        await cycles(dut, 10)
        assert rig.moves["request"].cycles[-1] - commits.cycles[-1] == 5


@cocotb.test(timeout_time=200, timeout_unit="us")
async def an_accepted_write_completes_its_buffer(dut: Any) -> None:
    """The completion is offered with the write engine's token."""
    rig = Rig(dut)
    await rig.start("done", "completion")
    for _ in range(3):
        await rig.write(3, 1)
        await rig.commit(3)
        rig.ask(3)
        await rig.completions.receive()
        await cycles(dut, 10)
        assert rig.since("done", "completion") == [0]


@cocotb.test(timeout_time=200, timeout_unit="us")
async def one_virtqueue_keeps_pace(dut: Any) -> None:
    """One cycle a buffer and some more for each batch to transmit, two cycles to receive."""
    rig = Rig(dut, latency=(0, 0))
    await rig.start("request")
    await rig.write(4, DEPTH)
    await rig.commit(4)
    if params().receive:
        for _ in range(DEPTH):
            rig.ask(4)
    else:
        rig.committed.queue([4])
    await until(dut, lambda: rig.completions.count == DEPTH, 1000)
    each, batch = (2, 1) if params().receive else (1, 4)
    beats = -(-LENGTH * 8 // rig.width)
    assert spread(rig.moves["request"].cycles) <= max(each, beats) * DEPTH + batch * DEPTH // BATCH


@cocotb.test(timeout_time=200, timeout_unit="us")
async def virtqueues_in_turn_keep_pace(dut: Any) -> None:
    """Three cycles a buffer where each is of another virtqueue."""
    rig = Rig(dut, latency=(0, 0))
    await rig.start("request")
    rounds = 8
    for queue in range(QUEUES):
        await rig.write(queue, rounds)
    if params().receive:
        for queue in range(QUEUES):
            await rig.commit(queue)
        for _ in range(rounds):
            for queue in range(QUEUES):
                rig.ask(queue)
        await until(dut, lambda: rig.completions.count == rounds * QUEUES, 1000)
        beats = -(-LENGTH * 8 // rig.width)
        assert spread(rig.moves["request"].cycles) <= max(3, beats) * rounds * QUEUES
        return
    # A buffer each, committed in every third cycle.
    for count in range(1, rounds + 1):
        for queue in range(QUEUES):
            dut.commit_queue.value = queue
            dut.commit_pointer.value = count
            dut.commit_en.value = 1
            await cycles(dut)
            dut.commit_en.value = 0
            rig.committed.queue([queue])
            await cycles(dut, 2)
    await until(dut, lambda: rig.completions.count == rounds * QUEUES, 1000)
    assert spread(rig.moves["request"].cycles) <= 3 * rounds * QUEUES


TRANSMIT = [
    "a_lone_transmit_buffer_is_read_at_once", "a_delivered_packet_completes_its_buffer",
    "one_virtqueue_keeps_pace", "virtqueues_in_turn_keep_pace",
]  # fmt: skip
RECEIVE = [
    "a_waiting_packet_is_written_at_once", "a_new_buffer_is_written_at_once",
    "an_accepted_write_completes_its_buffer", "one_virtqueue_keeps_pace",
    "virtqueues_in_turn_keep_pace",
]  # fmt: skip


@pytest.mark.parametrize(
    ("width", "receive"), [(64, True), (128, False), (256, False), (256, True), (512, True)]
)
def test_walk_path(width: int, receive: bool) -> None:
    simulate(
        WalkPath(width, QUEUES, BATCH, DEPTH, receive=receive),
        module=__name__,
        name=f"walk_path_{width}_{'receive' if receive else 'transmit'}",
        testcase=RECEIVE if receive else TRANSMIT,
        params={"width": width, "receive": receive},
    )
