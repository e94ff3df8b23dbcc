"""Health tests of a noise source, and the bytes made of its samples, against plain Python."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from typing import Any

import cocotb
import pytest

from lib.sim import params, simulate
from lib.streams import StreamSink, cycles, reset, start_clock
from virtio_rtl.config import ConfigError, DeviceConfig
from virtio_rtl.config_entropy import EntropyConfig, _critical_binomial
from virtio_rtl.device.entropy_health import HealthTests
from virtio_rtl.device.entropy_noise import NoiseBytes

WINDOW = 64
"""Short, so that random streams meet every boundary; the cut-offs are passed as they are."""


def repetition_fails(samples: Sequence[int], cutoff: int) -> int | None:
    """Index of the sample that fails the repetition count test. [SP 800-90B §4.4.1]"""
    value, count = samples[0], 1
    for index, sample in enumerate(samples[1:], 1):
        if sample == value:
            count += 1
            if count >= cutoff:
                return index
        else:
            value, count = sample, 1
    return None


def proportion_fails(samples: Sequence[int], cutoff: int, window: int) -> int | None:
    """Index of the sample that fails the adaptive proportion test. [SP 800-90B §4.4.2]"""
    for start in range(0, len(samples), window):
        count = 1
        for index in range(start + 1, min(start + window, len(samples))):
            if samples[index] == samples[start]:
                count += 1
                if count >= cutoff:
                    return index
    return None


def first_failure(samples: Sequence[int], repetition: int, proportion: int) -> int | None:
    """Index of the sample that fails either test."""
    found = [
        index
        for index in (
            repetition_fails(samples, repetition),
            proportion_fails(samples, proportion, WINDOW),
        )
        if index is not None
    ]
    return min(found, default=None)


def with_runs(length: int, longest: int) -> list[int]:
    """Samples in which no run is longer than `longest`."""
    samples: list[int] = []
    value = random.getrandbits(1)
    while len(samples) < length:
        samples += [value] * random.randint(1, longest)
        value ^= 1
    return samples[:length]


def windows(count: int, matches: int) -> list[int]:
    """Windows whose first value comes `matches` times, spread without long runs."""
    samples: list[int] = []
    for _ in range(count):
        value = random.getrandbits(1)
        rest = [value] * (matches - 1) + [value ^ 1] * (WINDOW - matches)
        random.shuffle(rest)
        samples += [value, *rest]
    return samples


async def feed(dut: Any, samples: Iterable[int], *, gaps: bool = True) -> None:
    """Give samples, with random gaps in which `sample` means nothing."""
    for sample in samples:
        while gaps and random.random() < 0.3:
            dut.strobe.value = 0
            dut.sample.value = random.getrandbits(1)
            await cycles(dut)
        dut.strobe.value = 1
        dut.sample.value = sample
        await cycles(dut)
    dut.strobe.value = 0


async def start(dut: Any) -> None:
    dut.strobe.value = 0
    dut.sample.value = 0
    await reset(dut)


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def fails_at_the_sample_that_the_rule_says(dut: Any) -> None:
    """Streams with runs and proportions on both sides of the cut-offs, at random."""
    start_clock(dut)
    repetition, proportion = params().repetition, params().proportion
    seen = set()
    for _ in range(120):
        samples = random.choice(
            [
                lambda: with_runs(400, repetition - 1),
                lambda: with_runs(400, repetition),
                lambda: windows(5, proportion - 1),
                lambda: windows(5, proportion),
                lambda: [int(random.random() < 0.8) for _ in range(300)],
            ]
        )()
        expected = first_failure(samples, repetition, proportion)
        await start(dut)
        for index, sample in enumerate(samples):
            await feed(dut, [sample])
            await cycles(dut)
            failed = expected is not None and index >= expected
            assert bool(dut.failed.value) == failed, (index, expected)
            good = WINDOW if expected is None else min(expected, WINDOW)
            assert bool(dut.passed.value) == (good == WINDOW and index >= WINDOW - 1), index
            if failed:
                break
        seen.add((expected is None, expected is not None and expected < WINDOW))
    assert seen == {(True, False), (False, True), (False, False)}


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def boundaries_of_both_counts(dut: Any) -> None:
    """One below a cut-off passes, the cut-off fails; with every sample right behind the other."""
    start_clock(dut)
    repetition, proportion = params().repetition, params().proportion
    for value in (0, 1):
        for length in (repetition - 1, repetition, repetition + 1):
            for lead in ([], [value ^ 1], [value ^ 1] * 3):
                await start(dut)
                await feed(dut, [*lead, *[value] * length, value ^ 1], gaps=False)
                await cycles(dut)
                assert bool(dut.failed.value) == (length >= repetition), (value, length, lead)
        for count in (proportion - 1, proportion):
            # In the first window, and in the third.
            for before in (0, 2):
                good = [n % 2 for n in range(before * WINDOW)]
                # The value that is counted comes in runs too short for the other test.
                gaps = WINDOW - count
                each = (count - 1) // gaps + 1
                assert each < repetition
                body, left = [value], count - 1
                for _ in range(gaps):
                    body.append(value ^ 1)
                    take = min(each, left)
                    body += [value] * take
                    left -= take
                await start(dut)
                await feed(dut, [*good, *body], gaps=False)
                await cycles(dut)
                assert len(body) == WINDOW
                assert bool(dut.failed.value) == (count >= proportion), (value, count, before)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def a_failure_lasts_until_a_reset(dut: Any) -> None:
    """Good samples cure nothing; a reset does, and the start-up test begins anew."""
    start_clock(dut)
    await start(dut)
    good = [n % 2 for n in range(3 * WINDOW)]
    await feed(dut, good)
    await cycles(dut)
    assert dut.passed.value
    assert not dut.failed.value
    await feed(dut, [1] * params().repetition)
    await feed(dut, good)
    assert dut.failed.value
    await start(dut)
    await feed(dut, good[: WINDOW - 1])
    await cycles(dut)
    assert not dut.passed.value
    assert not dut.failed.value
    await feed(dut, good[:1])
    await cycles(dut)
    assert dut.passed.value
    assert not dut.failed.value


def unbiased(samples: Sequence[int]) -> list[int]:
    """Bits as von Neumann takes them: 01 is 0, 10 is 1."""
    return [first for first, second in zip(samples[::2], samples[1::2]) if first != second]


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def bytes_are_the_unbiased_samples(dut: Any) -> None:
    """Nothing of the start-up test, then bit for bit what von Neumann's rule gives."""
    start_clock(dut)
    width = len(dut.output__payload)
    sink = StreamSink(dut, "output")  # a stall would cost bits
    for bias in (0.5, 0.35):
        await start(dut)
        while sink.now() is not None:
            pass
        samples: list[int] = []
        while (
            len(samples) < 8 * width + WINDOW
            or first_failure(samples, params().repetition, params().proportion) is not None
        ):
            samples = [int(random.random() < bias) for _ in range(8 * width + WINDOW)]
        await feed(dut, samples)
        await cycles(dut, 50)
        bits = unbiased(samples[WINDOW:])
        words = [bits[at : at + width] for at in range(0, len(bits) - width + 1, width)]
        got = [sink.now() for _ in range(len(sink))]
        assert got == [sum(bit << n for n, bit in enumerate(word)) for word in words]
        assert got


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def a_failed_source_offers_nothing_new(dut: Any) -> None:
    """After the sample that fails, no beat comes that was not offered before."""
    start_clock(dut)
    width = len(dut.output__payload)
    sink = StreamSink(dut, "output")
    await start(dut)
    # The last bit of a beat would come right behind the failure.
    await feed(dut, [n % 2 for n in range(WINDOW + 2 * (width - 1))])
    assert len(sink) == 0
    await feed(dut, [1] * params().repetition)
    await feed(dut, [n % 2 for n in range(8 * width)])
    await cycles(dut, 20)
    assert dut.failed.value
    assert len(sink) == 0


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def bits_are_dropped_while_a_beat_waits(dut: Any) -> None:
    """A beat that is not taken stays as it is, however many samples come."""
    start_clock(dut)
    width = len(dut.output__payload)
    sink = StreamSink(dut, "output", stall=1.0)
    await start(dut)
    samples = [n % 2 for n in range(WINDOW)]
    for _ in range(3 * width):  # one bit of two samples
        bit = random.getrandbits(1)
        samples += [bit, bit ^ 1]
    await feed(dut, samples)
    sink.stall = 0.0
    bits = unbiased(samples[WINDOW:])[:width]
    assert await sink.receive() == sum(bit << n for n, bit in enumerate(bits))
    await cycles(dut, 10)
    assert len(sink) == 0


