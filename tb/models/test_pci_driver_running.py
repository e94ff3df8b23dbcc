"""The PCI driver model on a device that is set up: kicks, resets, suspend, configuration, MSI-X."""

from __future__ import annotations

import pytest
from fake_pci import DEVICE, ISR, MSIX_PBA, MSIX_TABLE, NOTIFY
from pci_bench import BASICS, Bench, complains, run

from virtio_model.driver.pci import VirtioPciDriver
from virtio_model.driver.split_queue import SplitQueue
from virtio_model.errors import DriverMisuse
from virtio_model.spec import features as feat
from virtio_model.spec import net, pci
from virtio_model.spec.features import Feature
from virtio_model.spec.fields import by_name
from virtio_model.spec.status import DeviceStatus

CONFIG = by_name(net.CONFIG)


@pytest.fixture
def bench() -> Bench:
    """A fresh device and driver."""
    return Bench()


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
