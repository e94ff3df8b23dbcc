"""The wire model's ceiling (`virtio_model.wire`) for a configuration and a mix of frames."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Literal

from demo.result import Ceiling
from virtio_model.wire import (
    GEN3_X8,
    Link,
    Load,
    both_bytes_per_frame,
    memory_bytes,
    rx_bytes_per_frame,
    tx_bytes_per_frame,
)
from virtio_rtl.config import DeviceConfig

BATCH = 16
CHUNK = 256

Ring = Literal["packed", "split"]
Direction = Literal["transmit", "receive", "both"]
_BYTES = {
    "transmit": tx_bytes_per_frame,
    "receive": rx_bytes_per_frame,
    "both": both_bytes_per_frame,
}


def link_gbps(config: DeviceConfig) -> float:
    """Return what one direction of the link carries; unknown widths by proportion."""
    try:
        return Link(config.lanes, config.generation).gbps
    except KeyError:
        return GEN3_X8.gbps * config.lanes / GEN3_X8.lanes * 2.0 ** (config.generation - 3)


def raw_gbps(config: DeviceConfig) -> float:
    """Return the link's rate after line coding: all that TLPs and DLLPs can share."""
    transfers = {1: 2.5 * 8 / 10, 2: 5.0 * 8 / 10}
    rate = transfers.get(config.generation, 2.0**config.generation * 128 / 130)
    return rate * config.lanes


def ceiling(
    config: DeviceConfig, lengths: Iterable[int], direction: Direction, ring: Ring = "packed"
) -> Ceiling:
    """Return the ceiling for frames of these lengths (bytes without FCS) on a ring format."""
    count = Counter(lengths)
    frames = count.total()
    total = Load(0, 0)
    for length, times in count.items():
        load = _BYTES[direction](memory_bytes(length), ring, BATCH, CHUNK)
        total += Load(load.up * times, load.down * times)
    up, down = total.up / frames, total.down / frames
    gbps = link_gbps(config)
    name = f"PCIe Gen{config.generation} x{config.lanes}"
    return Ceiling(name, gbps, up, down, gbps * 1e3 / 8 / max(up, down))
