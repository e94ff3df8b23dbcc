"""Make `data/sample.pcap`: a few hundred frames as a small office network might carry them.

Two hosts come up (DHCP, IPv6 neighbour discovery, ARP), look names up, ping, fetch pages over
TCP (IPv4, IPv6, and in a VLAN), send UDP, and tear their connections down. Deterministic:
`python -m demo.make_sample` writes the same bytes again.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from demo.capture import SAMPLE, save

SEED = 2026
GAP_NS = 37_000

# Locally administered and documentation addresses: nobody's.
CLIENT_MAC, SERVER_MAC, ROUTER_MAC = "02:00:5e:00:00:0a", "02:00:5e:00:00:14", "02:00:5e:00:00:fe"
CLIENT, SERVER, ROUTER = "192.0.2.10", "192.0.2.20", "192.0.2.1"
CLIENT6, SERVER6 = "2001:db8::a", "2001:db8::14"
LINK_LOCAL, ROUTER_LOCAL = "fe80::5eff:fe00:a", "fe80::5eff:fe00:fe"
BROADCAST = "ff:ff:ff:ff:ff:ff"
MSS = 1460


def frames(seed: int = SEED) -> list[bytes]:
    """Return the frames of the sample."""
    draw = random.Random(seed)
    return [bytes(packet) for packet in _packets(draw)]


def _packets(draw: random.Random) -> Iterator[Any]:
    from scapy.layers.l2 import Dot1Q, Ether

    there, back = Ether(src=CLIENT_MAC, dst=SERVER_MAC), Ether(src=SERVER_MAC, dst=CLIENT_MAC)
    yield from _dhcp()
    yield from _arp()
    yield from _neighbours()
    yield from _ping(draw, (56, 1, 500, 1472, 56))
    for number, name in enumerate(("www", "mail", "time", "files")):
        yield from _dns(0x1000 + number, f"{name}.example.com")
    yield from _tcp(draw, there, back, (CLIENT, SERVER), 49152, (1, 700, 64 * 1024, 0, 9000))
    yield from _tcp(draw, there, back, (CLIENT6, SERVER6), 49153, (300, 20_000))
    tagged = (there / Dot1Q(vlan=42, prio=3), back / Dot1Q(vlan=42, prio=3))
    yield from _tcp(draw, *tagged, (CLIENT, SERVER), 49154, (120, 12_000))
    yield from _udp(draw)
    yield from _arp()


def _dhcp() -> Iterator[Any]:
    from scapy.layers.dhcp import BOOTP, DHCP
    from scapy.layers.inet import IP, UDP
    from scapy.layers.l2 import Ether

    hardware = bytes.fromhex(CLIENT_MAC.replace(":", "")).ljust(16, b"\0")
    for kind in ("discover", "offer", "request", "ack"):
        asks = kind in ("discover", "request")
        ether = Ether(src=CLIENT_MAC if asks else ROUTER_MAC, dst=BROADCAST)
        ip = IP(src="0.0.0.0" if asks else ROUTER, dst="255.255.255.255", id=1)
        udp = UDP(sport=68, dport=67) if asks else UDP(sport=67, dport=68)
        boot = BOOTP(
            op=1 if asks else 2,
            xid=0x2026,
            chaddr=hardware,
            yiaddr="0.0.0.0" if asks else CLIENT,
            siaddr="0.0.0.0" if asks else ROUTER,
        )
        options: list[Any] = [("message-type", kind)]
        options += (
            [("requested_addr", CLIENT), ("hostname", "client")]
            if asks
            else [("server_id", ROUTER), ("subnet_mask", "255.255.255.0"), ("router", ROUTER)]
        )
        yield ether / ip / udp / boot / DHCP(options=[*options, "end"])


def _arp() -> Iterator[Any]:
    from scapy.layers.l2 import ARP, Ether

    request = ARP(op=1, hwsrc=CLIENT_MAC, psrc=CLIENT, pdst=SERVER, hwdst="00:00:00:00:00:00")
    yield Ether(src=CLIENT_MAC, dst=BROADCAST) / request
    reply = ARP(op=2, hwsrc=SERVER_MAC, psrc=SERVER, hwdst=CLIENT_MAC, pdst=CLIENT)
    # A switch pads what it forwards to the minimum of 60 bytes; the sender's own stays at 42.
    yield (Ether(src=SERVER_MAC, dst=CLIENT_MAC) / reply).build().ljust(60, b"\0")


def _neighbours() -> Iterator[Any]:
    from scapy.layers.inet6 import (
        ICMPv6MLReport2,
        ICMPv6ND_NA,
        ICMPv6ND_NS,
        ICMPv6ND_RA,
        ICMPv6ND_RS,
        ICMPv6NDOptDstLLAddr,
        ICMPv6NDOptMTU,
        ICMPv6NDOptPrefixInfo,
        ICMPv6NDOptSrcLLAddr,
        IPv6,
    )
    from scapy.layers.l2 import Ether

    source = ICMPv6NDOptSrcLLAddr(lladdr=CLIENT_MAC)
    yield (
        Ether(src=CLIENT_MAC, dst="33:33:ff:00:00:0a")
        / IPv6(src="::", dst="ff02::1:ff00:a", hlim=255)
        / ICMPv6ND_NS(tgt=LINK_LOCAL)
    )
    yield (
        Ether(src=CLIENT_MAC, dst="33:33:00:00:00:16")
        / IPv6(src=LINK_LOCAL, dst="ff02::16", hlim=1)
        / ICMPv6MLReport2(records_number=0)
    )
    yield (
        Ether(src=CLIENT_MAC, dst="33:33:00:00:00:02")
        / IPv6(src=LINK_LOCAL, dst="ff02::2", hlim=255)
        / ICMPv6ND_RS()
        / source
    )
    yield (
        Ether(src=ROUTER_MAC, dst="33:33:00:00:00:01")
        / IPv6(src=ROUTER_LOCAL, dst="ff02::1", hlim=255)
        / ICMPv6ND_RA()
        / ICMPv6NDOptMTU(mtu=1500)
        / ICMPv6NDOptPrefixInfo(prefix="2001:db8::", prefixlen=64)
    )
    yield (
        Ether(src=CLIENT_MAC, dst="33:33:ff:00:00:14")
        / IPv6(src=CLIENT6, dst="ff02::1:ff00:14", hlim=255)
        / ICMPv6ND_NS(tgt=SERVER6)
        / source
    )
    yield (
        Ether(src=SERVER_MAC, dst=CLIENT_MAC)
        / IPv6(src=SERVER6, dst=CLIENT6, hlim=255)
        / ICMPv6ND_NA(tgt=SERVER6, R=0, S=1, O=1)
        / ICMPv6NDOptDstLLAddr(lladdr=SERVER_MAC)
    )


def _ping(draw: random.Random, sizes: tuple[int, ...]) -> Iterator[Any]:
    from scapy.layers.inet import ICMP, IP
    from scapy.layers.l2 import Ether

    for number, size in enumerate(sizes, 1):
        data = draw.randbytes(size)
        for kind in (8, 0):
            asks = kind == 8
            ends = (CLIENT, SERVER) if asks else (SERVER, CLIENT)
            macs = (CLIENT_MAC, SERVER_MAC) if asks else (SERVER_MAC, CLIENT_MAC)
            yield (
                Ether(src=macs[0], dst=macs[1])
                / IP(src=ends[0], dst=ends[1], id=0x100 + number)
                / ICMP(type=kind, id=7, seq=number)
                / data
            )


def _dns(ident: int, name: str) -> Iterator[Any]:
    from scapy.layers.dns import DNS, DNSQR, DNSRR
    from scapy.layers.inet import IP, UDP
    from scapy.layers.l2 import Ether

    question = DNSQR(qname=name)
    port = 50_000 + (ident & 0xFF)
    there = Ether(src=CLIENT_MAC, dst=ROUTER_MAC) / IP(src=CLIENT, dst=ROUTER, id=ident)
    yield there / UDP(sport=port, dport=53) / DNS(id=ident, rd=1, qd=question)
    back = Ether(src=ROUTER_MAC, dst=CLIENT_MAC) / IP(src=ROUTER, dst=CLIENT, id=ident)
    answer = DNSRR(rrname=name, ttl=300, rdata=SERVER)
    yield back / UDP(sport=53, dport=port) / DNS(id=ident, qr=1, rd=1, ra=1, qd=question, an=answer)


def _tcp(
    draw: random.Random,
    there: Any,
    back: Any,
    ends: tuple[str, str],
    port: int,
    sizes: tuple[int, ...],
) -> Iterator[Any]:
    """Give a connection: handshake; requests and answers by turns; teardown."""
    from scapy.layers.inet import IP, TCP
    from scapy.layers.inet6 import IPv6

    wide = ":" in ends[0]
    mss = MSS - 20 if wide else MSS
    sequence = [draw.getrandbits(31), draw.getrandbits(31)]
    serial = [0x4000, 0x8000]

    def segment(side: int, flags: str, data: bytes = b"", **fields: Any) -> Any:
        source, target = ends[side], ends[1 - side]
        serial[side] += 1
        ip = (
            IPv6(src=source, dst=target)
            if wide
            else IP(src=source, dst=target, id=serial[side], flags="DF")
        )
        tcp = TCP(
            sport=port if side == 0 else 80,
            dport=80 if side == 0 else port,
            seq=sequence[side],
            ack=0 if flags == "S" else sequence[1 - side],
            flags=flags,
            window=64_240,
            **fields,
        )
        sequence[side] += len(data) + ("S" in flags or "F" in flags)
        packet = (there, back)[side].copy() / ip / tcp
        return packet / data if data else packet

    offer = [("MSS", mss), ("SAckOK", b""), ("NOP", None), ("WScale", 7)]
    yield segment(0, "S", options=offer)
    yield segment(1, "SA", options=offer)
    yield segment(0, "A")
    for turn, size in enumerate(sizes):
        side = turn % 2
        left, number = size, 0
        while left:
            length = min(left, mss)
            left -= length
            number += 1
            yield segment(side, "A" if left else "PA", draw.randbytes(length))
            if number % 2 == 0 or not left:
                yield segment(1 - side, "A")
    yield segment(0, "FA")
    yield segment(1, "FA")
    yield segment(0, "A")


def _udp(draw: random.Random) -> Iterator[Any]:
    """Give a voice call's small frames, and a few of every size that is easy to get wrong."""
    from scapy.layers.inet import IP, UDP
    from scapy.layers.l2 import Ether

    there, back = Ether(src=CLIENT_MAC, dst=SERVER_MAC), Ether(src=SERVER_MAC, dst=CLIENT_MAC)
    for number in range(40):
        ends = (CLIENT, SERVER) if number % 2 == 0 else (SERVER, CLIENT)
        ether = there if number % 2 == 0 else back
        ip = IP(src=ends[0], dst=ends[1], id=0x6000 + number, tos=0xB8)
        yield ether / ip / UDP(sport=5004, dport=5004) / draw.randbytes(172)
    headers = 14 + 20 + 8
    around = [edge + step for edge in (64, 128, 244, 256, 500, 512, 1024) for step in (-1, 0, 1)]
    for number, size in enumerate([*around, 1513, 1514]):
        ip = IP(src=CLIENT, dst=SERVER, id=0x7000 + number)
        yield there / ip / UDP(sport=6000, dport=9) / draw.randbytes(size - headers)


def write(path: Path = SAMPLE) -> int:
    """Write the sample; return the number of frames."""
    made = frames()
    save(path, made, [GAP_NS * index for index in range(len(made))])
    return len(made)


if __name__ == "__main__":
    print(f"{SAMPLE}: {write()} frames")
