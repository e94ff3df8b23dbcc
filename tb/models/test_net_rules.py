"""What the golden net device and the net driver refuse in each other's packets, rule by rule."""

from __future__ import annotations

import pytest
from test_net import NetRig

from virtio_model.device.net import GoldenNet
from virtio_model.errors import DriverBreach, DriverComplaint
from virtio_model.net_header import NetHeader, receive_faults, transmit_faults
from virtio_model.spec.features import mask
from virtio_model.spec.net import (
    GSO_ECN,
    GSO_UDP_TUNNEL_IPV4,
    GSO_UDP_TUNNEL_IPV6,
    GsoType,
    HeaderFlags,
    NetFeature,
)

F = NetFeature
CSUM = HeaderFlags.NEEDS_CSUM
OFFLOADS = [F.CSUM, F.HOST_TSO4, F.HOST_TSO6, F.HOST_UFO, F.HOST_USO]


@pytest.mark.parametrize(
    ("lacking", "header"),
    [
        (F.HOST_TSO4, NetHeader(CSUM, GsoType.TCPV4)),
        (F.HOST_TSO6, NetHeader(CSUM, GsoType.TCPV6)),
        (F.HOST_UFO, NetHeader(CSUM, GsoType.UDP)),
        (F.HOST_USO, NetHeader(CSUM, GsoType.UDP_L4)),
        (F.HOST_ECN, NetHeader(CSUM, GsoType.TCPV4 | GSO_ECN)),
        (F.HOST_UDP_TUNNEL_GSO, NetHeader(CSUM, GsoType.TCPV4 | GSO_UDP_TUNNEL_IPV4)),
        (F.HOST_UDP_TUNNEL_GSO, NetHeader(CSUM, GsoType.TCPV6 | GSO_UDP_TUNNEL_IPV6)),
        (
            F.HOST_UDP_TUNNEL_GSO_CSUM,
            NetHeader(CSUM | HeaderFlags.UDP_TUNNEL_CSUM, GsoType.TCPV4 | GSO_UDP_TUNNEL_IPV4),
        ),
    ],
)
def test_an_offload_needs_its_feature(lacking: NetFeature, header: NetHeader) -> None:
    """A header is refused without one feature, and accepted with it."""
    with_all = mask([*OFFLOADS, F.HOST_ECN, F.HOST_UDP_TUNNEL_GSO, F.HOST_UDP_TUNNEL_GSO_CSUM])
    for features in (with_all, with_all & ~mask([lacking]), 0):
        rig = NetRig(features=features)
        rig.driver.send(bytes(60), header=header)
        if features == with_all:
            assert rig.device.process_tx() == [bytes(60)]
        else:
            with pytest.raises(DriverBreach, match="without"):
                rig.device.process_tx()


@pytest.mark.parametrize("flag", [HeaderFlags.DATA_VALID, HeaderFlags.RSC_INFO])
def test_flags_of_the_device_stay_clear(flag: HeaderFlags) -> None:
    """DATA_VALID and RSC_INFO are a device's, also where flags may be used."""
    rig = NetRig(features=mask(OFFLOADS))
    rig.driver.send(bytes(60), header=NetHeader(flag))
    with pytest.raises(DriverBreach, match="DATA_VALID or RSC_INFO"):
        rig.device.process_tx()


def test_no_flag_without_checksum_offload() -> None:
    """Without CSUM every flag is a breach."""
    for bit in range(8):
        assert "flags not 0 without CSUM" in transmit_faults(NetHeader(1 << bit), 0)


