"""The network peer: what it answers is read by scapy, and by a TCP caller over a bad wire."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP, defragment, fragment
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Raw

from guest.net_peer import EchoPeer, checksum

PEER, CALLER = "10.0.0.2", "10.0.0.1"
MAC = "02:00:00:00:00:01"


def ask(peer: EchoPeer, packet: Any) -> list[Any]:
    """Send a packet in a frame; what comes back."""
    frame = Ether(src=MAC, dst="ff:ff:ff:ff:ff:ff") / packet
    answers = [Ether(data) for data in peer.answer(bytes(frame))]
    for answer in answers:
        assert answer.dst == MAC
        assert len(answer) >= 60
        if answer.haslayer(IP):
            assert checksum(bytes(answer[IP])[:20]) == 0
    return answers


def test_arp() -> None:
    peer = EchoPeer(PEER, mac=b"\x02\0\0\0\0\x09")
    (answer,) = ask(peer, ARP(op="who-has", psrc=CALLER, pdst=PEER, hwsrc=MAC))
    assert (answer[ARP].op, answer[ARP].hwsrc, answer[ARP].psrc) == (2, "02:00:00:00:00:09", PEER)
    assert (answer[ARP].hwdst, answer[ARP].pdst) == (MAC, CALLER)
    assert not ask(peer, ARP(op="who-has", psrc=CALLER, pdst="10.0.0.3"))
    assert not ask(peer, ARP(op="is-at", psrc=CALLER, pdst=PEER))


@pytest.mark.parametrize("size", [0, 1, 56, 1471, 1472, 6000])
def test_icmp_echo(size: int) -> None:
    """Requests of any length, in fragments where they are too long."""
    data = random.Random(size).randbytes(size)
    peer = EchoPeer(PEER)
    request = IP(src=CALLER, dst=PEER, id=5) / ICMP(id=3, seq=4) / Raw(data)
    pieces = [fragment_ for packet in [request] for fragment_ in fragment(packet, 1480)]
    back = [answer[IP] for piece in pieces for answer in ask(peer, piece)]
    assert len(back) == len(pieces)
    (whole,) = defragment([IP(bytes(packet)[: packet.len]) for packet in back])
    reply = IP(bytes(whole))
    assert (reply.src, reply.dst) == (PEER, CALLER)
    assert (reply[ICMP].type, reply[ICMP].id, reply[ICMP].seq) == (0, 3, 4)
    assert bytes(reply[ICMP].payload) == data
    assert checksum(bytes(reply[ICMP])) == 0


def test_icmp_checksums() -> None:
    """Whatever the checksum of the request, that of the reply is right."""
    peer = EchoPeer(PEER)
    for number in range(0, 1 << 16, 771):
        (answer,) = ask(peer, IP(src=CALLER, dst=PEER) / ICMP(id=number))
        assert checksum(bytes(answer[ICMP])[:8]) == 0


def test_what_is_not_for_the_peer() -> None:
    peer = EchoPeer(PEER)
    assert not ask(peer, IP(src=CALLER, dst="10.0.0.3") / ICMP())
    assert not ask(peer, IP(src=CALLER, dst=PEER) / ICMP(type=0))
    assert not ask(peer, IP(src=CALLER, dst=PEER) / TCP(dport=80, flags="S"))
    assert not ask(peer, IP(src=CALLER, dst=PEER) / TCP(dport=7, flags="R"))
    frame = bytearray(bytes(Ether(src=MAC) / IP(src=CALLER, dst=PEER) / TCP(dport=7) / b"data"))
    frame[-1] ^= 1
    assert not peer.answer(bytes(frame))
    assert peer.damaged == 1


@pytest.mark.parametrize(
    "kind", [TCP(dport=7, flags="PA"), UDP(dport=7), ICMP(id=3)], ids=["TCP", "UDP", "ICMP"]
)
def test_a_frame_that_was_damaged_is_counted(kind: Any) -> None:
    """A bit of IP header, other header or data, or an end that is missing."""
    packet = IP(src=CALLER, dst=PEER) / kind / Raw(b"some data, longer than frames are padded to")
    whole = bytes(Ether(src=MAC) / packet)
    peer = EchoPeer(PEER)
    assert peer.answer(whole)
    assert peer.damaged == 0
    for place in range(14, len(whole)):
        frame = bytearray(whole)
        frame[place] ^= 0x10
        assert not peer.answer(bytes(frame)), place
        assert peer.damaged == place - 13
    before = peer.damaged
    for length in range(len(whole)):
        assert not peer.answer(whole[:length])
    assert peer.damaged == before + len(whole)


def test_what_has_no_checksum_is_not_damaged() -> None:
    """A datagram without one, fragments, and padding."""
    peer = EchoPeer(PEER)
    assert ask(peer, IP(src=CALLER, dst=PEER) / UDP(dport=7, chksum=0) / b"data")
    assert ask(peer, IP(src=CALLER, dst=PEER, flags="MF") / ICMP(chksum=1) / b"12345678")
    assert ask(peer, IP(src=CALLER, dst=PEER, frag=1, proto=1) / b"12345678")
    frame = bytes(Ether(src=MAC) / IP(src=CALLER, dst=PEER) / ICMP())
    assert peer.answer(frame.ljust(60, b"\1"))
    assert peer.damaged == 0


def test_segments_that_come_twice_are_counted() -> None:
    peer = EchoPeer(PEER)
    top = (1 << 32) - 10  # sequence numbers begin again at 0 on the way

    def send(flags: str, seq: int, data: bytes = b"", port: int = 1234) -> int:
        segment = TCP(sport=port, dport=7, flags=flags, seq=(top + seq) % (1 << 32))
        ask(peer, IP(src=CALLER, dst=PEER) / segment / Raw(data))
        return peer.repeated

    assert send("S", 0) == 0
    assert send("A", 1) == 0
    assert send("A", 1) == 0
    assert send("PA", 1, b"0123456789") == 0
    assert send("S", 0, port=5) == 0
    assert send("PA", 11, b"0123456789") == 0
    assert send("PA", 1, b"0123456789") == 1
    assert send("PA", 1, bytes(30)) == 2
    assert send("PA", 31, bytes(10)) == 2
    assert send("PA", 51, bytes(10)) == 2  # what is missing comes later
    assert send("FA", 61) == 2
    assert send("FA", 61) == 3
    assert send("S", 0, port=5) == 4
    assert send("S", -1000) == 4  # the port again, for another connection
    assert send("PA", -999, bytes(10)) == 4


class Caller:
    """A plain TCP caller: it sends what is not acknowledged again and again."""

    def __init__(self, peer: EchoPeer, draw: random.Random, loss: float) -> None:
        self.peer = peer
        self.draw = draw
        self.loss = loss
        self.start = draw.getrandbits(32)
        self.received = bytearray()
        self.acknowledged = 0
        self.closed = False
        self._early: dict[int, bytes] = {}

    def exchange(self, flags: str, at: int = 0, data: bytes = b"") -> Sequence[Any]:
        """Send one segment; what came back of it, if nothing was lost."""
        segment = TCP(
            sport=1234,
            dport=7,
            flags=flags,
            seq=(self.start + at) % (1 << 32),
            ack=(self.start + 1 + len(self.received)) % (1 << 32),
            window=20000,
        )
        if self.draw.random() < self.loss:
            return []
        answers = ask(self.peer, IP(src=CALLER, dst=PEER) / segment / Raw(data))
        if self.draw.random() < self.loss:
            return []
        for answer in answers:
            packet = IP(bytes(answer[IP])[: answer[IP].len])
            pseudo = b"".join([bytes(packet)[12:20], b"\0\6", (packet.len - 20).to_bytes(2, "big")])
            assert checksum(pseudo + bytes(packet)[20:]) == 0
            if flags == "A":
                # It stands where the caller expects the next byte.
                assert packet[TCP].seq == segment.ack
            self._take(packet[TCP])
        return answers

    def _take(self, segment: Any) -> None:
        self.acknowledged = max(self.acknowledged, self._offset(segment.ack))
        if "S" in segment.flags:
            assert segment.seq == self.start
            assert ("MSS", 1460) in segment.options
            return
        self._early[self._offset(segment.seq)] = bytes(segment.payload)
        while data := self._early.pop(1 + len(self.received), b""):
            self.received += data
        self.closed |= "F" in segment.flags and len(self.received) + 1 == self._offset(segment.seq)

    def _offset(self, number: int) -> int:
        """A sequence number from the start on; a few before it are as good as 0."""
        offset = (number - self.start) % (1 << 32)
        return 0 if offset > 1 << 31 else offset


@pytest.mark.parametrize("loss", [0.0, 0.2])
def test_tcp_echo(loss: float) -> None:
    """Every byte comes back in order, whatever is lost on the way; then the peer closes too."""
    draw = random.Random(3)
    caller = Caller(EchoPeer(PEER), draw, loss)
    data = draw.randbytes(20_000)
    for _ in range(200):
        if caller.acknowledged:
            break
        caller.exchange("S")
    assert caller.acknowledged == 1
    for _ in range(2000):
        if caller.acknowledged == 1 + len(data):
            break
        first = caller.acknowledged - 1
        for at in range(first, min(first + 5840, len(data)), 1460):
            caller.exchange("PA", 1 + at, data[at : at + 1460])
        caller.exchange("A", 1 + len(data))
    assert caller.received == data
    assert caller.acknowledged == 1 + len(data)
    for _ in range(200):
        if caller.closed:
            break
        caller.exchange("FA", 1 + len(data))
    assert caller.closed
    assert caller.peer.damaged == 0
    assert bool(caller.peer.repeated) == bool(loss)
    if not loss:
        assert caller.peer.sent == caller.peer.received
