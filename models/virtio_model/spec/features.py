"""Feature bits of rings and transports, and feature dependencies [virtio 1.4 §2.2, §6].

A feature set is an int with bit n set for feature n: features go beyond bit 63, and Python's
ints do not mind.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import IntEnum


class Feature(IntEnum):
    """Bit numbers of the features that all device types share [virtio 1.4 §6]."""

    NOTIFY_ON_EMPTY = 24
    """Legacy only."""
    ANY_LAYOUT = 27
    """Legacy only."""
    INDIRECT_DESC = 28
    EVENT_IDX = 29
    VERSION_1 = 32
    ACCESS_PLATFORM = 33
    RING_PACKED = 34
    IN_ORDER = 35
    ORDER_PLATFORM = 36
    SR_IOV = 37
    NOTIFICATION_DATA = 38
    NOTIF_CONFIG_DATA = 39
    RING_RESET = 40
    ADMIN_VQ = 41
    SUSPEND = 43
    """New in 1.4."""


LEGACY_ONLY = frozenset({Feature.NOTIFY_ON_EMPTY, Feature.ANY_LAYOUT})

RESERVED_BITS: tuple[range, ...] = (range(30, 31), range(44, 50))
"""Bits that nobody may negotiate; 128 and above are reserved as well."""
FEATURE_BITS_END = 128

Dependencies = Mapping[int, tuple[frozenset[int], ...]]
"""For each feature, the sets of which at least one member each must be present."""

DEPENDENCIES: Dependencies = {}
"""Of the shared features none depends on another; device types have tables of their own."""


def mask(features: Iterable[int]) -> int:
    """The feature set with these bits."""
    result = 0
    for feature in features:
        result |= 1 << feature
    return result


def has(features: int, feature: int) -> bool:
    """Whether a feature is in a set."""
    return bool(features >> feature & 1)


def word(features: int, select: int) -> int:
    """The 32 bits that a feature select value shows; 0 beyond the last feature."""
    return features >> 32 * select & 0xFFFF_FFFF


def unmet(features: int, dependencies: Dependencies) -> list[tuple[int, frozenset[int]]]:
    """(feature, alternatives) for each dependency of which no alternative is in the set."""
    return [
        (feature, alternatives)
        for feature, needs in dependencies.items()
        if has(features, feature)
        for alternatives in needs
        if not any(has(features, other) for other in alternatives)
    ]


def reserved(features: int) -> list[int]:
    """Bits of a set that are reserved."""
    bits = [bit for span in RESERVED_BITS for bit in span if has(features, bit)]
    return bits + [
        bit for bit in range(FEATURE_BITS_END, features.bit_length()) if has(features, bit)
    ]


def needs(*alternatives: Iterable[int]) -> tuple[frozenset[int], ...]:
    """An entry of a dependency table: one of each of these groups."""
    return tuple(frozenset(group) for group in alternatives)
