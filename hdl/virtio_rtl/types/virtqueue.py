"""Records that travel between the stages of the virtqueue engine."""

from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

__all__ = [
    "MAX_REQUEST_BYTES",
    "Buffer",
    "BufferRequest",
    "Completion",
    "Descriptor",
    "Doorbell",
    "FetchTicket",
    "InterruptRequest",
    "PackedDescriptor",
    "QueueConfig",
    "QueueLookup",
    "Reply",
    "Request",
    "RingFeatures",
    "Segment",
    "SuppressionUpdate",
    "UsedProgress",
    "WorkItem",
    "WritableRequest",
]

MAX_REQUEST_BYTES = 1 << 25
"""Longest readable part, and longest writable part, of a request device's buffer."""


class PackedDescriptor(data.Struct):
    """Packed virtqueue descriptor as it lies in memory. [virtio 1.4 §2.8.13]"""

    address: 64
    length: 32
    id: 16
    next: 1
    write: 1
    indirect: 1
    reserved_low: 4
    avail: 1
    reserved_high: 7
    used: 1


class Descriptor(data.Struct):
    """An available ring descriptor in the read-ahead store, whichever ring format it came from."""

    address: 64
    length: 32
    id: 16
    next: 1
    write: 1
    indirect: 1


class RingFeatures(data.Struct):
    """What the driver has accepted, as far as the rings are concerned; fixed before DRIVER_OK."""

    packed: 1
    event_idx: 1
    in_order: 1


class QueueConfig(data.Struct):
    """What the driver has set for one virtqueue; sampled when the queue was enabled."""

    enabled: 1
    size: 16
    descriptor_area: 64
    driver_area: 64
    device_area: 64


class Doorbell(data.Struct):
    """A driver's notification: the virtqueue, and with NOTIFICATION_DATA where its ring ends."""

    function: 8
    queue: 16
    next_offset: 15
    next_wrap: 1


class BufferRequest(data.Struct):
    """Take the next available buffer of a virtqueue."""

    function: 8
    queue: 16


class Segment(data.Struct):
    """A piece of guest memory of a buffer; ``last`` closes the buffer."""

    function: 8
    queue: 16
    address: 64
    length: 32
    writable: 1
    last: 1


class Buffer(data.Struct):
    """A whole buffer, once its chain was walked.

    ``id`` and ``slots`` are what the used ring needs: the buffer id, and how many ring slots the
    chain took. ``readable`` and ``writable`` are lengths in bytes, saturated. ``error``: the
    chain breaks a rule and must not be executed. ``absent``: there is no buffer; the device was
    asked to wait no longer, and nothing is to be given back.
    """

    function: 8
    queue: 16
    id: 16
    slots: 16
    readable: 32
    writable: 32
    error: 1
    absent: 1


class Completion(data.Struct):
    """A buffer that the device is done with: ``written`` bytes from its first writable byte on."""

    function: 8
    queue: 16
    id: 16
    slots: 16
    written: 32
    error: 1


class UsedProgress(data.Struct):
    """Used buffers that the posted path has accepted, in one virtqueue.

    ``index`` is the position behind them: with packed virtqueues the ring slot in bits 14 to 0 and
    the device's wrap counter in bit 15, as in an event suppression structure; with split ones the
    used index. ``count``: how many positions the device has moved on, slots or used elements.
    """

    queue: 16
    index: 16
    count: 16


class InterruptRequest(data.Struct):
    """An event for the host: a virtqueue's used buffers, or a configuration change."""

    function: 8
    queue: 16
    config: 1


class WorkItem(data.Struct):
    """A virtqueue to look at; ``doorbell`` when the driver may have added buffers since."""

    queue: 16
    doorbell: 1


class FetchTicket(data.Struct):
    """One descriptor fetch in flight.

    ``epoch`` tells fetches that were issued before a rewind from those after it;
    ``speculative``: issued while an earlier fetch of the same virtqueue was still in flight.
    """

    queue: 16
    count: 5
    epoch: 1
    speculative: 1


class SuppressionUpdate(data.Struct):
    """Publish what the device wants of a virtqueue's available buffer notifications.

    ``length`` (2 or 4) bytes of ``data`` go to ``address``; with ``recheck`` the virtqueue is
    looked at once more behind that write.
    """

    queue: 16
    address: 64
    data: 32
    length: 3
    recheck: 1


class WritableRequest(data.Struct):
    """A device wants to write one packet of ``length`` bytes into a buffer of ``queue``."""

    queue: 16
    length: 32


class Request(data.Struct):
    """A buffer of a request device: bytes of its readable and of its writable part.

    Neither is longer than ``MAX_REQUEST_BYTES``.
    """

    queue: 16
    readable: 26
    writable: 26


class Reply(data.Struct):
    """The device writes ``length`` bytes, from the request's first writable byte on.

    At most ``Request.writable``.
    """

    length: 26


class QueueLookup(wiring.Signature):
    """Read the configuration of a virtqueue; valid in the cycle after ``queue`` was presented."""

    def __init__(self) -> None:
        super().__init__({"queue": Out(16), "config": In(QueueConfig)})
