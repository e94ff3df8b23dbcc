"""The read engine on a bus without errors: packets, splits, tags, bus master enable, stop."""

from __future__ import annotations

import itertools
import random
from typing import Any

import cocotb
import pytest
from cocotb.triggers import RisingEdge
from read_engine_rig import (
    CONFIGS,
    Bench,
    engine_parameters,
    random_address,
    random_group,
    run_groups,
)

from lib.sim import simulate
from lib.streams import cycles, unpack
from virtio_rtl.dma.read_engine import ReadEngine
from virtio_rtl.types.tlp import CompletionStatus, tlp_beat


@cocotb.test(timeout_time=4, timeout_unit="ms")
async def packs_random_groups(dut: Any) -> None:
    """Any lengths, alignments, groups, completion splits and orders; every stream stalls."""
    bench = await Bench(dut).start()
    host = bench.host
    for stall, rcb, latency in (
        (0.0, 64, (150, 200)),
        (0.3, 128, (1, 400)),
        (0.5, 64, (1, 30)),
        (0.1, 128, (150, 151)),
    ):
        bench.set_stall(stall)
        host.rcb = rcb
        host.latency = lambda low=latency[0], high=latency[1]: random.randint(low, high)
        host.read_code = random.randrange(6)
        host.set_control()
        await cycles(dut, 5)
        await run_groups(bench, 8)


