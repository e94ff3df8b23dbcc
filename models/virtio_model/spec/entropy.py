"""Entropy device: one queue, no features, no configuration [virtio 1.4 §5.4]."""

from __future__ import annotations

from virtio_model.spec.features import Dependencies
from virtio_model.spec.fields import Field

DEVICE_ID = 4
REQUEST_QUEUE = 0
CONFIG_SIZE = 0
CONFIG: tuple[Field, ...] = ()
DEPENDENCIES: Dependencies = {}
