"""The read engine's speed: exact numbers of cycles."""

from __future__ import annotations

import random
from typing import Any

import cocotb
import pytest
from cocotb.triggers import RisingEdge
from read_engine_rig import Bench

from lib.sim import params, simulate
from lib.streams import cycles
from virtio_rtl.dma.read_engine import ReadEngine


async def watch_beats(dut: Any, streams: list[str], log: list[tuple[int, str]]) -> None:
    """Log the cycle of every beat of these streams."""
    cycle = 0
    while True:
        await RisingEdge(dut.clk)
        cycle += 1
        for name in streams:
            if int(getattr(dut, f"{name}__valid").value) and int(
                getattr(dut, f"{name}__ready").value
            ):
                log.append((cycle, name))


async def measure(
    dut: Any, clients: int, groups: list[list[tuple[int, int]]], **host: Any
) -> dict[str, Any]:
    """Run groups at full speed over some clients; return the cycles of all beats."""
    bench = await Bench(dut).start()
    bench.host.latency = lambda: 60
    bench.host.shuffle = False
    for name, value in host.items():
        setattr(bench.host, name, value)
    bench.host.set_control()
    packets = [f"packet_{index}" for index in range(clients)]
    log: list[tuple[int, str]] = []
    watcher = cocotb.start_soon(watch_beats(dut, ["tlp", "completions", *packets], log))
    expected: list[list[bytes]] = [[] for _ in range(clients)]
    for index, group in enumerate(groups):
        expected[index % clients].append(bench.clients[index % clients].ask(group))
    for client, wanted in zip(bench.clients, expected, strict=False):
        for data in wanted:
            await client.expect(data)
    await cycles(dut, 5)
    watcher.cancel()
    result: dict[str, list[int]] = {"tlp": [], "completions": [], "packet": []}
    for cycle, name in log:
        result["packet" if name in packets else name].append(cycle)
    assert bench.completion_stalls == 0
    return result


def span(beats: list[int]) -> int:
    """Cycles from the first to the last beat, both included."""
    return beats[-1] - beats[0] + 1


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def streams_small_requests(dut: Any) -> None:
    """72-byte requests: as many cycles as they have beats, with no bubble, one client or all."""
    size = params().width // 8
    for clients in {1, params().clients}:
        count = 4 * params().tags
        beats = -(-72 // size)
        got = await measure(dut, clients, [[(i * 512, 72)] for i in range(count)])
        assert len(got["packet"]) == beats * count
        assert span(got["packet"]) == beats * count
        assert span(got["completions"]) == beats * count


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def streams_single_rows(dut: Any) -> None:
    """Requests of one row: one per cycle from the request to the packet."""
    size = params().width // 8
    for clients in {1, params().clients}:
        got = await measure(dut, clients, [[(i * 64, size)] for i in range(params().tags)])
        assert span(got["tlp"]) == params().tags
        assert span(got["packet"]) == params().tags


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def streams_split_completions(dut: Any) -> None:
    """Completions in pieces of 64 bytes cost their own beats and nothing more."""
    size = params().width // 8
    count = 3 * params().tags
    pieces = -(-64 // size) + -(-8 // size)
    got = await measure(dut, 1, [[(i * 512, 72)] for i in range(count)], split_always=True)
    assert span(got["completions"]) == pieces * count
    assert len(got["packet"]) == -(-72 // size) * count
    assert span(got["packet"]) <= pieces * count


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def streams_large_requests(dut: Any) -> None:
    """Large requests fill every cycle of the packet stream."""
    size = params().width // 8
    got = await measure(dut, 1, [[(i * 8192, 4096)] for i in range(6)], read_code=5)
    assert span(got["packet"]) == len(got["packet"]) == 6 * 4096 // size


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def has_short_latency(dut: Any) -> None:
    """A lone read: request to TLP in 2 cycles, last completion beat to packet in 4 cycles.

    Whatever its alignment and length, with every client, and with the right bytes.
    """
    size = params().width // 8
    bench = await Bench(dut).start()
    log: list[tuple[int, str]] = []
    for index, client in enumerate(bench.clients):
        ports = [f"request_{index}", "tlp", "completions", f"packet_{index}"]
        watcher = cocotb.start_soon(watch_beats(dut, ports, log))
        for address, length in [
            (64, size),
            (128, 1),
            (4093, 3),
            *((4096 * index + random.randrange(3000), random.randint(1, 256)) for _ in range(40)),
        ]:
            log.clear()
            await client.expect(client.ask([(address, length)]))
            await cycles(dut, random.randint(1, 4))
            request, tlp, completed, packet = (
                [cycle for cycle, name in log if name == port] for port in ports
            )
            assert tlp[0] - request[0] == 2, (address, length)
            assert packet[0] - completed[-1] == 4, (address, length)
            assert span(packet) == -(-length // size)
        watcher.cancel()


@pytest.mark.parametrize(("width", "clients"), [(64, 2), (128, 2), (256, 4), (512, 4)])
def test_read_engine_speed(width: int, clients: int) -> None:
    """Exact numbers of cycles, with a time-out as long as in a real device."""
    context = {
        "width": width,
        "tags": 128,
        "slot_bytes": 512,
        "clients": clients,
        "timeout_cycles": 12_500_000,
    }
    simulate(
        ReadEngine(**context),
        module=__name__,
        name=f"read_engine_speed_{width}",
        params=context,
    )
