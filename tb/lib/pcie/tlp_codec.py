"""TLPs in their three forms: cocotbext-pcie's `Tlp`, our `Packet`, and beats of a TLP stream.

Bit offsets are taken from the types once; a beat is built with a few shifts of whole integers.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from amaranth.lib import data as amaranth_data
from cocotbext.pcie.core.tlp import CplStatus, MsgType, Tlp, TlpAttr, TlpTc
from cocotbext.pcie.core.tlp import TlpType as LinkType
from cocotbext.pcie.core.utils import PcieId

from lib.pcie.packet import COMPLETION_DATA, HEADER_FIELDS, MESSAGE, MESSAGE_DATA, WITH_DATA, Packet
from virtio_rtl.types.tlp import TLPHeader, TLPType, tlp_beat

_LINK_TYPES = {
    LinkType.MEM_READ: TLPType.MEM_READ,
    LinkType.MEM_READ_64: TLPType.MEM_READ,
    LinkType.MEM_WRITE: TLPType.MEM_WRITE,
    LinkType.MEM_WRITE_64: TLPType.MEM_WRITE,
    LinkType.IO_READ: TLPType.IO_READ,
    LinkType.IO_WRITE: TLPType.IO_WRITE,
    LinkType.CFG_READ_0: TLPType.CONFIG_READ0,
    LinkType.CFG_WRITE_0: TLPType.CONFIG_WRITE0,
    LinkType.CFG_READ_1: TLPType.CONFIG_READ1,
    LinkType.CFG_WRITE_1: TLPType.CONFIG_WRITE1,
    LinkType.CPL: TLPType.COMPLETION,
    LinkType.CPL_DATA: TLPType.COMPLETION_DATA,
}
_FROM_LINK = {t.value: ours.value for t, ours in _LINK_TYPES.items()}
_FROM_LINK |= {t.value: MESSAGE for t in LinkType if t.name.startswith("MSG_")}
_FROM_LINK |= {t.value: MESSAGE_DATA for t in LinkType if t.name.startswith("MSG_DATA_")}
for _type in LinkType:
    if _type.name.startswith(("MEM_READ_LOCKED", "FETCH_ADD", "SWAP", "CAS")):
        _FROM_LINK[_type.value] = TLPType.OTHER_NONPOSTED.value

_TO_LINK = {ours.value: t for t, ours in reversed(_LINK_TYPES.items())}
_WIDE = {
    TLPType.MEM_READ.value: LinkType.MEM_READ_64,
    TLPType.MEM_WRITE.value: LinkType.MEM_WRITE_64,
}
# Which way a message is routed goes with its code. [PCIe 3.0 §2.2.8]
_LOCAL_CODES = frozenset(code for code in MsgType if "ASSERT_INT" in code.name)
_TO_ROOT_CODES = frozenset(
    {MsgType.PM_PME, MsgType.ERR_COR, MsgType.ERR_NONFATAL, MsgType.ERR_FATAL}
)


def packet_of(tlp: Tlp) -> Packet:
    """Convert cocotbext-pcie's TLP. A message's code is read from the attribute `message_code`."""
    kind = _FROM_LINK.get((tlp.fmt, tlp.type), TLPType.OTHER.value)
    packet = Packet(
        kind,
        bytes(tlp.data),
        traffic_class=int(tlp.tc),
        no_snoop=int(tlp.attr) & 1,
        relaxed_ordering=int(tlp.attr) >> 1 & 1,
        poisoned=int(tlp.ep),
        length_dw=tlp.length,
        requester_id=int(tlp.requester_id),
        tag=tlp.tag,
    )
    if kind in (TLPType.COMPLETION.value, COMPLETION_DATA):
        packet.completer_id = int(tlp.completer_id)
        packet.status = int(tlp.status)
        packet.byte_count = tlp.byte_count
        packet.lower_address = tlp.lower_address
    elif kind in (MESSAGE, MESSAGE_DATA):
        code = getattr(tlp, "message_code", 0)
        packet.first_be, packet.last_be = code & 0xF, code >> 4
    else:
        packet.first_be, packet.last_be = tlp.first_be, tlp.last_be
        packet.address = tlp.address
        if TLPType.CONFIG_READ0.value <= kind <= TLPType.CONFIG_WRITE1.value:
            packet.completer_id = int(tlp.completer_id)
            packet.address &= 0xFFC
    return packet.settle()


def tlp_of(packet: Packet) -> Tlp:
    """Convert to cocotbext-pcie's TLP; a message gets the attribute `message_code`."""
    tlp = Tlp()
    kind = packet.type
    if kind in (MESSAGE, MESSAGE_DATA):
        code = packet.message_code
        route = "LOCAL" if code in _LOCAL_CODES else "BCAST"
        route = "TO_RC" if code in _TO_ROOT_CODES else route
        tlp.fmt_type = LinkType[f"MSG_{'DATA_' if kind == MESSAGE_DATA else ''}{route}"]
        tlp.message_code = code
    else:
        wide = packet.address >> 32
        tlp.fmt_type = _WIDE[kind] if wide and kind in _WIDE else _TO_LINK[kind]
        tlp.first_be, tlp.last_be = packet.first_be, packet.last_be
    tlp.tc = TlpTc(packet.traffic_class)
    tlp.attr = TlpAttr(packet.no_snoop | packet.relaxed_ordering << 1)
    tlp.ep = bool(packet.poisoned)
    tlp.length = packet.length_dw
    tlp.requester_id = PcieId.from_int(packet.requester_id)
    tlp.completer_id = PcieId.from_int(packet.completer_id)
    tlp.tag = packet.tag
    tlp.address = packet.address
    tlp.status = CplStatus(packet.status)
    tlp.byte_count = packet.byte_count
    tlp.lower_address = packet.lower_address
    tlp.data = bytearray(packet.data)
    return tlp