@pytest.mark.parametrize(("repetition", "proportion"), [(12, 44), (40, 58)])
def test_entropy_health(repetition: int, proportion: int) -> None:
    """Both tests, with cut-offs of several strictness."""
    simulate(
        HealthTests(repetition, proportion, WINDOW),
        module=__name__,
        name=f"entropy_health_{repetition}_{proportion}",
        testcase=[
            "fails_at_the_sample_that_the_rule_says",
            "boundaries_of_both_counts",
            "a_failure_lasts_until_a_reset",
        ],
        params={"repetition": repetition, "proportion": proportion},
    )


def test_noise_bytes() -> None:
    """Tested samples to beats."""
    context = {"repetition": 21, "proportion": 55}
    simulate(
        NoiseBytes(64, 21, 55, WINDOW),
        module=__name__,
        name="entropy_noise",
        testcase=[
            "bytes_are_the_unbiased_samples",
            "a_failed_source_offers_nothing_new",
            "bits_are_dropped_while_a_beat_waits",
        ],
        params=context,
    )


@pytest.mark.parametrize(
    ("min_entropy", "cutoff"), [(0.2, 941), (0.4, 840), (0.6, 748), (0.8, 664), (1.0, 589)]
)
def test_proportion_cutoffs_are_those_of_the_standard(min_entropy: float, cutoff: int) -> None:
    """The table for a window of 1024 and a false alarm in 2**20. [SP 800-90B §4.4.2]"""
    assert 1 + _critical_binomial(1024, 2**-min_entropy, 2**-20) == cutoff


