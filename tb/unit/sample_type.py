"""A device type for the tests of the registry: fields of every sort, and ids of its own."""

from __future__ import annotations

from typing import Any

from virtio_model.spec.fields import Field
from virtio_rtl.device.kind import DeviceType, register

__all__ = ["BARE", "SAMPLE"]


def _not_built(config: Any) -> Any:
    raise NotImplementedError


SAMPLE = register(
    DeviceType(
        name="sample",
        device_id=50,
        class_code=0x12_3456,
        build=_not_built,
        queues=lambda config: 3,
        features=lambda config: 1 << 5 | 1 << 9,
        dependencies={9: (frozenset({5}),)},
        config_fields=(
            Field("name", 0, 48),
            Field("state", 6, 16),
            Field("limit", 8, 16),
            Field("mode", 10, 8, "RW"),
            Field("level", 12, 32),
            Field("share", 18, 16, "RW"),
            Field("wish", 20, 32, "RW"),
        ),
        config_values=lambda config: {
            "name": 0x6655_4433_2211,
            "limit": 0xABCD,
            "mode": 0x5A,
            "wish": 0x0123_4567,
        },
        config_live={"state": 1, "level": 32},
        config_writable=("mode", "share", "wish"),
        config_features={"state": 5, "mode": 9},
        vendor_id=0x1234,
        pci_device_id=0x0077,
    )
)
BARE = register(DeviceType(name="bare", device_id=51, class_code=0xFF_0000, build=_not_built))
"""Without a device configuration."""
