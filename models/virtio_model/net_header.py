"""The packet header in front of every frame [virtio 1.4 §5.1.6]."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from virtio_model.spec.features import has
from virtio_model.spec.net import (
    GSO_ECN,
    GSO_UDP_TUNNEL_IPV4,
    GSO_UDP_TUNNEL_IPV6,
    HEADER_SIZE,
    GsoType,
    HeaderFlags,
    NetFeature,
)

_HEADER = struct.Struct("<BBHHHHH")
_TUNNEL_BITS = GSO_UDP_TUNNEL_IPV4 | GSO_UDP_TUNNEL_IPV6
_GSO_MODIFIERS = GSO_ECN | _TUNNEL_BITS


@dataclass(frozen=True)
class NetHeader:
    """The 12 bytes that are always there; what features append is not modelled."""

    flags: int = 0
    gso_type: int = GsoType.NONE
    hdr_len: int = 0
    gso_size: int = 0
    csum_start: int = 0
    csum_offset: int = 0
    num_buffers: int = 0

    def encode(self) -> bytes:
        return _HEADER.pack(
            self.flags,
            self.gso_type,
            self.hdr_len,
            self.gso_size,
            self.csum_start,
            self.csum_offset,
            self.num_buffers,
        )

    @classmethod
    def decode(cls, data: bytes) -> NetHeader:
        return cls(*_HEADER.unpack_from(data))


_VLAN_TAGS = (b"\x81\x00", b"\x88\xa8")


def ethernet_header(frame: bytes) -> int:
    """Bytes of a frame's Ethernet header, with its VLAN tag if it has one."""
    return 18 if frame[12:14] in _VLAN_TAGS else 14


_RX_GSO: dict[int, tuple[int, ...]] = {
    GsoType.TCPV4: (NetFeature.GUEST_TSO4,),
    GsoType.UDP: (NetFeature.GUEST_UFO,),
    GsoType.TCPV6: (NetFeature.GUEST_TSO6,),
    GsoType.UDP_L4: (NetFeature.GUEST_USO4, NetFeature.GUEST_USO6),
}
_TX_GSO: dict[int, tuple[int, ...]] = {
    GsoType.TCPV4: (NetFeature.HOST_TSO4,),
    GsoType.UDP: (NetFeature.HOST_UFO,),
    GsoType.TCPV6: (NetFeature.HOST_TSO6,),
    GsoType.UDP_L4: (NetFeature.HOST_USO,),
}


NUM_BUFFERS_ON_TRANSMIT = "num_buffers not 0 on transmit"
"""The fault of drivers that real devices must live with."""


def receive_faults(header: NetHeader, features: int) -> list[str]:
    """What a device must not put into a received header [virtio 1.4 §5.1.6.4.1]."""
    faults = _gso_faults(header.gso_type, _RX_GSO, NetFeature.GUEST_ECN, features)
    faults += _tunnel_faults(
        header, NetFeature.GUEST_UDP_TUNNEL_GSO, NetFeature.GUEST_UDP_TUNNEL_GSO_CSUM, features
    )
    if header.flags and not has(features, NetFeature.GUEST_CSUM):
        faults.append("flags not 0 without GUEST_CSUM")
    if header.flags & HeaderFlags.RSC_INFO and not has(features, NetFeature.RSC_EXT):
        faults.append("RSC_INFO without RSC_EXT")
    if header.num_buffers != 1 and not has(features, NetFeature.MRG_RXBUF):
        faults.append("num_buffers not 1 without MRG_RXBUF")
    if header.num_buffers == 0:
        faults.append("num_buffers is 0")
    return faults


def transmit_faults(header: NetHeader, features: int) -> list[str]:
    """What a driver must not put into a transmitted header [virtio 1.4 §5.1.6.2.1]."""
    faults = _gso_faults(header.gso_type, _TX_GSO, NetFeature.HOST_ECN, features)
    faults += _tunnel_faults(
        header, NetFeature.HOST_UDP_TUNNEL_GSO, NetFeature.HOST_UDP_TUNNEL_GSO_CSUM, features
    )
    if header.flags and not has(features, NetFeature.CSUM):
        faults.append("flags not 0 without CSUM")
    if header.flags & (HeaderFlags.DATA_VALID | HeaderFlags.RSC_INFO):
        faults.append("DATA_VALID or RSC_INFO set on transmit")
    if header.num_buffers:
        faults.append(NUM_BUFFERS_ON_TRANSMIT)
    if header.gso_type != GsoType.NONE and not header.flags & HeaderFlags.NEEDS_CSUM:
        faults.append("gso_type without NEEDS_CSUM")
    return faults


def _gso_faults(
    gso_type: int, needed: dict[int, tuple[int, ...]], ecn: int, features: int
) -> list[str]:
    base = gso_type & ~_GSO_MODIFIERS
    faults = []
    if base == GsoType.NONE:
        if gso_type:
            faults.append("gso_type has modifier bits without a type")
    elif base not in needed:
        faults.append("gso_type has no defined value")
    elif not any(has(features, feature) for feature in needed[base]):
        faults.append("gso_type without the feature that allows it")
    if gso_type & GSO_ECN and not has(features, ecn):
        faults.append("gso_type has ECN without its feature")
    return faults


def _tunnel_faults(header: NetHeader, tunnel: int, checksum: int, features: int) -> list[str]:
    """Rules of the tunnel bits, of either direction."""
    faults = []
    bits = header.gso_type & _TUNNEL_BITS
    outer = header.flags & HeaderFlags.UDP_TUNNEL_CSUM
    if bits and not has(features, tunnel):
        faults.append("tunnel bits without UDP_TUNNEL_GSO")
    if outer and not has(features, checksum):
        faults.append("UDP_TUNNEL_CSUM without UDP_TUNNEL_GSO_CSUM")
    if bits == _TUNNEL_BITS:
        faults.append("both tunnel bits")
    if bits and header.gso_type & ~_GSO_MODIFIERS == GsoType.UDP:
        faults.append("tunnel bits with GSO_UDP")
    if bits and header.flags & HeaderFlags.DATA_VALID:
        faults.append("tunnel bits with DATA_VALID")
    if outer and not bits:
        faults.append("UDP_TUNNEL_CSUM without a tunnel bit")
    return faults


__all__ = ["HEADER_SIZE", "NetHeader", "ethernet_header", "receive_faults", "transmit_faults"]
