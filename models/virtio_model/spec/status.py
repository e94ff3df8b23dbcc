"""Device status bits [virtio 1.4 §2.1]."""

from __future__ import annotations

from enum import IntFlag


class DeviceStatus(IntFlag):
    """Device status. Writing 0 resets the device; until the reset is done it reads non-zero."""

    ACKNOWLEDGE = 1
    DRIVER = 2
    DRIVER_OK = 4
    FEATURES_OK = 8
    SUSPEND = 16
    """Set by the driver if VIRTIO_F_SUSPEND was negotiated; new in 1.4."""
    DEVICE_NEEDS_RESET = 64
    """Set by the device alone."""
    FAILED = 128


RESET = 0
