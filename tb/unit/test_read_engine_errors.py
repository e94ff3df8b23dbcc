"""The read engine when the bus fails: bad, missing, late and unexpected completions."""

from __future__ import annotations

import random
from typing import Any

import cocotb
import pytest
from read_engine_rig import (
    CONFIGS,
    Bench,
    ask_and_take,
    engine_parameters,
    random_address,
    random_group,
    run_like_new,
    spoil,
)
from read_host import Client, Read, completion

from lib.sim import simulate
from lib.streams import cycles, reset
from virtio_rtl.dma.read_engine import ReadEngine
from virtio_rtl.types.dma import DMAError
from virtio_rtl.types.tlp import TLPType

ERROR = DMAError

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


@cocotb.test(timeout_time=4, timeout_unit="ms")
async def drops_what_comes_while_tags_are_cleared(dut: Any) -> None:
    """After a reset, in any cycle: late completions of reads from before it answer nothing."""
    bench = await Bench(dut).start()
    await bench.rest()
    host, tags = bench.host, bench.params.tags
    host.latency = lambda: 3 * tags + 100
    for turn in range(4):
        await reset(dut)
        await cycles(dut, tags + 8)
        host.seen.clear()
        reads = random.randint(3 * tags, 4 * tags)
        for data in [bench.clients[0].ask([(random_address(), 4)]) for _ in range(reads)]:
            await bench.clients[0].expect(data)
        await bench.settle()
        # Every tag was used, though one client never holds them all; the last one is cleared last.
        assert {read.tag for read in host.seen} == set(range(tags))
        old = [read for read in host.seen if read.tag == tags - 1][-1]
        old.done = 0
        payload, fields = host.next_piece(old)
        if turn:
            payload += random.randbytes(4 * random.randrange(40))
        unexpected, first = bench.unexpected, host.sent
        dut.rst.value = 1
        await cycles(dut, 3)
        dut.rst.value = 0
        for _ in range(tags + 20):
            host.send(payload, **fields)
        await host.source.idle()
        await cycles(dut, 10)
        assert int(dut.idle.value)
        assert bench.unexpected - unexpected == host.sent - first
        for data in [bench.clients[0].ask([(random_address(), 4)]) for _ in range(2 * tags)]:
            await bench.clients[0].expect(data)
        await bench.settle()
        assert len(bench.errors) == 0


@pytest.mark.parametrize(("width", "tags", "slot_bytes", "clients"), CONFIGS)
def test_read_engine_errors(width: int, tags: int, slot_bytes: int, clients: int) -> None:
    """Every failure, over widths, numbers of tags, slot sizes and clients."""
    context = engine_parameters(width, tags, slot_bytes, clients)
    simulate(
        ReadEngine(**context),
        module=__name__,
        name=f"read_engine_errors_{width}_{tags}_{slot_bytes}_{clients}",
        params=context,
    )
