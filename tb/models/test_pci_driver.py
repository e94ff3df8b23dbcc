"""The PCI driver model against a register-file device, well-behaved and not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from fake_pci import DEVICE, ISR, MSIX_PBA, MSIX_TABLE, MULTIPLIER, NOTIFY, OFFERED, FakePci

from virtio_model.driver.packed_queue import PackedQueue
from virtio_model.driver.pci import NegotiationRefused, VirtioPciDriver
from virtio_model.driver.split_queue import SplitQueue
from virtio_model.errors import DriverComplaint, DriverMisuse
from virtio_model.memory import Allocator, GuestMemory
from virtio_model.spec import features as feat
from virtio_model.spec import net, pci
from virtio_model.spec.features import Feature
from virtio_model.spec.fields import by_name
from virtio_model.spec.status import DeviceStatus

CONFIG = by_name(net.CONFIG)
BASICS = feat.mask([Feature.RING_PACKED, net.NetFeature.MAC])


def run(steps: Coroutine[Any, Any, Any]) -> Any:
    """Run an async test body."""
    return asyncio.run(steps)


class Bench:
    """A fake device and the driver on it."""

    def __init__(self) -> None:
        self.device = FakePci()
        self.driver = VirtioPciDriver(self.device, dependencies=net.DEPENDENCIES, poll_limit=10)
        memory = GuestMemory(1 << 16, base=0x12_3450_0000)
        self.allocator = Allocator(memory)
        self.memory = memory

    def queue(self, size: int = 16) -> PackedQueue:
        return PackedQueue(self.memory, self.allocator, size)

    async def started(self, wanted: int = BASICS) -> VirtioPciDriver:
        await self.driver.discover()
        await self.driver.start(wanted)
        return self.driver


@pytest.fixture
def bench() -> Bench:
    """A fresh device and driver."""
    return Bench()


def complains(steps: Coroutine[Any, Any, Any], text: str) -> DriverComplaint:
    """Run steps that must end in a complaint."""
    with pytest.raises(DriverComplaint, match=text) as caught:
        run(steps)
    return caught.value


def test_bring_up(bench: Bench) -> None:
    """From discovery to DRIVER_OK."""

    async def steps() -> None:
        driver = await bench.started()
        assert driver.offered == OFFERED
        assert driver.features == bench.device.accepted == (BASICS | feat.mask([Feature.VERSION_1]))
        rx, tx = bench.queue(), bench.queue(100)
        await driver.setup_queue(0, rx, 1)
        await driver.setup_queue(1, tx)
        await driver.driver_ok()
        assert await driver.status() == (
            DeviceStatus.ACKNOWLEDGE
            | DeviceStatus.DRIVER
            | DeviceStatus.FEATURES_OK
            | DeviceStatus.DRIVER_OK
        )
        regs = bench.device.queue_regs
        assert regs[0, "queue_desc"] == rx.desc_addr
        assert regs[1, "queue_device"] == tx.device_addr
        assert regs[0, "queue_msix_vector"] == 1
        assert regs[1, "queue_msix_vector"] == 0xFFFF
        assert regs[0, "queue_enable"] == regs[1, "queue_enable"] == 1
        assert await driver.queue_max_size(2) == 0

    run(steps())


def test_layout(bench: Bench) -> None:
    """The walk finds all structures."""
    layout = run(bench.driver.discover())
    places = {kind: where.offset for kind, where in layout.structures.items()}
    assert places == {
        pci.CfgType.COMMON: 0,
        pci.CfgType.NOTIFY: NOTIFY,
        pci.CfgType.ISR: ISR,
        pci.CfgType.DEVICE: DEVICE,
        pci.CfgType.PCI: 0,
    }
    assert layout.notify_off_multiplier == MULTIPLIER
    assert (layout.msix.vectors, layout.msix.table_offset, layout.msix.pba_offset) == (
        4,
        MSIX_TABLE,
        MSIX_PBA,
    )


def test_walk_skips_what_it_must_not_know(bench: Bench) -> None:
    """Reserved BARs and types are skipped, the first of a type wins."""
    bench.device.add_cap(pci.CfgType.COMMON, 7, 0, 64)
    bench.device.add_cap(42, 0, 3, 0)
    bench.device.add_cap(pci.CfgType.COMMON, 0, 0x800, 64)
    layout = run(bench.driver.discover())
    assert layout.structures[pci.CfgType.COMMON].offset == 0


def _no_list(device: FakePci) -> None:
    device.config[pci.PCI_STATUS_OFFSET] = 0


def _loop(device: FakePci) -> None:
    device.config[device.caps[pci.CfgType.ISR] + 1] = device.caps[pci.CfgType.COMMON]


def _patch(kind: pci.CfgType, at: int, value: int) -> Callable[[FakePci], None]:
    def patch(device: FakePci) -> None:
        device.config[device.caps[kind] + at] = value

    return patch


@pytest.mark.parametrize(
    ("text", "harm"),
    [
        ("no capability list", _no_list),
        ("has a loop", _loop),
        ("bad capability pointer", _patch(pci.CfgType.ISR, 1, 0x3F)),
        ("missing virtio capabilities: ISR", _patch(pci.CfgType.ISR, 3, 6)),
        ("missing virtio capabilities: DEVICE", _patch(pci.CfgType.DEVICE, 4, 6)),
        ("cap_len of NOTIFY", _patch(pci.CfgType.NOTIFY, 2, 16)),
        ("offset of COMMON is misaligned", _patch(pci.CfgType.COMMON, 8, 2)),
        ("offset of NOTIFY is misaligned", _patch(pci.CfgType.NOTIFY, 8, 1)),
        ("length of COMMON", _patch(pci.CfgType.COMMON, 12, 0x30)),
        ("length of ISR", _patch(pci.CfgType.ISR, 12, 0)),
    ],
)
def test_bad_capabilities(bench: Bench, text: str, harm: Callable[[FakePci], None]) -> None:
    """Each broken capability is told by its own text."""
    harm(bench.device)
    complains(bench.driver.discover(), text)


def test_not_virtio(bench: Bench) -> None:
    """Other vendors' devices are left alone."""
    bench.device.config[0] = 0
    complains(bench.driver.discover(), "not a modern virtio device")


