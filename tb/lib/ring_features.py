"""What the driver of a test accepts of the features that all device types share."""

from __future__ import annotations

from collections.abc import Collection

from virtio_model.spec.features import Feature, mask

__all__ = ["ring_features"]

_ALWAYS = (Feature.VERSION_1, Feature.ACCESS_PLATFORM, Feature.ORDER_PLATFORM)


def ring_features(ring: str = "packed", names: Collection[str] = ("indirect_desc",)) -> int:
    """The feature set for a ring format, ``"packed"`` or ``"split"``, and features by name.

    Names are those of the specification in lower case, without prefix: ``event_idx``,
    ``in_order``, ``notification_data``, ``notif_config_data``, ``ring_reset``, ``suspend``.
    """
    if ring not in ("packed", "split"):
        raise ValueError(f"ring = {ring!r}: packed or split")
    chosen = [Feature[name.upper()] for name in names]
    if ring == "packed":
        chosen.append(Feature.RING_PACKED)
    return mask([*_ALWAYS, *chosen])
