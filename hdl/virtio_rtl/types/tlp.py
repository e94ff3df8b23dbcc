"""The one vendor-neutral transaction layer packet (TLP) stream."""

from amaranth.hdl import unsigned
from amaranth.lib import data, enum, stream

__all__ = [
    "CompletionStatus",
    "FlowControlLimits",
    "TLPHeader",
    "TLPType",
    "tlp_beat",
    "tlp_stream",
]


class TLPType(enum.Enum, shape=unsigned(4)):
    """What a TLP is; format and type of the PCIe header, decoded."""

    MEM_READ = 0
    MEM_WRITE = 1
    IO_READ = 2
    IO_WRITE = 3
    CONFIG_READ0 = 4
    CONFIG_WRITE0 = 5
    CONFIG_READ1 = 6
    CONFIG_WRITE1 = 7
    COMPLETION = 8
    COMPLETION_DATA = 9
    MESSAGE = 10
    MESSAGE_DATA = 11
    OTHER_NONPOSTED = 14
    OTHER = 15


class CompletionStatus(enum.Enum, shape=unsigned(3)):
    """Completion status field of the PCIe completion header."""

    SUCCESS = 0
    UNSUPPORTED_REQUEST = 1
    CONFIG_RETRY = 2
    COMPLETER_ABORT = 4


class TLPHeader(data.Struct):
    """Decoded TLP header; fields that a type does not use are 0.

    ``length_dw`` counts dwords from 1 to 1024; it is 0 only for a TLP that has no length (a
    completion without data). ``address`` is a byte address whose two low bits are 0; for
    configuration requests its low 12 bits are the register's byte offset. ``byte_count`` counts
    from 1 to 4096, the bytes of the request that are still to come, this completion included.
    ``bar`` is set by the PHY shim or the receive demultiplexer for memory and I/O requests.
    """

    type: TLPType
    traffic_class: 3
    no_snoop: 1
    relaxed_ordering: 1
    poisoned: 1
    length_dw: 11
    first_be: 4
    last_be: 4
    requester_id: 16
    tag: 10
    address: 64
    completer_id: 16
    status: CompletionStatus
    byte_count: 13
    lower_address: 7
    bar: 3


def tlp_beat(width: int) -> data.StructLayout:
    """One beat of a TLP stream of ``width`` data bits (64, 128, 256 or 512).

    Every TLP starts on its own beat. The header stands beside the data of the first beat and is
    meaningless on later beats. Payload dword 0 lies in ``data[0:32]`` of the first beat, the
    following dwords are packed without gaps, so that a TLP has
    ``max(1, ceil(payload_dw * 32 / width))`` beats. Lanes past the payload are undefined.
    """
    return data.StructLayout(
        {"data": width, "header": TLPHeader, "first": unsigned(1), "last": unsigned(1)}
    )


def tlp_stream(width: int) -> stream.Signature:
    """Stream of TLP beats; may stall at any beat."""
    return stream.Signature(tlp_beat(width))


class FlowControlLimits(data.Struct):
    """Transmit credits as PCIe states them: cumulative limits, modulo the field's width.

    A TLP may go while ``(limit - consumed - need) mod 2**n < 2**(n-1)``; header credits count
    TLPs, data credits count units of 16 bytes. A class whose ``*_infinite`` bit is set is never
    limited.
    """

    posted_header: 8
    posted_data: 12
    nonposted_header: 8
    completion_header: 8
    completion_data: 12
    posted_infinite: 1
    nonposted_infinite: 1
    completion_infinite: 1
