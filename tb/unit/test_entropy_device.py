"""The entropy device at its door: replies, bytes, sources, failures."""

from __future__ import annotations

import itertools
import random
import re
from typing import Any

import cocotb
import pytest
from entropy_rig import LARGEST, Bench, PortBytes, build
from virtqueue_helper import Moves, Strobes, nothing_more, spread

from lib.convert import to_rtlil
from lib.entropy_stand_in import StandInBytes
from lib.sim import params, simulate
from lib.streams import cycles, reset, start_clock
from virtio_model.device.entropy import SeededBytes
from virtio_model.spec.features import mask
from virtio_rtl.config import ConfigError, DeviceConfig
from virtio_rtl.config_entropy import EntropyConfig
from virtio_rtl.device.entropy import ENTROPY
from virtio_rtl.device.entropy_ring import LutRings, RingSampler, StandInRings
from virtio_rtl.device.entropy_words import SeededSource, WordSource
from virtio_rtl.regs.maps import register_maps
from virtio_rtl.transport.features import offered
from virtio_rtl.types.virtqueue import MAX_REQUEST_BYTES

SEED = 0x1234_5678_9ABC_DEF0


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def every_request_gets_the_next_bytes(dut: Any) -> None:
    """Any length, with readable bytes or without: reply and packet, bit for bit, in order."""
    bench = Bench(dut)
    await reset(dut)
    lanes = bench.lanes
    sizes = [0, 1, lanes - 1, lanes, lanes + 1, LARGEST - 1, LARGEST, LARGEST + 1]
    sizes += [MAX_REQUEST_BYTES, 1 << 16, 0]
    sizes += [random.choice([random.randint(0, 40), random.randint(0, 600)]) for _ in range(150)]
    random.shuffle(sizes)
    for size in sizes:
        bench.ask(size, random.randbytes(random.choice([0, 0, 0, 1, 100])))
    if bench.with_port:
        data = random.randbytes((LARGEST + lanes) // lanes * lanes * len(sizes))
        bench.give(data)
        golden: Any = PortBytes(data, lanes)
    else:
        golden = SeededBytes(SEED, lanes)
    for size in sizes:
        expected = min(size, LARGEST)
        answer = await bench.answer()
        assert len(answer) == expected
        assert answer == (golden(expected) if expected else b"")
    await bench.readable.idle()
    await nothing_more(dut, bench.reply, bench.writable)


@cocotb.test(timeout_time=200, timeout_unit="us")
async def replies_come_with_the_last_byte(dut: Any) -> None:
    """A length is told when all of its bytes are here, also while those before it are stuck."""
    bench = Bench(dut)
    await reset(dut)
    bench.writable.stall = 1.0
    for _ in range(4):
        bench.ask(64)
    if bench.words:
        word = params().word_bits // 8
        bench.give(random.randbytes(4 * 64 - word))
        assert [r["length"] for r in await bench.reply.take(3)] == [64] * 3
        await cycles(dut, 200)
        assert len(bench.reply) == 0
        bench.give(random.randbytes(word))
    await bench.reply.take(1 if bench.words else 4)
    assert len(bench.writable) == 0


@cocotb.test(timeout_time=200, timeout_unit="us")
async def waits_for_a_slow_port(dut: Any) -> None:
    """Without words a request waits; it is not even told before the last one is there."""
    bench = Bench(dut)
    await reset(dut)
    lanes = bench.lanes
    data = random.randbytes(3 * lanes)
    bench.ask(2 * lanes + 1)
    bench.give(data[: 2 * lanes])
    await cycles(dut, 200)
    assert len(bench.reply) == len(bench.writable) == 0
    bench.give(data[2 * lanes :])
    assert await bench.answer() == data[: 2 * lanes + 1]


@cocotb.test(timeout_time=200, timeout_unit="us")
async def a_beat_a_cycle(dut: Any) -> None:
    """Long replies and one-beat replies follow each other without a gap."""
    bench = Bench(dut, stall=0.0)
    moves = Moves(dut, "writable")
    await reset(dut)
    if bench.with_port:
        # As fast as the port is: it gives a word a cycle.
        bench.give(random.randbytes(bench.lanes * 200))
    sizes = [LARGEST] * 4 + [1] * 30 + [bench.lanes + 1] * 10
    for size in sizes:
        bench.ask(size)
    for _ in sizes:
        await bench.answer()
    beats = sum(-(-size // bench.lanes) for size in sizes)
    assert len(moves.cycles) == beats
    assert spread(moves.cycles) == beats


@cocotb.test(timeout_time=200, timeout_unit="us")
async def a_reset_starts_anew(dut: Any) -> None:
    """What was announced is forgotten; the seeded source begins with its first byte again."""
    bench = Bench(dut)
    await reset(dut)
    bench.writable.stall = 0.9
    for _ in range(12):
        bench.ask(200)
    await bench.reply.take(5)
    bench.request.clear()
    await cycles(dut, 20)
    dut.rst.value = 1
    await cycles(dut, 3)
    dut.rst.value = 0
    await cycles(dut, 40)
    bench.writable.stall = bench.reply.stall = 0.0
    await cycles(dut, 200)
    for sink in (bench.reply, bench.writable):
        while sink.now() is not None:
            pass
    await reset(dut)
    golden = SeededBytes(SEED, bench.lanes)
    for size in (5, 100, 64):
        bench.ask(size)
        assert await bench.answer() == golden(size)


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def bytes_come_after_the_start_up_test(dut: Any) -> None:
    """None before 1024 samples; then those of the stand-in, bit for bit."""
    bench = Bench(dut, stall=0.0)
    await reset(dut)
    bench.ask(64)
    await cycles(dut, 1024 * params().sample_cycles)
    assert len(bench.writable) == 0
    golden = StandInBytes(EntropyConfig(sample_cycles=params().sample_cycles), bench.lanes)
    data = await bench.answer()
    assert data == golden(64)
    assert len(set(data)) > 40
    bench.ask(61)
    assert await bench.answer() == golden(61)
    assert not dut.error.value


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def a_source_that_sticks_raises_an_error_once(dut: Any) -> None:
    """Told once while the driver runs; requests get no byte any more."""
    bench = Bench(dut, stall=0.0)
    errors, counted = Strobes(dut, "error"), Strobes(dut, "events")
    await reset(dut)
    for _ in range(100):
        bench.ask(10)
    await cycles(dut, (params().stand_in_samples + 200) * params().sample_cycles)
    assert (errors.count, counted.count) == (1, 1)
    got = len(bench.writable)
    assert got > 5
    await cycles(dut, 500 * params().sample_cycles)
    assert len(bench.writable) == got
    assert (errors.count, counted.count) == (1, 1)


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def a_failure_waits_for_the_driver(dut: Any) -> None:
    """Told when the driver begins to run; bytes that were kept from before stay inside."""
    bench = Bench(dut, stall=0.0)
    dut.open.value = 0
    errors, counted = Strobes(dut, "error"), Strobes(dut, "events")
    await reset(dut)
    await cycles(dut, (params().stand_in_samples + 200) * params().sample_cycles)
    assert errors.count == 0
    for _ in range(3):
        dut.open.value = 1
        await cycles(dut, 20)
        assert (errors.count, counted.count) == (1, 1)
        dut.open.value = 0
        await cycles(dut, 20)
    dut.open.value = 1
    bench.ask(LARGEST)
    await cycles(dut, 200)
    assert len(bench.reply) == len(bench.writable) == 0


CASES = ["every_request_gets_the_next_bytes", "replies_come_with_the_last_byte", "a_beat_a_cycle"]


@pytest.mark.parametrize("width", [64, 256])
def test_seeded_entropy(width: int) -> None:
    """The seeded source, against the golden one."""
    simulate(
        build(width, source="seeded", seed=SEED),
        module=__name__,
        name=f"entropy_seeded_{width}",
        testcase=[*CASES, "a_reset_starts_anew"],
        params={"width": width, "source": "seeded"},
        waive=["readable__ready"],
    )


@pytest.mark.parametrize(("width", "word_bits"), [(64, 8), (128, 128)])
def test_entropy_port(width: int, word_bits: int) -> None:
    """Bytes from the stream port."""
    cases = [*CASES[:2], "waits_for_a_slow_port"] + CASES[2:] * (width == word_bits)
    simulate(
        build(width, source="port", word_bits=word_bits),
        module=__name__,
        name=f"entropy_port_{width}_{word_bits}",
        testcase=cases,
        params={"width": width, "source": "port", "word_bits": word_bits},
        waive=["readable__ready"],
    )


def test_entropy_rings() -> None:
    """The ring source with its stand-in."""
    context = {"width": 64, "source": "ring_oscillator", "sample_cycles": 4}
    simulate(
        build(64, source="ring_oscillator", sample_cycles=4, stand_in=True),
        module=__name__,
        name="entropy_rings",
        testcase="bytes_come_after_the_start_up_test",
        params=context,
        waive=["readable__ready"],
    )


def test_entropy_rings_that_stick() -> None:
    """The ring source fails, and says so."""
    samples = 5000
    simulate(
        build(64, source="ring_oscillator", sample_cycles=4, stand_in=True,
              stand_in_samples=samples),
        module=__name__,
        name="entropy_rings_stick",
        testcase=[
            "a_source_that_sticks_raises_an_error_once",
            "a_failure_waits_for_the_driver",
        ],
        params={"width": 64, "source": "ring_oscillator", "sample_cycles": 4,
                "stand_in_samples": samples},
        waive=["readable__ready"],
    )  # fmt: skip


@cocotb.test(timeout_time=20, timeout_unit="us")
async def samples_the_parity_of_all_taps(dut: Any) -> None:
    """One sample a period: the parity that the taps had three cycles before the strobe shows."""
    start_clock(dut)
    dut.taps.value = 0
    await reset(dut)
    taps: list[int] = []
    strobes = []
    for now in range(200):
        value = random.getrandbits(params().rings)
        dut.taps.value = value
        await cycles(dut)
        taps.append(value)
        if dut.strobe.value:
            strobes.append(now)
            assert int(dut.sample.value) == taps[now - 3].bit_count() % 2
    assert len(strobes) == 200 // params().period
    assert {b - a for a, b in itertools.pairwise(strobes)} == {params().period}


def test_ring_sampler() -> None:
    """Sampling of 5 taps every 7 cycles."""
    context = {"rings": 5, "period": 7}
    simulate(
        RingSampler(**context),
        module=__name__,
        name="ring_sampler",
        testcase="samples_the_parity_of_all_taps",
        params=context,
    )


def test_rings_are_closed_and_odd() -> None:
    """Each ring is one loop with an odd number of inverting LUTs, each of which is kept."""
    text = to_rtlil(LutRings(5, 5), name="rings")
    cells = re.findall(r"attribute \\DONT_TOUCH \"true\".*?cell \\(LUT\d) (.*?)\n  end", text, re.S)
    follows = {}
    for kind, body in cells:
        ports = dict(re.findall(r"connect \\(\w+) (\S+)", body))
        inverts = "parameter \\INIT 4'0111" if kind == "LUT2" else "parameter \\INIT 2'01"
        assert inverts in body
        assert ("I1" in ports) == (kind == "LUT2")
        follows[ports["I0"]] = ports["O"]
    lengths = []
    while follows:
        start, net = follows.popitem()
        length = 1
        while net != start:
            net = follows.pop(net)
            length += 1
        lengths.append(length)
    assert sorted(lengths) == [5, 5, 7, 9, 11]


def test_entropy_has_no_configuration_of_its_own() -> None:
    """One virtqueue, no feature bits, no device configuration, and the ids of the standard."""
    config = DeviceConfig(name="entropy", device="entropy")
    assert config.num_queues == 1
    assert offered(config) & mask([*range(24), *range(50, 128)]) == 0
    names = {registers.name for registers in register_maps(config)}
    assert "common_config" in names
    assert "entropy_config" not in names
    assert (ENTROPY.vendor_id, ENTROPY.pci_id) == (0x1AF4, 0x1044)


def test_words_are_not_wider_than_a_beat() -> None:
    """A configuration whose words do not fit names the field."""
    with pytest.raises(ConfigError, match=r"^entropy\.word_bits"):
        DeviceConfig(name="e", device="entropy", width=64, entropy=EntropyConfig(word_bits=128))


def test_sources_refuse_nonsense() -> None:
    """Parameters that cannot be built, by their names."""
    for make, field in (
        (lambda: WordSource(64, 48), "word_bits"),
        (lambda: WordSource(64, 128), "word_bits"),
        (lambda: SeededSource(96, 1), "width"),
        (lambda: SeededSource(64, 0), "seed"),
        (lambda: LutRings(0, 5), "rings"),
        (lambda: LutRings(4, 4), "stages"),
        (lambda: StandInRings(65), "rings"),
        (lambda: RingSampler(4, 2), "period"),
    ):
        with pytest.raises(ValueError, match=field):
            make()
