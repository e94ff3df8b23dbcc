"""Requests to the DMA engines: a group of requests covers one packed packet of bytes."""

from amaranth.lib import data, enum

__all__ = ["DMAError", "ReadRequest", "WriteRequest"]


class ReadRequest(data.Struct):
    """Read ``length`` (1 to 4096) bytes at any byte ``address``.

    The bytes of consecutive requests are concatenated, without gaps, into one packet that ends
    with the request whose ``last`` is set: gather in one word. A request may cross 4 KiB and
    may be larger than MRRS; the engine splits it.
    """

    function: 8
    address: 64
    length: 13
    last: 1


class WriteRequest(data.Struct):
    """Write the next ``length`` (1 to 4096) bytes of the current packet at any byte ``address``.

    The request whose ``last`` is set takes the end of the packet: the lengths of a group sum up
    to the packet's length exactly.
    """

    function: 8
    address: 64
    length: 13
    last: 1


class DMAError(enum.Enum, shape=3):
    """Why a read failed."""

    NONE = 0
    UNSUPPORTED_REQUEST = 1
    COMPLETER_ABORT = 2
    POISONED = 3
    TIMEOUT = 4
    MALFORMED = 5
