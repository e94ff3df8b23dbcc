"""Network device: ids, features, configuration, packet header, control [virtio 1.4 §5.1]."""

from __future__ import annotations

from enum import IntEnum, IntFlag

from virtio_model.spec.features import Dependencies, has, needs
from virtio_model.spec.fields import Field

DEVICE_ID = 1


class NetFeature(IntEnum):
    """Feature bit numbers [virtio 1.4 §5.1.3]."""

    CSUM = 0
    GUEST_CSUM = 1
    CTRL_GUEST_OFFLOADS = 2
    MTU = 3
    MAC = 5
    GSO = 6
    """Legacy only."""
    GUEST_TSO4 = 7
    GUEST_TSO6 = 8
    GUEST_ECN = 9
    GUEST_UFO = 10
    HOST_TSO4 = 11
    HOST_TSO6 = 12
    HOST_ECN = 13
    HOST_UFO = 14
    MRG_RXBUF = 15
    STATUS = 16
    CTRL_VQ = 17
    CTRL_RX = 18
    CTRL_VLAN = 19
    CTRL_RX_EXTRA = 20
    GUEST_ANNOUNCE = 21
    MQ = 22
    CTRL_MAC_ADDR = 23
    DEVICE_STATS = 50
    HASH_TUNNEL = 51
    VQ_NOTF_COAL = 52
    NOTF_COAL = 53
    GUEST_USO4 = 54
    GUEST_USO6 = 55
    HOST_USO = 56
    HASH_REPORT = 57
    GUEST_HDRLEN = 59
    RSS = 60
    RSC_EXT = 61
    STANDBY = 62
    SPEED_DUPLEX = 63
    RSS_CONTEXT = 64
    GUEST_UDP_TUNNEL_GSO = 65
    GUEST_UDP_TUNNEL_GSO_CSUM = 66
    HOST_UDP_TUNNEL_GSO = 67
    HOST_UDP_TUNNEL_GSO_CSUM = 68
    OUT_NET_HEADER = 69
    IPSEC = 70


_F = NetFeature
_HOST_TSO = (_F.HOST_TSO4, _F.HOST_TSO6)

DEPENDENCIES: Dependencies = {
    # Not in the list of §5.1.3.1: follows from the command needing the control queue.
    _F.CTRL_GUEST_OFFLOADS: needs([_F.CTRL_VQ]),
    _F.GUEST_TSO4: needs([_F.GUEST_CSUM]),
    _F.GUEST_TSO6: needs([_F.GUEST_CSUM]),
    _F.GUEST_ECN: needs([_F.GUEST_TSO4, _F.GUEST_TSO6]),
    _F.GUEST_UFO: needs([_F.GUEST_CSUM]),
    _F.GUEST_USO4: needs([_F.GUEST_CSUM]),
    _F.GUEST_USO6: needs([_F.GUEST_CSUM]),
    _F.HOST_TSO4: needs([_F.CSUM]),
    _F.HOST_TSO6: needs([_F.CSUM]),
    _F.HOST_ECN: needs(_HOST_TSO),
    _F.HOST_UFO: needs([_F.CSUM]),
    _F.HOST_USO: needs([_F.CSUM]),
    _F.CTRL_RX: needs([_F.CTRL_VQ]),
    _F.CTRL_VLAN: needs([_F.CTRL_VQ]),
    _F.GUEST_ANNOUNCE: needs([_F.CTRL_VQ]),
    _F.MQ: needs([_F.CTRL_VQ]),
    _F.CTRL_MAC_ADDR: needs([_F.CTRL_VQ]),
    _F.NOTF_COAL: needs([_F.CTRL_VQ]),
    _F.VQ_NOTF_COAL: needs([_F.CTRL_VQ]),
    _F.RSC_EXT: needs(_HOST_TSO),
    _F.RSS: needs([_F.CTRL_VQ]),
    _F.HASH_TUNNEL: needs([_F.CTRL_VQ], [_F.RSS, _F.HASH_REPORT]),
    _F.RSS_CONTEXT: needs([_F.CTRL_VQ], [_F.RSS]),
    _F.GUEST_UDP_TUNNEL_GSO: needs(
        [_F.GUEST_TSO4], [_F.GUEST_TSO6], [_F.GUEST_USO4], [_F.GUEST_USO6]
    ),
    _F.GUEST_UDP_TUNNEL_GSO_CSUM: needs([_F.GUEST_UDP_TUNNEL_GSO]),
    _F.HOST_UDP_TUNNEL_GSO: needs([_F.HOST_TSO4], [_F.HOST_TSO6], [_F.HOST_USO]),
    _F.HOST_UDP_TUNNEL_GSO_CSUM: needs([_F.HOST_UDP_TUNNEL_GSO]),
}
"""What a feature needs [virtio 1.4 §5.1.3.1]."""

ADVISED_DEPENDENCIES: Dependencies = {
    _F.CTRL_RX_EXTRA: needs([_F.CTRL_VQ]),
    _F.HASH_REPORT: needs([_F.CTRL_VQ]),
    _F.IPSEC: needs([_F.OUT_NET_HEADER]),
}
"""What a feature SHOULD come with; lacking it is no breach [virtio 1.4 §5.1.4.1]."""

# Queues [virtio 1.4 §5.1.2]


def rx_queue(pair: int) -> int:
    """Index of the receive queue of a pair, from 0."""
    return 2 * pair


