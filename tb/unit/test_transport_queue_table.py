"""Per-virtqueue configuration: registers on one side, lookups on the other."""

from __future__ import annotations

import random
from typing import Any

import cocotb
import pytest
from cocotb.triggers import RisingEdge

from lib.sim import params, simulate
from lib.streams import cycles, pack, reset, start_clock, unpack
from virtio_rtl.transport.queue_table import QueueTable
from virtio_rtl.types.regbus import RegisterRequest
from virtio_rtl.types.virtqueue import QueueConfig

NO_VECTOR = 0xFFFF


class Golden:
    """The banked registers as bytes, and the rules for writing them."""

    def __init__(
        self,
        queues: int,
        size_max: int,
        vectors: int,
        *,
        ring_reset: bool = False,
        notif_config_data: bool = False,
    ) -> None:
        self.limits = queues, size_max, vectors
        self.built = {"ring_reset": ring_reset, "notif_config_data": notif_config_data}
        self.clear()

    def clear(self) -> None:
        """Reset values."""
        self.rows: list[dict[str, Any]] = [{} for _ in range(self.limits[0])]
        for queue in range(self.limits[0]):
            self.forget(queue)

    def forget(self, queue: int) -> None:
        """Reset values of one virtqueue."""
        self.rows[queue] = {
            "size": self.limits[1], "vector": NO_VECTOR, "enable": 0, "addresses": bytearray(24),
            "reset": 0,
        }  # fmt: skip

    def read(self, queue: int, offset: int) -> int:
        """Return the dword at an offset of the common configuration."""
        if queue >= len(self.rows):
            return NO_VECTOR << 16 if offset == 0x18 else 0
        row = self.rows[queue]
        if offset == 0x18:
            return row["size"] | row["vector"] << 16
        if offset == 0x1C:
            return row["enable"] | queue << 16
        if 0x20 <= offset < 0x38:
            return int.from_bytes(row["addresses"][offset - 0x20 : offset - 0x1C], "little")
        if offset == 0x38:
            data = 0x8000 + queue if self.built["notif_config_data"] else 0
            return data | row["reset"] << 16
        return 0

    def write(
        self,
        queue: int,
        offset: int,
        data: int,
        enables: int,
        *,
        any_size: bool = True,
        reset_allowed: bool = False,
    ) -> str | None:
        """Write; return "enabled" or "queue_reset" if this has enabled or reset the queue."""
        _, size_max, vectors = self.limits
        if queue >= len(self.rows):
            return None
        row = self.rows[queue]
        old = self.read(queue, offset).to_bytes(4, "little")
        new = data.to_bytes(4, "little")
        mixed = bytes(new[i] if enables >> i & 1 else old[i] for i in range(4))
        low, high = mixed[0] | mixed[1] << 8, mixed[2] | mixed[3] << 8
        if offset == 0x18:
            fits = 1 <= low <= size_max and (any_size or low in [1 << n for n in range(16)])
            if enables & 3 and not row["enable"] and fits:
                row["size"] = low
            if enables & 12:
                row["vector"] = high if high < vectors else NO_VECTOR
        elif offset == 0x1C:
            value = sum(new[i] << 8 * i for i in range(2) if enables >> i & 1)
            if value == 1 and not row["enable"]:
                row["enable"] = 1
                return "enabled"
        elif 0x20 <= offset < 0x38 and not row["enable"]:
            row["addresses"][offset - 0x20 : offset - 0x1C] = mixed
        elif offset == 0x38 and reset_allowed and self.built["ring_reset"] and not row["reset"]:
            if sum(new[i] << 8 * i for i in (2, 3) if enables >> i & 1) == 0x1_0000:
                row["reset"] = 1
                return "queue_reset"
        return None

    def config(self, queue: int) -> dict[str, int]:
        """Return what a lookup answers."""
        row = self.rows[queue]
        area = [int.from_bytes(row["addresses"][i : i + 8], "little") for i in (0, 8, 16)]
        return {
            "enabled": row["enable"],
            "size": row["size"],
            "descriptor_area": area[0],
            "driver_area": area[1],
            "device_area": area[2],
        }


def golden() -> Golden:
    """Return a model with the parameters of this run."""
    p = params()
    return Golden(
        p.queues, p.size_max, p.vectors,
        ring_reset=p.ring_reset, notif_config_data=p.notif_config_data,
    )  # fmt: skip


