"""The entropy device comes to rest: it lets go of its requests, also if there are no bytes."""

from __future__ import annotations

import random
from typing import Any

import cocotb
import pytest
from entropy_rig import LARGEST, Bench, PortBytes, build
from virtqueue_helper import Strobes

from lib.sim import params, simulate
from lib.streams import cycles, reset
from virtio_rtl.device.entropy_reply import TellReplies

PATIENCE = 100
CLOCK_MHZ = 250.0


class RestBench(Bench):
    """Asks, gives whole beats, and knows what stands in the answers."""

    def __init__(self, dut: Any):
        super().__init__(dut)
        self.golden = PortBytes(b"", self.lanes)
        self.sizes: list[int] = []
        """Bytes asked for by each request that has no reply."""
        self.errors, self.counted = Strobes(dut, "error"), Strobes(dut, "events")

    def ask_some(self, count: int, least: int = 0) -> None:
        """Requests of any length."""
        for _ in range(count):
            size = max(least, random.choice([0, 1, random.randint(1, 60), random.randint(1, 400)]))
            self.ask(size, random.randbytes(random.choice([0, 0, 5])))
            self.sizes.append(size)

    def give_beats(self, count: int) -> None:
        """So many beats at the port, or as many as there is room for."""
        held = -(-LARGEST // self.lanes) + 16
        count = min(count, held - self.beats_left)
        data = random.randbytes(count * self.lanes)
        self.golden.data += data
        self.give(data)

    @property
    def beats_left(self) -> int:
        """Beats that were given, and belong to no reply that was looked at."""
        return len(self.golden.data) // self.lanes

    async def given(self) -> None:
        """Until the device has all words."""
        assert self.words is not None
        await self.words.idle()
        await cycles(self.dut, 10)

    async def next_length(self) -> int:
        """Length of the next reply, whose bytes must be the next ones."""
        length = (await self.reply.receive())["length"]
        assert await self.take(length) == self.golden(length)
        return length

    async def replies(self, lengths: list[int]) -> None:
        """The next replies have these lengths, and come soon."""
        for expected in lengths:
            wanted = self.sizes.pop(0)
            assert await self.next_length() == expected, (wanted, lengths)

    def lengths(self) -> list[int]:
        """What requests get that must not wait: all, or what is left, or nothing."""
        beats, answer = self.beats_left, []
        for size in self.sizes:
            whole = min(size, LARGEST)
            needed = -(-whole // self.lanes)
            answer.append(whole if needed <= beats else beats * self.lanes)
            beats -= min(needed, beats)
        return answer

    async def quiet(self, count: int = 2 * PATIENCE) -> None:
        """No reply for some time."""
        await cycles(self.dut, count)
        assert len(self.reply) == len(self.writable) == 0


async def start(dut: Any) -> RestBench:
    bench = RestBench(dut)
    await reset(dut)
    return bench


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def a_virtqueue_reset_takes_what_is_here(dut: Any) -> None:
    """All requests are answered: with all bytes, with those that are left, with none."""
    bench = await start(dut)
    seen = set()
    for _ in range(30):
        bench.ask_some(random.randint(1, 14), least=1)
        bench.give_beats(random.randint(0, 6 if random.random() < 0.5 else 40))
        await cycles(dut, random.randint(0, 300))
        await bench.given()
        dut.resetting.value = 1
        lengths = bench.lengths()
        sizes = [min(size, LARGEST) for size in bench.sizes]
        seen |= {(a == b, a == 0) for a, b in zip(lengths, sizes, strict=True)}
        await bench.replies(lengths)
        await cycles(dut, random.randint(0, 30))
        dut.resetting.value = 0
    assert seen == {(True, False), (False, False), (False, True)}
    assert bench.errors.count == 0
    # Afterwards a request waits again.
    dut.resetting.value = 1
    bench.ask_some(14, least=LARGEST)  # more than is here
    await bench.replies(bench.lengths())
    dut.resetting.value = 0
    bench.ask_some(1, least=1)
    await bench.quiet()
    bench.give_beats(40)
    await bench.replies(bench.lengths())


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def a_suspend_waits_for_a_byte_each(dut: Any) -> None:
    """Bytes that trickle in are shared out at once; no request gets none."""
    bench = await start(dut)
    short = 0
    for _ in range(30):
        bench.ask_some(random.randint(1, 14), least=1)
        bench.give_beats(random.randint(0, 10))
        await bench.given()
        dut.suspending.value = 1
        await bench.replies([length for length in bench.lengths() if length])
        while bench.sizes:
            if not len(bench.reply):
                bench.give_beats(random.choice([1, 1, 1, 2, 5]))
                await cycles(dut, random.randint(1, PATIENCE // 2))
            while bench.sizes and len(bench.reply):
                length = await bench.next_length()
                whole = min(bench.sizes.pop(0), LARGEST)
                assert 1 <= length <= whole
                short += length < whole
        dut.suspending.value = 0
        await cycles(dut, random.randint(1, 10))
    assert short > 10
    assert bench.errors.count == 0


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def a_dry_source_fails_a_suspend(dut: Any) -> None:
    """Not at once, and said once; then requests get nothing, whatever comes."""
    bench = await start(dut)
    dut.suspending.value = 1
    await bench.quiet()  # nobody waits for a byte
    dut.suspending.value = 0
    bench.ask_some(5, least=1)
    await bench.quiet()  # nobody waits for rest
    dut.suspending.value = 1
    await bench.quiet(PATIENCE // 2)
    bench.give_beats(1)  # it was not dry yet, and the time begins anew
    await bench.replies([min(bench.sizes[0], bench.lanes)])
    await bench.quiet(PATIENCE // 2)
    assert bench.errors.count == 0
    await bench.replies([0] * 4)
    assert (bench.errors.count, bench.counted.count) == (1, 1)
    await gives_nothing(bench)
    assert (bench.errors.count, bench.counted.count) == (1, 1)


async def gives_nothing(bench: RestBench) -> None:
    """A source that has failed: requests wait, and are let go of without a byte."""
    dut = bench.dut
    for level in (dut.resetting, dut.suspending) * 2:
        dut.resetting.value = dut.suspending.value = 0
        await cycles(dut, 5)
        if bench.words:
            bench.words.clear()
            bench.golden.data = b""
            bench.give_beats(2)
        bench.ask_some(9, least=1)
        await bench.quiet()
        level.value = 1
        bench.ask_some(2)
        await bench.replies([0] * 11)


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def a_failed_source_lets_go_of_requests(dut: Any) -> None:
    """Rings that stick: requests wait until somebody has to rest; one error."""
    bench = await start(dut)
    await cycles(dut, (params().stand_in_samples + 200) * params().sample_cycles)
    assert bench.errors.count == 1
    await gives_nothing(bench)
    assert (bench.errors.count, bench.counted.count) == (1, 1)


@pytest.mark.parametrize(("width", "word_bits"), [(64, 8), (256, 256)])
def test_entropy_rest(width: int, word_bits: int) -> None:
    """A port that is slow, or dry."""
    simulate(
        build(width, source="port", word_bits=word_bits, dry_after_us=PATIENCE / CLOCK_MHZ),
        module=__name__,
        name=f"entropy_rest_{width}",
        testcase=[
            "a_virtqueue_reset_takes_what_is_here",
            "a_suspend_waits_for_a_byte_each",
            "a_dry_source_fails_a_suspend",
        ],
        params={"width": width, "source": "port", "word_bits": word_bits},
        waive=["readable__ready"],
    )


def test_entropy_rest_of_failed_rings() -> None:
    """Rings that stick in the start-up test."""
    rings = {"source": "ring_oscillator", "sample_cycles": 4, "stand_in_samples": 1000}
    simulate(
        build(64, stand_in=True, **rings),
        module=__name__,
        name="entropy_rest_rings",
        testcase="a_failed_source_lets_go_of_requests",
        params={"width": 64, **rings},
        waive=["readable__ready"],
    )


def test_tell_replies_refuses_nonsense() -> None:
    """Parameters that cannot be built, by their names."""
    for arguments, field in (((64, 100, 12, 1), "held"), ((64, 100, 13, 0), "patience")):
        with pytest.raises(ValueError, match=field):
            TellReplies(*arguments)
