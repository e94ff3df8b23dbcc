"""What a server is asked to serve, whatever model it has."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from virtio_model.spec import features as feat
from virtio_model.spec.features import Feature

RING_FEATURES = (
    Feature.RING_PACKED,
    Feature.INDIRECT_DESC,
    Feature.EVENT_IDX,
    Feature.IN_ORDER,
    Feature.NOTIFICATION_DATA,
    Feature.RING_RESET,
)
"""Ring features that a guest can be offered; a kernel takes all that it knows."""


def ring_features(names: str) -> int:
    """The feature set of names such as `RING_PACKED,EVENT_IDX`; "" is all, "none" is none.

    ValueError for a name that is not one of `RING_FEATURES`.
    """
    known = {feature.name: feature for feature in RING_FEATURES}
    if not names:
        return feat.mask(known.values())
    wanted = [name.strip().upper() for name in names.split(",") if names != "none"]
    if unknown := [name for name in wanted if name not in known]:
        raise ValueError(f"no such ring feature: {', '.join(unknown)} ({', '.join(known)})")
    return feat.mask(known[name] for name in wanted)


@dataclass(frozen=True)
class ServeOptions:
    """One guest's device.

    socket
        Where the client connects.
    device
        Device type; of the RTL also the name of a configuration, which is taken as it is.
    features
        Ring features to offer, a feature set.
    queues
        Request queues, where the type can have several.
    disk
        blk: file with the contents at the start, never written; None: zeros.
    mebibytes
        blk: capacity; a larger file counts.
    seed
        entropy: which bytes.
    own_msix
        The guest programs the device's MSI-X table; else an eventfd for each vector.
    optimise
        rtl: compile the model for speed, which takes twice as long.
    timeout_s
        How long to wait for the client.
    """

    socket: Path
    device: str
    features: int
    queues: int = 1
    disk: Path | None = None
    mebibytes: int = 64
    seed: int = 1
    own_msix: bool = True
    optimise: bool = True
    timeout_s: float = 60.0