class MalformedStream(AssertionError):
    """The beats of a TLP stream do not make a TLP."""


class BeatCodec:
    """Packets to and from the beats (ints of the flattened payload) of a TLP stream.

    width: data bits of a beat. noise: if given, lanes past the payload and the header on later
    beats are filled with random bits, so that a device that looks at them is found out.
    """

    def __init__(self, width: int, noise: random.Random | None = None) -> None:
        layout = tlp_beat(width)
        header = amaranth_data.Layout.cast(TLPHeader)
        self.width = width
        self.bits = layout.size
        self._noise = noise
        self._lanes = width // 8
        self._data_mask = (1 << width) - 1
        self._header_at = layout["header"].offset
        self._header_bits = header.size
        self._first = 1 << layout["first"].offset
        self._last = 1 << layout["last"].offset
        assert layout["data"].offset == 0
        # Shift and mask of every field; in `encode` the shift is that within the beat.
        self._fields = [
            (name, header[name].offset, (1 << header[name].width) - 1) for name in HEADER_FIELDS
        ]
        self._places = [(name, shift + self._header_at) for name, shift, _ in self._fields]

    def encode(self, packet: Packet) -> list[int]:
        """Return the beats of a packet."""
        bits = self._first
        given = packet.__dict__
        for name, shift in self._places:
            if name in given:
                bits |= given[name] << shift
        payload, width = packet.data, self.width
        count = max(1, -(-len(payload) // self._lanes))
        number = int.from_bytes(payload, "little")
        if self._noise is not None:
            number |= self._noise.getrandbits(count * width) >> len(payload) * 8 << len(payload) * 8
        if count == 1:
            return [number | bits | self._last]
        beats = [number & self._data_mask | bits]
        for _ in range(1, count):
            number >>= width
            beats.append(number & self._data_mask)
        if self._noise is not None:
            for index in range(1, count):
                beats[index] |= self._noise.getrandbits(self._header_bits) << self._header_at
        beats[-1] |= self._last
        return beats

    def is_last(self, beat: int) -> bool:
        """Tell whether a beat ends its TLP."""
        return bool(beat & self._last)

    def decode(self, beats: Sequence[int]) -> Packet:
        """Return the packet that the beats of one TLP stand for; checks `first`, `last`, length."""
        head = beats[0] >> self._header_at
        fields: dict[str, Any] = {name: head >> at & mask for name, at, mask in self._fields}
        size = fields["length_dw"] * 4 if fields["type"] in WITH_DATA else 0
        if not size:
            fields["data"] = b""
        elif len(beats) == 1:
            fields["data"] = (beats[0] & self._data_mask).to_bytes(self._lanes, "little")[:size]
        else:
            mask, lanes = self._data_mask, self._lanes
            joined = b"".join([(b & mask).to_bytes(lanes, "little") for b in beats])
            fields["data"] = joined[:size]
        expected = max(1, -(-size // self._lanes))
        packet = Packet.of_fields(fields)
        firsts = [bool(beat & self._first) for beat in beats]
        if len(beats) != expected or not firsts[0] or sum(firsts) != 1:
            raise MalformedStream(
                f"{len(beats)} beats (first flags {firsts}) for {size} bytes, "
                f"{expected} expected: {packet!r}"
            )
        return packet