async def table_ready(dut: Any) -> None:
    """Start, and wait for the first sweep; it takes queues + 1 cycles, give or take the reset."""
    start_clock(dut)
    for name in ("clear", "forget", "forget_queue", "registers__write", "reset_allowed"):
        getattr(dut, name).value = 0
    dut.any_size.value = 1
    await reset(dut)
    await sweep_ends(dut)


async def sweep_ends(dut: Any) -> int:
    """Wait while the table is busy; return for how many cycles."""
    count = 0
    while int(dut.busy.value):
        count += 1
        await RisingEdge(dut.clk)
    return count


def random_queue() -> int:
    """Return an index, sometimes one that does not exist."""
    queues = params().queues
    if random.random() < 0.2:
        return random.choice([queues, queues + 1, 2 * queues, 0x8000, 0xFFFF, 0x100 | queues - 1])
    return random.randrange(queues)


def random_value(offset: int) -> int:
    """Return a value that is often interesting for a register."""
    if random.random() < 0.3:
        return random.getrandbits(32)
    if offset == 0x1C:
        return random.choice([0, 1, 1, 2, 0x101])
    if offset == 0x38:
        return random.choice([0, 1, 1, 2, 0x101]) << 16 | random.getrandbits(16)
    size_max, vectors = params().size_max, params().vectors
    size = random.choice([0, 1, 3, size_max - 1, size_max, size_max + 1, 0x8000])
    return size | random.choice([0, vectors - 1, vectors, NO_VECTOR, 0x100]) << 16


async def forgets(dut: Any, queue: int) -> None:
    """Let the table forget a virtqueue; it is busy for three cycles."""
    dut.forget_queue.value = queue
    dut.forget.value = 1
    await RisingEdge(dut.clk)
    dut.forget.value = 0
    busy = int(dut.busy.value)
    dut.forget_queue.value = random.getrandbits(16)
    await RisingEdge(dut.clk)
    assert busy + await sweep_ends(dut) == 3


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def registers_match_the_model(dut: Any) -> None:
    """Random byte-enabled accesses to random virtqueues, existing or not; some are forgotten."""
    await table_ready(dut)
    model = golden()
    resets = 0
    for step in range(3000):
        if step % 1000 == 999:
            dut.clear.value = 1
            await RisingEdge(dut.clk)
            dut.clear.value = 0
            await RisingEdge(dut.clk)
            await sweep_ends(dut)
            model.clear()
        rules = {name: random.random() < 0.5 for name in ("any_size", "reset_allowed")}
        for name, value in rules.items():
            getattr(dut, name).value = int(value)
        queue = random_queue()
        offset = random.randrange(0x18, 0x40, 4)
        enables, value = random.getrandbits(4), random_value(offset)
        write = random.getrandbits(1)
        dut.registers__select.value = queue
        request = {"address": offset, "data": value, "byte_enable": enables, "write": write}
        dut.registers__request.value = pack(RegisterRequest, request)
        await RisingEdge(dut.clk)
        dut.registers__write.value = write
        await RisingEdge(dut.clk)
        assert int(dut.registers__read_data.value) == model.read(queue, offset), request
        effect = model.write(queue, offset, value, enables, **rules) if write else None
        dut.registers__write.value = 0
        await cycles(dut, 1)
        assert int(dut.registers__enabling.value) == (effect == "enabled")
        asks = effect == "queue_reset"
        assert not params().ring_reset or int(dut.reset_request.value) == asks
        assert not asks or int(dut.reset_queue.value) == queue
        await cycles(dut, 1)
        assert int(dut.registers__read_data.value) == model.read(queue, offset), request
        waiting = [n for n, row in enumerate(model.rows) if row["reset"]]
        if waiting and random.random() < 0.3:
            queue = random.choice(waiting)
            await forgets(dut, queue)
            model.forget(queue)
            resets += 1
    assert resets > 5 or not params().ring_reset


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def lookups_see_old_or_new(dut: Any) -> None:
    """All readers at once, one index a cycle, while registers are written."""
    await table_ready(dut)
    model = golden()
    readers = params().readers
    asked: list[int] = []
    before = snapshot(model)
    for _ in range(2000):
        queue = random.randrange(params().queues)
        offset = random.randrange(0x18, 0x38, 4)
        request = {
            "address": offset,
            "data": random_value(offset),
            "byte_enable": random.getrandbits(4),
            "write": 1,
        }
        dut.registers__select.value = queue
        dut.registers__request.value = pack(RegisterRequest, request)
        for phase in range(2):  # select, then write
            queues = [random_queue() for _ in range(readers + 1)]
            for index in range(readers):
                getattr(dut, f"lookup_{index}__queue").value = queues[index]
            dut.vector_lookup__queue.value = queues[-1]
            dut.registers__write.value = phase
            await RisingEdge(dut.clk)
            # This edge still shows the answers to what was asked one cycle ago.
            if asked:
                check_answers(dut, asked, [before, model])
            before = snapshot(model)
            asked = queues
            if phase:
                model.write(queue, offset, request["data"], request["byte_enable"])


