"""MSI-X: table accesses, masking, pending bits, messages; races between all of them.

`Checker` watches the ports cycle by cycle. It knows which requests have no message yet, which
vectors are masked by the writes accepted so far, and what the table holds; every message must be
explained by that, and at the end nothing may be left over.
"""

from __future__ import annotations

import gc
import random
from typing import Any

import cocotb
import pytest
from cocotb.triggers import RisingEdge

from lib.sim import params, simulate
from lib.streams import StreamSink, StreamSource, cycles, pack, reset, start_clock, unpack
from virtio_rtl.pcie.msix import MSIX
from virtio_rtl.types.dma import WriteRequest
from virtio_rtl.types.packet import packet_beat
from virtio_rtl.types.pcie import FunctionControl
from virtio_rtl.types.regbus import RegisterRequest

TABLE, PENDING = 0x8000, 0xC000


class Bench:
    """The ports, the checker, and what a driver does."""

    def __init__(self, dut: Any, stall: float = 0.0, output_stall: float | None = None) -> None:
        self.dut = dut
        self.vectors = params().vectors
        output_stall = stall if output_stall is None else output_stall
        self.bus = StreamSource(dut, "bus__request", RegisterRequest, stall=stall)
        self.response = StreamSink(dut, "bus__response", stall=stall)
        self.request = StreamSource(dut, "request", stall=stall)
        self.writes = StreamSink(dut, "write_request", WriteRequest, stall=output_stall)
        self.packets = StreamSink(dut, "packet", packet_beat(params().width), stall=output_stall)
        dut.clear.value = 0
        self.set_control()
        self.checker = Checker(self)

    def set_control(self, enable: int = 0, function_mask: int = 0, bus_master: int = 1) -> None:
        """Drive what the configuration space would; the rest is random."""
        control = {
            "requester_id": random.getrandbits(16),
            "msix_enable": enable,
            "msix_function_mask": function_mask,
            "bus_master_enable": bus_master,
            "memory_enable": random.getrandbits(1),
            "intx_disable": random.getrandbits(1),
        }
        self.dut.control.value = pack(FunctionControl, control)

    def queue_write(self, address: int, value: int, byte_enable: int = 15) -> None:
        """Queue a register write."""
        self.bus.queue(
            [{"address": address, "write": 1, "data": value, "byte_enable": byte_enable}]
        )

    async def write(self, address: int, value: int, byte_enable: int = 15) -> None:
        """Write and wait until it is accepted."""
        self.queue_write(address, value, byte_enable)
        await self.bus.idle()

    async def read(self, address: int) -> int:
        """Read a dword; what lies in data and enables must not matter."""
        await self.bus.send(
            {
                "address": address,
                "write": 0,
                "data": random.getrandbits(32),
                "byte_enable": random.getrandbits(4),
            }
        )
        return await self.response.receive()

    async def program(self) -> None:
        """Give every vector a random message; the data tells the vector."""
        for vector in range(self.vectors):
            entry = TABLE + 16 * vector
            self.queue_write(entry, random.getrandbits(32))
            self.queue_write(entry + 4, random.getrandbits(32))
            self.queue_write(entry + 8, vector | random.getrandbits(21) << 11)
        await self.bus.idle()

    async def mask(self, vector: int, masked: int) -> None:
        """Mask or unmask a vector; the upper bits of the dword are reserved."""
        enable = random.choice((1, 3, 15))
        await self.write(TABLE + 16 * vector + 12, masked | random.getrandbits(31) << 1, enable)

    async def unmask_all(self) -> None:
        """Unmask every vector."""
        for vector in range(self.vectors):
            self.queue_write(TABLE + 16 * vector + 12, 0)
        await self.bus.idle()

    async def quiet(self) -> None:
        """Wait until everything that can happen has happened."""
        await self.request.idle()
        await self.bus.idle()
        still = 0
        rows = 2 * ((self.vectors + 63) // 64)
        while still < 6 * rows + 20:
            await cycles(self.dut)
            busy = int(self.dut.write_request__valid.value) or int(self.dut.packet__valid.value)
            still = 0 if busy or not int(self.dut.idle.value) else still + 1
        await cycles(self.dut, 6 * rows + 20)


class Checker:
    """Explains every message; see the top of the file."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.vectors = bench.vectors
        self.entries: list[list[int]] = []
        self.masked: list[bool] = []
        self.waiting: list[int] = []
        self.sent: list[int] = []
        self.messages: list[tuple[int, int]] = []
        self.clear()
        self._task = cocotb.start_soon(self._run())

    def clear(self) -> None:
        """Forget all, as the device does."""
        self.entries = [[0, 0, 0] for _ in range(self.vectors)]
        self.masked = [True] * self.vectors
        self.waiting = [0] * self.vectors

    def write(self, address: int, value: int, byte_enable: int) -> None:
        """Apply an accepted write."""
        vector, word = (address - TABLE) // 16, address // 4 % 4
        if address >= PENDING or vector >= self.vectors:
            return
        if word == 3:
            if byte_enable & 1:
                self.masked[vector] = bool(value & 1)
            return
        mask = sum(0xFF << 8 * n for n in range(4) if byte_enable >> n & 1)
        if word == 0:
            mask &= ~3
        self.entries[vector][word] = self.entries[vector][word] & ~mask | value & mask

    def expected(self, address: int) -> int:
        """Return what a read of the table or of the pending bits gives."""
        if address >= PENDING:
            first = (address - PENDING) * 8
            bits = self.waiting[first : first + 32] if first < self.vectors else []
            return sum(1 << n for n, count in enumerate(bits) if count)
        vector, word = (address - TABLE) // 16, address // 4 % 4
        if vector >= self.vectors:
            return 0
        return int(self.masked[vector]) if word == 3 else self.entries[vector][word]

    def _offered(self, allowed: bool) -> None:
        dut = self.bench.dut
        assert allowed, "a message while the function must not send"
        write = unpack(WriteRequest, int(dut.write_request__payload.value))
        packet = unpack(packet_beat(params().width), int(dut.packet__payload.value))
        assert int(dut.packet__valid.value)
        assert (write.function, write.length, write.last) == (0, 4, 1)
        assert (packet.count, packet.last, packet.error) == (4, 1, 0)
        data = packet.data & 0xFFFF_FFFF
        vector = data & 0x7FF
        assert vector < self.vectors, f"message data {data:#x}"
        low, high, expected = self.entries[vector]
        assert (write.address, data) == (high << 32 | low, expected), f"vector {vector}"
        assert not self.masked[vector], f"vector {vector} is masked"
        assert self.waiting[vector], f"vector {vector}: a message too many"
        self.waiting[vector] = 0
        self.sent.append(vector)
        self.messages.append((write.address, data))

    async def _run(self) -> None:
        dut = self.bench.dut
        edge = RisingEdge(dut.clk)
        allowed = offered = False
        while True:
            await edge
            if int(dut.rst.value):
                self.clear()
                allowed = offered = False
                continue
            valid = bool(int(dut.write_request__valid.value))
            if valid and not offered:
                self._offered(allowed)
            # Still offered after this edge, unless it is taken at it.
            offered = valid and not int(dut.write_request__ready.value)
            control = unpack(FunctionControl, int(dut.control.value))
            if int(dut.bus__request__valid.value) and int(dut.bus__request__ready.value):
                access = unpack(RegisterRequest, int(dut.bus__request__payload.value))
                if access.write:
                    self.write(access.address, access.data, access.byte_enable)
            if int(dut.request__valid.value) and int(dut.request__ready.value):
                vector = int(dut.request__payload.value)
                if vector < self.vectors and control.msix_enable:
                    self.waiting[vector] += 1
            allowed = bool(
                control.msix_enable and not control.msix_function_mask and control.bus_master_enable
            )


async def setup(dut: Any, stall: float = 0.0, output_stall: float | None = None) -> Bench:
    """Reset, wait for the table to be cleared."""
    start_clock(dut)
    bench = Bench(dut, stall, output_stall)
    await reset(dut)
    while int(dut.busy.value):
        await cycles(dut)
    return bench


def some_vectors(bench: Bench, count: int) -> list[int]:
    """Return vectors in a random order, the first and the last among them."""
    chosen = {0, bench.vectors - 1} | {random.randrange(bench.vectors) for _ in range(count)}
    return random.sample(sorted(chosen), len(chosen))


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
    writes = await bench.writes.take(len(requests))
    packets = await bench.packets.take(len(requests))
    await bench.quiet()
    assert bench.writes.now() is None
    assert bench.packets.now() is None
    expected = [bench.checker.entries[v] for v in requests]
    assert [w.address for w in writes] == [high << 32 | low for low, high, _ in expected]
    assert [p.data & 0xFFFF_FFFF for p in packets] == [data for *_, data in expected]
    assert await bench.read(PENDING) == 0


@cocotb.test(timeout_time=100, timeout_unit="us")
async def takes_six_cycles(dut: Any) -> None:
    """Without stalls: a message every 6 cycles, the first one 6 cycles after its request."""
    bench = await setup(dut)
    await bench.program()
    await bench.unmask_all()
    bench.set_control(enable=1)
    await bench.quiet()
    count = 50
    bench.request.queue([random.randrange(bench.vectors) for _ in range(count)])
    elapsed = 0
    while bench.writes.count < count:
        await cycles(dut)
        elapsed += 1
    # One cycle until the source drives, one until the sink counts.
    assert elapsed == 6 * count + 2


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
    bench.writes.stall = 0.0
    await cycles(dut, 20)
    assert not reading.done()
    bench.packets.stall = 0.0
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
        # The operation under way, and 4 cycles a vector.
        assert 4 * bench.vectors < elapsed <= 4 * bench.vectors + 15
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


@cocotb.test(timeout_time=4000, timeout_unit="us")
async def races_lose_and_invent_nothing(dut: Any) -> None:
    """Requests, vector masks, table rewrites, function mask and bus master, all at random."""
    bench = await setup(dut, 0.0)
    checker = bench.checker
    await bench.program()
    for stall, output_stall in ((0.0, 0.0), (0.3, 0.3), (0.0, 0.8), (0.7, 0.0)):
        bench.bus.stall = bench.request.stall = bench.response.stall = stall
        bench.writes.stall = bench.packets.stall = output_stall
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
                mask = random.choice((0, 0, 0, 0, 0, 1, 2, 3))
                bench.set_control(enable=1, function_mask=mask & 1, bus_master=not mask & 2)
            await cycles(dut, random.choice((0, 0, 1, 1, 2, 3, 4, 5, 6, 12)))
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


@cocotb.test(timeout_time=400, timeout_unit="us")
async def mask_and_request_in_every_alignment(dut: Any) -> None:
    """A request, an unmask and a mask of one vector, shifted cycle by cycle against each other."""
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
    for first in (1, 0):
        for shift in range(-8, 9):
            bench.set_control(enable=1, function_mask=1 - first)
            await bench.quiet()
            checker.sent.clear()
            for cycle in range(-9, 10):
                if cycle == 0:
                    bench.set_control(enable=1, function_mask=first)
                if cycle == shift:
                    bench.request.queue([vector])
                await cycles(dut)
            bench.set_control(enable=1)
            await bench.quiet()
            assert checker.sent == [vector]


@cocotb.test(timeout_time=100, timeout_unit="us")
async def unmasking_is_prompt(dut: Any) -> None:
    """A pending vector is offered 12 cycles after the write that unmasks it, wherever it lies."""
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
        assert elapsed == 12
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


CASES = [(2, 64), (5, 128), (33, 256), (64, 512), (1024, 64)]


@pytest.mark.parametrize(("vectors", "width"), CASES)
def test_msix(vectors: int, width: int) -> None:
    """Table, masks, pending bits, messages."""
    context = {"vectors": vectors, "width": width}
    simulate(MSIX(**context), module=__name__, name=f"msix_{vectors}_{width}", params=context)


@pytest.mark.filterwarnings("ignore::amaranth.hdl.UnusedElaboratable")
@pytest.mark.parametrize("vectors", [0, 1, 1025, 2048])
def test_refuses_what_does_not_fit(vectors: int) -> None:
    """The table has its place in BAR 0."""
    with pytest.raises(ValueError, match="vectors"):
        MSIX(vectors, 64)
    gc.collect()
