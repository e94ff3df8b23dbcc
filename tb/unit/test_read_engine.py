"""The read engine as its clients and the bus see it."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from typing import Any

import cocotb
import pytest
from cocotb.triggers import RisingEdge
from read_host import Client, Host, Read, completion

from lib.sim import params, simulate
from lib.streams import StreamSink, cycles, reset, start_clock, unpack
from virtio_rtl.dma.read_engine import ReadEngine
from virtio_rtl.dma.read_records import read_error
from virtio_rtl.types.dma import DMAError
from virtio_rtl.types.tlp import CompletionStatus, TLPType, tlp_beat

ERROR = DMAError


class Bench:
    """Engine, host, clients and counters."""

    def __init__(self, dut: Any, *, stall: float = 0.0) -> None:
        self.dut = dut
        self.params = params()
        start_clock(dut)
        dut.stop.value = 0
        self.host = Host(dut, self.params, stall=stall)
        self.clients = [
            Client(dut, index, self.host, stall=stall) for index in range(self.params.clients)
        ]
        self.errors = StreamSink(dut, "error", read_error(self.params.clients))
        self.unexpected = 0
        self.completion_stalls = 0
        cocotb.start_soon(self._watch())

    async def start(self) -> Bench:
        """Reset, and wait until the engine has its tags."""
        await reset(self.dut)
        await cycles(self.dut, self.params.tags + 8)
        return self

    async def rest(self) -> None:
        """Wait until no tag is in quarantine: it may come from the test before."""
        await cycles(self.dut, 2 * self.params.timeout_cycles)

    async def _watch(self) -> None:
        while True:
            await RisingEdge(self.dut.clk)
            self.unexpected += int(self.dut.unexpected.value)
            if int(self.dut.completions__valid.value):
                self.completion_stalls += not int(self.dut.completions__ready.value)

    async def settle(self) -> None:
        """Wait until nothing is in flight, for 50 cycles."""
        quiet = 0
        while quiet < 50:
            await RisingEdge(self.dut.clk)
            quiet = quiet + 1 if int(self.dut.idle.value) else 0

    def set_stall(self, stall: float) -> None:
        """Stall every stream with this chance."""
        self.host.tlps.stall = self.host.source.stall = stall
        for client in self.clients:
            client.source.stall = client.sink.stall = stall


def random_address() -> int:
    """Anywhere, often near a 4 KiB boundary or in the first bytes of a line."""
    page = random.getrandbits(random.choice([8, 20, 50])) << 12
    return page + random.choice(
        [
            random.getrandbits(12),
            random.randrange(0, 64),
            4096 - random.randrange(1, 130),
        ]
    )


def random_group() -> list[tuple[int, int]]:
    """Up to 16 requests of 1 to 4096 bytes."""
    return [
        (
            random_address(),
            random.choice(
                [
                    random.randint(1, 8),
                    random.randint(1, 80),
                    random.randint(1, 600),
                    72,
                    random.choice([64, 128, 256, 512, 4096, random.randint(1, 4096)]),
                ]
            ),
        )
        for _ in range(random.choice([1, 1, 1, 2, 3, 16]))
    ]


async def run_groups(bench: Bench, count: int, make: Callable[[], Any] = random_group) -> None:
    """Random groups on every client; every packet has to be right."""

    async def run(client: Client) -> None:
        expected = [client.ask(make()) for _ in range(count)]
        for data in expected:
            await client.expect(data)

    tasks = [cocotb.start_soon(run(client)) for client in bench.clients]
    for task in tasks:
        await task
    await bench.settle()
    assert not bench.host.in_flight
    assert bench.unexpected == 0
    assert len(bench.errors) == 0


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


def spoil(kind: str, host: Host, read: Read) -> None:
    """Answer a read wrongly, at its first piece or after some good ones."""
    for _ in range(random.randrange(3)):
        if read.length - read.done > 300:
            payload, fields = host.next_piece(read)
            host.send(payload, **fields)
    payload, fields = host.next_piece(read)
    if kind == "unsupported":
        host.send(b"", **fields | {"status": CompletionStatus.UNSUPPORTED_REQUEST})
    elif kind == "retry":
        host.send(b"", **fields | {"status": CompletionStatus.CONFIG_RETRY})
    elif kind == "abort":
        host.send(b"", **fields | {"status": CompletionStatus.COMPLETER_ABORT})
    elif kind == "count_low":
        host.send(payload, **fields | {"byte_count": fields["byte_count"] - 1})
    elif kind == "count_high":
        host.send(payload, **fields | {"byte_count": fields["byte_count"] + 4})
    elif kind == "address":
        host.send(payload, **fields | {"lower_address": fields["lower_address"] ^ 64})
    elif kind == "long":
        host.send(payload + random.randbytes(4 * random.randint(300, 400)), **fields)
    elif kind == "no_data":
        host.send(b"", **fields)
    elif kind == "short_frame":
        host.send(payload, **fields | {"length_dw": len(payload) // 4 + host.width // 32})
    elif kind == "long_frame":
        extra = random.randbytes(host.width // 8 * random.randint(1, 3))
        host.send(payload + extra, **fields | {"length_dw": len(payload) // 4})
    elif kind != "silence":
        raise AssertionError(kind)


KINDS = {
    "unsupported": ERROR.UNSUPPORTED_REQUEST,
    "retry": ERROR.UNSUPPORTED_REQUEST,
    "abort": ERROR.COMPLETER_ABORT,
    "count_low": ERROR.MALFORMED,
    "count_high": ERROR.MALFORMED,
    "address": ERROR.MALFORMED,
    "long": ERROR.MALFORMED,
    "no_data": ERROR.MALFORMED,
    "short_frame": ERROR.MALFORMED,
    "long_frame": ERROR.MALFORMED,
    "silence": ERROR.TIMEOUT,
    "poisoned": ERROR.POISONED,
}


@cocotb.test(timeout_time=4, timeout_unit="ms")
async def ends_failed_reads(dut: Any) -> None:
    """Every kind of failure: the group is delivered in full length with its error, others intact.

    The host fails single reads at random, one after the other per client, among good ones.
    """
    bench = await Bench(dut, stall=0.1).start()
    host = bench.host
    host.latency = lambda: random.randint(1, 60)
    plan: dict[int, str] = {}

    def choose(read: Read) -> None:
        kind = plan.pop(read.address, None)
        if kind == "poisoned":
            read.poison_at = random.randrange(read.length)
        elif kind:
            del host.in_flight[read.tag]
            spoil(kind, host, read)

    host.on_read = choose
    sent = {"errors": 0}

    async def run(index: int, client: Client) -> None:
        kinds = random.sample(list(KINDS), len(KINDS)) * 2
        base = (index + 1) << 48
        for number, kind in enumerate(kinds):
            before = client.ask(random_group())
            middle = [(base + (number << 16) + 4096 * i + 3, 1 + 97 * i) for i in range(5)]
            middle[random.randrange(5)] = (bad := base + (number << 16) + 0x8011, 64 + 40 * number)
            plan[bad] = kind
            failed = client.ask(middle)
            after = client.ask(random_group())
            await client.expect(before)
            data, error = await client.take()
            assert (len(data), error) == (len(failed), 1), kind
            start = 0
            for address, length in middle:  # the other reads of the group are good
                if address != bad:
                    assert data[start : start + length] == failed[start : start + length]
                start += length
            await client.expect(after)
            sent["errors"] += 1
            expected_codes.append((index, KINDS[kind]))

    expected_codes: list[tuple[int, DMAError]] = []
    tasks = [cocotb.start_soon(run(i, client)) for i, client in enumerate(bench.clients)]
    for task in tasks:
        await task
    await bench.settle()
    codes = [(e.client, e.code) for e in (bench.errors.now() for _ in range(len(bench.errors)))]
    assert sorted(codes, key=str) == sorted(expected_codes, key=str)
    host.on_read = lambda read: None
    await run_like_new(bench)


async def run_like_new(bench: Bench) -> None:
    """After the quarantine, all tags work again."""
    await cycles(bench.dut, 4 * bench.params.timeout_cycles)
    host, tags = bench.host, bench.params.tags
    bench.set_stall(0.0)
    host.seen.clear()
    host.latency = lambda: 3 * tags + 100
    unexpected = bench.unexpected
    expected = [bench.clients[0].ask([(random_address(), 4)]) for _ in range(4 * tags)]
    for data in expected:
        await bench.clients[0].expect(data)
    assert bench.unexpected == unexpected
    assert {r.tag for r in host.seen} == set(range(tags))


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def reports_first_error_of_a_group(dut: Any) -> None:
    """Several failed reads in a group give one report, with the code of the first by bytes."""
    bench = await Bench(dut).start()
    host = bench.host
    kinds = ["", "abort", "unsupported", "count_low"]
    host.on_read = lambda read: (
        kinds[read.address >> 12]
        and (host.in_flight.pop(read.tag), spoil(kinds[read.address >> 12], host, read))
    )
    bench.clients[0].ask([(page << 12, 8) for page in range(4)])
    data, error = await bench.clients[0].take()
    assert (len(data), error) == (32, 1)
    await bench.settle()
    report = await bench.errors.receive()
    assert (report.client, report.code) == (0, ERROR.COMPLETER_ABORT)
    assert len(bench.errors) == 0
    host.on_read = lambda read: None
    await ask_and_take(bench, 0, [(5000, 77)])


async def ask_and_take(bench: Bench, client: int, group: list[tuple[int, int]]) -> None:
    """One good group."""
    expected = bench.clients[client].ask(group)
    await bench.clients[client].expect(expected)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def goes_on_when_nobody_takes_errors(dut: Any) -> None:
    """Reports that nobody takes are lost, packets are not."""
    bench = Bench(dut)
    bench.errors.stall = 1.0
    await bench.start()
    host = bench.host
    host.on_read = lambda read: (host.in_flight.pop(read.tag), spoil("abort", host, read))
    for index in range(10):
        bench.clients[0].ask([(index << 8, 40)])
    for _ in range(10):
        data, error = await bench.clients[0].take()
        assert (len(data), error) == (40, 1)
    bench.errors.stall = 0.0
    await cycles(dut, 20)
    assert len(bench.errors) == 1


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def drops_unexpected_completions(dut: Any) -> None:
    """Completions for no read in flight, and other TLPs, are counted and change nothing."""
    bench = await Bench(dut, stall=0.2).start()
    host = bench.host
    host.latency = lambda: random.randint(100, 200)
    count = 0

    async def disturb() -> None:
        nonlocal count
        for _ in range(150):
            # Only the reads that the host has not seen yet may be hit by accident: keep clear.
            free = [t for t in range(256) if t not in reserved and t not in host.in_flight]
            fields: dict[str, Any] = {
                "tag": random.choice([*free, 256, 1023]),
                "byte_count": random.randint(1, 4096),
                "lower_address": random.getrandbits(7),
            }
            payload = random.randbytes(4 * random.randint(1, 64))
            choice = random.randrange(4)
            if choice == 0:
                payload = b""
            elif choice == 1 and host.in_flight:
                fields |= {"type": TLPType.MEM_WRITE, "tag": random.choice([*host.in_flight])}
            host.source.queue(completion(host.width, payload, **fields))
            count += 1
            await host.source.idle()
            await cycles(dut, random.randint(1, 20))

    # Without extended tags, only tags 0 to 31 are ever sent; the rest is free to be abused.
    reserved = set(range(32))
    host.extended = False
    host.set_control()
    task = cocotb.start_soon(disturb())
    expected = [bench.clients[0].ask(random_group()) for _ in range(12)]
    for data in expected:
        await bench.clients[0].expect(data)
    await task
    await bench.settle()
    assert bench.unexpected == count
    assert len(bench.errors) == 0


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def drops_duplicates(dut: Any) -> None:
    """The last completion of a read once more is unexpected, whenever the tag is not in use."""
    bench = await Bench(dut).start()
    host = bench.host
    beats: list[list[int]] = []

    def twice(read: Read) -> None:
        del host.in_flight[read.tag]
        payload, fields = host.next_piece(read)
        for _ in range(2):
            host.send(payload, **fields)
        beats.append([])

    host.on_read = twice
    for index in range(8):
        await ask_and_take(bench, 0, [(index * 128, 8)])
    await bench.settle()
    assert bench.unexpected == 8


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def keeps_timed_out_tags_in_quarantine(dut: Any) -> None:
    """A read ends in 1.0 to 1.5 time-outs; its tag rests as long again, late data are dropped."""
    bench = await Bench(dut).start()
    await bench.rest()
    host, timeout, tags = bench.host, bench.params.timeout_cycles, bench.params.tags
    client = bench.clients[0]
    host.answer = lambda read: read.address >= 1 << 20
    client.ask([(0x1000, 8), (0x2000, 128), (0x3000, 3)])
    _, error = await client.take()
    took = host.cycle - host.seen[0].cycle
    assert error == 1
    assert timeout <= took <= 1.5 * timeout + 20, took
    assert (await bench.errors.receive()).code == ERROR.TIMEOUT
    lost = {read.tag: read for read in host.seen}
    assert len(lost) == 3
    start = host.cycle
    host.latency = lambda: 1
    host.seen.clear()
    # Reads go on with the other tags; late completions come at once and in between.
    late = list(lost.values())
    while host.cycle < start + timeout:
        batch = [(1 << 20) + 64 * i for i in range(2 * tags)]
        expected = [client.ask([(address, 16)]) for address in batch]
        for data in expected:
            await client.expect(data)
        if late and random.random() < 0.5:
            host.send_next(late.pop()) if late[-1].tag in host.in_flight else None
    assert not {r.tag for r in host.seen if r.cycle < start + timeout - 100} & set(lost)
    for read in list(host.in_flight.values()):
        host.send_next(read)
    await bench.settle()
    assert bench.unexpected >= 3
    host.answer = lambda read: True
    host.in_flight.clear()
    await run_like_new(bench)


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def survives_reset_with_late_completions(dut: Any) -> None:
    """Stop, wait for idle, reset, restart: what was lost before cannot answer what is asked now."""
    bench = await Bench(dut).start()
    await bench.rest()
    host, tags = bench.host, bench.params.tags
    host.answer = lambda read: False
    for client in bench.clients:
        for index in range(tags):
            client.ask([(index << 6, 16)])
    await cycles(dut, 3 * tags + 40)
    old = list(host.in_flight.values())
    assert len(old) == tags
    for sink in bench.clients:
        sink.sink.stall = 1.0
    dut.stop.value = 1
    await cycles(dut, 2)
    # Some come back, the others time out. None is taken by a client.
    for read in old[: tags // 2]:
        host.send_next(read)
    await cycles(dut, 10)
    assert int(dut.idle.value) == 0
    lost = old[tags // 2 :]
    await bench.settle()
    assert len(host.seen) == tags, "a read left after stop"
    for client in bench.clients:
        client.source.clear()
    for client in bench.clients:  # an offered request is withdrawn with the reset
        client.source.stop()
        client.sink.stop()
    dut.rst.value = 1
    await cycles(dut, 3)
    for index in range(len(bench.clients)):
        getattr(dut, f"request_{index}__valid").value = 0
    bench.clients = [Client(dut, index, host) for index in range(len(bench.clients))]
    dut.stop.value = 0
    dut.rst.value = 0
    host.seen.clear()
    host.latency = lambda: 40
    unexpected = bench.unexpected
    # New reads of the very same bytes, so that nothing but the tag can tell old from new.
    host.answer = lambda read: read not in lost
    expected = [bench.clients[0].ask([(index << 6, 16)]) for index in range(2 * tags)]
    await cycles(dut, 4 * tags + 100)  # all the tags that there are have been used
    noise, host.memory._noise = host.memory._noise, bytes(0x20000)
    for read in lost:
        assert host.in_flight[read.tag] is read, "a tag in quarantine was used"
        host.send_next(read)
    host.memory._noise = noise
    host.answer = lambda read: True
    for data in expected:
        await bench.clients[0].expect(data)
    await host.source.idle()
    await bench.settle()
    assert bench.unexpected - unexpected == len(lost)
    await run_like_new(bench)


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
    """Request to TLP in 4 cycles, last completion beat to packet in 10 cycles."""
    bench = await Bench(dut).start()
    times: dict[str, int] = {}

    async def first_valid(name: str) -> None:
        cycle = 0
        while not int(getattr(dut, f"{name}__valid").value):
            await RisingEdge(dut.clk)
            cycle = bench.host.cycle
        times[name] = cycle

    watchers = [
        cocotb.start_soon(first_valid(name))
        for name in ("request_0", "tlp", "completions", "packet_0")
    ]
    await ask_and_take(bench, 0, [(64, params().width // 8)])
    for watcher in watchers:
        await watcher
    assert times["tlp"] - times["request_0"] == 4
    assert times["packet_0"] - times["completions"] == 10


SPEED = [
    "streams_small_requests",
    "streams_single_rows",
    "streams_split_completions",
    "streams_large_requests",
    "has_short_latency",
]
BEHAVIOUR = [
    "packs_random_groups",
    "splits_at_mrrs_and_pages",
    "changes_mrrs_during_a_request",
    "uses_only_low_tags_without_extended_tags",
    "waits_for_bus_master_enable",
    "ends_failed_reads",
    "reports_first_error_of_a_group",
    "goes_on_when_nobody_takes_errors",
    "drops_unexpected_completions",
    "drops_duplicates",
    "keeps_timed_out_tags_in_quarantine",
    "survives_reset_with_late_completions",
    "stops_and_goes_idle_without_bus_master",
    "is_not_idle_while_a_read_is_offered",
    "isolates_clients",
]
CONFIGS = [
    (64, 8, 128, 1),
    (64, 64, 256, 3),
    (128, 32, 512, 2),
    (256, 64, 512, 3),
    (256, 16, 4096, 2),
    (512, 64, 512, 4),
    (512, 256, 128, 2),
]


@pytest.mark.parametrize(("width", "tags", "slot_bytes", "clients"), CONFIGS)
def test_read_engine(width: int, tags: int, slot_bytes: int, clients: int) -> None:
    """Everything, over widths, numbers of tags, slot sizes and clients."""
    context = {
        "width": width,
        "tags": tags,
        "slot_bytes": slot_bytes,
        "clients": clients,
        "timeout_cycles": 8000 if width == 64 else 4096,
    }
    simulate(
        ReadEngine(**context),
        module=__name__,
        name=f"read_engine_{width}_{tags}_{slot_bytes}_{clients}",
        params=context,
        testcase=BEHAVIOUR,
    )


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
        testcase=SPEED,
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
