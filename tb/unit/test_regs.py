"""Register bus decoder and arbiter, and what is generated from the register maps."""

from __future__ import annotations

import random
import re
import subprocess
from typing import Any

import cocotb
import pytest
from cocotb.triggers import RisingEdge
from register_helper import RegisterInitiator, RegisterMemory, load, store

from lib.port import reader
from lib.sim import params, simulate
from lib.streams import cycles, reset, start_clock
from virtio_model.spec import pci
from virtio_model.spec.fields import Field
from virtio_rtl.config import NAMED_CONFIGS, named_config
from virtio_rtl.device.kind import device_type
from virtio_rtl.regs.arbiter import BusArbiter
from virtio_rtl.regs.decode import BusDecoder
from virtio_rtl.regs.generate import MapError, accessors, c_header, check_maps, markdown
from virtio_rtl.regs.maps import Counter, Region, RegisterMap, register_maps

REGIONS = (("low", 0x0000, 0x1000), ("middle", 0x2004, 0x2010), ("high", 0x8000, 0x10000))
COUNTERS = (Counter("drops", "Packets dropped."), Counter("errors", "Reads that failed."))


def region_of(address: int) -> str | None:
    """Return the region that holds an address."""
    return next((name for name, start, end in REGIONS if start <= address < end), None)


def random_address() -> int:
    """Return an address, often at the edge of a region."""
    edges = [edge + step for _, *bounds in REGIONS for edge in bounds for step in (-4, 0, 4)]
    edge = random.choice(edges)
    return edge if 0 <= edge < 0x10000 and random.random() < 0.7 else random.randrange(0x10000) & ~3


@cocotb.test(timeout_time=500, timeout_unit="us")
async def decoder_routes_every_access(dut: Any) -> None:
    """Each access reaches its region, unchanged and alone; the rest reads 0 and loses writes."""
    start_clock(dut)
    await reset(dut)
    for stall in (0.0, 0.4):
        bus = RegisterInitiator(dut, stall=stall)
        memories = {name: RegisterMemory(dut, name, stall) for name, *_ in REGIONS}
        golden: dict[int, int] = {}
        expected: dict[str, list[Any]] = {name: [] for name in memories}
        for _ in range(400):
            request = {
                "address": random_address(),
                "write": random.getrandbits(1),
                "data": random.getrandbits(32),
                "byte_enable": random.getrandbits(4),
            }
            region = region_of(request["address"])
            if region:
                expected[region].append(request)
                if request["write"]:
                    store(golden, request)
            answer = await bus.raw(**request)
            if not request["write"]:
                assert answer == (load(golden, request["address"]) if region else 0), request
        await cycles(dut, 30)
        for name, memory in memories.items():
            assert memory.log == expected[name]
        assert len(bus.response) == 0
        bus.stop()
        for memory in memories.values():
            memory.request.stop()
            memory.response.stop()


@cocotb.test(timeout_time=100, timeout_unit="us")
async def decoder_answers_in_order(dut: Any) -> None:
    """Reads from a slow and then a fast region are answered in their order; a write passes."""
    start_clock(dut)
    bus = RegisterInitiator(dut)
    slow, fast = RegisterMemory(dut, "low"), RegisterMemory(dut, "high")
    await reset(dut)
    slow.bytes[0], fast.bytes[0x8000] = 1, 2
    slow.response.stall = 1.0
    bus.request.queue(
        [
            {"address": 0x0000, "byte_enable": 15},
            {"address": 0x8004, "byte_enable": 15, "write": 1},
            {"address": 0x8000, "byte_enable": 15},
            {"address": 0x4000, "byte_enable": 15},
            {"address": 0x0000, "byte_enable": 15},
        ]
    )
    await cycles(dut, 30)
    assert len(fast.log) == 1
    assert len(bus.response) == 0
    slow.response.stall = 0.0
    assert await bus.response.take(4) == [1, 2, 0, 1]


