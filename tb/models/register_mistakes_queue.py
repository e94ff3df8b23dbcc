"""What a driver can do wrong with virtqueue registers, kicks, configuration and capabilities."""

from __future__ import annotations

from fake_pci import DEVICE, NOTIFY, OFFERED
from register_bench import Bench
from register_mistakes import BREACHES, COMMON, CONFIG, Steps, breaks

from virtio_model.spec import features as feat
from virtio_model.spec import pci
from virtio_model.spec.features import Feature

DATA, CONFIG_DATA = Feature.NOTIFICATION_DATA, Feature.NOTIF_CONFIG_DATA


@breaks("drv-net-config-01")
async def _writes_configuration(bench: Bench) -> None:
    await bench.run()
    await bench.driver.write_config(CONFIG["mac"], 0x112233445566)


@breaks("drv-init-seq-03", "drv-net-config-01")
async def _writes_configuration_early(bench: Bench) -> None:
    await bench.announce()
    await bench.driver.write_config(CONFIG["status"], 0)


@breaks("drv-basic-config-03")
async def _reads_what_is_not_offered(bench: Bench) -> None:
    await bench.run()
    await bench.driver.read_config([CONFIG["mtu"]])


@breaks("drv-pci-layout-01")
async def _reads_too_wide(bench: Bench) -> None:
    await bench.run()
    await bench.monitor.bar_read(0, COMMON["queue_select"].offset - 2, 4)


@breaks("drv-pci-layout-01")
async def _writes_half_a_field(bench: Bench) -> None:
    await bench.run()
    await bench.monitor.bar_write(0, COMMON["device_feature_select"].offset, 0, 2)


@breaks("drv-pci-layout-01")
async def _reads_mac_in_words(bench: Bench) -> None:
    await bench.run()
    await bench.monitor.bar_read(0, DEVICE, 4)


@breaks("drv-pci-cap-09")
async def _writes_a_capability(bench: Bench) -> None:
    await bench.run()
    await bench.monitor.config_write(bench.device.caps[pci.CfgType.NOTIFY] + 8, 0, 4)


@breaks("drv-pci-cap-09")
async def _writes_the_type_of_the_window(bench: Bench) -> None:
    await bench.run()
    await bench.monitor.config_write(bench.device.caps[pci.CfgType.PCI] + 3, 5, 1)


@breaks("drv-pci-common-cfg-01")
async def _writes_what_is_read_only(bench: Bench) -> None:
    await bench.run()
    await bench.write("num_queues", 1)


@breaks("drv-pci-common-cfg-02")
async def _gives_size_0(bench: Bench) -> None:
    await bench.negotiate()
    await bench.write("queue_size", 0)


@breaks("drv-pci-common-cfg-03")
async def _gives_a_split_size_of_12(bench: Bench) -> None:
    await bench.negotiate(0)
    await bench.write("queue_size", 12)


@breaks("drv-pci-common-cfg-04", "drv-basic-vqreenable-01")
async def _enables_without_addresses(bench: Bench) -> None:
    await bench.negotiate()
    await bench.write("queue_desc", 0x1000)
    await bench.write("queue_driver", 0x2000)
    await bench.write("queue_enable", 1)


@breaks("drv-pci-common-cfg-04")
async def _moves_a_live_virtqueue(bench: Bench) -> None:
    await bench.run()
    await bench.write("queue_desc", 0x1000)


async def _misaligns(bench: Bench) -> None:
    for name, address in (("queue_desc", 0x1008), ("queue_driver", 0x2), ("queue_device", 0x4)):
        await bench.write(name, address)
    await bench.write("queue_enable", 1)


@breaks("drv-packed-align-01")
async def _misaligns_packed(bench: Bench) -> None:
    await bench.negotiate()
    await _misaligns(bench)


@breaks("drv-split-align-01")
async def _misaligns_split(bench: Bench) -> None:
    await bench.negotiate(0)
    await _misaligns(bench)


@breaks("drv-pci-common-cfg-06")
async def _disables(bench: Bench) -> None:
    await bench.run()
    await bench.write("queue_enable", 0)


@breaks("drv-pci-common-cfg-07", "drv-basic-vqreset-01")
async def _does_not_wait_for_the_queue_reset(bench: Bench) -> None:
    await bench.run()
    await bench.write("queue_select", 0)
    await bench.write("queue_reset", 1)
    await bench.write("queue_size", 8)


@breaks("drv-basic-vqreenable-01", "drv-pci-common-cfg-04")
async def _enables_again_as_it_was(bench: Bench) -> None:
    await bench.run()
    await bench.driver.reset_queue(0)
    await bench.write("queue_enable", 1)


@breaks("drv-pci-msix-04")
async def _maps_beyond_the_table(bench: Bench) -> None:
    await bench.run()
    await bench.write("config_msix_vector", 4)


@breaks("drv-pci-msix-05")
async def _does_not_read_the_vector_back(bench: Bench) -> None:
    await bench.negotiate()
    await bench.write("config_msix_vector", 1)
    await bench.driver.driver_ok()


@breaks("drv-pci-msix-05", "drv-pci-common-cfg-04", "drv-basic-vqreenable-01")
async def _does_not_read_a_queue_vector_back(bench: Bench) -> None:
    await bench.negotiate()
    await bench.write("queue_select", 0)
    await bench.write("queue_msix_vector", 1)
    await bench.write("queue_enable", 1)


def _kicks(features: list[Feature], value: int, size: int, offset: int = NOTIFY) -> Steps:
    """Make a driver that kicks like this."""

    async def steps(bench: Bench) -> None:
        bench.device.offered = OFFERED | feat.mask(features)
        await bench.run()
        await bench.monitor.bar_write(0, offset, value, size)

    return steps


def _aims(bar: int, offset: int, length: int, size: int, at: int = 0) -> Steps:
    """Make a driver that uses the PCI_CFG window like this."""

    async def steps(bench: Bench) -> None:
        await bench.run()
        cap = bench.device.caps[pci.CfgType.PCI]
        for field, value, width in ((4, bar, 1), (8, offset, 4), (12, length, 4)):
            await bench.monitor.config_write(cap + field, value, width)
        await bench.monitor.config_write(cap + 16 + at, 0, size)

    return steps


BREACHES += [
    (_kicks([], 0, 4), {"drv-pci-kick-01"}),
    (_kicks([DATA], 0, 2), {"drv-pci-kick-02"}),
    (_kicks([], 1, 2), {"drv-pci-kick-03"}),
    (_kicks([DATA], 1, 4), {"drv-pci-kick-04"}),
    (_kicks([CONFIG_DATA], 0, 2), {"drv-pci-kick-05"}),
    (_kicks([DATA, CONFIG_DATA], 0x51, 4), {"drv-pci-kick-06"}),
    (_aims(0, 0x15, 2, 2), {"drv-pci-cfgaccess-01"}),
    (_aims(0, 0x14, 4, 2), {"drv-pci-cfgaccess-02"}),
    (_aims(0, 0x14, 1, 1, at=1), {"drv-pci-cfgaccess-02"}),
    (_aims(0, 0x15, 3, 2), {"drv-pci-cfgaccess-02"}),
    (_aims(0, 0x800, 4, 4), {"drv-pci-cfgaccess-03"}),
    (_aims(1, 0x0, 4, 4), {"drv-pci-cfgaccess-03"}),
]