def snapshot(model: Golden) -> Golden:
    """Return a copy."""
    copy = Golden(*model.limits, **model.built)
    copy.rows = [{**row, "addresses": bytearray(row["addresses"])} for row in model.rows]
    return copy


def check_answers(dut: Any, asked: list[int], states: list[Golden]) -> None:
    """Each answer is what one of the two states says."""
    for index, queue in enumerate(asked[:-1]):
        seen = unpack(QueueConfig, int(getattr(dut, f"lookup_{index}__config").value))
        if queue >= params().queues:
            assert seen.enabled == 0
        else:
            assert seen in [state.config(queue) for state in states], queue
    vector = int(dut.vector_lookup__vector.value)
    if asked[-1] >= params().queues:
        assert vector == NO_VECTOR
    else:
        assert vector in [state.rows[asked[-1]]["vector"] for state in states]


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def sweep_clears_everything_in_time(dut: Any) -> None:
    """A sweep takes queues + 1 cycles, also when restarted half way."""
    await table_ready(dut)
    queues = params().queues
    model = golden()
    for restart in (False, True):
        for queue in range(queues):
            for offset in (0x18, 0x20, 0x34, 0x1C):
                dut.registers__select.value = queue
                request = {"address": offset, "data": 0x00010001, "byte_enable": 15, "write": 1}
                dut.registers__request.value = pack(RegisterRequest, request)
                await RisingEdge(dut.clk)
                dut.registers__write.value = 1
                await RisingEdge(dut.clk)
                dut.registers__write.value = 0
        dut.clear.value = 1
        await RisingEdge(dut.clk)
        dut.clear.value = 0
        await RisingEdge(dut.clk)
        if restart:
            await cycles(dut, queues // 2)
            dut.clear.value = 1
            await RisingEdge(dut.clk)
            dut.clear.value = 0
            await RisingEdge(dut.clk)
        assert await sweep_ends(dut) == queues + 1
        for queue in range(queues):
            dut.lookup_0__queue.value = queue
            dut.vector_lookup__queue.value = queue
            await cycles(dut, 2)
            seen = unpack(QueueConfig, int(dut.lookup_0__config.value))
            assert seen == model.config(queue)
            assert int(dut.vector_lookup__vector.value) == NO_VECTOR


@pytest.mark.parametrize(
    ("queues", "size_max", "vectors", "readers", "built"),
    [
        (1, 1, 2, 1, True), (2, 1024, 4, 2, True), (6, 32768, 7, 3, True), (64, 256, 2048, 1, True),
        (6, 1024, 7, 1, False),
    ],
)  # fmt: skip
def test_queue_table(queues: int, size_max: int, vectors: int, readers: int, built: bool) -> None:
    """The table against a model of its registers."""
    context = {
        "queues": queues, "size_max": size_max, "vectors": vectors, "readers": readers,
        "ring_reset": built, "notif_config_data": built,
    }  # fmt: skip
    name = f"queue_table_{queues}" + ("" if built else "_plain")
    waive = [] if built else ["reset_request", "reset_queue"]
    simulate(QueueTable(**context), module=__name__, name=name, params=context, waive=waive)


@pytest.mark.filterwarnings("ignore::amaranth.hdl.UnusedElaboratable")
@pytest.mark.parametrize(
    "bad", [{"queues": 0}, {"size_max": 0}, {"size_max": 40000}, {"vectors": 0}]
)
def test_bad_parameters_are_refused(bad: dict[str, int]) -> None:
    """Parameters out of range are refused by name."""
    good = {"queues": 2, "size_max": 256, "vectors": 4, "readers": 1}
    with pytest.raises(ValueError, match=next(iter(bad))):
        QueueTable(**{**good, **bad})
