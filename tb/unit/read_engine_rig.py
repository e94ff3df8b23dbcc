"""What the tests of the read engine share: the engine in its surroundings, random requests."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import cocotb
from cocotb.triggers import RisingEdge
from read_host import Client, Host, Read

from lib.sim import params
from lib.streams import StreamSink, cycles, reset, start_clock
from virtio_rtl.dma.read_records import read_error
from virtio_rtl.types.tlp import CompletionStatus

__all__ = [
    "CONFIGS",
    "Bench",
    "ask_and_take",
    "engine_parameters",
    "random_address",
    "random_group",
    "run_groups",
    "run_like_new",
    "spoil",
]

CONFIGS = [
    (64, 8, 128, 1),
    (128, 32, 512, 3),
    (256, 16, 4096, 2),
    (512, 64, 512, 4),
    (512, 256, 128, 2),
]


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


async def ask_and_take(bench: Bench, client: int, group: list[tuple[int, int]]) -> None:
    """One good group."""
    expected = bench.clients[client].ask(group)
    await bench.clients[client].expect(expected)


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


def engine_parameters(width: int, tags: int, slot_bytes: int, clients: int) -> dict[str, int]:
    """A configuration of `CONFIGS` as arguments of `ReadEngine`, with a time-out to wait for."""
    return {
        "width": width,
        "tags": tags,
        "slot_bytes": slot_bytes,
        "clients": clients,
        "timeout_cycles": 8000 if width == 64 else 4096,
    }
