"""Network device: control queue commands and hash numbers [virtio 1.4 §5.1.6.5]."""

from __future__ import annotations

from enum import IntEnum, IntFlag

from virtio_model.spec.fields import Field

ACK_OK = 0
ACK_ERR = 1

CONTROL_HEADER: tuple[Field, ...] = (
    Field("class", 0, 8, "W", section="5.1.6.5"),
    Field("command", 1, 8, "W", section="5.1.6.5"),
)


class ControlClass(IntEnum):
    """Classes of control commands."""

    RX = 0
    MAC = 1
    VLAN = 2
    ANNOUNCE = 3
    MQ = 4
    GUEST_OFFLOADS = 5
    NOTF_COAL = 6
    HASH_TUNNEL = 7
    STATS = 8
    RSS_CTX = 9


class RxCommand(IntEnum):
    """Receive modes; one byte of data, 0 or 1."""

    PROMISC = 0
    ALLMULTI = 1
    ALLUNI = 2
    NOMULTI = 3
    NOUNI = 4
    NOBCAST = 5


class MacCommand(IntEnum):
    """MAC address filtering."""

    TABLE_SET = 0
    ADDR_SET = 1


class VlanCommand(IntEnum):
    """VLAN filtering; le16 vid."""

    ADD = 0
    DEL = 1


class AnnounceCommand(IntEnum):
    """Answer to the ANNOUNCE status bit."""

    ACK = 0


class MqCommand(IntEnum):
    """Queue pairs in use, and hashing."""

    VQ_PAIRS_SET = 0
    RSS_CONFIG = 1
    HASH_CONFIG = 2


class GuestOffloadsCommand(IntEnum):
    """Receive offloads; a le64 bitmap, see GuestOffload."""

    SET = 0


class NotfCoalCommand(IntEnum):
    """Notification coalescing."""

    TX_SET = 0
    RX_SET = 1
    VQ_SET = 2
    VQ_GET = 3


class HashTunnelCommand(IntEnum):
    """Hashing of inner headers."""

    SET = 0


class StatsCommand(IntEnum):
    """Device statistics."""

    QUERY = 0
    GET = 1


class RssCtxCommand(IntEnum):
    """RSS contexts."""

    CAP_GET = 0
    ADD = 1
    MOD = 2
    DEL = 3


class HashType(IntFlag):
    """Bits of supported_hash_types and hash_types [virtio 1.4 §5.1.6.4]."""

    IPV4 = 1 << 0
    TCPV4 = 1 << 1
    UDPV4 = 1 << 2
    IPV6 = 1 << 3
    TCPV6 = 1 << 4
    UDPV6 = 1 << 5
    IP_EX = 1 << 6
    TCP_EX = 1 << 7
    UDP_EX = 1 << 8


class HashReport(IntEnum):
    """Values of hash_report [virtio 1.4 §5.1.6.4]."""

    NONE = 0
    IPV4 = 1
    TCPV4 = 2
    UDPV4 = 3
    IPV6 = 4
    TCPV6 = 5
    UDPV6 = 6
    IPV6_EX = 7
    TCPV6_EX = 8
    UDPV6_EX = 9


class GuestOffload(IntEnum):
    """Bit numbers in the GUEST_OFFLOADS bitmap.

    The tunnel offloads have bits of their own here, 46 and 47, not their feature bits.
    """

    GUEST_CSUM = 1
    GUEST_TSO4 = 7
    GUEST_TSO6 = 8
    GUEST_ECN = 9
    GUEST_UFO = 10
    GUEST_UDP_TUNNEL_GSO = 46
    GUEST_UDP_TUNNEL_GSO_CSUM = 47
    GUEST_USO4 = 54
    GUEST_USO6 = 55
