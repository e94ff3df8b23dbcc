"""MSI-X: races between requests, masks, table writes; promptness and fairness."""

from __future__ import annotations

import random
from typing import Any

import cocotb
import pytest
from msix_rig import CASES, PENDING, TABLE, setup

from lib.sim import simulate
from lib.streams import cycles
from virtio_rtl.pcie.msix import MSIX


@cocotb.test(timeout_time=4000, timeout_unit="us")
async def races_lose_and_invent_nothing(dut: Any) -> None:
    """Requests, vector masks, table rewrites, function mask, bus master, hold: all at random."""
    bench = await setup(dut, 0.0)
    checker = bench.checker
    await bench.program()
    for stall, output_stall in ((0.0, 0.0), (0.3, 0.3), (0.0, 0.8), (0.7, 0.0)):
        bench.bus.stall = bench.request.stall = bench.response.stall = stall
        bench.tlps.stall = output_stall
        busy_vectors = random.choices(range(bench.vectors), k=4)
        mask = 0
        requested = 0
        for _ in range(600):
            action = random.random()
            vector = random.choice(busy_vectors)
            if action < 0.45:
                bench.request.queue([vector])
                requested += 1
            elif action < 0.75:
                address = TABLE + 16 * vector + 12
                bench.queue_write(address, random.getrandbits(32), random.choice((1, 15, 14)))
            elif action < 0.80:
                # The address may change while masked or not; the message is never torn, since
                # only one dword changes.
                bench.queue_write(TABLE + 16 * vector, random.getrandbits(32))
            elif action < 0.85:
                await bench.bus.idle()
                await bench.read(random.choice((PENDING, TABLE + 16 * vector + 12)))
            elif action < 0.93:
                mask = random.choice((0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 4, 5))
                dut.hold.value = mask >> 2
                bench.set_control(enable=1, function_mask=mask & 1, bus_master=not mask & 2)
            await cycles(dut, random.choice((0, 0, 1, 1, 2, 3, 4, 5, 6, 12)))
        dut.hold.value = 0
        bench.set_control(enable=1)
        await bench.quiet()
        for vector, count in enumerate(checker.waiting):
            assert not count or checker.masked[vector], f"vector {vector}: a message is missing"
        for row in range((bench.vectors + 31) // 32):
            found = await bench.read(PENDING + 4 * row)
            assert found == checker.expected(PENDING + 4 * row)
        for vector in set(busy_vectors):
            await bench.mask(vector, 0)
        await bench.quiet()
        assert not any(checker.waiting), "all is sent in the end"
        assert requested > 100
        assert len(checker.sent) > 30
        checker.sent.clear()


@cocotb.test(timeout_time=800, timeout_unit="us")
async def mask_and_request_in_every_alignment(dut: Any) -> None:
    """A request, and an unmask or a mask or a hold, shifted cycle by cycle against each other."""
    bench = await setup(dut)
    checker = bench.checker
    await bench.program()
    bench.set_control(enable=1)
    vector = bench.vectors - 1
    address = TABLE + 16 * vector + 12
    outcomes = set()
    for first, second in ((0, 1), (1, 0)):
        for shift in range(-8, 9):
            await bench.write(address, second)
            await bench.quiet()
            checker.sent.clear()
            for cycle in range(-9, 10):
                if cycle == 0:
                    bench.queue_write(address, first)
                if cycle == shift:
                    bench.request.queue([vector])
                await cycles(dut)
            await bench.quiet()
            assert len(checker.sent) + bool(checker.waiting[vector]) == 1
            assert first or checker.sent, "an unmasked vector waits for nothing"
            outcomes.add((first, len(checker.sent)))
            await bench.write(address, 0)
            await bench.quiet()
            assert checker.sent == [vector], "exactly one message in the end"
    assert outcomes == {(0, 1), (1, 0), (1, 1)}

    def function_mask(closed: int) -> None:
        bench.set_control(enable=1, function_mask=closed)

    def hold(closed: int) -> None:
        dut.hold.value = closed

    for close, first in ((function_mask, 1), (function_mask, 0), (hold, 1), (hold, 0)):
        for shift in range(-8, 9):
            close(1 - first)
            await bench.quiet()
            checker.sent.clear()
            for cycle in range(-9, 10):
                if cycle == 0:
                    close(first)
                if cycle == shift:
                    bench.request.queue([vector])
                await cycles(dut)
            close(0)
            await bench.quiet()
            assert checker.sent == [vector]


@cocotb.test(timeout_time=100, timeout_unit="us")
async def unmasking_is_prompt(dut: Any) -> None:
    """A pending vector is offered 10 cycles after the write that unmasks it, wherever it lies."""
    bench = await setup(dut)
    await bench.program()
    bench.set_control(enable=1)
    await bench.quiet()
    for vector in sorted({bench.vectors - 1, 0, bench.vectors // 2}, reverse=True):
        bench.request.queue([vector])
        await bench.quiet()
        await bench.write(TABLE + 16 * vector + 12, 0)
        elapsed = 0
        while not bench.checker.sent:
            await cycles(dut)
            elapsed += 1
        # From the edge that accepts to the edge that sees the offer.
        assert elapsed == 10
        bench.checker.sent.clear()
        await bench.quiet()


@cocotb.test(timeout_time=400, timeout_unit="us")
async def nobody_starves(dut: Any) -> None:
    """A flood of requests or of writes holds up neither registers nor requests nor the scan."""
    bench = await setup(dut)
    checker = bench.checker
    await bench.program()
    last = bench.vectors - 1
    for enable, masked, flood in ((0, 0, 0), (1, 0, 0), (1, 1, 0), (1, 0, 2047)):
        await bench.mask(0, masked)
        bench.set_control(enable=enable)
        await bench.quiet()
        bench.request.queue([flood if flood else 0] * 2000)
        await cycles(dut, 20)
        for _ in range(5):
            start = bench.bus.count
            bench.queue_write(TABLE, random.getrandbits(32))
            elapsed = 0
            while bench.bus.count == start:
                await cycles(dut)
                elapsed += 1
            assert elapsed <= 12, (enable, masked, flood)
            await bench.bus.send({"address": TABLE + 8, "write": 0})
            elapsed = 0
            while not len(bench.response):
                await cycles(dut)
                elapsed += 1
            assert elapsed <= 12, (enable, masked, flood)
            assert bench.response.now() == checker.entries[0][2]
        assert bench.request.count % 2000, "the flood still runs"
        bench.request.clear()
        await bench.quiet()
        await bench.mask(0, 1)
    # What is pending gets out in between requests for others.
    await bench.mask(last, 1)
    bench.set_control(enable=1)
    bench.request.queue([last])
    await bench.quiet()
    await bench.mask(0, 0)
    bench.request.queue([0] * 2000)
    await bench.mask(last, 0)
    while last not in checker.sent[-1:]:
        await cycles(dut)
    assert int(dut.request__valid.value), "the flood still runs"
    bench.request.clear()
    # Requests get through a flood of register writes.
    await bench.quiet()
    checker.sent.clear()
    before = bench.bus.count
    for _ in range(400):
        bench.queue_write(TABLE + 4, random.getrandbits(32))
    bench.request.queue([last] * 50)
    await bench.request.idle()
    assert bench.bus.count - before < 300
    await bench.quiet()
    assert checker.sent == [last] * 50


@pytest.mark.parametrize(("vectors", "width"), CASES)
def test_msix_races(vectors: int, width: int) -> None:
    """Every race, at each size of the table."""
    context = {"vectors": vectors, "width": width}
    name = f"msix_races_{vectors}_{width}"
    simulate(MSIX(**context), module=__name__, name=name, params=context)
