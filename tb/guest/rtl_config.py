"""Configurations of the devices that a guest gets in RTL: small, for the simulation is to be fast.

One model per device type serves all cases: what a guest is offered is chosen by `FeatureMask`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from guest.options import ServeOptions
from virtio_rtl.config import DeviceConfig

_BASE = DeviceConfig(
    name="guest", width=64, lanes=4, read_tags=32, read_ahead=64, queue_size_max=256
)


def _net(_: ServeOptions) -> DeviceConfig:
    return replace(_BASE, name="guest-net", device="net")


TYPES: Mapping[str, Callable[[ServeOptions], DeviceConfig]] = {"net": _net}
"""Every device type that a guest can be given, by name."""
