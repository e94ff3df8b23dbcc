"""MSI-X: table accesses, masking, pending bits, messages, clearing."""

from __future__ import annotations

import gc
import random
from typing import Any

import cocotb
import pytest
from msix_rig import CASES, PENDING, TABLE, setup, some_vectors

from lib.sim import simulate
from lib.streams import cycles, reset
from virtio_rtl.pcie.msix import MSIX


@cocotb.test(timeout_time=400, timeout_unit="us")
async def table_is_a_memory_with_rules(dut: Any) -> None:
    """Random accesses of all sizes to table and pending bits, and past their ends."""
    bench = await setup(dut, 0.2)
    checker = bench.checker
    addresses = [TABLE + 16 * v + 4 * w for v in some_vectors(bench, 6) for w in range(4)]
    past = min(TABLE + 16 * bench.vectors, PENDING - 4)
    addresses += [past, past + 12 if bench.vectors < 1024 else past, PENDING - 16]
    addresses += [PENDING, PENDING + 4, PENDING + 8, PENDING + 0x100, 0xFFFC]
    for address in addresses:
        assert await bench.read(address) == checker.expected(address), f"reset, {address:#x}"
        if address % 16 == 12 and address < TABLE + 16 * bench.vectors:
            assert checker.expected(address) == 1
    for number in range(400):
        address = random.choice(addresses)
        size = random.choice((1, 2, 4, 8))
        if size == 8:
            address &= ~7
            for half in (0, 4):
                bench.queue_write(address + half, random.getrandbits(32))
        else:
            lane = random.randrange(0, 4, size)
            bench.queue_write(address, random.getrandbits(32), ((1 << size) - 1) << lane)
        if number % 2:
            address = random.choice((address, random.choice(addresses)))
            found = await bench.read(address)
            assert found == checker.expected(address), f"{address:#x}"
    for address in addresses:
        assert await bench.read(address) == checker.expected(address), f"{address:#x}"
    assert not checker.sent


@cocotb.test(timeout_time=400, timeout_unit="us")
async def unmasked_requests_give_one_message_each(dut: Any) -> None:
    """Nothing masked: as many messages as requests, in their order, whoever stalls."""
    bench = await setup(dut, 0.3)
    await bench.program()
    await bench.unmask_all()
    bench.set_control(enable=1)
    requests = [random.randrange(bench.vectors) for _ in range(150)]
    past_the_end = [v for v in (bench.vectors, 1024, 2047) if bench.vectors <= v]
    mixed = list(requests)
    for vector in past_the_end:
        mixed.insert(random.randrange(len(mixed)), vector)
    bench.request.queue(mixed)
    tlps = await bench.tlps.take(len(requests))
    await bench.quiet()
    assert bench.tlps.now() is None
    expected = [bench.checker.entries[v] for v in requests]
    assert [t.header.address for t in tlps] == [high << 32 | low for low, high, _ in expected]
    assert [t.data for t in tlps] == [data for *_, data in expected]
    assert await bench.read(PENDING) == 0


@cocotb.test(timeout_time=100, timeout_unit="us")
async def takes_three_cycles(dut: Any) -> None:
    """Without stalls: a message every 3 cycles, the first one 2 cycles after its request."""
    bench = await setup(dut)
    await bench.program()
    await bench.unmask_all()
    bench.set_control(enable=1)
    await bench.quiet()
    count = 50
    bench.request.queue([random.randrange(bench.vectors) for _ in range(count)])
    elapsed = 0
    while bench.tlps.count < count:
        await cycles(dut)
        elapsed += 1
    # Two cycles until the request is taken, one until the sink counts.
    assert elapsed == 3 * (count - 1) + 2 + 3


