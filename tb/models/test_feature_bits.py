"""Which feature bits are whose [virtio 1.4 §2.2, §6]."""

from __future__ import annotations

from virtio_model.spec.features import Feature, reserved
from virtio_model.spec.net import NetFeature

DEVICE = {*range(24), 41, 42, *range(50, 128)}
RING_AND_TRANSPORT = {*range(24, 41), 43}
RESERVED = {*range(44, 50), *range(128, 300)}


def test_bits_are_in_their_ranges() -> None:
    """Bits of devices, of rings and transports, and reserved ones do not mix."""
    assert not DEVICE & RING_AND_TRANSPORT
    assert {int(bit) for bit in NetFeature} <= DEVICE
    # ADMIN_VQ has a bit of the devices' range, and is of the transport nevertheless.
    assert {int(bit) for bit in Feature} <= RING_AND_TRANSPORT | {Feature.ADMIN_VQ}
    for bit in range(300):
        # Bit 30 is one that nobody may use any more.
        assert bool(reserved(1 << bit)) == (bit in RESERVED or bit == 30), bit
