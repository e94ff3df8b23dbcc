"""What a net driver in a test accepts."""

from __future__ import annotations

from collections.abc import Collection

from lib.ring_features import ring_features
from virtio_model.spec.features import mask
from virtio_model.spec.net import NetFeature

__all__ = ["ALL_FEATURES", "wanted_features"]


def wanted_features(ring: str = "packed", names: Collection[str] = ("indirect_desc",)) -> int:
    """As `ring_features`, with what a net device always offers."""
    return ring_features(ring, names) | mask([NetFeature.MAC, NetFeature.STATUS, NetFeature.MTU])


ALL_FEATURES = wanted_features()
