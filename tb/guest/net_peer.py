"""A peer on the wire of a network device: ARP, echo by ICMP, UDP and TCP, without any state."""

from __future__ import annotations

import ipaddress
import struct
from enum import IntFlag

_ARP, _IPV4 = 0x0806, 0x0800
_ICMP, _TCP, _UDP = 1, 6, 17
_ECHO_REQUEST = 8
_MORE_FRAGMENTS, _FRAGMENT_OFFSET = 0x2000, 0x1FFF
_ETHERNET = struct.Struct("!6s6sH")
_SHORTEST_FRAME = 60
_ARP_PACKET = struct.Struct("!HHBBH6s4s6s4s")
_IP_HEADER = struct.Struct("!BBHHHBBH4s4s")
_TCP_HEADER = struct.Struct("!HHIIBBHHH")
_ECHO_PORT = 7
_MSS_OPTION = struct.Struct("!BBH").pack(2, 4, 1460)


class _Flag(IntFlag):
    FIN = 1
    SYN = 2
    RST = 4
    PSH = 8
    ACK = 16


class Peer:
    """The other end of a network device's wire; this one never answers.

    damaged: frames that cannot be what the guest has sent. repeated: those that came twice.
    """

    damaged = repeated = 0

    def answer(self, frame: bytes) -> list[bytes]:
        """Take a frame; what comes back at once."""
        return []


