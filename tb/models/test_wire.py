"""The wire formulas against the ceilings that they are known to give."""

from __future__ import annotations

import pytest

from virtio_model.wire import (
    GEN3_X8,
    GEN3_X16,
    GEN4_X16,
    LARGE,
    SMALL,
    Link,
    Load,
    Ring,
    both_bytes_per_frame,
    ceiling_mpps,
    memory_bytes,
    rx_bytes_per_frame,
    tx_bytes_per_frame,
    used_bytes,
)


def test_bytes_in_memory() -> None:
    """S with and without the FCS."""
    assert (SMALL, LARGE) == (72, 1512)
    assert memory_bytes(64, with_fcs=True) == 72
    assert memory_bytes(1500) == 1512


@pytest.mark.parametrize(
    ("link", "ring", "transmit", "receive"),
    [
        (GEN3_X8, "packed", 66, 63),
        (GEN3_X8, "split", 63, 65),
        (GEN3_X16, "packed", 129, 124),
        (GEN3_X16, "split", 124, 127),
    ],
)
def test_ceilings_for_64_byte_frames(link: Link, ring: Ring, transmit: int, receive: int) -> None:
    """The known ceilings for B = 16, C = 256."""
    tx = tx_bytes_per_frame(SMALL, ring, batch=16, chunk=256)
    rx = rx_bytes_per_frame(SMALL, ring, batch=16, chunk=256)
    assert round(ceiling_mpps(link, tx)) == transmit
    assert round(ceiling_mpps(link, rx)) == receive


def test_packed_by_hand() -> None:
    """The packed formula, worked out."""
    # B = 16, C = 256: one fetch of 256 bytes, one completion, one write-back.
    tx = tx_bytes_per_frame(SMALL, "packed", batch=16, chunk=256)
    assert tx == Load(24 + 24 / 16 + (256 + 24) / 16, 72 + 20 + (256 + 20) / 16 + 28 / 32)
    rx = rx_bytes_per_frame(SMALL, "packed", batch=16, chunk=256)
    assert rx == Load(72 + 24 + 24 / 16 + (256 + 24) / 16, (256 + 20) / 16 + 28 / 32)


def test_split_by_hand() -> None:
    """The split formula, worked out."""
    tx = tx_bytes_per_frame(SMALL, "split", batch=16, chunk=256)
    up = 24 + (24 + 24 + 24) / 16 + (128 + 24 + 28) / 16
    down = 72 + 20 + (24 + 32 + 20 + 256 + 20) / 16 + 28 / 32
    assert tx == Load(up, down)


def test_completion_chunks_and_read_requests() -> None:
    """Smaller chunks cost headers down, larger reads save requests up."""
    small, big = (tx_bytes_per_frame(LARGE, "packed", 16, chunk) for chunk in (64, 256))
    assert small.down - big.down == 20 * (24 - 6) + 20 * (4 - 1) / 16
    assert tx_bytes_per_frame(LARGE, "packed", 16, 256, mrrs=4096).up == big.up - 2 * 24


def test_one_descriptor_alone() -> None:
    """Used descriptors alone, batched, and by IN_ORDER."""
    assert used_bytes("packed", 1) == Load(32, 0)
    assert used_bytes("packed", 8, in_order=True) == Load(4, 0)
    assert used_bytes("packed", 8) == Load((128 + 24) / 8, 0)


def test_more_descriptors_a_frame_cost_fetches_only() -> None:
    """A second descriptor is fetched, not written back."""
    one = tx_bytes_per_frame(SMALL, "packed", 16, 256)
    two = tx_bytes_per_frame(SMALL, "packed", 16, 256, descriptors=2)
    assert two.down - one.down == 16 + 20 / 16
    assert two.up == one.up


def test_both_ways_is_the_sum() -> None:
    """Both ways at once share the link."""
    both = both_bytes_per_frame(SMALL, "packed", 16, 256)
    tx = tx_bytes_per_frame(SMALL, "packed", 16, 256)
    rx = rx_bytes_per_frame(SMALL, "packed", 16, 256)
    assert both == Load(tx.up + rx.up, tx.down + rx.down)
    assert ceiling_mpps(GEN3_X16, both) < min(
        ceiling_mpps(GEN3_X16, tx), ceiling_mpps(GEN3_X16, rx)
    )


def test_links() -> None:
    """Bandwidths of the links that are known."""
    assert [link.gbps for link in (GEN3_X8, GEN3_X16, GEN4_X16)] == [57.88, 113.70, 227.40]
    with pytest.raises(KeyError):
        _ = Link(4, 5).gbps