@pytest.mark.parametrize(
    ("text", "offered"),
    [
        ("VERSION_1 is not offered", OFFERED & ~(1 << 32)),
        ("reserved feature bits", OFFERED | 1 << 45),
        ("offered without any of", OFFERED | feat.mask([net.NetFeature.HOST_TSO4])),
        ("beyond the last word", OFFERED | 1 << 130),
    ],
)
def test_bad_offer(bench: Bench, text: str, offered: int) -> None:
    """Offers that no device may make."""
    bench.device.offered = offered
    complains(bench.started(), text)


def test_unwanted_dependencies_drop_features(bench: Bench) -> None:
    """A feature is not accepted without what it needs."""
    f = net.NetFeature
    bench.device.offered |= feat.mask([f.CSUM, f.HOST_TSO4, f.HOST_ECN])
    accepted = run(bench.started(feat.mask([f.HOST_ECN, f.HOST_TSO4]))).features
    assert accepted == feat.mask([Feature.VERSION_1])


def test_refusal(bench: Bench) -> None:
    """A refused subset has an exception of its own."""
    bench.device.refuse = True
    assert isinstance(complains(bench.started(), "FEATURES_OK refused"), NegotiationRefused)


def test_reset_waits_and_gives_up(bench: Bench) -> None:
    """The wait for the end of a reset is bounded."""
    bench.device.reset_reads = 9
    run(bench.started())
    bench.device.reset_reads = 10
    complains(bench.driver.reset(), "reset does not end")


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("queue_size", 0, "does not exist"),
        ("queue_size", 8, "larger than the device allows"),
        ("queue_size", 64, "queue_size does not read back"),
        ("queue_enable", 1, "enabled before its set-up"),
        ("queue_msix_vector", 3, "queue_msix_vector does not read back"),
        ("queue_driver", 0, "queue_driver does not read back"),
        ("queue_notify_off", 16, "outside the notify structure"),
    ],
)
def test_bad_queue(bench: Bench, name: str, value: int, text: str) -> None:
    """Each broken queue register is told by its own text."""

    async def steps() -> None:
        driver = await bench.started()
        bench.device.pinned[name] = value
        await driver.setup_queue(0, bench.queue(), 1)

    complains(steps(), text)


def test_split_queue_sizes_are_powers_of_two(bench: Bench) -> None:
    """Without RING_PACKED, queue_size must be a power of two."""

    async def steps() -> None:
        driver = await bench.started(0)
        await driver.setup_queue(1, bench.queue())

    complains(steps(), "no power of two")


def test_vector_beyond_the_table(bench: Bench) -> None:
    """An impossible vector does not read back."""

    async def steps() -> None:
        driver = await bench.started()
        await driver.set_config_vector(3)
        await driver.set_config_vector(pci.NO_VECTOR)
        await driver.set_config_vector(4)

    complains(steps(), "config_msix_vector does not read back")


