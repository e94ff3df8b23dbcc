"""What every configuration owes by itself: notification structure, vectors, MTU."""

from __future__ import annotations

from dataclasses import replace

import pytest

from virtio_model.spec import net, pci
from virtio_rtl.config import NAMED_CONFIGS, ConfigError, DeviceConfig
from virtio_rtl.pcie.capabilities import build_config_space

SMALLEST = replace(NAMED_CONFIGS["net-x1"], name="smallest", queue_pairs=1, msix_vectors=2)
LARGEST = replace(NAMED_CONFIGS["net-x16"], name="largest", queue_pairs=256, msix_vectors=1024)
CONFIGS = [*NAMED_CONFIGS.values(), SMALLEST, LARGEST]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.name)
@pytest.mark.parametrize("unit", [pci.NOTIFY_SIZE, pci.NOTIFY_SIZE_WITH_DATA])
def test_notification_structure(config: DeviceConfig, unit: int) -> None:
    """Aligned and long enough for kicks of 2 and of 4 bytes; a unit of its own per virtqueue."""
    space = build_config_space(config)
    offset = space["notify_config_offset"].reset
    length = space["notify_config_length"].reset
    multiplier = space["notify_off_multiplier"].reset
    assert offset % unit == 0
    assert multiplier == 0 or (multiplier.bit_count() == 1 and multiplier % unit == 0)
    assert length >= unit
    for queue_notify_off in range(config.num_queues):
        assert queue_notify_off * multiplier + unit <= length


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.name)
def test_structures_are_aligned(config: DeviceConfig) -> None:
    """Common and device configuration begin at a multiple of 4."""
    space = build_config_space(config)
    assert space["common_config_offset"].reset % 4 == 0
    if "device_config_offset" in space.fields:
        assert space["device_config_offset"].reset % 4 == 0


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.name)
def test_vectors(config: DeviceConfig) -> None:
    """2 to 0x800 vectors, N - 1 in Table Size; other numbers are not built."""
    assert 2 <= config.msix_vectors <= pci.VECTORS_MAX
    assert build_config_space(config)["msix_table_size"].reset == config.msix_vectors - 1
    for vectors in (1, pci.VECTORS_MAX + 1):
        with pytest.raises(ConfigError, match="msix_vectors"):
            replace(config, msix_vectors=vectors)


@pytest.mark.parametrize("config", NAMED_CONFIGS.values(), ids=lambda config: config.name)
def test_no_useless_vectors(config: DeviceConfig) -> None:
    """A vector for configuration changes and one for each virtqueue."""
    assert config.msix_vectors == 1 + config.num_queues


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.name)
def test_mtu(config: DeviceConfig) -> None:
    """68 to 65535, and no named configuration has less than IPv6 needs."""
    assert 1280 <= config.mtu <= 65535
    for mtu in (net.MTU_MIN - 1, 65536):
        with pytest.raises(ConfigError, match="mtu"):
            replace(config, mtu=mtu, max_frame=65535)