def test_tunnel_bits_exclude_each_other_and_others() -> None:
    """Both bits, GSO_UDP, DATA_VALID, and the checksum flag alone."""
    features = mask([*OFFLOADS, F.HOST_UDP_TUNNEL_GSO, F.HOST_UDP_TUNNEL_GSO_CSUM])
    both = GSO_UDP_TUNNEL_IPV4 | GSO_UDP_TUNNEL_IPV6
    for header, fault in (
        (NetHeader(CSUM, GsoType.TCPV4 | both), "both tunnel bits"),
        (NetHeader(CSUM, GsoType.UDP | GSO_UDP_TUNNEL_IPV4), "tunnel bits with GSO_UDP"),
        (
            NetHeader(CSUM | HeaderFlags.DATA_VALID, GsoType.TCPV4 | GSO_UDP_TUNNEL_IPV4),
            "tunnel bits with DATA_VALID",
        ),
        (
            NetHeader(CSUM | HeaderFlags.UDP_TUNNEL_CSUM, GsoType.TCPV4),
            "UDP_TUNNEL_CSUM without a tunnel bit",
        ),
    ):
        assert fault in transmit_faults(header, features)
    assert transmit_faults(NetHeader(CSUM, GsoType.TCPV4 | GSO_UDP_TUNNEL_IPV4), features) == []


def test_received_tunnel_bits_need_their_features() -> None:
    """The driver complains about tunnel bits that it did not ask for."""
    features = mask([F.GUEST_CSUM, F.GUEST_TSO4])
    tunnel = NetHeader(CSUM, GsoType.TCPV4 | GSO_UDP_TUNNEL_IPV4, num_buffers=1)
    assert receive_faults(tunnel, features) == ["tunnel bits without UDP_TUNNEL_GSO"]
    features |= mask([F.GUEST_UDP_TUNNEL_GSO])
    assert receive_faults(tunnel, features) == []
    outer = NetHeader(
        CSUM | HeaderFlags.UDP_TUNNEL_CSUM, GsoType.TCPV4 | GSO_UDP_TUNNEL_IPV4, num_buffers=1
    )
    assert receive_faults(outer, features) == ["UDP_TUNNEL_CSUM without UDP_TUNNEL_GSO_CSUM"]


@pytest.mark.parametrize("tag", [b"", b"\x81\x00\x00\x07", b"\x88\xa8\x00\x07"])
def test_frames_above_the_mtu_are_refused(tag: bytes) -> None:
    """A driver sends at most the MTU and an Ethernet header."""
    frame = bytes(12) + (tag or b"\x08\x00")
    for length, fits in ((1500 + 14 + len(tag), True), (1500 + 15 + len(tag), False)):
        rig = NetRig()
        rig.device = GoldenNet(rig.memory, rig.device.rx, rig.device.tx, mtu=1500)
        sent = frame.ljust(length, b"\xaa")
        rig.driver.send(sent)
        if fits:
            assert rig.device.process_tx() == [sent]
        else:
            with pytest.raises(DriverBreach, match="above the MTU"):
                rig.device.process_tx()


@pytest.mark.parametrize(
    ("features", "size"),
    [
        ([], 12),
        ([F.MRG_RXBUF], 12),
        ([F.HASH_REPORT], 20),
        ([F.HOST_UDP_TUNNEL_GSO], 24),
        ([F.GUEST_UDP_TUNNEL_GSO, F.HASH_REPORT], 24),
        ([F.OUT_NET_HEADER], 32),
        ([F.IPSEC, F.HASH_REPORT], 32),
    ],
)
def test_header_size_follows_features(features: list[NetFeature], size: int) -> None:
    """Both sides put exactly this many bytes in front of a frame, both ways."""
    rig = NetRig(features=mask(features))
    rig.driver.send(b"frame", cuts=())
    chain = rig.device.tx.next_buffer()
    assert chain is not None
    assert chain.read_all(rig.memory) == bytes(size) + b"frame"
    rig.driver.post(size + 5)
    assert rig.device.receive(b"frame")
    received = rig.driver.receive()
    assert received is not None
    assert received.frame == b"frame"
    for length, complains in ((size, False), (size - 1, True)):
        rig.driver.post(100)
        chain = rig.device.rx.next_buffer()
        assert chain is not None
        data = NetHeader(num_buffers=1).encode().ljust(length, b"\0")
        rig.device.rx.complete(chain, chain.write_all(rig.memory, data[:length]))
        if complains:
            with pytest.raises(DriverComplaint, match="less than a header"):
                rig.driver.receive()
        else:
            assert rig.driver.receive() is not None
