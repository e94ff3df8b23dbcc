"""Configurations of the devices that the demo of requests shows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from virtio_rtl.config import NAMED_CONFIGS, DeviceConfig, named_config

__all__ = ["SHOWN", "request_config"]

SHOWN = (
    "name", "device", "width", "clock_mhz", "lanes", "generation", "queue_size_max",
    "msix_vectors", "read_tags", "read_slot_bytes", "fetch_batch", "read_ahead",
    "completion_timeout_us",
)  # fmt: skip
"""Fields of the configuration that mean something to these devices."""


def request_config(device: str, name: str, **fields: Any) -> DeviceConfig:
    """Return the configuration of a device type that is like a named one.

    name: of this type, or of another one, of which link, width and rings are taken; also where
    there is only the other one: "blk-x4" is like "net-x4". fields: what is different. There is one
    virtqueue.
    """
    kind, _, link = name.partition("-")
    if kind == device and name not in NAMED_CONFIGS and f"net-{link}" in NAMED_CONFIGS:
        name = f"net-{link}"
    base = named_config(name)
    own = {"name": f"{device}-{base.name.partition('-')[2]}", "device": device}
    return replace(base, **own | {"queue_pairs": 1, "msix_vectors": 2} | fields)
