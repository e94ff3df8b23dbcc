"""The three forms of a TLP, each checked against the layout or against PCIe's own header format."""

from __future__ import annotations

import random
import struct

import pytest
from amaranth.lib import data

from lib.layout import pack, unpack
from lib.pcie.dma import enabled_range, enabled_runs
from lib.pcie.host import memory_request
from lib.pcie.packet import MEM_WRITE, Packet
from lib.pcie.tlp_codec import BeatCodec, MalformedStream, packet_of, tlp_of
from virtio_rtl.types.tlp import (
    TLPHeader,
    TLPType,
    tlp_beat,
)

FIELDS = [name for name, _ in data.Layout.cast(TLPHeader)]


def random_packet(kind: TLPType) -> Packet:
    """Return a packet of a kind with random fields, as they may be on a link."""
    bits = random.getrandbits
    packet = Packet(kind, traffic_class=bits(3), no_snoop=bits(1), relaxed_ordering=bits(1))
    packet.poisoned, packet.requester_id, packet.tag = bits(1), bits(16), bits(10)
    name = kind.name
    if "WRITE" in name or name.endswith("DATA"):
        single = "MEM" not in name and "COMPL" not in name
        packet.data = random.randbytes(4 if single else 4 * random.randrange(1, 65))
        packet.length_dw = len(packet.data) // 4
    elif "READ" in name:
        packet.length_dw = random.randrange(1, 1025) if "MEM" in name else 1
    if "COMPLETION" in name:
        packet.completer_id, packet.lower_address = bits(16), bits(7)
        packet.status = random.choice((0, 1, 2, 4))
        packet.byte_count = random.randrange(1, 4097)
    else:
        packet.first_be, packet.last_be = bits(4), bits(4)
    if "CONFIG" in name:
        packet.address, packet.completer_id = bits(10) << 2, bits(16)
    elif "MEM" in name:
        packet.address = bits(random.choice((30, 62))) << 2
    elif "IO" in name and "COMPL" not in name:
        packet.address = bits(30) << 2
    return packet.settle()


CODED = [kind for kind in TLPType if not kind.name.startswith("OTHER")]


@pytest.mark.parametrize("width", [64, 128, 256, 512])
def test_codec(width: int) -> None:
    """Packets become the beats that the layout says, bit for bit, and come back."""
    random.seed(width)
    lanes = width // 8
    for noise in (None, random.Random(1)):
        codec = BeatCodec(width, noise)
        for kind in CODED * 20:
            packet = random_packet(kind)
            beats = codec.encode(packet)
            assert len(beats) == max(1, -(-len(packet.data) // lanes))
            for index, beat in enumerate(beats):
                fields = unpack(tlp_beat(width), beat)
                assert fields.first == (index == 0)
                assert fields.last == (index == len(beats) - 1)
                chunk = packet.data[index * lanes : (index + 1) * lanes]
                assert fields.data.to_bytes(lanes, "little")[: len(chunk)] == chunk
                if index == 0:
                    for name in FIELDS:
                        assert int(getattr(fields.header[name], "value", fields.header[name])) == (
                            getattr(packet, name)
                        ), name
                if noise is None:
                    rest = {"data": int.from_bytes(chunk, "little"), "first": index == 0,
                            "last": index == len(beats) - 1}  # fmt: skip
                    if index == 0:
                        rest["header"] = packet.fields()
                    assert beat == pack(tlp_beat(width), rest)
            assert codec.decode(beats) == packet
            wire = (16 if kind.name.startswith("MESSAGE") or packet.address >> 32 else 12) + 8
            assert packet.wire_size == wire + len(packet.data) == tlp_of(packet).get_wire_size()
            assert packet.fc_type == tlp_of(packet).get_fc_type()
            assert packet.data_credits == tlp_of(packet).get_data_credits()
    long = codec.encode(Packet(MEM_WRITE, bytes(256)))
    for broken in (long[1:], long[:-1], long + long[-1:], [long[0], *long[:-1]]):
        with pytest.raises(MalformedStream):
            codec.decode(broken)


def test_link_tlps() -> None:
    """`Packet` and cocotbext-pcie's `Tlp` convert both ways, headers as PCIe packs them."""
    random.seed(3)
    for kind in CODED * 50:
        packet = random_packet(kind)
        tlp = tlp_of(packet)
        assert packet_of(tlp) == packet
        if "MESSAGE" in kind.name:
            continue
        raw = tlp.pack_header()  # PCIe 3.0 §2.2.1, decoded here by hand
        dw = struct.unpack(f">{len(raw) // 4}I", raw)
        assert dw[0] & 0x3FF == packet.length_dw & 0x3FF
        assert dw[0] >> 14 & 1 == packet.poisoned
        assert dw[0] >> 20 & 7 == packet.traffic_class
        assert dw[0] >> 13 & 1 == packet.relaxed_ordering
        assert dw[0] >> 12 & 1 == packet.no_snoop
        if "COMPLETION" in kind.name:
            assert (
                dw[1] == packet.completer_id << 16 | packet.status << 13 | packet.byte_count % 4096
            )
            low = packet.tag & 0xFF
            assert dw[2] == packet.requester_id << 16 | low << 8 | packet.lower_address
        else:
            enables = packet.last_be << 4 | packet.first_be
            assert dw[1] == packet.requester_id << 16 | (packet.tag & 0xFF) << 8 | enables
            if "CONFIG" in kind.name:
                assert dw[2] == packet.completer_id << 16 | packet.address
            else:
                address = dw[2] if len(dw) == 3 else dw[2] << 32 | dw[3]
                assert address == packet.address


def test_byte_enables() -> None:
    """Byte enables become the right ranges; requests of any alignment the right enables."""
    for length in (1, 2, 3):
        for first in range(16):
            for last in range(16) if length > 1 else (0,):
                packet = Packet(MEM_WRITE, bytes(4 * length), address=64)
                packet.first_be, packet.last_be = first, last
                enabled = [first, *[15] * (length - 2), last][:length]
                touched = [
                    4 * d + k for d, be in enumerate(enabled) for k in range(4) if be >> k & 1
                ]
                got = [at for start, end in enabled_runs(packet) for at in range(start, end)]
                assert got == touched
                if touched and first and (last or length == 1):
                    assert enabled_range(packet) == (64 + touched[0], 64 + touched[-1] + 1)
    for offset in range(8):
        for length in range(1, 20):
            request = memory_request(MEM_WRITE, 64 + offset, length, bytes(range(1, length + 1)))
            joined = b"".join(request.data[a:z] for a, z in enabled_runs(request))
            assert joined == bytes(range(1, length + 1))
            assert enabled_range(request) == (64 + offset, 64 + offset + length)
