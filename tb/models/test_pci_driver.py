"""The PCI driver model: discovery, negotiation and set-up, of good devices and bad ones."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from fake_pci import DEVICE, ISR, MSIX_PBA, MSIX_TABLE, MULTIPLIER, NOTIFY, OFFERED, FakePci
from pci_bench import BASICS, Bench, complains, run

from virtio_model.driver.pci import NegotiationRefused
from virtio_model.spec import features as feat
from virtio_model.spec import net, pci
from virtio_model.spec.features import Feature
from virtio_model.spec.status import DeviceStatus


@pytest.fixture
def bench() -> Bench:
    """A fresh device and driver."""
    return Bench()


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
