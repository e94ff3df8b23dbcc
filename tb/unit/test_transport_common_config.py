"""The common configuration structure, with its queue table, against a model in bytes."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import cocotb
import pytest
from cocotb.triggers import RisingEdge
from common_config_bench import Bench, negotiate_words, run
from transport_helper import (
    ACKNOWLEDGE,
    BASE,
    CSUM,
    CTRL_VQ,
    DRIVER,
    DRIVER_OK,
    FEATURES_OK,
    HOST_ECN,
    HOST_TSO4,
    HOST_TSO6,
    HOST_UDP_TUNNEL_GSO,
    HOST_USO,
    KINDS,
    MAC,
    MQ,
    NO_VECTOR,
    RING_PACKED,
    SUSPENDED,
    VERSION_1,
    CommonModel,
    acceptable,
    config,
    negotiate,
    random_features,
)  # fmt: skip

from lib.streams import cycles
from virtio_rtl.transport.common_config import CommonConfig


@cocotb.test(timeout_time=3, timeout_unit="ms")
async def random_accesses_match_the_model(dut: Any) -> None:
    """Accesses of 1, 2 and 4 bytes anywhere, with stalls: every dword reads as in the model."""
    bench = Bench(dut, stall=0.2, reset_delay=40)
    bus, model = bench.bus, bench.model
    await bench.start()
    effects = Counter()
    for _ in range(4000):
        if random.random() < 0.1 and not model.status & FEATURES_OK:
            features = random_features(bench.kind)
            for word in range(4):
                for offset, value in ((0x08, word), (0x0C, features >> 32 * word & 0xFFFFFFFF)):
                    await bus.write(offset, value)
                    model.write(offset, value, 15)
        size = random.choice([1, 2, 4])
        offset = random.choice(
            [random.randrange(0x80), 0, 0x08, 0x14, 0x14, 0x16, 0x18, 0x1A, 0x1C, 0x20, 0x3A]
        )
        offset -= offset % size
        dword, lane = offset & ~3, offset % 4
        if random.random() < 0.5:
            assert await bus.read(offset, size) == (
                model.read(dword) >> 8 * lane & (1 << 8 * size) - 1
            ), hex(offset)
            continue
        value = random_value(offset, model)
        value &= (1 << 8 * size) - 1
        await bus.write(offset, value, size)
        effect = model.write(dword, value << 8 * lane, ((1 << size) - 1) << lane)
        effects[effect] += 1
        if effect == "reset":
            while await bus.read(0x14, 1):
                pass
            model.clear()
        elif effect == "suspend":
            while await bus.read(0x14, 1) & DRIVER_OK:
                pass
            model.suspend()
        elif effect == "queue_reset":
            assert await bus.read(0x3A, 2) == 1
            while await bus.read(0x3A, 2):
                pass
            model.queues.forget(model.registers[0x16])
        elif effect == "enabled" and model.status & DRIVER_OK:
            assert await bench.enabled.receive() == model.registers[0x16]
        await cycles(dut, 1)
        assert int(dut.driver_features.value) == model.accepted
        assert int(dut.driver_ok.value) == bool(model.status & DRIVER_OK)
        assert int(dut.suspended.value) == bool(model.status & SUSPENDED)
    assert len(bench.enabled) == 0
    assert len(bench.interrupts) == 0
    assert bench.answer.count > 10
    for effect in ("queue_reset", "suspend"):
        assert bool(effects[effect]) == (bench.kind == "whole"), effects


def random_value(offset: int, model: CommonModel) -> int:
    """Return a value that is interesting at an offset."""
    queues, vectors = model.device.num_queues, model.device.msix_vectors
    common = [random.getrandbits(32), 0, 1, 0xFFFF_FFFF]
    choices = {
        0x00: [0, 1, 2, 3, 4, 5, 0x8000_0001],
        0x08: [0, 1, 2, 3, 4, 0x8000_0000],
        0x0C: [0, 0, 1],
        0x10: [0, vectors - 1, vectors, NO_VECTOR, 0x100],
        0x14: [1, 3, 11, 11, 15, 15, 15, 27, 64, 128, 32, 16, 4, 4, 0] * 2,
        0x16: [0, 0, 1, queues - 1, queues, 0x100, 0xFFFF],
        0x18: [0, 1, 255, 256, 1024, 1025],
        0x1A: [0, vectors - 1, vectors, NO_VECTOR],
        0x1C: [1, 1, 0, 2],
        0x3A: [1, 1, 0, 2, 0x100, 0x101],
    }
    return random.choice(choices.get(offset, common))


@cocotb.test(timeout_time=3, timeout_unit="ms")
async def features_are_accepted_or_refused(dut: Any) -> None:
    """FEATURES_OK stays clear for every set that breaks a rule, and for no other."""
    bench = Bench(dut)
    bus = bench.bus
    await bench.start()
    base = VERSION_1 | RING_PACKED
    full = CSUM | HOST_TSO4 | HOST_TSO6 | HOST_USO | HOST_UDP_TUNNEL_GSO
    whole = bench.kind == "whole"
    sets = [
        (base, True), (bench.offered, True), (base | MAC, True), (0, False), (VERSION_1, whole),
        (RING_PACKED, False), (base | HOST_TSO4, False), (base | HOST_TSO4 | CSUM, True),
        (base | CSUM | HOST_ECN, False), (base | CSUM | HOST_ECN | HOST_TSO6, True),
        (base | MQ, False), (base | MQ | CTRL_VQ, True), (base | full, True),
        (base | full & ~HOST_USO, False), (base | 1 << 41, False), (base | 1 << 127, False),
        *((base | 1 << bit, whole) for bit in (29, 35, 38, 39, 40, 43)),
        (base | 1 << 15, False),
    ]  # fmt: skip
    sets += [
        (features, acceptable(features, bench.kind))
        for features in (random_features(bench.kind) for _ in range(60))
    ]
    seen = set()
    for features, good in sets:
        await negotiate_words(bus, features)
        await bus.write(0x14, ACKNOWLEDGE | DRIVER | FEATURES_OK, 1)
        status = await bus.read(0x14, 1)
        assert status == ACKNOWLEDGE | DRIVER | (FEATURES_OK if good else 0), hex(features)
        assert int(dut.features_ok.value) == good
        seen.add(good)
        if good:  # locked
            for word in range(4):
                await bus.write(0x08, word)
                await bus.write(0x0C, 0xFFFF_FFFF)
                assert await bus.read(0x0C) == features >> 32 * word & 0xFFFF_FFFF
        await bench.reset_device()
        assert int(dut.driver_features.value) == 0
    assert seen == {True, False}
    # Words past the last: what is written there counts as accepted, and is not offered.
    for word, again in ((4, 0), (0x8000_0000, 0)):
        await negotiate_words(bus, base)
        await bus.write(0x08, word)
        await bus.write(0x0C, 1)
        assert await bus.read(0x0C) == 0
        await bus.write(0x14, 11, 1)
        assert await bus.read(0x14, 1) == 3
        await bus.write(0x0C, again)
        await bus.write(0x14, 11, 1)
        assert await bus.read(0x14, 1) == 11
        await bench.reset_device()


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def enabling_waits_for_an_untaken_event(dut: Any) -> None:
    """Two queues enabled while running: both events arrive, other accesses go on."""
    bench = Bench(dut)
    bench.enabled.stall = 1.0
    await bench.start()
    bus = bench.bus
    await bus.write(0x16, 0, 2)
    await bus.write(0x1C, 1, 2)
    await cycles(dut, 5)
    assert int(dut.queue_enabled__valid.value) == 0  # DRIVER_OK looks at all queues anyway
    await bench.reset_device()
    await negotiate(bus, BASE)
    await bus.write(0x16, 1, 2)
    await bus.write(0x1C, 1, 2)
    assert await bus.read(0x1C) == 1 << 16 | 1
    await bus.write(0x16, 0, 2)
    assert await bus.read(0x1C) == 0
    bus.request.queue([{"address": 0x1C, "write": 1, "data": 1, "byte_enable": 3}])
    await cycles(dut, 20)
    bench.enabled.stall = 0.0
    assert await bench.enabled.take(2) == [1, 0]
    assert await bus.read(0x1C) == 1


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def accesses_back_to_back_match_the_model(dut: Any) -> None:
    """Without a pause between them, each access sees all that was written before it."""
    bench = Bench(dut)
    bus, model = bench.bus, bench.model
    await bench.start()
    for _ in range(60):
        requests, answers = [], []
        for _ in range(30):
            offset = random.choice([0x00, 0x04, 0x08, 0x0C, 0x10, 0x14, 0x18, 0x1C, 0x20, 0x34])
            enables = 12 if offset == 0x14 else random.choice([15, 15, 3, 12])
            value = random_value(0x16, model) << 16 if offset == 0x14 else random.getrandbits(9)
            write = random.getrandbits(1)
            requests.append(
                {"address": offset, "write": write, "data": value, "byte_enable": enables}
            )
            if write:
                model.write(offset, value, enables)
            else:
                answers.append(model.read(offset))
        bus.request.queue(requests)
        assert await bus.response.take(len(answers)) == answers
        await bus.request.idle()


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def writes_take_two_cycles(dut: Any) -> None:
    """32 writes back to back: one every second cycle, the first one cycle after it came."""
    bench = Bench(dut)
    await bench.start()
    await bench.bus.read(0)
    bench.bus.request.queue(
        {"address": 0, "write": 1, "data": i, "byte_enable": 15} for i in range(32)
    )
    while not int(dut.bus__request__valid.value):
        await RisingEdge(dut.clk)
    await cycles(dut, 62)
    assert bench.bus.request.count == 1 + 31
    await cycles(dut, 2)
    assert bench.bus.request.count == 1 + 32


@pytest.mark.parametrize(
    ("pairs", "vectors", "kind"),
    [(1, 4, "whole"), (3, 2, "whole"), (128, 1024, "whole"), (3, 4, "plain")],
)
def test_common_config(pairs: int, vectors: int, kind: str) -> None:
    """The structure in simulation."""
    run(__name__, "common_config", pairs=pairs, vectors=vectors, kind=kind)


OFFERED, REQUIRED = KINDS["whole"]


@pytest.mark.filterwarnings("ignore::amaranth.hdl.UnusedElaboratable")
@pytest.mark.parametrize(
    ("offered", "required", "message"),
    [
        (RING_PACKED, 0, "VERSION_1"),
        (OFFERED & ~CSUM, REQUIRED, "not without"),
        (OFFERED & ~CTRL_VQ, REQUIRED, "not without"),
        (OFFERED | 1 << 45, REQUIRED, "reserved"),
        (OFFERED | 1 << 41, REQUIRED, "ADMIN_VQ"),
        (OFFERED, REQUIRED | 1 << 15, "not offered"),
        (OFFERED, REQUIRED | MQ, "not without"),
    ],
)
def test_bad_feature_sets_are_refused(offered: int, required: int, message: str) -> None:
    """A device that offers what it must not is not built."""
    with pytest.raises(ValueError, match=message):
        CommonConfig(config(), offered, required).elaborate(None)