def tx_queue(pair: int) -> int:
    """Index of the transmit queue of a pair, from 0."""
    return 2 * pair + 1


def control_queue(features: int, max_virtqueue_pairs: int) -> int:
    """Index of the control queue under the negotiated features."""
    multiqueue = has(features, _F.MQ) or has(features, _F.RSS)
    return 2 * (max_virtqueue_pairs if multiqueue else 1)


# Device configuration [virtio 1.4 §5.1.4]
CONFIG_SIZE = 28
MTU_MIN = 68
SPEED_UNKNOWN = 0xFFFF_FFFF
VQ_PAIRS_MIN = 1
VQ_PAIRS_MAX = 0x8000


class NetStatus(IntFlag):
    """Bits of the status field."""

    LINK_UP = 1
    ANNOUNCE = 2


class Duplex(IntEnum):
    """Values of the duplex field.

    The spec's normative clause has half and full swapped against its own layout text; this
    follows the layout, as Linux does.
    """

    HALF = 0
    FULL = 1
    UNKNOWN = 0xFF


_CFG = "5.1.4"
CONFIG: tuple[Field, ...] = (
    Field("mac", 0x00, 48, "R", section=_CFG, description="With MAC: the address."),
    Field("status", 0x06, 16, "R", section=_CFG, description="With STATUS: LINK_UP, ANNOUNCE."),
    Field(
        "max_virtqueue_pairs",
        0x08,
        16,
        "R",
        section=_CFG,
        description="With MQ or RSS: 1 to 0x8000.",
    ),
    Field("mtu", 0x0A, 16, "R", section=_CFG, description="With MTU: at least 68."),
    Field("speed", 0x0C, 32, "R", section=_CFG, description="With SPEED_DUPLEX: Mbit/s."),
    Field("duplex", 0x10, 8, "R", section=_CFG, description="With SPEED_DUPLEX."),
    Field(
        "rss_max_key_size",
        0x11,
        8,
        "R",
        section=_CFG,
        description="With RSS or HASH_REPORT: at least 40.",
    ),
    Field(
        "rss_max_indirection_table_length",
        0x12,
        16,
        "R",
        section=_CFG,
        description="With RSS: at least 128.",
    ),
    Field(
        "supported_hash_types", 0x14, 32, "R", section=_CFG, description="With RSS or HASH_REPORT."
    ),
    Field("supported_tunnel_types", 0x18, 32, "R", section=_CFG, description="With HASH_TUNNEL."),
)

# Packet header [virtio 1.4 §5.1.6]
HEADER_SIZE = 12
HEADER_SIZE_LEGACY = 10
HEADER_SIZE_HASH = 20
HEADER_SIZE_TUNNEL = 24
HEADER_SIZE_OUT_NET = 32


class HeaderFlags(IntFlag):
    """Bits of the header's flags."""

    NEEDS_CSUM = 0x01
    DATA_VALID = 0x02
    RSC_INFO = 0x04
    UDP_TUNNEL_CSUM = 0x08
    SECURITY = 0x10
    SECURITY_ERR = 0x20
    SA_SOFT_EXPIRY_WARN = 0x40


class GsoType(IntEnum):
    """Values of gso_type without its modifier bits."""

    NONE = 0
    TCPV4 = 1
    UDP = 3
    TCPV6 = 4
    UDP_L4 = 5


GSO_UDP_TUNNEL_IPV4 = 0x20
GSO_UDP_TUNNEL_IPV6 = 0x40
GSO_ECN = 0x80

_HDR = "5.1.6"
HEADER: tuple[Field, ...] = (
    Field("flags", 0x00, 8, "RW", section=_HDR),
    Field("gso_type", 0x01, 8, "RW", section=_HDR),
    Field("hdr_len", 0x02, 16, "RW", section=_HDR),
    Field("gso_size", 0x04, 16, "RW", section=_HDR),
    Field("csum_start", 0x06, 16, "RW", section=_HDR),
    Field("csum_offset", 0x08, 16, "RW", section=_HDR),
    Field("num_buffers", 0x0A, 16, "RW", section=_HDR, description="0 on transmit."),
)
HEADER_OPTIONAL: tuple[Field, ...] = (
    Field("hash_value", 0x0C, 32, "RW", section=_HDR, description="HASH_REPORT."),
    Field("hash_report", 0x10, 16, "RW", section=_HDR, description="HASH_REPORT."),
    Field("padding", 0x12, 16, "RW", section=_HDR, description="HASH_REPORT."),
    Field("outer_th_offset", 0x14, 16, "RW", section=_HDR, description="UDP_TUNNEL_GSO."),
    Field("inner_nh_offset", 0x16, 16, "RW", section=_HDR, description="UDP_TUNNEL_GSO."),
    Field("outer_nh_offset", 0x18, 16, "RW", section=_HDR, description="OUT_NET_HEADER."),
)


def header_size(features: int) -> int:
    """Bytes of the packet header under the negotiated features, VERSION_1 among them."""
    if has(features, _F.OUT_NET_HEADER) or has(features, _F.IPSEC):
        return HEADER_SIZE_OUT_NET
    if has(features, _F.HOST_UDP_TUNNEL_GSO) or has(features, _F.GUEST_UDP_TUNNEL_GSO):
        return HEADER_SIZE_TUNNEL
    if has(features, _F.HASH_REPORT):
        return HEADER_SIZE_HASH
    return HEADER_SIZE
