"""The door between the virtqueue engine and a device whose buffers are requests."""

from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from ..types.packet import packet_stream
from ..types.virtqueue import Reply, Request

__all__ = ["request_door"]


def request_door(width: int) -> dict[str, wiring.Member]:
    """Ports that a device with ``paths="requests"`` has at least, at ``width`` data bits.

    ``request``
        One ``Request`` per buffer; may come many ahead of its bytes.
    ``readable``
        One packet per request with ``readable`` other than 0, of exactly so many bytes. ``error``
        on its last beat: a read has failed on the bus, the bytes are not to be trusted.
    ``reply``
        One ``Reply`` per request, as early as its length is known; at most ``writable`` bytes.
    ``writable``
        One packet per reply with a length other than 0, of exactly so many bytes. Once its first
        beat is offered the others should follow: meanwhile the device writes nothing else to the
        host, not even the used buffers of earlier requests.

    All four are in the order of the requests, those of all virtqueues together.
    """
    return {
        "request": In(stream.Signature(Request)),
        "readable": In(packet_stream(width)),
        "reply": Out(stream.Signature(Reply)),
        "writable": Out(packet_stream(width)),
    }
