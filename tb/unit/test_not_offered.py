"""What the plans call not applicable because a feature is not offered: it is not offered."""

from __future__ import annotations

import itertools

import pytest

from lib.conformance_rows import judge
from virtio_model.spec.features import Feature, has
from virtio_model.spec.net import NetFeature
from virtio_rtl.config import NAMED_CONFIGS, named_config
from virtio_rtl.transport.features import offered as offered_by

BITS = {feature.name: int(feature) for kind in (Feature, NetFeature) for feature in kind}
ROWS = [row for row in judge().rows if row.entries and row.entries[0].not_offered]


@pytest.mark.parametrize(
    "name", [name for name, config in NAMED_CONFIGS.items() if config.device == "net"]
)
def test_no_configuration_offers_them(name: str) -> None:
    """Every feature that is a reason is known, and no configuration offers it."""
    offered = offered_by(named_config(name))
    named = {feature for row in ROWS for feature in row.entries[0].not_offered}
    assert len(named) > 30
    assert named <= BITS.keys()
    assert not [feature for feature in sorted(named) if has(offered, BITS[feature])]


def test_rows_hang_on_these_features() -> None:
    """No row that applies without a feature is excused by the feature's absence."""
    for row in ROWS:
        condition = row.row["applies_if"].replace("VIRTIO_NET_F_", "").replace("VIRTIO_F_", "")
        words = condition.replace(",", " ").replace(";", " ").split()
        without = {after for word, after in itertools.pairwise(words) if word == "no"}
        reasons = set(row.entries[0].not_offered)
        excused = reasons & (set(words) - without) or not reasons & without
        assert excused or not row.binding, f"{row.row['id']}: {condition}"