@pytest.mark.parametrize(
    ("extra", "kick"),
    [
        ([], (NOTIFY + 4, 1, 2)),
        ([Feature.NOTIFICATION_DATA], (NOTIFY + 4, 0x8002_0001, 4)),
        ([Feature.NOTIF_CONFIG_DATA], (NOTIFY + 4, 0x51, 2)),
        ([Feature.NOTIFICATION_DATA, Feature.NOTIF_CONFIG_DATA], (NOTIFY + 4, 0x8002_0051, 4)),
    ],
)
def test_kick_formats(bench: Bench, extra: list[Feature], kick: tuple[int, int, int]) -> None:
    """Width, place and value of a kick under all four feature sets."""

    async def steps() -> None:
        bench.device.offered |= feat.mask(extra)
        driver = await bench.started(BASICS | feat.mask(extra))
        queue = bench.queue()
        await driver.setup_queue(1, queue)
        await driver.driver_ok()
        queue.add([(queue.desc_addr, 1)] * 2, [])
        assert await driver.kick(1)
        assert bench.device.notified == [kick]
        bench.memory.write_u16(queue.device_addr + 2, 1)
        assert not await driver.kick(1)

    run(steps())


@pytest.mark.parametrize(("at", "value"), [(8, 2), (16, 2), (16, 12)])
def test_notification_data_needs_more_of_the_notify_capability(
    bench: Bench, at: int, value: int
) -> None:
    """With NOTIFICATION_DATA, kicks are 4 bytes wide and aligned."""
    bench.device.offered |= feat.mask([Feature.NOTIFICATION_DATA])
    bench.device.config[bench.device.caps[pci.CfgType.NOTIFY] + at] = value
    complains(bench.started(), "notif")


RESETTABLE = BASICS | feat.mask([Feature.RING_RESET])


def test_queue_reset(bench: Bench) -> None:
    """A queue can be reset and set up again, with other values; the wait is bounded."""

    async def steps() -> None:
        driver = await bench.started(RESETTABLE)
        await driver.setup_queue(0, bench.queue(), 1)
        await driver.reset_queue(0)
        assert 0 not in driver.queues
        await driver.setup_queue(0, bench.queue(8), 2)
        assert bench.device.queue_regs[0, "queue_size"] == 8
        bench.device.pinned["queue_reset"] = 1
        await driver.reset_queue(0)

    complains(steps(), "queue reset does not end")


@pytest.mark.parametrize(
    ("kept", "text"),
    [
        ("queue_enable", "still enabled"),
        ("queue_size", "not the largest again"),
        ("queue_msix_vector", "is kept by a queue reset"),
    ],
)
def test_queue_reset_leaves_nothing(bench: Bench, kept: str, text: str) -> None:
    """What a queue reset has to clear is looked at."""

    async def steps() -> None:
        driver = await bench.started(RESETTABLE)
        await driver.setup_queue(0, bench.queue(), 1)
        bench.device.kept.append(kept)
        await driver.reset_queue(0)

    complains(steps(), text)


SUSPENDABLE = BASICS | feat.mask([Feature.SUSPEND])
RUNNING = (
    DeviceStatus.ACKNOWLEDGE
    | DeviceStatus.DRIVER
    | DeviceStatus.FEATURES_OK
    | DeviceStatus.DRIVER_OK
)


async def running(bench: Bench, wanted: int) -> VirtioPciDriver:
    """A device with one queue that offers what is wanted."""
    bench.device.offered |= wanted
    driver = await bench.started(wanted)
    await driver.setup_queue(0, bench.queue(), 1)
    await driver.driver_ok()
    return driver


def test_suspend_and_resume(bench: Bench) -> None:
    """Meanwhile nothing is added, kicked, or touched in the configuration but device_status."""

    async def steps() -> None:
        driver = await running(bench, SUSPENDABLE)
        queue = driver.queues[0].queue
        await driver.suspend()
        assert await driver.status() == RUNNING & ~DeviceStatus.DRIVER_OK | DeviceStatus.SUSPEND
        before = bytes(bench.device.bar)
        with pytest.raises(DriverMisuse, match="suspended"):
            queue.add([(queue.desc_addr, 1)], [])
        for forbidden in (
            driver.kick(0),
            driver.read_common("queue_size"),
            driver.write_common("queue_select", 0),
            driver.read_config([CONFIG["mac"]]),
            driver.write_config(CONFIG["mac"], 0),
            driver.suspend(),
        ):
            with pytest.raises(DriverMisuse):
                await forbidden
        assert bytes(bench.device.bar) == before
        await driver.resume()
        assert await driver.status() == RUNNING
        queue.add([(queue.desc_addr, 1)], [])
        assert await driver.kick(0)
        with pytest.raises(DriverMisuse, match="only a suspended device"):
            await driver.resume()
        await driver.suspend()
        await driver.reset()
        assert not queue.frozen
        assert not driver.suspended

    run(steps())


