"""The block device behind a root complex: every answer as the golden device gives it."""

from __future__ import annotations

import random
from typing import Any

import cocotb

from lib.blk_system import BlkSystem
from lib.blk_traffic import exchange, random_request
from lib.hostile import hostile_config
from lib.register_monitor import BLK, RegisterMonitor
from lib.ring_monitor.attach import attach
from lib.sim import simulate
from lib.streams import cycles
from virtio_model.blk_request import RequestHeader
from virtio_model.driver.framing import Framing
from virtio_model.driver.pci import VirtioPciDriver
from virtio_model.spec import blk
from virtio_model.spec.blk import BlkFeature, RequestStatus, RequestType
from virtio_model.spec.features import has, mask
from virtio_model.spec.fields import by_name
from virtio_model.spec.status import DeviceStatus
from virtio_rtl.device.kind import device_type
from virtio_rtl.top import VirtioDevice

FORMATS = ("split", "packed")
FEATURES = {
    "plain": (),
    "in_order": ("in_order",),
    "events": ("indirect_desc", "event_idx"),
    "all": (
        "indirect_desc", "event_idx", "in_order", "notification_data", "notif_config_data",
        "ring_reset", "suspend",
    ),
}  # fmt: skip
DEVICE = hostile_config(device="blk")
"""The model of the hostile drivers, which takes a minute to build."""
CONFIG = by_name(blk.CONFIG)
OK, IOERR, UNSUPP = RequestStatus.OK, RequestStatus.IOERR, RequestStatus.UNSUPP


def make_system(dut, ring: str = "packed", features: str = "all", **options: Any) -> BlkSystem:
    return BlkSystem(dut, DEVICE, ring=ring, features=FEATURES[features], **options)


@cocotb.test(timeout_time=4, timeout_unit="ms")
@cocotb.parametrize(("ring", FORMATS), ("features", list(FEATURES)))
async def requests_with(dut, ring, features):
    """Good and bad requests on two virtqueues, many in flight, in any framing."""
    system = make_system(dut, ring, features, sizes=(32, 64))
    monitor = attach(system)
    await system.bring_up()
    await exchange(system, 120, hostile=0.3)
    assert (await system.do(0, 99)).status == UNSUPP
    assert system.statuses == {OK, IOERR, UNSUPP}
    await system.agree()
    monitor.finish().check()


@cocotb.test(timeout_time=6, timeout_unit="ms")
@cocotb.parametrize(("ring", FORMATS))
async def requests_with_stalls_and_pieces(dut, ring):
    """The same under stalls, short payloads and completions in pieces."""
    system = make_system(dut, ring, split=True, stall=0.2, max_payload=128, max_read_request=128)
    await system.bring_up()
    await exchange(system, 60, hostile=0.2)
    await system.agree()


@cocotb.test(timeout_time=4, timeout_unit="ms")
@cocotb.parametrize(("ring", FORMATS))
async def smallest_block_rings(dut, ring):
    """Two slots: one request at a time, or two tables."""
    system = make_system(dut, ring, "events", sizes=2)
    await system.bring_up()
    await exchange(system, 16)
    await system.agree()


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def what_the_device_says_of_itself(dut):
    """Features, every field of the configuration, and what is not offered."""
    system = make_system(dut, stall=0.1)
    await system.bring_up()
    monitor = RegisterMonitor(system.access, BLK)
    system.pci = VirtioPciDriver(monitor, dependencies=blk.DEPENDENCIES)
    await system.pci.discover()
    await system.start()
    offered = system.pci.offered
    present = {feature for feature in BlkFeature if has(offered, feature)}
    assert present == {
        BlkFeature.SIZE_MAX, BlkFeature.SEG_MAX, BlkFeature.BLK_SIZE, BlkFeature.FLUSH,
        BlkFeature.TOPOLOGY, BlkFeature.CONFIG_WCE, BlkFeature.MQ, BlkFeature.DISCARD,
        BlkFeature.WRITE_ZEROES,
    }  # fmt: skip
    disk = system.config.blk
    values = device_type("blk").values(system.config)
    readable = [
        item
        for item in blk.CONFIG
        if item.end <= CONFIG["max_secure_erase_sectors"].offset
        and (item.name not in BLK.optional or present.intersection(BLK.optional[item.name]))
    ]
    found = await system.pci.read_config(readable)
    assert found == {item.name: values.get(item.name, 0) for item in readable}
    assert found["capacity"] == disk.capacity_sectors
    assert found["blk_size"] == 4096
    assert (found["unused0"], found["unused1"]) == (0, 0)
    assert found["write_zeroes_may_unmap"] == 0, "zeroes are written, always"
    assert found["num_queues"] == len(system.queues) == 4
    monitor.check()
    # A sector is 512 bytes, whatever the block size.
    before, data = (await system.look())[:1536], random.randbytes(512)
    await system.do(0, RequestType.OUT, 1, data)
    after = before[:512] + data + before[1024:]
    assert (await system.do(0, RequestType.IN, 0, room=1536)).data == after
    last = disk.capacity_sectors - 1
    assert (await system.do(0, RequestType.IN, last, room=512)).status == OK
    assert (await system.do(0, RequestType.IN, last + 1, room=512)).status == IOERR


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def cache_mode(dut):
    """writeback starts as 0, is the driver's to set, and starts again after a reset."""
    system = make_system(dut)
    await system.bring_up()
    for _ in range(2):
        assert (await system.pci.read_config([CONFIG["writeback"]]))["writeback"] == 0
        for mode in (1, 0, 1):
            await system.pci.write_config(CONFIG["writeback"], mode)
            assert (await system.pci.read_config([CONFIG["writeback"]]))["writeback"] == mode
            await exchange(system, 6)
        await system.start()
    await system.agree()
    # Without FLUSH the mode is write-through whatever else was accepted.
    without = mask([BlkFeature.FLUSH, BlkFeature.CONFIG_WCE])
    await system.start(system.wanted & ~without)
    assert (await system.pci.read_config([CONFIG["writeback"]]))["writeback"] == 0


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def commands_that_were_not_accepted(dut):
    """FLUSH, DISCARD and WRITE_ZEROES without their features, and all of zones: UNSUPP."""
    names = ("flush", "discard", "write_zeroes", "config_wce")
    system = make_system(dut, without=names)
    await system.bring_up()
    await system.do(0, RequestType.OUT, 0, b"\xee" * 512)
    zones = [kind for kind in RequestType if kind.name.startswith("ZONE")]
    others = [RequestType.GET_LIFETIME, RequestType.SECURE_ERASE]
    for kind in (RequestType.FLUSH, *zones, *others):
        assert (await system.do(0, kind, room=8)).status == UNSUPP, kind
    segment = bytes(8) + b"\1" + bytes(7)
    for kind in (RequestType.DISCARD, RequestType.WRITE_ZEROES):
        assert (await system.do(0, kind, data=segment)).status == UNSUPP, kind
    await exchange(system, 20, hostile=0.3)
    await system.agree()


