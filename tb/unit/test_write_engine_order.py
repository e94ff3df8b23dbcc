"""The write engine's order: grants, tokens; store and forward, stop, bus master enable, reset."""

import random

import cocotb
import pytest
from cocotb.triggers import RisingEdge
from write_engine_rig import (
    CLIENTS,
    DONE_DEPTH,
    TIED,
    WIDTHS,
    Bench,
    Group,
    check_groups,
    make_engine,
    random_group,
)

from lib.sim import simulate
from lib.streams import cycles


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def grants_round_robin(dut):
    """Clients that are always ready take turns."""
    bench = await Bench(dut).start()
    groups = [
        Group(client, random.randbytes(100), [((client << 60) + 4096 * index, 100)])
        for index in range(20)
        for client in range(CLIENTS)
    ]
    bench.queue(groups)
    await bench.drained(len(groups))
    order = check_groups(bench, groups)
    assert order == order[:CLIENTS] * 20
    assert sorted(order[:CLIENTS]) == list(range(CLIENTS))


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def keeps_the_order_of_grants(dut):
    """Payload, then what is requested when it was taken: the second never overtakes."""
    bench = await Bench(dut).start()
    payload = Group(0, random.randbytes(1500), [(4096, 1500)])
    used = Group(1, random.randbytes(16), [((1 << 60) + 4096, 16)])
    for turn in range(5):
        bench.requests[0].queue(payload.request_items())
        bench.packets[0].queue(payload.beats(bench.lanes))
        while not (int(dut.request_0__valid.value) and int(dut.request_0__ready.value)):
            await RisingEdge(dut.clk)
        bench.queue([used])
        await bench.drained(2 * turn + 2)
    assert check_groups(bench, [payload, used] * 5) == [0, 1] * 5


@cocotb.test(timeout_time=200, timeout_unit="us")
async def request_without_data_blocks_no_one(dut):
    """A client with only a request, or only a packet, is not granted; the others go on."""
    bench = await Bench(dut).start()
    lonely, widow = random_group(0), random_group(1)
    bench.requests[0].queue(lonely.request_items())
    bench.packets[1].queue(widow.beats(bench.lanes))
    others = [random_group(2) for _ in range(20)]
    bench.queue(others)
    await bench.drained(20)
    assert {group[0] >> 60 for _, _, group in bench.tlps()} == {2}
    bench.packets[0].queue(lonely.beats(bench.lanes))
    bench.requests[1].queue(widow.request_items())
    await bench.drained(22)
    check_groups(bench, [lonely, widow, *others])


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def client_that_takes_no_tokens_stalls_alone(dut):
    """It gets as many groups as it may have open, then none; the others go on."""
    bench = Bench(dut)
    bench.dones[0].stall = 1.0
    await bench.start()
    slow = [Group(0, random.randbytes(40), [(4096 * i, 40)]) for i in range(3 * DONE_DEPTH)]
    others = [random_group(1 + i % 2, 100) for i in range(50)]
    bench.queue(slow)
    bench.queue(others)
    while len(bench.tokens) < 50:
        await RisingEdge(dut.clk)
    await cycles(dut, 100)
    assert sum(1 for _, _, tlp in bench.tlps() if tlp[0] >> 60 == 0) == DONE_DEPTH
    # Two more stand at the client's door.
    assert bench.requests[0].count == DONE_DEPTH + 2
    bench.dones[0].stall = 0.0
    await bench.drained(len(slow) + 50)
    check_groups(bench, slow + others)


@cocotb.test(timeout_time=200, timeout_unit="us")
async def token_waits_for_the_posted_path(dut):
    """No token while the last beat of the group is held up at `tlp`."""
    bench = await Bench(dut).start()
    bench.sink.stop()
    dut.tlp__ready.value = 0
    group = Group(0, random.randbytes(200), [(4096, 200)])
    bench.queue([group])
    beats = 200 // bench.lanes + (200 % bench.lanes != 0)
    for taken in range(beats):
        await cycles(dut, 40)
        assert len(bench.beats) == taken
        assert not bench.tokens
        dut.tlp__ready.value = 1
        await cycles(dut, 1)
        dut.tlp__ready.value = 0
    await cycles(dut, 5)
    assert len(bench.tokens) == 1
    check_groups(bench, [group])


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def slow_client_makes_no_gap_in_a_tlp(dut):
    """However slowly the bytes come, the beats of a TLP follow each other."""
    bench = Bench(dut)
    for source in bench.packets:
        source.stall = 0.8
    await bench.start()
    groups = [random_group(i % CLIENTS) for i in range(30)]
    bench.queue(groups)
    await bench.drained(len(groups))
    check_groups(bench, groups)
    for begin, end, (_, length_dw, *_) in bench.tlps():
        assert end - begin + 1 == -(-4 * length_dw // bench.lanes)


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def halts_between_tlps(dut):
    """`stop`, or bus master enable 0: a started TLP is finished, no other starts, none is lost."""
    bench = await Bench(dut, stall=0.2).start()
    groups = [random_group(i % CLIENTS) for i in range(60)]
    bench.queue(groups)
    for turn in range(20):
        await cycles(dut, random.randint(5, 60))
        if turn % 2:
            bench.set_control(master=0)
        else:
            dut.stop.value = 1
        await cycles(dut, 2)
        while not int(dut.idle.value):
            await RisingEdge(dut.clk)
        sent = len(bench.beats)
        bench.tlps()  # checks that the last one is complete
        await cycles(dut, 80)
        assert len(bench.beats) == sent
        assert int(dut.idle.value)
        bench.set_control()
        dut.stop.value = 0
    await bench.drained(len(groups))
    check_groups(bench, groups)


@cocotb.test(timeout_time=200, timeout_unit="us")
async def is_busy_until_the_tlp_has_left(dut):
    """While a TLP is held up at `tlp`, `idle` is low, although `stop` is high."""
    bench = Bench(dut)
    bench.sink.stall = 1.0
    await bench.start()
    groups = [Group(0, random.randbytes(512), [(4096 * i, 512)]) for i in range(10)]
    bench.queue(groups)
    await cycles(dut, 100)
    dut.stop.value = 1
    await cycles(dut, 100)
    assert not int(dut.idle.value)
    bench.sink.stall = 0.0
    while not int(dut.idle.value):
        await RisingEdge(dut.clk)
    await cycles(dut, 50)
    left = [tlp for _, _, tlp in bench.tlps()]
    assert left == [tlp for group in groups for tlp in group.tlps(256)][: len(left)]
    assert 0 < len(left) < 20


@cocotb.test(timeout_time=200, timeout_unit="us")
async def reset_forgets_what_was_not_sent(dut):
    """Stop, idle, reset: afterwards the engine begins anew."""
    bench = await Bench(dut).start()
    dut.stop.value = 1
    bench.queue([random_group(i % CLIENTS, 100, 1) for i in range(6)])
    await cycles(dut, 100)
    assert not bench.beats
    assert int(dut.idle.value)
    for source in (*bench.requests, *bench.packets):
        source.clear()
        source.stop()
        getattr(dut, f"{source.name}__valid").value = 0
    dut.stop.value = 0
    bench = await Bench(dut).start()
    groups = [random_group(i % CLIENTS) for i in range(20)]
    bench.queue(groups)
    await bench.drained(20)
    check_groups(bench, groups)


@pytest.mark.parametrize("width", WIDTHS)
def test_write_engine_order(width: int) -> None:
    """Order and halting, at each width."""
    simulate(
        make_engine(width),
        module=__name__,
        name=f"write_engine_order_{width}",
        params={"width": width},
        waive=TIED,
    )