@pytest.mark.parametrize("resuming", [False, True])
@pytest.mark.parametrize("how", ["stuck", "half", "broken"])
def test_suspend_that_fails(bench: Bench, resuming: bool, how: str) -> None:
    """A device that does not swap both bits, nor says so, is waited for for a bounded time."""

    async def steps() -> None:
        driver = await running(bench, SUSPENDABLE)
        if resuming:
            await driver.suspend()
        bench.device.moves = how == "half"
        bench.device.half = how == "half"
        if how == "broken":
            bench.device.regs["device_status"] |= DeviceStatus.DEVICE_NEEDS_RESET
        await (driver.resume() if resuming else driver.suspend())

    late = "does not resume" if resuming else "does not suspend"
    complains(steps(), "needs a reset" if how == "broken" else late)


def test_what_no_driver_may_do(bench: Bench) -> None:
    """Kicks before DRIVER_OK, and what was not negotiated: refused, and nothing written."""

    async def steps() -> None:
        driver = await bench.started()
        await driver.setup_queue(0, bench.queue())
        with pytest.raises(DriverMisuse, match="before DRIVER_OK"):
            await driver.kick(0)
        with pytest.raises(DriverMisuse, match="SUSPEND was not negotiated"):
            await driver.suspend()
        with pytest.raises(DriverMisuse, match="RING_RESET was not negotiated"):
            await driver.reset_queue(0)
        assert not bench.device.notified
        bench.device.offered |= SUSPENDABLE
        await driver.start(SUSPENDABLE)
        with pytest.raises(DriverMisuse, match="only with DRIVER_OK"):
            await driver.suspend()
        assert not await driver.status() & DeviceStatus.SUSPEND
        await driver.start(0)
        with pytest.raises(DriverMisuse, match="no power of two"):
            await driver.setup_queue(0, bench.queue(12))

    run(steps())


def test_split_kicks_carry_the_available_index(bench: Bench) -> None:
    """next_off and next_wrap are bits 0 to 14 and 15 of avail.idx."""

    async def steps() -> None:
        bench.device.offered |= feat.mask([Feature.NOTIFICATION_DATA])
        driver = await bench.started(feat.mask([Feature.NOTIFICATION_DATA]))
        queue = SplitQueue(bench.memory, bench.allocator, 16)
        await driver.setup_queue(0, queue)
        await driver.driver_ok()
        for _ in range(2):
            queue.add([(queue.desc_addr, 1)] * 2, [])
        assert await driver.kick(0)
        assert bench.device.notified == [(NOTIFY, 0x0002_0000, 4)]

    run(steps())


def test_configuration_of_one_generation(bench: Bench) -> None:
    """Values read across a change are read again."""

    async def steps() -> None:
        driver = await bench.started()
        bench.device.bar[DEVICE : DEVICE + 8] = bytes([2, 0, 0, 0, 0, 7, 1, 0])
        bench.device.changes = [1, 1, 1, 1, 1, 1, 2]
        values = await driver.read_config([CONFIG["mac"], CONFIG["status"]])
        assert values == {"mac": 0x0700_0000_0002, "status": 1}
        assert not bench.device.changes
        bench.device.changes = list(range(3, 100))
        await driver.read_config([CONFIG["mac"]])

    complains(steps(), "never settles")


def test_configuration_beyond_the_structure(bench: Bench) -> None:
    """A field that the structure is too short for is not read."""
    bench.device.config[bench.device.caps[pci.CfgType.DEVICE] + 12] = 8

    async def steps() -> None:
        await (await bench.started()).read_config([CONFIG["mtu"]])

    complains(steps(), "mtu is beyond the DEVICE structure")


def test_isr_and_window(bench: Bench) -> None:
    """ISR clears on read; the PCI_CFG window reaches the BAR."""

    async def steps() -> None:
        driver = await bench.started()
        bench.device.bar[ISR] = 3
        assert await driver.read_isr() == pci.Isr.QUEUE | pci.Isr.CONFIG
        assert await driver.read_isr() == 0
        await driver.window_write(0, 0x16, 1, 2)
        assert await driver.window_read(0, 0x18, 2) == 100
        await driver.window_write(0, NOTIFY, 0, 2)
        assert bench.device.notified == [(NOTIFY, 0, 2)]

    run(steps())


def test_msix(bench: Bench) -> None:
    """Table entries, masks and pending bits."""

    async def steps() -> None:
        driver = await bench.started()
        await driver.msix.enable()
        await driver.set_vector(2, 0x1_FEE0_0000, 0x41)
        entry = bench.device.bar[MSIX_TABLE + 32 : MSIX_TABLE + 48]
        assert entry == bytes.fromhex("0000e0fe 01000000 41000000 00000000")
        await driver.set_vector(2, 0xFEE0_0000, 0x41, masked=True)
        assert bench.device.bar[MSIX_TABLE + 44] == 1
        bench.device.bar[MSIX_PBA] = 0b0100
        assert [await driver.msix.pending(n) for n in range(4)] == [False, False, True, False]
        with pytest.raises(ValueError, match="not in the table"):
            await driver.set_vector(4, 0, 0)

    run(steps())
