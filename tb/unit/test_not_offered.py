"""What the plans call not applicable because a feature is not offered: it is not offered."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from lib.conformance_rows import Judged, judge
from virtio_model.spec.blk import BlkFeature
from virtio_model.spec.features import Feature, has
from virtio_model.spec.net import NetFeature
from virtio_rtl.config import NAMED_CONFIGS, DeviceConfig
from virtio_rtl.config_blk import BlkConfig
from virtio_rtl.transport.features import offered as offered_by

TYPES = {"net": NetFeature, "blk": BlkFeature}
ALL = {feature.name for kind in (Feature, *TYPES.values()) for feature in kind}
SECTIONS = {"Network Device": "net", "Block Device": "blk"}
ROWS = [row for row in judge().rows if row.entries and row.entries[0].not_offered]

_BLK = replace(NAMED_CONFIGS["net-x8"], name="blk", device="blk")
CONFIGS = [
    *NAMED_CONFIGS.values(),
    replace(_BLK, name="blk of all sorts", blk=BlkConfig(num_queues=2, config_wce=True)),
    replace(_BLK, name="blk that is read-only", blk=BlkConfig(read_only=True)),
]


def _device(row: Judged) -> str:
    """The device type that a row is about; empty if it is about all."""
    names = [name for part, name in SECTIONS.items() if f"/ {part} " in row.row["spec_section"]]
    return names[0] if names else ""


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.name)
def test_no_configuration_offers_them(config: DeviceConfig) -> None:
    """Every feature that is a reason is known, and no configuration of its type offers it."""
    kinds = [Feature, TYPES[config.device]] if config.device in TYPES else [Feature]
    bits = {feature.name: int(feature) for kind in kinds for feature in kind}
    offered = offered_by(config)
    named = set()
    for row in ROWS:
        if _device(row) in ("", config.device):
            # A row about all devices may hang on a feature that this type does not have.
            known = bits.keys() if _device(row) else ALL
            assert known >= set(row.entries[0].not_offered), row.row["id"]
            named |= bits.keys() & row.entries[0].not_offered
    assert len(named) > {"net": 30, "blk": 4}.get(config.device, 1)
    assert not [feature for feature in sorted(named) if has(offered, bits[feature])]


def test_rows_hang_on_these_features() -> None:
    """No row that applies without a feature is excused by the feature's absence."""
    for row in ROWS:
        condition = row.row["applies_if"]
        for prefix in ("VIRTIO_NET_F_", "VIRTIO_BLK_F_", "VIRTIO_F_"):
            condition = condition.replace(prefix, "")
        words = condition.replace(",", " ").replace(";", " ").split()
        without = {after for word, after in itertools.pairwise(words) if word == "no"}
        reasons = set(row.entries[0].not_offered)
        excused = reasons & (set(words) - without) or not reasons & without
        assert excused or not row.binding, f"{row.row['id']}: {condition}"
