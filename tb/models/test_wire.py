"""The wire formulas against the ceilings that they are known to give."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from virtio_model.wire import (
    GEN3_X8,
    GEN3_X16,
    GEN4_X16,
    LARGE,
    SMALL,
    Direction,
    Frame,
    Link,
    Load,
    Ring,
    both_bytes_per_frame,
    ceiling_mpps,
    cut,
    descriptor_read_bytes,
    memory_bytes,
    mixed_bytes_per_frame,
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


@given(
    st.integers(1, 2250),
    st.sampled_from(["packed", "split"]),
    st.sampled_from([1, 2, 4, 8, 16]),
    st.sampled_from([64, 256]),
    st.integers(1, 5),
)
def test_equal_frames_are_a_mix_too(
    dwords: int, ring: Ring, batch: int, chunk: int, times: int
) -> None:
    """A list of equal frames of one descriptor gives what the formulas for one frame give."""
    frame = 4 * dwords
    expected: dict[Direction, Load] = {
        "transmit": tx_bytes_per_frame(frame, ring, batch, chunk),
        "receive": rx_bytes_per_frame(frame, ring, batch, chunk),
        "both": both_bytes_per_frame(frame, ring, batch, chunk),
    }
    for direction, load in expected.items():
        mix = mixed_bytes_per_frame(direction, [frame] * times, ring, batch, chunk)
        assert mix == pytest.approx(load)


def test_mixed_sizes_by_hand() -> None:
    """The mean of two sizes; whole dwords; a descriptor read and a used write for 16."""
    tx = mixed_bytes_per_frame("transmit", [70, 1512], "packed", 16, 256)
    fetch = (256 + 20) / 16
    assert tx.up == pytest.approx((24 + 3 * 24) / 2 + 24 / 16 + 280 / 16)
    assert tx.down == pytest.approx((72 + 20 + 1512 + 6 * 20) / 2 + fetch + 28 / 32)
    rx = mixed_bytes_per_frame("receive", [70, 1512], "packed", 16, 64)
    assert rx.up == pytest.approx((72 + 24 + 1512 + 6 * 24) / 2 + 24 / 16 + 280 / 16)
    assert rx.down == pytest.approx((256 + 4 * 20) / 16 + 28 / 32)


def test_segments_have_requests_of_their_own() -> None:
    """Three segments: three requests and completions, and a used write for each buffer."""
    tx = mixed_bytes_per_frame("transmit", [(12, 30, 30)], "packed", 16, 256)
    reads = 48 / 512  # of descriptors, per frame; each has two completions
    assert tx.up == pytest.approx(3 * 24 + 24 * reads + 32)
    assert tx.down == pytest.approx(12 + 32 + 32 + 3 * 20 + 48 + 40 * reads + 28 / 32)
    rx = mixed_bytes_per_frame("receive", [(12, 300)], "packed", 16, 256)
    assert rx.up == pytest.approx(312 + 3 * 24 + 32 * 24 / 512 + 32)
    # The split ring has used elements of its own, which no chain keeps apart.
    split = mixed_bytes_per_frame("receive", [(12, 300)], "split", 16, 256)
    assert split.up == pytest.approx(312 + 3 * 24 + (48 + 24) / 16 + (128 + 24 + 28) / 16)


def test_a_chain_ends_a_run_of_used_descriptors() -> None:
    """Buffers of 1, 1, 3 and 1 descriptors: three used descriptors together, then one."""
    frames: list[Frame] = [72, 72, (24, 24, 24), 72]
    one_batch = mixed_bytes_per_frame("receive", frames, "packed", 4, 256)
    others = (72 * 4 + 6 * 24) / 4 + 24 * 6 * 16 / descriptor_read_bytes(frames, 4) / 4
    assert one_batch.up - others == pytest.approx((24 + 3 * 16 + 32) / 4)
    # In batches of 8 the lone one is joined by the two of the next round.
    long = mixed_bytes_per_frame("receive", frames, "packed", 8, 256)
    others = (72 * 4 + 6 * 24) / 4 + 24 * 6 * 16 / descriptor_read_bytes(frames, 8) / 4
    assert long.up - others == pytest.approx((24 + 3 * 16 + 24 + 4 * 16 + 32) / 8)


def test_cut_and_descriptor_reads() -> None:
    """Segments are equal but for a byte; a read is a power of two of at most MRRS."""
    assert cut(74, 3) == (25, 25, 24)
    assert cut(72, 1) == (72,)
    for count, size in ((1, 256), (2, 512), (3, 512)):
        assert descriptor_read_bytes([cut(72, count)], 16) == size
    assert descriptor_read_bytes([72, (36, 36)], 16) == 256
    assert descriptor_read_bytes([72], 1) == 16
    assert descriptor_read_bytes([72], 16, mrrs=128) == 128