def test_cutoffs_of_a_configuration() -> None:
    """From the min-entropy, and within what the tests can count."""
    assert EntropyConfig(min_entropy=1).repetition_cutoff == 41
    assert EntropyConfig(min_entropy=0.5).repetition_cutoff == 81
    for tenths in range(1, 11):
        config = EntropyConfig(min_entropy=tenths / 10)
        assert 512 < config.proportion_cutoff <= 1024


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("source", "dice"),
        ("largest_reply", 0),
        ("dry_after_us", 0),
        ("dry_after_us", 10_000_001),
        ("word_bits", 24),
        ("seed", 0),
        ("seed", 1 << 64),
        ("rings", 65),
        ("ring_stages", 4),
        ("sample_cycles", 3),
        ("min_entropy", 0.01),
        ("stand_in_samples", -1),
    ],
)
def test_entropy_config_refuses(field: str, value: Any) -> None:
    """A value that cannot be built, by the name of its field."""
    with pytest.raises(ConfigError, match=rf"^entropy\.{field} = "):
        EntropyConfig(**{field: value})


@pytest.mark.parametrize(
    ("width", "clock_mhz", "sample_cycles", "min_entropy", "first", "patience"),
    [(64, 125.0, 16, 1, 164, 246), (64, 125.0, 65536, 1, 671_089, 1_006_633),
     (256, 250.0, 65536, 1, 536_871, 805_307), (512, 250.0, 100, 1, 1229, 1844),
     (64, 125.0, 16, 0.5, 171, 256), (512, 250.0, 16, 0.1, 590, 885)],
)  # fmt: skip
def test_rings_that_start_up_are_not_dry(
    width: int,
    clock_mhz: float,
    sample_cycles: int,
    min_entropy: float,
    first: int,
    patience: int,
) -> None:
    """From the start-up test and a beat of biased samples; both figures are in the refusal."""

    def device(dry_after_us: float, **more: Any) -> DeviceConfig:
        rings: dict[str, Any] = {"source": "ring_oscillator", "min_entropy": min_entropy}
        rings |= {"sample_cycles": sample_cycles, "dry_after_us": dry_after_us}
        entropy = EntropyConfig(**rings | more)
        return DeviceConfig("e", "entropy", width, clock_mhz, entropy=entropy)

    device(patience)
    for wrong in (patience - 1, 0.1):
        told = rf"^entropy\.dry_after_us = {wrong}: at least {patience}, .* {first} for their first"
        with pytest.raises(ConfigError, match=told):
            device(wrong)
    device(0.1, stand_in=True)  # for a test that wants it dry
    device(0.1, source="port")


def test_health_tests_refuse_nonsense() -> None:
    """Cut-offs that no stream, or every stream, would reach."""
    for repetition, proportion in ((1, 10), (10, 1), (10, 65)):
        with pytest.raises(ValueError, match="_cutoff"):
            HealthTests(repetition, proportion, WINDOW)