@cocotb.test(timeout_time=4, timeout_unit="ms")
async def splits_at_mrrs_and_pages(dut: Any) -> None:
    """MRRS 128 to 4096, changed at run time; the fewest reads that the rules allow."""
    bench = await Bench(dut).start()
    host = bench.host
    for code in (0, 5, 1, 4, 2, 3, 7):
        host.read_code = min(code, 5)
        host.set_control()
        if code == 7:  # a reserved code must not exceed a slot either
            dut.control.value = int(dut.control.value) | 7 << 22
            host.read_code = 5
        await cycles(dut, 5)
        host.seen.clear()
        groups = [random_group() for _ in range(6)]
        expected = [bench.clients[0].ask(group) for group in groups]
        for data in expected:
            await bench.clients[0].expect(data)
        wanted = []
        for address, length in itertools.chain(*groups):
            end = address + length
            while address < end:
                size = min(end - address, host.read_size - address % 4, 4096 - address % 4096)
                wanted.append((address, size))
                address += size
        assert [(r.address, r.length) for r in host.seen] == wanted


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def changes_mrrs_during_a_request(dut: Any) -> None:
    """MRRS changes at any moment, and the bytes stay right."""
    bench = await Bench(dut, stall=0.2).start()
    host = bench.host

    async def change() -> None:
        while True:
            await cycles(dut, random.randint(1, 20))
            host.read_code = random.randrange(6)
            host.set_control()

    task = cocotb.start_soon(change())
    await run_groups(bench, 8)
    task.cancel()


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def uses_only_low_tags_without_extended_tags(dut: Any) -> None:
    """32 tags without Extended Tag Field Enable, all of them with it; each is used again."""
    bench = await Bench(dut).start()
    await bench.rest()
    host, tags = bench.host, bench.params.tags
    host.latency = lambda: 3 * tags + 100
    for extended in (False, True, False):
        host.extended = extended
        host.set_control()
        await cycles(dut, 5)
        host.seen.clear()
        await run_groups(bench, 3 * tags // len(bench.clients), lambda: [(random_address(), 4)])
        used = {r.tag for r in host.seen}
        assert used == set(range(tags if extended else min(tags, 32)))


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def waits_for_bus_master_enable(dut: Any) -> None:
    """Without Bus Master Enable no further read is offered; with it, nothing was lost."""
    bench = await Bench(dut).start()
    host = bench.host
    client = bench.clients[0]
    host.bus_master = False
    host.set_control()
    expected = [client.ask(random_group()) for _ in range(6)]
    await cycles(dut, 100)
    assert not host.seen
    for _ in range(30):
        host.bus_master = not host.bus_master
        host.set_control()
        await cycles(dut, 3)  # the read that was offered may go, and is seen later
        before = len(host.seen)
        await cycles(dut, random.randint(1, 6))
        assert host.bus_master or len(host.seen) == before
    host.bus_master = True
    host.set_control()
    for data in expected:
        await client.expect(data)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def stops_and_goes_idle_without_bus_master(dut: Any) -> None:
    """Stop takes no request and sends no read, even with chunks waiting; idle follows."""
    bench = await Bench(dut).start()
    host = bench.host
    host.bus_master = False
    host.set_control()
    for client in bench.clients:
        client.ask(random_group())
    await cycles(dut, 30)
    dut.stop.value = 1
    await cycles(dut, 2)
    taken = [client.source.count for client in bench.clients]
    for client in bench.clients:
        client.ask(random_group())
    host.bus_master = True
    host.set_control()
    await cycles(dut, 100)
    assert int(dut.idle.value) == 1
    assert not host.seen
    assert [client.source.count for client in bench.clients] == taken


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def is_not_idle_while_a_read_is_offered(dut: Any) -> None:
    """A read that waits at the bus keeps idle low, even if somebody answers it already."""
    bench = Bench(dut)
    host = bench.host
    host.tlps.stall = 1.0
    await bench.start()
    bench.clients[0].ask([(64, 8)])
    while not int(dut.tlp__valid.value):
        await RisingEdge(dut.clk)
    dut.stop.value = 1
    tag = unpack(tlp_beat(host.width), int(dut.tlp__payload.value)).header.tag
    host.send(b"", tag=tag, status=CompletionStatus.UNSUPPORTED_REQUEST)
    assert await bench.clients[0].take() is not None
    await cycles(dut, 10)
    assert int(dut.idle.value) == 0
    host.tlps.stall = 0.0
    host.answer = lambda read: False
    await bench.settle()


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def isolates_clients(dut: Any) -> None:
    """A client that asks for much and takes nothing leaves the others their tags and the bus."""
    bench = await Bench(dut).start()
    if len(bench.clients) == 1:
        return
    host = bench.host
    greedy = bench.clients[0]
    for extended in (True, False):
        host.extended = extended
        host.set_control()
        greedy.sink.stall = 1.0
        await cycles(dut, 2)
        expected = [greedy.ask([(random_address(), 400)]) for _ in range(3 * bench.params.tags)]
        await cycles(dut, 8 * bench.params.tags * (1 + 512 * 8 // bench.params.width // 4))
        for client in bench.clients[1:]:
            wanted = [client.ask(random_group()) for _ in range(10)]
            for data in wanted:
                await client.expect(data)
        greedy.sink.stall = 0.0
        for data in expected:
            await greedy.expect(data)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def shares_tags_as_promised(dut: Any) -> None:
    """A client gets all tags but those that the others can always get, and they do get them."""
    bench = await Bench(dut).start()
    host, tags, clients = bench.host, bench.params.tags, bench.clients
    host.extended = tags > 32
    host.set_control()
    await cycles(dut, 4)
    reserved = max(1, min(tags, 32) // (2 * len(clients)))
    host.answer = lambda read: False
    wanted = []
    for number, client in enumerate(clients):
        wanted += [(client, client.ask([(number << 40 | i << 9, 9)])) for i in range(tags + 1)]
        await cycles(dut, tags + 20)
        mine = sum(read.address >> 40 == number for read in host.seen)
        assert mine == (reserved if number else tags - (len(clients) - 1) * reserved)
    assert len(host.in_flight) == tags
    host.answer = lambda read: True
    for client, data in wanted:
        await client.expect(data)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def holds_no_more_than_a_client_has_room_for(dut: Any) -> None:
    """Reads that all end at once, for a client that takes nothing for a while: no byte is lost."""
    bench = await Bench(dut).start()
    host, client = bench.host, bench.clients[0]
    for _ in range(20):
        host.seen.clear()
        host.answer = lambda read: read is not host.seen[0] or len(host.in_flight) == 1
        client.sink.stall = 1.0
        wanted = [
            client.ask([(random_address() & ~0xFFF, random.randint(1, bench.params.slot_bytes))])
            for _ in range(min(bench.params.tags, 32) // 2)
        ]
        while not host.seen or host.in_flight:
            await RisingEdge(dut.clk)
        await cycles(dut, 200)
        client.sink.stall = random.choice([0.0, 0.5])
        for data in wanted:
            await client.expect(data)


@pytest.mark.parametrize(("width", "tags", "slot_bytes", "clients"), CONFIGS)
def test_read_engine_packets(width: int, tags: int, slot_bytes: int, clients: int) -> None:
    """Everything, over widths, numbers of tags, slot sizes and clients."""
    context = engine_parameters(width, tags, slot_bytes, clients)
    simulate(
        ReadEngine(**context),
        module=__name__,
        name=f"read_engine_packets_{width}_{tags}_{slot_bytes}_{clients}",
        params=context,
    )


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("width", 96),
        ("tags", 48),
        ("slot_bytes", 64),
        ("clients", 0),
        ("timeout_cycles", 100),
        ("fifo_beats", 4),
        ("reserved_tags", 20),
    ],
)
def test_read_engine_refuses(field: str, value: int) -> None:
    """A parameter that cannot be built is refused by name."""
    good = {
        "width": 256,
        "tags": 64,
        "slot_bytes": 512,
        "clients": 2,
        "timeout_cycles": 10_000,
    }
    with pytest.raises(ValueError, match=field.split("_")[0]):
        ReadEngine(**good | {field: value})
