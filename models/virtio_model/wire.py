"""What PCI Express leaves over for frames: bytes on the wire and the rates they allow.

TLP bytes on the wire, framing, sequence number and LCRC included: memory write 24, memory read
24, completion with data 20, plus the data. A kick is a write of 4 bytes. "Up" is from the device
to the host, "down" from the host to the device; both directions carry data at the same time, so
the busier one sets the rate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, gcd
from typing import Literal, NamedTuple

from virtio_model.spec.net import HEADER_SIZE

Ring = Literal["packed", "split"]
Direction = Literal["transmit", "receive", "both"]
Frame = int | Sequence[int]
"""Bytes in memory (see `memory_bytes`) of a frame of one descriptor, or of each of its segments."""

MWR = 24
MRD = 24
CPLD = 20
DOORBELL = MWR + 4
FCS = 4
DESC = 16


@dataclass(frozen=True)
class Link:
    """A PCI Express link.

    `gbps` is what one direction carries after ACK, flow control and SKP, at MPS 256.
    """

    lanes: int
    gen: int

    @property
    def gbps(self) -> float:
        return _GBPS[self.gen, self.lanes]


_GBPS = {(3, 8): 57.88, (3, 16): 113.70, (4, 16): 227.40}

GEN3_X8 = Link(8, 3)
GEN3_X16 = Link(16, 3)
GEN4_X16 = Link(16, 4)


class Load(NamedTuple):
    """Bytes per frame on the wire in each direction."""

    up: float
    down: float

    def __add__(self, other: object) -> Load:
        if not isinstance(other, Load):
            return NotImplemented
        return Load(self.up + other.up, self.down + other.down)


def memory_bytes(frame_bytes: int, *, with_fcs: bool = False) -> int:
    """S: bytes that a frame takes in guest memory, behind its 12-byte header.

    The customary sizes do not agree on the FCS, which never reaches memory: a "64-byte frame"
    counts it (S = 60 + 12 = 72, `with_fcs=True`), "1500" does not (S = 1500 + 12 = 1512).
    """
    return frame_bytes - (FCS if with_fcs else 0) + HEADER_SIZE


SMALL = memory_bytes(64, with_fcs=True)
LARGE = memory_bytes(1500)


def fetch_bytes(
    ring: Ring, batch: int, chunk: int, *, mrrs: int = 512, descriptors: int = 1
) -> Load:
    """Finding out about a buffer: index, ring entries and descriptors, per buffer."""
    b, desc = batch, DESC * descriptors * batch
    if ring == "packed":
        return Load(MRD * ceil(desc / mrrs) / b, (desc + CPLD * ceil(desc / chunk)) / b)
    # avail.idx alone, then the entries, then the descriptors; a read is at least one dword.
    up = MRD + MRD * ceil(2 * b / mrrs) + MRD * ceil(desc / mrrs)
    down = MRD + max(4, 2 * b) + CPLD * ceil(2 * b / chunk) + desc + CPLD * ceil(desc / chunk)
    return Load(up / b, down / b)


def used_bytes(ring: Ring, batch: int, *, mps: int = 256, in_order: bool = False) -> Load:
    """Giving a buffer back, per buffer.

    A lone used descriptor of a packed ring needs only its upper 8 bytes written (len, id,
    flags; addr is unused), which is what the 32 bytes for batch 1 stand for. A device that
    writes all 16 takes 40.

    `in_order`: IN_ORDER on a packed ring, one used descriptor for the whole batch. That does
    for transmit only, since it has no room for more than one length.
    """
    b = batch
    if ring == "split":
        return Load((8 * b + MWR * ceil(8 * b / mps) + MWR + 4) / b, 0)
    if in_order:
        return Load((MWR + DESC // 2) / b, 0)
    if b == 1:
        return Load(MWR + DESC // 2, 0)
    return Load((DESC * b + MWR * ceil(DESC * b / mps)) / b, 0)


def tx_bytes_per_frame(
    frame: int,
    ring: Ring,
    batch: int,
    chunk: int,
    mrrs: int = 512,
    mps: int = 256,
    doorbell_batch: int = 32,
    descriptors: int = 1,
    in_order: bool = False,
) -> Load:
    """Transmit: wire bytes for a frame of `frame` bytes in memory (see `memory_bytes`).

    `batch` buffers per fetch and write-back, completions in chunks of `chunk` bytes, one
    doorbell per `doorbell_batch` frames, `descriptors` per frame: of these only the fetch is
    counted; `mixed_bytes_per_frame` also knows what cutting a frame costs.
    """
    data = Load(MRD * ceil(frame / mrrs), frame + CPLD * ceil(frame / chunk))
    fetch = fetch_bytes(ring, batch, chunk, mrrs=mrrs, descriptors=descriptors)
    used = used_bytes(ring, batch, mps=mps, in_order=in_order)
    return data + fetch + used + Load(0, DOORBELL / doorbell_batch)


def rx_bytes_per_frame(
    frame: int,
    ring: Ring,
    batch: int,
    chunk: int,
    mrrs: int = 512,
    mps: int = 256,
    doorbell_batch: int = 32,
    descriptors: int = 1,
) -> Load:
    """Receive: as `tx_bytes_per_frame`."""
    data = Load(frame + MWR * ceil(frame / mps), 0)
    fetch = fetch_bytes(ring, batch, chunk, mrrs=mrrs, descriptors=descriptors)
    return data + fetch + used_bytes(ring, batch, mps=mps) + Load(0, DOORBELL / doorbell_batch)


def both_bytes_per_frame(
    frame: int,
    ring: Ring,
    batch: int,
    chunk: int,
    mrrs: int = 512,
    mps: int = 256,
    doorbell_batch: int = 32,
    descriptors: int = 1,
) -> Load:
    """One frame each way at once."""
    args = (frame, ring, batch, chunk, mrrs, mps, doorbell_batch, descriptors)
    return tx_bytes_per_frame(*args) + rx_bytes_per_frame(*args)


def cut(frame: int, descriptors: int) -> tuple[int, ...]:
    """Return a frame of `frame` bytes as that many segments, as equal as can be."""
    size, longer = divmod(frame, descriptors)
    return (size + 1,) * longer + (size,) * (descriptors - longer)


def segments_of(frame: Frame) -> tuple[int, ...]:
    """Return the segments of a frame."""
    return (frame,) if isinstance(frame, int) else tuple(frame)


def descriptor_read_bytes(frames: Sequence[Frame], batch: int, mrrs: int = 512) -> int:
    """Return the size of one read of packed descriptors: a power of two.

    `batch` buffers, as far as MRRS and whole reads one behind the other allow.
    """
    descriptors = sum(len(segments_of(frame)) for frame in frames)
    wanted = DESC * batch * descriptors // len(frames)
    return min(mrrs, 1 << wanted.bit_length() - 1)


def mixed_bytes_per_frame(
    direction: Direction,
    frames: Sequence[Frame],
    ring: Ring,
    batch: int,
    chunk: int,
    mrrs: int = 512,
    mps: int = 256,
    doorbell_batch: int = 32,
) -> Load:
    """Mean wire bytes for frames of different sizes and framing, over and over in this order.

    For equal frames of one descriptor this is what `tx_bytes_per_frame` and its neighbours give.
    Beyond that it counts what those leave out:

    - every segment has requests and completions of its own;
    - TLPs carry whole dwords;
    - used descriptors of a packed ring are neighbours only where buffers have one descriptor:
      behind a chain there is a gap as long as the chain, so a write ends there [virtio 1.4 §2.8];
    - packed descriptors are read on from where the last read ended (`descriptor_read_bytes`).

    Segments begin at multiples of MRRS, where splitting costs least; for any other place this is a
    lower bound.
    """
    if direction == "both":
        args = (frames, ring, batch, chunk, mrrs, mps, doorbell_batch)
        return mixed_bytes_per_frame("transmit", *args) + mixed_bytes_per_frame("receive", *args)
    chains = [segments_of(frame) for frame in frames]
    up = down = 0.0
    for length in (length for chain in chains for length in chain):
        data = 4 * ceil(length / 4)
        if direction == "transmit":
            up += MRD * ceil(length / mrrs)
            down += data + CPLD * ceil(length / chunk)
        else:
            up += data + MWR * ceil(length / mps)
    descriptors = DESC * sum(map(len, chains))
    read = descriptor_read_bytes(frames, batch, mrrs)
    up += MRD * descriptors / read
    down += descriptors + CPLD * ceil(read / chunk) * descriptors / read
    load = Load(up / len(chains), down / len(chains)) + Load(0, DOORBELL / doorbell_batch)
    if ring == "packed":
        return load + _packed_used_bytes(list(map(len, chains)), batch, mps)
    whole, table = (fetch_bytes(kind, batch, chunk, mrrs=mrrs) for kind in ("split", "packed"))
    index = Load(whole.up - table.up, whole.down - table.down)  # avail.idx and the entries
    return load + index + used_bytes("split", batch, mps=mps)


def _packed_used_bytes(counts: Sequence[int], batch: int, mps: int) -> Load:
    """Return the mean of used descriptors, for buffers of these numbers of descriptors."""
    laps = batch // gcd(len(counts), batch)  # until a batch begins with the first frame again
    up, run = 0.0, 0
    for number, count in enumerate(list(counts) * laps, 1):
        run += 1
        if count > 1 or number % batch == 0:
            up += used_bytes("packed", run, mps=mps).up * run
            run = 0
    return Load(up / (len(counts) * laps), 0)


def ceiling_mpps(link: Link, load: Load) -> float:
    """Million frames per second that the link allows (each way, for a load both ways)."""
    return link.gbps * 1e3 / 8 / max(load)