@cocotb.test(timeout_time=100, timeout_unit="us")
async def writes_pass_one_a_cycle(dut: Any) -> None:
    """64 writes of one initiator take 64 cycles."""
    start_clock(dut)
    await reset(dut)
    name = "bus" if params().what == "decoder" else "initiator_0"
    bus = RegisterInitiator(dut, name)
    target = RegisterMemory(dut, "low" if params().what == "decoder" else "bus")
    await cycles(dut, 3)
    bus.request.queue(
        {"address": 4 * i, "write": 1, "data": i, "byte_enable": 15} for i in range(64)
    )
    valid = getattr(dut, f"{name}__request__valid")
    while not int(valid.value):
        await RisingEdge(dut.clk)
    await cycles(dut, 64)
    assert bus.request.count == 64
    await cycles(dut, 4)
    assert [request.data for request in target.log] == list(range(64))


@cocotb.test(timeout_time=500, timeout_unit="us")
async def arbiter_answers_who_asked(dut: Any) -> None:
    """Initiators at once, each on memory of its own: everybody sees what it wrote itself."""
    start_clock(dut)
    await reset(dut)
    memory = RegisterMemory(dut, "bus", stall=0.3)

    async def work(index: int) -> None:
        bus = RegisterInitiator(dut, f"initiator_{index}", stall=0.1 * index)
        golden: dict[int, int] = {}
        for _ in range(150):
            request = {
                "address": 0x1000 * index + 4 * random.randrange(8),
                "write": random.getrandbits(1),
                "data": random.getrandbits(32),
                "byte_enable": random.getrandbits(4),
            }
            if request["write"]:
                store(golden, request)
            answer = await bus.raw(**request)
            if not request["write"]:
                assert answer == load(golden, request["address"])
        assert len(bus.response) == 0

    tasks = [cocotb.start_soon(work(index)) for index in range(params().count)]
    for task in tasks:
        await task
    await cycles(dut, 20)
    assert len(memory.log) == 150 * params().count


@cocotb.test(timeout_time=100, timeout_unit="us")
async def arbiter_passes_nothing_during_a_read(dut: Any) -> None:
    """While a read is not answered, another initiator's access waits."""
    start_clock(dut)
    await reset(dut)
    memory = RegisterMemory(dut, "bus")
    memory.response.stall = 1.0
    first, second = RegisterInitiator(dut, "initiator_0"), RegisterInitiator(dut, "initiator_1")
    first.request.queue([{"address": 0, "write": 0, "byte_enable": 15}])
    await cycles(dut, 10)
    second.request.queue([{"address": 4, "write": 1, "data": 7, "byte_enable": 15}])
    await cycles(dut, 50)
    assert len(memory.log) == 1
    memory.response.stall = 0.0
    assert await first.response.receive() == 0
    await second.request.idle()
    await cycles(dut, 5)
    assert len(memory.log) == 2