@cocotb.test(timeout_time=4, timeout_unit="ms")
@cocotb.parametrize(("ring", FORMATS))
async def reset_in_block_traffic(dut, ring):
    """A reset at any time: what was answered is on the disk, the rest wholly, partly or not."""
    system = make_system(dut, ring)
    monitor = attach(system)
    await system.bring_up()
    for _ in range(3):
        await exchange(system, 10)
        for _ in range(60):
            for index in (0, 1):
                system.ask(index, *random_request(system, index))
        for index in (0, 1):
            await system.kick(index)
        await cycles(dut, random.randint(0, 1500))
        system.poll()
        await system.pci.reset()
        await system.start()
        await system.agree()
    await exchange(system, 20)
    await system.agree()
    monitor.finish().check()


@cocotb.test(timeout_time=4, timeout_unit="ms")
@cocotb.parametrize(("ring", FORMATS))
async def a_block_virtqueue_is_reset_in_traffic(dut, ring):
    """The other virtqueue loses nothing; the driver sets this one up again, of another size."""
    system = make_system(dut, ring)
    monitor = attach(system)
    await system.bring_up()
    for index in (1, 0, 1):
        for _ in range(20):
            for each in (0, 1):
                system.ask(each, *random_request(system, each))
        for each in (0, 1):
            await system.kick(each)
        await cycles(dut, random.randint(0, 800))
        await system.reset_queue(index, random.choice([16, 32, 64]))
        await system.finish()
        await system.agree()
        await exchange(system, 10)
    monitor.finish().check()


@cocotb.test(timeout_time=4, timeout_unit="ms")
@cocotb.parametrize(("ring", FORMATS))
async def block_device_suspends_and_resumes(dut, ring):
    """While suspended the device is silent; afterwards nothing is missing."""
    system = make_system(dut, ring)
    await system.bring_up()
    for _ in range(2):
        for _ in range(20):
            for index in (0, 1):
                system.ask(index, *random_request(system, index))
        for index in (0, 1):
            await system.kick(index)
        await cycles(dut, random.randint(0, 400))
        await system.suspend()
        before = system.memory_reads, len(system.dma_writes), len(system.interrupts)
        await cycles(dut, 1000)
        assert before == (system.memory_reads, len(system.dma_writes), len(system.interrupts))
        await system.resume()
        await system.finish()
    await exchange(system, 20)
    await system.agree()


@cocotb.test(timeout_time=4, timeout_unit="ms")
@cocotb.parametrize(("ring", FORMATS), ("part", ["readable", "writable"]))
async def a_part_longer_than_the_limit(dut, ring, part):
    """2^25 bytes are the limit of either part: one more is given back, the device needs a reset."""
    system = make_system(dut, ring, memory_bytes=(1 << 25) + (1 << 23))
    await system.bring_up()
    await exchange(system, 10)
    header = RequestHeader(RequestType.OUT).encode()
    length = (1 << 25) + 1
    readable, writable = (length, 1) if part == "readable" else (16, length)
    framing = Framing((16,))
    system.driver.send(header.ljust(readable, b"\xee"), writable, 0, framing=framing)
    await system.kick(0)
    for _ in range(200):
        await cycles(dut, 50)
        if await system.pci.status() & DeviceStatus.DEVICE_NEEDS_RESET:
            break
    else:
        raise AssertionError("DEVICE_NEEDS_RESET is not set")
    system.driver.take_back(system.queues[0])
    await system.start()
    await system.agree()
    await exchange(system, 10)


def test_blk_system():
    simulate(VirtioDevice(DEVICE), module=__name__, name="blk_system")
