"""What a driver sees before traffic: identity, features, registers, windows, wrong accesses."""

from __future__ import annotations

import cocotb

from lib.net_system import ALL_FEATURES, NetSystem, exchange, small_config
from lib.pcie.host import memory_request
from lib.pcie.packet import MEM_READ
from lib.sim import params, simulate
from lib.streams import cycles
from virtio_model.spec import net, pci
from virtio_model.spec.features import Feature, mask
from virtio_model.spec.fields import by_name
from virtio_model.spec.status import DeviceStatus
from virtio_rtl.top import VirtioDevice

RING_FEATURES = mask(
    [
        Feature.EVENT_IDX,
        Feature.IN_ORDER,
        Feature.NOTIFICATION_DATA,
        Feature.NOTIF_CONFIG_DATA,
        Feature.RING_RESET,
        Feature.SUSPEND,
    ]
)
"""What every configuration offers beside `ALL_FEATURES`."""

CONFIG = [field for field in net.CONFIG if field.end <= 12]
"""The fields that this device has: mac, status, max_virtqueue_pairs, mtu."""


def make_system(dut, **options) -> NetSystem:
    return NetSystem(dut, small_config(params().config), **options)


async def announce(system: NetSystem) -> None:
    await system.pci.reset()
    await system.pci.add_status(DeviceStatus.ACKNOWLEDGE | DeviceStatus.DRIVER)


@cocotb.test(timeout_time=400, timeout_unit="us")
async def identity_and_features(dut):
    """PCI ids of a modern net device; just the features that it has."""
    system = make_system(dut)
    await system.bring_up()
    read = system.access.config_read
    assert await read(0, 4) == 0x1041_1AF4
    assert await read(8, 1) >= 1
    assert await read(0x2E, 2) >= 0x40
    assert system.pci.offered == ALL_FEATURES | RING_FEATURES
    assert system.accepted == ALL_FEATURES
    config = await system.pci.read_config(CONFIG)
    assert config["mac"].to_bytes(6, "little") == system.config.mac_bytes
    assert config["mtu"] == system.config.mtu
    assert config["status"] == 1


@cocotb.test(timeout_time=400, timeout_unit="us")
async def feature_subsets_that_cannot_work_are_refused(dut):
    """FEATURES_OK reads back 0 without VERSION_1 or with unknown bits; any ring format will do."""
    system = make_system(dut)
    await system.bring_up()
    for features in (
        mask([Feature.RING_PACKED]),
        mask([]),
        ALL_FEATURES | 1 << int(net.NetFeature.MRG_RXBUF),
        ALL_FEATURES | 1 << 70,
    ):
        await announce(system)
        await system.pci.write_features(features)
        status = await system.pci.add_status(DeviceStatus.FEATURES_OK)
        assert not status & DeviceStatus.FEATURES_OK, hex(features)
    for ring in ([Feature.RING_PACKED], []):
        await announce(system)
        await system.pci.write_features(mask([Feature.VERSION_1, *ring]))
        assert await system.pci.add_status(DeviceStatus.FEATURES_OK) & DeviceStatus.FEATURES_OK


@cocotb.test(timeout_time=400, timeout_unit="us")
async def early_kick_neither_reads_nor_interrupts(dut):
    """A doorbell before DRIVER_OK touches no memory; the buffer is found after DRIVER_OK."""
    system = make_system(dut)
    await system.bring_up()
    await system.pci.reset()
    reads = system.memory_reads

    async def early():
        system.net.send(b"early" * 20, cookie=1)
        await system.pci.notify(1)
        await cycles(dut, 500)
        assert system.memory_reads == reads

    await system.start(before_driver_ok=early)
    await system.until(lambda: system.sink.frames == [b"early" * 20])


@cocotb.test(timeout_time=400, timeout_unit="us")
async def window_has_side_effects(dut):
    """PCI_CFG: registers read and written through configuration space, a doorbell, too."""
    system = make_system(dut)
    await system.bring_up()
    common = system.pci.structure(pci.CfgType.COMMON)
    status = by_name(pci.COMMON_CFG)["device_status"]
    got = await system.pci.window_read(common.bar, common.offset + status.offset, 1)
    assert got == await system.pci.status()
    notify = system.pci.structure(pci.CfgType.NOTIFY)
    system.net.send(b"window" * 20, cookie=1)
    offset = notify.offset + 1 * system.pci.layout.notify_off_multiplier
    await system.pci.window_write(notify.bar, offset, 1, 2)
    await system.until(lambda: system.sink.frames == [b"window" * 20])


@cocotb.test(timeout_time=400, timeout_unit="us")
async def link_change_is_told(dut):
    """Link down and up: status, a new generation, and one configuration interrupt each."""
    system = make_system(dut)
    await system.bring_up()
    for change, level in enumerate((0, 1)):
        generation = await system.pci.read_common("config_generation")
        dut.link_up.value = level
        await system.until(lambda seen=change: len(system.interrupts) == seen + 1)
        assert system.interrupts[-1] == 0
        assert (await system.pci.read_config(CONFIG))["status"] == level
        assert await system.pci.read_common("config_generation") != generation
    await cycles(dut, 500)
    assert system.interrupts == [0, 0]


@cocotb.test(timeout_time=800, timeout_unit="us")
async def wrong_accesses_change_nothing(dut):
    """Reads past the BAR and writes anywhere wrong are answered or dropped; traffic goes on."""
    system = make_system(dut)
    await system.bring_up()
    for queue in (2, 3, 0x100, 0xFFFF):
        notify = system.pci.structure(pci.CfgType.NOTIFY)
        await system.access.bar_write(0, notify.offset, queue, 2)
    await system.pci.write_common("queue_select", 7)
    assert await system.pci.read_common("queue_size") == 0
    await system.pci.write_common("queue_size", 16)
    await system.pci.write_common("queue_enable", 1)
    assert await system.pci.read_common("queue_enable") == 0
    for offset in (0x0800, 0x1800, 0x2F00, 0x7000, 0xFFF8):
        await system.access.bar_write(0, offset, 0xFFFF_FFFF, 4)
        assert await system.access.bar_read(0, offset, 4) == 0
    base = system.access.bar_address(0, 0)
    answer = (await system.host.mmio_request(memory_request(MEM_READ, base, 256)))[0]
    assert answer.status != 0
    assert not answer.data
    for size in (1, 2, 4):
        await system.access.bar_read(0, 0x14, size)
    assert await system.pci.status() & DeviceStatus.DRIVER_OK
    await exchange(system, 20)


@cocotb.test(timeout_time=400, timeout_unit="us")
async def byte_accesses_keep_neighbours(dut):
    """status, generation and queue_select share a dword: a byte write changes only its byte."""
    system = make_system(dut)
    await system.bring_up()
    bar = system.access
    await bar.bar_write(0, 0x16, 1, 2)
    await bar.bar_write(0, 0x14, int(await system.pci.status()), 1)
    assert await bar.bar_read(0, 0x16, 2) == 1
    await bar.bar_write(0, 0x16, 0, 1)
    assert await bar.bar_read(0, 0x16, 2) == 0
    assert await system.pci.status() & DeviceStatus.DRIVER_OK


def test_initialisation():
    simulate(
        VirtioDevice(small_config("net-x8")),
        module=__name__,
        name="initialisation",
        params={"config": "net-x8"},
    )