@cocotb.test(timeout_time=100, timeout_unit="us")
async def arbiter_takes_turns(dut: Any) -> None:
    """The bus is parked at initiator 0; under load each gets every count-th cycle."""
    start_clock(dut)
    await reset(dut)
    count = params().count
    memory = RegisterMemory(dut, "bus")
    buses = [RegisterInitiator(dut, f"initiator_{index}") for index in range(count)]
    asked = reader(dut.initiator_0__request__valid)
    passed = reader(dut.bus__request__valid)
    for _ in range(3):
        buses[0].request.queue([{"address": 0, "write": 1, "data": 0, "byte_enable": 15}])
        while not asked():
            await RisingEdge(dut.clk)
        assert passed()
        await cycles(dut, 5)
    start = len(memory.log)
    for index, bus in enumerate(buses):
        bus.request.queue(
            {"address": 4 * index, "write": 1, "data": i, "byte_enable": 15} for i in range(32)
        )
    while not asked():
        await RisingEdge(dut.clk)
    await cycles(dut, 32 * count + 2)
    order = [request.address // 4 for request in memory.log[start:]]
    assert order == list(range(count)) * 32


def test_decoder() -> None:
    """The decoder in simulation."""
    simulate(
        BusDecoder([Region(*region) for region in REGIONS]),
        module=__name__,
        name="regs_decoder",
        params={"what": "decoder"},
        testcase=[
            "decoder_routes_every_access",
            "decoder_answers_in_order",
            "writes_pass_one_a_cycle",
        ],
    )


@pytest.mark.parametrize("count", [1, 2, 3])
def test_arbiter(count: int) -> None:
    """The arbiter in simulation."""
    context = {"what": "arbiter", "count": count}
    tests = ["arbiter_answers_who_asked", "writes_pass_one_a_cycle", "arbiter_takes_turns"]
    if count > 1:
        tests.append("arbiter_passes_nothing_during_a_read")
    name = f"regs_arbiter_{count}"
    simulate(BusArbiter(count), module=__name__, name=name, params=context, testcase=tests)


@pytest.mark.filterwarnings("ignore::amaranth.hdl.UnusedElaboratable")
@pytest.mark.parametrize(
    "regions",
    [
        [("a", 0, 0x1000), ("b", 0xFFC, 0x2000)],
        [("a", 0x100, 0x100)],
        [("a", 0xF000, 0x10004)],
        [("a", 2, 8)],
    ],
)
def test_decoder_refuses_bad_regions(regions: list[tuple[str, int, int]]) -> None:
    """Regions that overlap, are empty, leave the BAR or are not aligned are refused."""
    with pytest.raises(ValueError, match="region"):
        BusDecoder([Region(*region) for region in regions])


@pytest.mark.parametrize("name", NAMED_CONFIGS)
def test_maps_are_sound(name: str) -> None:
    """The maps of every named configuration pass the check and say where things are."""
    config = named_config(name)
    maps = register_maps(config, COUNTERS)
    check_maps(maps)
    found = accessors(maps)
    for field in pci.COMMON_CFG:
        assert found[f"common_config.{field.name}"].address == field.offset
    kind = device_type(config.device)
    for field in kind.config_fields:
        assert found[f"{kind.name}_config.{field.name}"].address == 0x2000 + field.offset
    assert found["isr.isr_status"].address == 0x1000
    assert found["counters.errors"].address == 0x4004
    last = config.num_queues - 1
    assert found[f"notify[{last}].queue_notify"].address == 0x3000 + 4 * last
    vector = config.msix_vectors - 1
    assert found[f"msix_table[{vector}].message_data"].address == 0x8008 + 16 * vector
    assert found["msix_pba[0].pending"].address == 0xC000
    assert found["common_config.queue_size"].reset == config.queue_size_max
    assert found["common_config.queue_enable"].banked


def test_generators_are_reproducible() -> None:
    """The same configuration gives the same bytes."""
    texts = set()
    for _ in range(2):
        maps = register_maps(named_config("net-x8"), COUNTERS)
        texts.add((c_header(maps), markdown(maps)))
    assert len(texts) == 1


def test_c_header_compiles(tmp_path: Any) -> None:
    """A C compiler reads the header, and its numbers are those of the accessors."""
    maps = register_maps(named_config("net-x8"), COUNTERS)
    (tmp_path / "regs.h").write_text(c_header(maps))
    checks = []
    for path, register in accessors(maps).items():
        block, index, field = re.fullmatch(r"(\w+)(?:\[(\d+)\])?\.(\w+)", path).groups()
        macro = f"VIRTIO_RTL_{block}_{field}".upper() + (f"({index})" if index else "")
        checks.append(f'_Static_assert({macro} == {register.address}, "{path}");')
    source = tmp_path / "check.c"
    source.write_text("\n".join(['#include "regs.h"', '#include "regs.h"', *checks, ""]))
    subprocess.run(["gcc", "-std=c11", "-Wall", "-Werror", "-fsyntax-only", source], check=True)


def test_markdown_names_every_register() -> None:
    """Each field has a row, with as many cells as the table's head."""
    maps = register_maps(named_config("net-x8"), COUNTERS)
    page = markdown(maps)
    rows = [line for line in page.splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {8}
    for where in maps:
        for field in where.fields:
            assert any(f"`{field.name}`" in row for row in rows), field.name


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ((Field("a", 0, 32), Field("b", 2, 16)), "overlaps"),
        ((Field("a", 1, 16),), "aligned"),
        ((Field("a", 0, 32), Field("a", 4, 32)), "twice"),
        ((Field("a", 0, 20),), "20 bits"),
    ],
)
def test_bad_maps_are_refused(fields: tuple[Field, ...], message: str) -> None:
    """Maps that contradict themselves are refused, by the name of the field."""
    with pytest.raises(MapError, match=message):
        check_maps([RegisterMap("m", 0, fields, "")])


def test_short_stride_is_refused() -> None:
    """A repeated map whose stride is less than it takes is refused."""
    with pytest.raises(MapError, match="stride"):
        check_maps([RegisterMap("m", 0, (Field("a", 0, 64),), "", count=2, stride=4)])
