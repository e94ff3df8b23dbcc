"""Configurations of the devices that a guest gets in RTL: small, for the simulation is to be fast.

One model per device type serves all cases but those of a named configuration: what a guest is
offered is chosen by `FeatureMask`.
"""

from __future__ import annotations

from guest.device_types import ByType
from virtio_rtl.config import NAMED_CONFIGS, DeviceConfig

BASE = DeviceConfig(
    name="guest", width=64, lanes=4, read_tags=16, read_ahead=64, queue_size_max=256
)
"""What the types change in their parts."""

TYPES = ByType(
    "rtl",
    "config",
    {name: lambda _, config=config: config for name, config in NAMED_CONFIGS.items()},
)
"""By device type: a function that makes its `DeviceConfig` of `ServeOptions`. By the name of a
configuration: that one as it is."""
