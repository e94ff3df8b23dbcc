"""The write engine's speed: exact numbers of cycles."""

import random

import cocotb
import pytest
from write_engine_rig import CLIENTS, TIED, WIDTHS, Bench, Group, check_groups, make_engine

from lib.sim import simulate
from lib.streams import cycles


async def measure(bench: Bench, groups: list[Group]) -> int:
    """Cycles from the first beat to the last, both included."""
    bench.queue(groups)
    await bench.drained(len(groups))
    check_groups(bench, groups)
    return bench.beats[-1][0] - bench.beats[0][0] + 1


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def sends_a_beat_in_every_cycle(dut):
    """One client, groups of one TLP back to back: no gap, whatever the length and alignment."""
    for length, offset in ((72, 0), (72, 4), (256, 0), (16, 0), (64, 0), (61, 3), (250, 1)):
        bench = await Bench(dut).start()
        groups = [
            Group(0, random.randbytes(length), [(4096 * index + offset, length)])
            for index in range(40)
        ]
        beats = -(-(length + offset % 4) // bench.lanes)
        into = -(-length // bench.lanes)
        assert await measure(bench, groups) == 40 * beats
        # The client is not slowed down, either, beyond what comes out.
        assert into <= beats
        for model in (*bench.requests, *bench.packets, *bench.dones, bench.sink):
            model.stop()


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def has_no_gap_between_clients_and_pieces(dut):
    """Three clients at once with several requests per group, and long packets: no gap."""
    bench = await Bench(dut).start()
    groups = []
    for index in range(60):
        client = index % CLIENTS
        lengths = [(64, 192), (12, 60), (256, 256, 100)][client]
        requests = [
            ((client << 60) + 4096 * index + 1024 * place, length)
            for place, length in enumerate(lengths)
        ]
        groups.append(Group(client, random.randbytes(sum(lengths)), requests))
    beats = sum(-(-4 * tlp[1] // bench.lanes) for group in groups for tlp in group.tlps(bench.mps))
    # Store and forward: a long TLP behind a short one waits once, while the buffer is empty.
    dut.stop.value = 1
    cocotb.start_soon(_release(dut, 64))
    assert await measure(bench, groups) == beats


async def _release(dut, wait: int) -> None:
    await cycles(dut, wait)
    dut.stop.value = 0


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def has_no_gap_in_scattered_groups(dut):
    """Header and data in separate requests, which end and begin within one beat: no gap."""
    for lengths in ((12, 60), (64, 64), (3, 5, 7, 57), (1, 1, 1, 1)):
        bench = await Bench(dut).start()
        groups = [
            Group(
                0,
                random.randbytes(sum(lengths)),
                [(4096 * i + 64 * place, n) for place, n in enumerate(lengths)],
            )
            for i in range(150)
        ]
        beats = 150 * sum(-(-length // bench.lanes) for length in lengths)
        dut.stop.value = 1
        cocotb.start_soon(_release(dut, 24))
        assert await measure(bench, groups) == beats
        for model in (*bench.requests, *bench.packets, *bench.dones, bench.sink):
            model.stop()


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def has_no_gap_while_splitting(dut):
    """4096-byte requests at MPS 128 leave at one beat per cycle."""
    bench = Bench(dut)
    bench.set_control(0)
    await bench.start()
    groups = [Group(0, random.randbytes(4096), [(4096 * i, 4096)]) for i in range(8)]
    assert await measure(bench, groups) == 8 * 4096 // bench.lanes


@cocotb.test(timeout_time=100, timeout_unit="us")
async def has_the_latency_it_states(dut):
    """A plain beat to its TLP: 2 cycles; one that must be aligned: 10. Its token one cycle later.

    Whichever client it is, and also behind one of the other kind.
    """
    bench = await Bench(dut).start()
    for address, latency in ((64, 2), (70, 10), (72, 2), (70, 10)):
        for client in (0, 1, 2, 0, 2, 1):
            groups = [Group(client, random.randbytes(8), [(client << 60 | address, 8)])]
            await cycles(dut, 20)
            start = bench.cycle
            bench.queue(groups)
            tokens = len(bench.tokens)
            await bench.drained(tokens + 1)
            # The source offers in the third cycle after it was given the item.
            first = next(cycle for cycle, _ in bench.beats if cycle > start)
            assert first - start == 3 + latency
            assert bench.tokens[-1][0] - bench.beats[-1][0] == 1


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def plain_groups_overtake_nothing(dut):
    """Groups that go around the aligner among others, sparse and dense: every client in order."""
    for pause in (0, 1, 3, 9, 14):
        for stall in (0.0, 0.3):
            bench = await Bench(dut, stall).start()
            groups = []
            for _ in range(80):
                client = random.randrange(CLIENTS)
                length = random.choice((4, 8, bench.lanes, bench.lanes + 1, 200))
                address = (client << 60) + 64 * random.getrandbits(30)
                address += random.choice((0, 0, 4, 5))
                groups.append(Group(client, random.randbytes(length), [(address, length)]))
                bench.queue(groups[-1:])
                await cycles(dut, random.randint(0, pause))
            await bench.drained(len(groups))
            check_groups(bench, groups)
            for model in (*bench.requests, *bench.packets, *bench.dones, bench.sink):
                model.stop()


@pytest.mark.parametrize("width", WIDTHS)
def test_write_engine_speed(width: int) -> None:
    """No gap, at each width."""
    simulate(
        make_engine(width),
        module=__name__,
        name=f"write_engine_speed_{width}",
        params={"width": width},
        waive=TIED,
    )