class EchoPeer(Peer):
    """One IPv4 host. `answer` gives the frames that it sends for one that it received.

    ICMP echo: each fragment of a request comes back by itself, as a fragment of the reply.

    UDP echo on port 7, of whole datagrams.

    TCP echo on port 7: the peer takes the caller's sequence numbers for its own, so that the byte
    at a number goes back under the same number, and acknowledges only what the caller has
    acknowledged in the echo. What is lost either way the caller sends again. Nothing is
    remembered that an answer hangs on, so any number of connections are served.

    The caller works out all checksums itself, so a wrong one is the device's: `damaged` counts
    the packets with one, of headers and of whole messages, and those that are cut short. They are
    dropped. `repeated` counts TCP segments that begin with bytes that have come before: something
    was lost either way, or the caller was impatient.
    """

    def __init__(self, address: str = "10.0.0.2", mac: bytes = b"\x02\x00\x00\x00\x00\x02") -> None:
        self.address = ipaddress.IPv4Address(address).packed
        self.mac = mac
        self.received = 0
        self.sent = 0
        self._ends: dict[tuple[bytes, int], int] = {}
        """Of TCP connections, by caller and port: the sequence number after all that has come."""

    def answer(self, frame: bytes) -> list[bytes]:
        """What goes back: no frame or one."""
        self.received += 1
        if len(frame) < _ETHERNET.size:
            self.damaged += 1
            return []
        _, source, kind = _ETHERNET.unpack_from(frame)
        packet = frame[_ETHERNET.size :]
        reply = None
        if kind == _ARP:
            reply = self._arp(packet)
        elif kind == _IPV4:
            reply = self._ipv4(packet)
        if reply is None:
            return []
        self.sent += 1
        return [(_ETHERNET.pack(source, self.mac, kind) + reply).ljust(_SHORTEST_FRAME, b"\0")]

    def _arp(self, packet: bytes) -> bytes | None:
        if len(packet) < _ARP_PACKET.size:
            self.damaged += 1
            return None
        *form, operation, sender_mac, sender, _, target = _ARP_PACKET.unpack_from(packet)
        if form != [1, _IPV4, 6, 4] or operation != 1 or target != self.address:
            return None
        return _ARP_PACKET.pack(*form, 2, self.mac, self.address, sender_mac, sender)

    def _ipv4(self, packet: bytes) -> bytes | None:
        if len(packet) < _IP_HEADER.size:
            self.damaged += 1
            return None
        first, _, total, _, fragment, _, protocol, _, source, target = _IP_HEADER.unpack_from(
            packet
        )
        start = 4 * (first & 0xF)
        if not _IP_HEADER.size <= start <= total <= len(packet) or checksum(packet[:start]):
            self.damaged += 1
            return None
        if target != self.address:
            return None
        # Source and target change places, which leaves the header's checksum as it is.
        header, body = packet[:12] + target + source + packet[20:start], packet[start:total]
        whole = not fragment & (_MORE_FRAGMENTS | _FRAGMENT_OFFSET)
        if whole and _is_damaged(protocol, source + target, body):
            self.damaged += 1
            return None
        if protocol == _ICMP:
            echo = body if fragment & _FRAGMENT_OFFSET else _echo_reply(body)
            return None if echo is None else header + echo
        if not whole:
            return None
        if protocol == _TCP:
            return self._tcp(source, body)
        if protocol == _UDP and body[2:4] == _ECHO_PORT.to_bytes(2, "big"):
            # The ports change places, which leaves a checksum as it is.
            return header + body[2:4] + body[:2] + body[4:]
        return None

    def _tcp(self, caller: bytes, segment: bytes) -> bytes | None:
        if len(segment) < _TCP_HEADER.size:
            return None
        port, own_port, seq, ack, start, flags, window, _, _ = _TCP_HEADER.unpack_from(segment)
        if own_port != _ECHO_PORT or flags & _Flag.RST:
            return None
        data, options = segment[4 * (start >> 4) :], b""
        self._count((caller, port), seq, len(data), flags)
        if flags & _Flag.SYN:
            # Window scale and timestamps are not offered: there is no state for them.
            ack, data, options, flags = (seq + 1) & 0xFFFF_FFFF, b"", _MSS_OPTION, _Flag.SYN
        elif not data and not flags & _Flag.FIN:
            seq, flags = ack, 0
        flags = flags & (_Flag.FIN | _Flag.SYN | _Flag.PSH) | _Flag.ACK
        length = _TCP_HEADER.size + len(options)
        words = _TCP_HEADER.pack(own_port, port, seq, ack, length // 4 << 4, flags, window, 0, 0)
        reply = words + options + data
        pseudo = self.address + caller + struct.pack("!HH", _TCP, len(reply))
        total = checksum(pseudo + reply)
        return self._ip_header(caller, len(reply)) + reply[:16] + total.to_bytes(2) + reply[18:]

    def _count(self, connection: tuple[bytes, int], seq: int, size: int, flags: int) -> None:
        """Look whether a segment begins with what has come before."""
        known, is_first = self._ends.get(connection), flags & _Flag.SYN
        size += bool(is_first) + bool(flags & _Flag.FIN)
        end = (seq + size) & 0xFFFF_FFFF
        if not size:
            return  # an acknowledgement may come as often as it likes
        if known is None or is_first:
            self.repeated += known == end  # a port may be used again, with other numbers
        elif (seq - known) & 0x8000_0000:
            self.repeated += 1
            if (end - known) & 0x8000_0000:
                return
        self._ends[connection] = end

    def _ip_header(self, target: bytes, length: int) -> bytes:
        total = _IP_HEADER.size + length
        fields = (0x45, 0, total, 0, 0x4000, 64, _TCP)
        sum_ = checksum(_IP_HEADER.pack(*fields, 0, self.address, target))
        return _IP_HEADER.pack(*fields, sum_, self.address, target)


def _is_damaged(protocol: int, ends: bytes, body: bytes) -> bool:
    """Whether the checksum of a whole message is wrong. `ends`: source and target address."""
    if protocol == _ICMP:
        return bool(checksum(body))
    if protocol == _UDP and body[6:8] == bytes(2):
        return False  # it has none
    pseudo = ends + struct.pack("!HH", protocol, len(body))
    return protocol in (_TCP, _UDP) and bool(checksum(pseudo + body))


def _echo_reply(message: bytes) -> bytes | None:
    """The reply to the first fragment; the checksum covers all fragments, so it is corrected."""
    if len(message) < 8 or message[:2] != bytes([_ECHO_REQUEST, 0]):
        return None
    before = int.from_bytes(message[2:4], "big")
    after = before + (_ECHO_REQUEST << 8)
    after = (after & 0xFFFF) + (after >> 16)
    return bytes(2) + after.to_bytes(2, "big") + message[4:]


def checksum(data: bytes) -> int:
    """The internet checksum [RFC 1071]; 0 for data that has its own inside."""
    # 65536 is 1 modulo 65535, so the remainder is the ones' complement sum of the words.
    total = int.from_bytes(data + b"\0" * (len(data) % 2), "big") % 0xFFFF
    return 0xFFFF - total if total else 0
