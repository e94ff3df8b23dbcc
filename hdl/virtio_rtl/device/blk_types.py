"""Records that travel between the rooms of the block device."""

from amaranth.hdl import ShapeLike, unsigned
from amaranth.lib import data, enum, stream
from amaranth.lib.wiring import In, Member, Out

from ..config_blk import SECTOR_BYTES, BlkConfig

__all__ = [
    "HEADER_BYTES",
    "SEGMENT_BYTES",
    "Action",
    "Body",
    "Command",
    "RequestType",
    "Status",
    "Written",
    "access",
    "backend_ports",
    "body_beat",
    "data_beat",
    "plan",
    "read_beat",
    "response",
    "sector_beats",
    "verdict",
    "write_beat",
    "write_job",
]

HEADER_BYTES = 16
SEGMENT_BYTES = 16


class RequestType(enum.Enum, shape=32):
    """Request types that this device knows. [virtio 1.4 §5.2.6]"""

    IN = 0
    OUT = 1
    FLUSH = 4
    GET_ID = 8
    DISCARD = 11
    WRITE_ZEROES = 13


class Status(enum.IntEnum, shape=2):
    """The status byte of a reply. [virtio 1.4 §5.2.6]"""

    OK = 0
    IOERR = 1
    UNSUPP = 2


class Body(enum.Enum, shape=2):
    """What follows the header of a request."""

    NONE = 0
    """Nothing that is of use."""
    DATA = 1
    DISCARD = 2
    WRITE_ZEROES = 3


class Action(enum.Enum, shape=2):
    """What a request does to the disk."""

    NONE = 0
    READ = 1
    WRITE = 2
    ZERO = 3


class Command(data.Struct):
    """A request's header, and the bytes of its two parts; ``error``: the header means nothing."""

    type: 32
    sector: 64
    readable: 26
    writable: 26
    error: 1


class Written(data.Struct):
    """One write of a request is done; ``final``: it was the last one of its request."""

    final: 1
    error: 1


def sector_beats(width: int) -> int:
    """Beats of ``width`` bits in a sector."""
    return SECTOR_BYTES * 8 // width


def body_beat(width: int) -> data.StructLayout:
    """Segments of a request: packed bytes, ``count`` in this beat; ``kind`` is a ``Body``."""
    return data.StructLayout(
        {"data": width, "count": unsigned((width // 8).bit_length()), "last": 1, "kind": Body}
    )


def data_beat(width: int) -> data.StructLayout:
    """Data of an OUT, from lane 0 on; ``error`` counts on the last beat."""
    return data.StructLayout({"data": width, "last": 1, "error": 1})


def access(config: BlkConfig) -> data.StructLayout:
    """A run of sectors."""
    return data.StructLayout({"first": config.sector_bits, "sectors": config.sector_bits})


def verdict(config: BlkConfig) -> data.StructLayout:
    """What came of a request's segments: a ``Status``, and how many wait in the queue."""
    return data.StructLayout({"status": Status, "count": range(config.segments + 1)})


def plan(config: BlkConfig) -> data.StructLayout:
    """A request that was checked.

    ``drain``: an OUT's data has to be thrown away. ``segments``: how many wait in the queue, for
    ``ZERO`` to be done, else to be thrown away. ``told``: there is a byte for the status. ``room``:
    writable bytes in front of the status. ``identity``: they start with the identity.
    """
    return data.StructLayout(
        {
            "action": Action,
            "drain": 1,
            "identity": 1,
            "told": 1,
            "status": Status,
            "room": 26,
            "segments": range(config.segments + 1),
            "first": config.sector_bits,
            "sectors": config.sector_bits,
        }
    )


def write_job(config: BlkConfig) -> data.StructLayout:
    """One write: an OUT's data, or zeros; or with ``drain`` data that goes nowhere."""
    return data.StructLayout(
        {
            "drain": 1,
            "zero": 1,
            "final": 1,
            "first": config.sector_bits,
            "sectors": config.sector_bits,
        }
    )


def response(width: int) -> data.StructLayout:
    """How a request is answered.

    ``read``: the bytes before the status come from the disk. ``wait``: writes have to be done
    first. ``beats``: full beats before the one with the status, in whose lane ``lane`` that is.
    """
    lane_bits = (width // 8 - 1).bit_length()
    return data.StructLayout(
        {
            "read": 1,
            "identity": 1,
            "wait": 1,
            "status": Status,
            "beats": unsigned(26 - lane_bits),
            "lane": unsigned(lane_bits),
        }
    )


def write_beat(width: int, config: BlkConfig) -> data.StructLayout:
    """A beat to the disk; ``address`` in beats. ``last`` ends one write, and only then count
    ``final`` and ``failed``, the data were not to be trusted.
    """
    return data.StructLayout(
        {
            "address": config.sector_bits + (sector_beats(width) - 1).bit_length(),
            "data": width,
            "last": 1,
            "final": 1,
            "failed": 1,
        }
    )


def read_beat(width: int) -> data.StructLayout:
    """A beat from the disk; with ``error`` its data are zeros."""
    return data.StructLayout({"data": width, "error": 1})


def backend_ports(width: int, config: BlkConfig) -> dict[str, Member]:
    """What every backend offers; see ``BlkMemory``."""

    def of(shape: ShapeLike) -> stream.Signature:
        return stream.Signature(shape)

    return {
        "write": In(of(write_beat(width, config))),
        "written": Out(of(Written)),
        "write_done": Out(1),
        "read": In(of(access(config))),
        "read_data": Out(of(read_beat(width))),
        "read_done": Out(1),
    }