@cocotb.test(timeout_time=400, timeout_unit="us")
async def masked_requests_stay_pending(dut: Any) -> None:
    """Vector mask, function mask, no bus master: pending, visible, then exactly one message."""
    bench = await setup(dut, 0.1)
    checker = bench.checker
    await bench.program()
    chosen = some_vectors(bench, 5)
    rows = range(PENDING, PENDING + 4 * ((bench.vectors + 31) // 32) + 4, 4)

    async def signal_and_check() -> None:
        bench.request.queue([v for v in chosen for _ in range(random.randint(1, 3))])
        await bench.quiet()
        assert not checker.sent
        for row in rows:
            expected = sum(1 << v % 32 for v in chosen if v // 32 == (row - PENDING) // 4)
            assert await bench.read(row) == expected
            await bench.write(row, random.getrandbits(32))
            assert await bench.read(row) == expected, "pending bits are read only"

    async def all_sent() -> None:
        await bench.quiet()
        assert sorted(checker.sent) == sorted(chosen)
        checker.sent.clear()
        for row in rows:
            assert await bench.read(row) == 0

    bench.set_control(enable=1)
    await signal_and_check()
    for vector in chosen:
        await bench.mask(vector, 0)
    await all_sent()
    bench.set_control(enable=1, function_mask=1)
    await signal_and_check()
    bench.set_control(enable=1)
    await all_sent()
    bench.set_control(enable=1, bus_master=0)
    await signal_and_check()
    bench.set_control(enable=1)
    await all_sent()
    # Both masks: the last one to go lets the message out, whichever it is.
    bench.set_control(enable=1, function_mask=1)
    for vector in chosen:
        await bench.mask(vector, 1)
    await signal_and_check()
    for vector in chosen:
        await bench.mask(vector, 0)
    await bench.quiet()
    assert not checker.sent
    bench.set_control(enable=1)
    await all_sent()
    bench.set_control(enable=1, function_mask=1)
    for vector in chosen:
        await bench.mask(vector, 1)
    await signal_and_check()
    bench.set_control(enable=1)
    await bench.quiet()
    assert not checker.sent
    for vector in chosen:
        await bench.mask(vector, 0)
    await all_sent()
    # A write that does not unmask lets nothing out.
    await bench.mask(chosen[0], 1)
    bench.request.queue([chosen[0]])
    await bench.quiet()
    await bench.write(TABLE + 16 * chosen[0] + 12, 0, 0b1110)
    await bench.write(TABLE + 16 * chosen[0] + 12, 0, 0)
    await bench.quiet()
    assert not checker.sent


@cocotb.test(timeout_time=400, timeout_unit="us")
async def held_requests_stay_pending(dut: Any) -> None:
    """While `hold` is set: pending bits, also if unmasked meanwhile; then one message for each."""
    bench = await setup(dut, 0.1)
    checker = bench.checker
    await bench.program()
    chosen = some_vectors(bench, 5)
    for way in ("vector", "function", "bus master", "nothing"):
        for vector in chosen:
            await bench.mask(vector, int(way == "vector"))
        asleep = {"function": {"function_mask": 1}, "bus master": {"bus_master": 0}}.get(way, {})
        bench.set_control(enable=1, **asleep)
        before = random.sample(chosen, random.randint(0, len(chosen)) if way != "nothing" else 0)
        bench.request.queue(before)
        await bench.quiet()
        dut.hold.value = 1
        await cycles(dut, random.randint(1, 4))
        bench.request.queue([v for v in chosen for _ in range(random.randint(1, 3))])
        await bench.quiet()
        for vector in chosen:
            await bench.mask(vector, 0)
        bench.set_control(enable=1)
        await bench.quiet()
        assert int(dut.idle.value), "nobody has to wait for what is held back"
        assert not checker.sent
        for vector in chosen:
            row = PENDING + vector // 32 * 4
            assert await bench.read(row) == checker.expected(row) != 0
            assert await bench.read(TABLE + 16 * vector + 12) == 0
        dut.hold.value = 0
        await bench.quiet()
        assert sorted(checker.sent) == sorted(chosen)
        checker.sent.clear()
        for vector in chosen:
            assert await bench.read(PENDING + vector // 32 * 4) == 0
    # What was offered before is not withdrawn, and is waited for.
    bench.tlps.stall = 1.0
    bench.request.queue([chosen[0]])
    await cycles(dut, 30)
    dut.hold.value = 1
    await cycles(dut, 30)
    assert not int(dut.idle.value)
    bench.tlps.stall = 0.1
    await bench.quiet()
    assert checker.sent == chosen[:1]
    assert int(dut.idle.value)


@cocotb.test(timeout_time=100, timeout_unit="us")
async def disabled_requests_vanish(dut: Any) -> None:
    """MSI-X off: requests are consumed one per cycle; later there is neither bit nor message."""
    bench = await setup(dut)
    await bench.program()
    await bench.mask(0, 0)
    await cycles(dut, 10)
    before = bench.request.count
    bench.request.queue([0, 1] * 20)
    await cycles(dut, 42)
    assert bench.request.count - before == 40
    await bench.quiet()
    assert await bench.read(PENDING) == 0
    bench.set_control(enable=1)
    await bench.quiet()
    assert not bench.checker.sent


@cocotb.test(timeout_time=100, timeout_unit="us")
async def table_writes_never_wait_for_messages(dut: Any) -> None:
    """Output blocked: writes and disabled requests pass; a read waits until the message is gone."""
    bench = await setup(dut, output_stall=1.0)
    await bench.program()
    await bench.unmask_all()
    bench.set_control(enable=1)
    bench.request.queue([0, 1, 1, 1])
    await cycles(dut, 30)
    assert bench.request.count == 1
    bench.set_control(enable=0)
    await cycles(dut, 10)
    assert bench.request.count == 4
    bench.set_control(enable=1)
    bench.request.queue([1])
    await cycles(dut, 30)
    assert bench.request.count == 4
    assert not int(dut.idle.value)
    before = bench.bus.count
    for _ in range(10):
        bench.queue_write(TABLE + 16 + 12, 1)
    await cycles(dut, 32)
    assert bench.bus.count == before + 10
    # The last request finds vector 1 masked by now. The read comes after the message of 0.
    reading = cocotb.start_soon(bench.read(TABLE + 12))
    await cycles(dut, 50)
    assert not reading.done()
    bench.tlps.stall = 0.0
    assert await reading == 0
    await bench.quiet()
    assert bench.checker.sent == [0]
    assert await bench.read(PENDING) == 2
    bench.set_control(enable=0)
    await bench.quiet()


@cocotb.test(timeout_time=2000, timeout_unit="us")
async def clears_everything(dut: Any) -> None:
    """The strobe brings back the reset state; what comes meanwhile waits."""
    bench = await setup(dut)
    checker = bench.checker
    for delay in (0, 1, 2, 3, 4, 5, 7):
        await bench.program()
        chosen = some_vectors(bench, 3)
        for vector in chosen[1:]:
            await bench.mask(vector, 0)
        bench.set_control(enable=1, function_mask=1)
        bench.request.queue(chosen)
        await bench.quiet()
        bench.set_control(enable=1)
        await cycles(dut, delay)
        dut.clear.value = 1
        await cycles(dut)
        dut.clear.value = 0
        reading = cocotb.start_soon(bench.read(TABLE + 12))
        elapsed = 1
        await cycles(dut)
        assert int(dut.busy.value)
        while int(dut.busy.value):
            assert not reading.done()
            await cycles(dut)
            elapsed += 1
        # The operation under way, and a cycle a vector.
        assert bench.vectors < elapsed <= bench.vectors + 15
        checker.clear()
        checker.sent.clear()
        assert await reading == 1
        for vector in chosen:
            for word in range(4):
                address = TABLE + 16 * vector + 4 * word
                assert await bench.read(address) == checker.expected(address)
            assert await bench.read(PENDING + vector // 32 * 4) == 0
        await bench.unmask_all()
        await bench.quiet()
        assert not checker.sent, "nothing is pending any more"
        bench.set_control(enable=0)


@cocotb.test(timeout_time=400, timeout_unit="us")
async def stopped_messages_vanish(dut: Any) -> None:
    """While `stop` is set: requests are taken, nothing is offered, nothing stays pending."""
    bench = await setup(dut)
    await bench.program()
    await bench.unmask_all()
    bench.set_control(enable=1)
    await bench.quiet()
    dut.stop.value = 1
    bench.request.queue([0, 1, bench.vectors - 1])
    await bench.request.idle()
    await cycles(dut, 10)
    assert int(dut.idle.value)
    dut.stop.value = 0
    bench.checker.waiting = [0] * bench.vectors
    await bench.quiet()
    assert await bench.read(PENDING) == 0
    assert not bench.checker.sent
    bench.request.queue([1])
    await bench.quiet()
    assert bench.checker.sent == [1]


@cocotb.test(timeout_time=400, timeout_unit="us")
async def domain_reset_clears_memories(dut: Any) -> None:
    """Memories keep their content through a reset; the table must not."""
    bench = await setup(dut)
    await bench.program()
    await bench.unmask_all()
    bench.set_control(enable=1, function_mask=1)
    bench.request.queue([0, bench.vectors - 1])
    await bench.quiet()
    bench.set_control()
    await reset(dut)
    assert int(dut.busy.value)
    for vector in (0, bench.vectors - 1):
        assert [await bench.read(TABLE + 16 * vector + 4 * w) for w in range(4)] == [0, 0, 0, 1]
        assert await bench.read(PENDING + vector // 32 * 4) == 0


@pytest.mark.parametrize(("vectors", "width"), CASES)
def test_msix_messages(vectors: int, width: int) -> None:
    """Table, masks, pending bits, messages."""
    context = {"vectors": vectors, "width": width}
    name = f"msix_messages_{vectors}_{width}"
    simulate(MSIX(**context), module=__name__, name=name, params=context)


@pytest.mark.filterwarnings("ignore::amaranth.hdl.UnusedElaboratable")
@pytest.mark.parametrize("vectors", [0, 1, 1025, 2048])
def test_refuses_what_does_not_fit(vectors: int) -> None:
    """The table has its place in BAR 0."""
    with pytest.raises(ValueError, match="vectors"):
        MSIX(vectors, 64)
    gc.collect()
