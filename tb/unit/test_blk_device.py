"""The block device against the golden disk, at the door to the virtqueue engine."""

from __future__ import annotations

import random
from typing import Any

import cocotb
import pytest
from blk_device_rig import AXI_CONSTANT, BlkRig, blk_config, header, segment
from blk_requests import CAPACITY, SMALL, UNKNOWN, random_request, refused_segments
from virtqueue_helper import Moves, Strobes, spread

from lib.sim import simulate
from lib.streams import cycles, reset
from virtio_model.spec.blk import BlkFeature, RequestStatus, RequestType
from virtio_model.spec.features import mask
from virtio_rtl.config import ConfigError
from virtio_rtl.config_blk import BlkConfig
from virtio_rtl.device.blk import BlkDevice
from virtio_rtl.device.kind import device_type

IN, OUT, FLUSH = RequestType.IN, RequestType.OUT, RequestType.FLUSH
DISCARD, WRITE_ZEROES = RequestType.DISCARD, RequestType.WRITE_ZEROES
IOERR = RequestStatus.IOERR


async def attached(dut: Any, **options: Any) -> BlkRig:
    rig = BlkRig(dut, **options)
    await reset(dut)
    await rig.read_back()
    return rig


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def does_what_the_golden_disk_does(dut: Any) -> None:
    """Random requests, good and bad, many in flight, every stream stalling; then the whole disk."""
    rig = await attached(dut, stall=random.choice([0.0, 0.15, 0.3]))
    for _ in range(4):
        for _ in range(50):
            readable, writable = random_request()
            rig.submit(readable, writable, error=random.random() < 0.04)
        await rig.check()
        golden = bytes(rig.golden.image)
        assert await rig.read_back() == golden


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def types_without_their_feature(dut: Any) -> None:
    """A type whose feature was not accepted is not supported; nothing happens to the disk."""
    rig = await attached(dut, features=0, stall=0.1)
    rig.submit(header(OUT, 3) + random.randbytes(1024))
    for kind in (FLUSH, DISCARD, WRITE_ZEROES, *UNKNOWN):
        rig.submit(header(kind) + segment(3, 2) * (kind != FLUSH), random.choice([1, 77]))
    rig.submit(header(IN, 3), 1025)
    await rig.check()
    for feature in (BlkFeature.FLUSH, BlkFeature.DISCARD, BlkFeature.WRITE_ZEROES):
        rig.golden.features = 1 << feature
        dut.accepted.value = rig.golden.features
        await cycles(dut, 2)
        for other in (FLUSH, DISCARD, WRITE_ZEROES):
            rig.submit(header(OUT, 0) + random.randbytes(512))
            rig.submit(header(other) + segment(0, 1) * (other != FLUSH))
            rig.submit(header(IN, 0), 513)
        await rig.check()


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def an_unknown_flag_is_unsupported_wherever_it_stands(dut: Any) -> None:
    """Whatever else is wrong, but for bytes that could not be read; nothing of it is done."""
    rig = await attached(dut, stall=0.1)
    rig.submit(header(OUT, 0) + random.randbytes(512 * CAPACITY))
    for number, (kind, body, status) in enumerate(refused_segments()):
        # What the golden disk says of it does not count here.
        rig.expect(header(kind) + body, 1, bytes([status]))
        if number % 8 == 0:
            rig.submit(header(WRITE_ZEROES) + segment(random.randrange(CAPACITY), 1, 1))
            rig.expect(header(kind) + body, 1, bytes([IOERR]), error=True)
    rig.submit(header(IN, 0), 512 * CAPACITY + 1)
    await rig.check()


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def runs_as_long_as_the_disk(dut: Any) -> None:
    """The whole disk can be written and read at once; from the second sector on it is too long."""
    rig = await attached(dut, stall=0.0)
    for sector in (0, 1, 2, CAPACITY):
        rig.submit(header(OUT, sector) + random.randbytes(512 * CAPACITY))
        rig.submit(header(IN, sector), 512 * CAPACITY + 1)
    for sectors in (CAPACITY + 1, 64, 100):
        rig.submit(header(IN, 0), 512 * sectors + 1)
    rig.submit(header(OUT, 0) + random.randbytes(512 * (CAPACITY + 1)))
    rig.submit(header(IN, 0), 512 * CAPACITY + 1)
    await rig.check()


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def requests_on_the_same_sectors_keep_their_order(dut: Any) -> None:
    """Reads, writes and zeroing of a few sectors, all in flight at once."""
    rig = await attached(dut, stall=0.05)
    for _ in range(150):
        sectors = random.randint(1, 3)
        sector = random.randint(0, 4 - sectors)
        match random.randrange(5):
            case 0 | 1:
                rig.submit(header(IN, sector), 512 * sectors + 1)
            case 2 | 3:
                rig.submit(header(OUT, sector) + random.randbytes(512 * sectors))
            case 4:
                body = b"".join(segment(random.randrange(4), 1) for _ in range(3))
                rig.submit(header(random.choice([DISCARD, WRITE_ZEROES])) + body)
    await rig.check()


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def a_failed_read_changes_nothing(dut: Any) -> None:
    """Whatever the header says that could not be read: IOERR, and the disk is as it was."""
    rig = await attached(dut, stall=0.1)
    rig.submit(header(OUT, 0) + random.randbytes(6 * 512))
    failed = Strobes(dut, "events")
    for _ in range(12):
        rig.submit(header(OUT, 1) + random.randbytes(1024), error=True)
        rig.submit(header(WRITE_ZEROES) + segment(0, 4), 30, error=True)
        rig.submit(header(DISCARD) + segment(0, 1) + segment(2, 1), error=True)
        rig.submit(header(IN, 0), 513, error=True)
        rig.submit(header(FLUSH), error=True)
        rig.submit(header(7), error=True)
    rig.submit(header(IN, 0), 6 * 512 + 1)
    await rig.check()
    assert failed.count == 72  # the lower bit, IOERR, and never the upper one


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def a_long_write_whose_end_fails(dut: Any) -> None:
    """Longer than what the device can hold: IOERR, other sectors are as they were."""
    rig = await attached(dut, stall=0.0)
    lanes = rig.width // 8
    sectors = min(-(-300 * lanes // 512), CAPACITY - 2)
    before = random.randbytes(CAPACITY * 512)
    for at in range(CAPACITY):
        rig.submit(header(OUT, at) + before[512 * at : 512 * at + 512])
    await rig.check()
    rig.expect(header(OUT, 1) + random.randbytes(512 * sectors), 1, b"\x01", error=True)
    rig.submit(header(IN, 0), 513)
    rig.submit(header(IN, 1 + sectors), 513)
    memory, rig.memory = rig.memory, None  # it is not the golden one any more
    await rig.check()
    rig.memory = memory
    image = await rig.read_back()
    assert image[:512] == before[:512]
    assert image[512 * (1 + sectors) :] == before[512 * (1 + sectors) :]


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def reset_at_any_moment(dut: Any) -> None:
    """Requests inside are forgotten; of each sector under way, the old or the new is there."""
    rig = await attached(dut, stall=0.1)
    for _ in range(12):
        image = bytes(rig.golden.image)
        wanted = [{image[512 * at : 512 * at + 512]} for at in range(CAPACITY)]
        for _ in range(6):
            readable, writable = random_request()
            kind = int.from_bytes(readable[:4], "little")
            if kind == OUT and len(readable) > 16:
                sector, body = int.from_bytes(readable[8:16], "little"), readable[16:]
                for at in range(sector, min(sector + len(body) // 512, CAPACITY)):
                    wanted[at].add(body[512 * (at - sector) :][:512])
            rig.submit(readable, writable)
        await cycles(dut, random.randint(1, 250))
        rig.golden.image[:] = image
        await rig.reset_engine(random.choice([1, 2, 9]))
        image = await rig.read_back()
        # A write may be cut at a beat: what is there is new up to somewhere, then old.
        for at, choices in enumerate(wanted):
            now = image[512 * at : 512 * at + 512]
            lanes = rig.width // 8
            for k in range(0, 512, lanes):
                piece = now[k : k + lanes]
                assert piece == bytes(lanes) or any(piece == c[k : k + lanes] for c in choices)
        rig.submit(header(OUT, 5) + random.randbytes(512))
        rig.submit(header(IN, 4), 1025)
        await rig.check()


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def beats_follow_each_other(dut: Any) -> None:
    """Sectors read, written, and both at once: hardly a cycle is lost."""
    rig = await attached(dut, stall=0.0)
    lanes = rig.width // 8
    data = 512 // lanes
    count = 24
    ins, outs = Moves(dut, "readable"), Moves(dut, "writable")

    def took(moves: Moves) -> int:
        cycles_, moves.cycles = spread(moves.cycles), []
        return cycles_

    for at in range(count):
        rig.submit(header(IN, at), 513)
    await rig.check()
    assert took(outs) <= count * (data + 1) + 2
    took(ins)
    for at in range(count):
        rig.submit(header(OUT, at) + random.randbytes(512))
    await rig.check()
    held = -(-(512 + 16) // lanes)
    assert took(ins) <= count * (held + 1) + 2
    took(outs)
    for at in range(count):
        rig.submit(header(OUT, at) + random.randbytes(512))
        rig.submit(header(IN, at + 12 if at < 12 else at - 12), 513)
    await rig.check()
    # A read's request takes its beats of header on the way in, a write's status one on the way out.
    both = count * (held + max(16 // lanes, 1) + 1)
    assert took(outs) <= both + 60
    assert took(ins) <= both + 60


WRITABLE = [
    "does_what_the_golden_disk_does",
    "types_without_their_feature",
    "an_unknown_flag_is_unsupported_wherever_it_stands",
    "runs_as_long_as_the_disk",
    "requests_on_the_same_sectors_keep_their_order",
    "a_failed_read_changes_nothing",
    "a_long_write_whose_end_fails",
    "reset_at_any_moment",
    "beats_follow_each_other",
]
_RUNS = [(64, "memory"), (128, "axi4"), (256, "memory"), (512, "axi4")]


def run(width: int, name: str, testcase: Any = None, **blk: Any) -> None:
    """One run of this file's cocotb tests, or those of another."""
    config = SMALL | blk
    simulate(
        BlkDevice(blk_config(width, **config)), module=__name__, name=f"blk_{name}_{width}",
        testcase=testcase, params={"width": width, "blk": config},
        waive=AXI_CONSTANT if config.get("backend") == "axi4" else [],
    )  # fmt: skip


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def nothing_is_written(dut: Any) -> None:
    """A read-only disk: OUT ends with IOERR, what could change it with UNSUPP."""
    rig = await attached(dut, stall=0.1)
    assert rig.config.read_only
    rig.golden.features = 0  # it offers none of them, so no driver has them
    dut.accepted.value = 0
    for _ in range(30):
        rig.submit(header(OUT, random.randrange(CAPACITY)) + random.randbytes(512))
        rig.submit(header(random.choice([DISCARD, WRITE_ZEROES])) + segment(0, 1), 17)
        rig.submit(header(IN, random.randrange(CAPACITY)), 513)
    await rig.check()
    assert await rig.read_back() == bytes(512 * CAPACITY)


@pytest.mark.parametrize(("width", "backend"), _RUNS)
def test_blk_device(width: int, backend: str) -> None:
    """All widths and both backends."""
    run(width, backend, WRITABLE, backend=backend, axi_base=0x4_0000, num_queues=3)


def test_blk_read_only() -> None:
    """One width; only the check of a request knows of it."""
    run(64, "read_only", "nothing_is_written", read_only=True)


def test_what_is_offered() -> None:
    """Features, and the fields of the device configuration that belong to them."""
    kind = device_type("blk")
    plain = blk_config(64)
    every = {*BlkFeature} - {BlkFeature.RO, BlkFeature.CONFIG_WCE, BlkFeature.MQ}
    never = {BlkFeature.BARRIER, BlkFeature.SCSI, BlkFeature.GEOMETRY, BlkFeature.LIFETIME,
             BlkFeature.SECURE_ERASE, BlkFeature.ZONED}  # fmt: skip
    assert kind.features(plain) == mask(every - never)
    assert (kind.queues(plain), kind.values(plain)["num_queues"]) == (1, 0)

    rich = blk_config(64, num_queues=4, config_wce=True, capacity_sectors=1 << 20,
                      backend="axi4", blk_size=4096, physical_block_exp=3, alignment_offset=1,
                      min_io_size=2, opt_io_size=64, seg_max=254, size_max=8192)  # fmt: skip
    assert kind.features(rich) == mask(every - never | {BlkFeature.MQ, BlkFeature.CONFIG_WCE})
    assert kind.queues(rich) == 4
    values = kind.values(rich)
    assert (values["capacity"], values["blk_size"], values["num_queues"]) == (1 << 20, 4096, 4)
    assert (values["seg_max"], values["size_max"], values["opt_io_size"]) == (254, 8192, 64)
    assert values.get("writeback", 0) == values.get("write_zeroes_may_unmap", 0) == 0
    assert values.get("unused0", 0) == values.get("unused1", 0) == 0

    fixed = blk_config(64, read_only=True, flush=False)
    assert kind.features(fixed) == mask(
        every - never - {BlkFeature.FLUSH, BlkFeature.DISCARD, BlkFeature.WRITE_ZEROES}
        | {BlkFeature.RO}
    )
    assert kind.values(fixed).get("max_discard_sectors", 0) == 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"backend": "tape"},
        {"capacity_sectors": 0},
        {"capacity_sectors": 1 << 30},
        {"capacity_sectors": 9, "blk_size": 1024},
        {"blk_size": 768},
        {"num_queues": 0},
        {"seg_max": 255},
        {"size_max": 1 << 24},
        {"flush": False, "config_wce": True},
        {"max_discard_seg": 65},
        {"identity": "x" * 21},
        {"backend": "axi4", "axi_base": 100},
        {"backend": "axi4", "axi_address_bits": 16},
        {"backend": "axi4", "axi_burst_bytes": 4096},
    ],
)
def test_blk_config_refuses(wrong: dict[str, Any]) -> None:
    """What cannot be built says which field is wrong."""
    with pytest.raises(ConfigError, match=r"blk\."):
        BlkConfig(**wrong)
