"""Frames between the network driver model and the golden network device."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from virtio_model.device.make import make_device_queue
from virtio_model.device.net import GoldenNet
from virtio_model.driver.framing import HEADER_ALONE, ONE_PIECE, lay_out
from virtio_model.driver.make import make_queue
from virtio_model.driver.net import NetDriver
from virtio_model.errors import DriverBreach, DriverComplaint
from virtio_model.memory import Allocator, GuestMemory
from virtio_model.net_header import NetHeader, receive_faults, transmit_faults
from virtio_model.spec.features import Feature, mask
from virtio_model.spec.net import GSO_ECN, GsoType, HeaderFlags, NetFeature

F = NetFeature
SPLIT = mask([Feature.INDIRECT_DESC])
PACKED = mask([Feature.INDIRECT_DESC, Feature.RING_PACKED])
RINGS = st.sampled_from([SPLIT, PACKED])


@dataclass
class NetRig:
    """Both sides of a network device with one pair of queues."""

    size: int = 8
    features: int = 0
    ring: int = PACKED
    memory: GuestMemory = field(init=False)

    def __post_init__(self) -> None:
        self.memory = GuestMemory(1 << 20, base=0x2000)
        self.allocator = Allocator(self.memory)
        rxq, txq = (make_queue(self.memory, self.allocator, self.size, self.ring) for _ in range(2))
        rx, tx = (make_device_queue(self.memory, queue, self.ring) for queue in (rxq, txq))
        self.driver = NetDriver(self.memory, self.allocator, rxq, txq, self.features)
        self.device = GoldenNet(self.memory, rx, tx, self.features)


FRAMES = st.lists(st.binary(min_size=1, max_size=200), min_size=1, max_size=20)
CUTS = st.lists(st.integers(0, 220), max_size=5)


@given(frames=FRAMES, cuts=CUTS, indirect=st.booleans(), skew=st.integers(0, 63), ring=RINGS)
def test_transmit(
    frames: list[bytes], cuts: list[int], indirect: bool, skew: int, ring: int
) -> None:
    """Frames reach the wire whole, however they are cut."""
    rig = NetRig(ring=ring)
    sent: list[bytes] = []
    for number, frame in enumerate(frames):
        rig.driver.send(frame, cuts=cuts, indirect=indirect, skew=skew, cookie=number)
        sent += rig.device.process_tx()
        assert rig.driver.reap() == [number]
    assert sent == frames


@given(frames=FRAMES, cuts=CUTS, indirect=st.booleans(), skew=st.integers(0, 63), ring=RINGS)
def test_receive(
    frames: list[bytes], cuts: list[int], indirect: bool, skew: int, ring: int
) -> None:
    """Frames reach the driver whole, however its buffers are cut."""
    rig = NetRig(ring=ring)
    for frame in frames:
        rig.driver.post(220, cuts=cuts, indirect=indirect, skew=skew, fill=0xEE)
        assert rig.device.receive(frame)
        received = rig.driver.receive()
        assert received is not None
        assert (received.frame, received.header) == (frame, NetHeader(num_buffers=1))
    assert rig.driver.receive() is None


def test_no_buffer_and_short_buffer() -> None:
    """A frame without a fitting buffer is dropped whole; the buffer comes back empty."""
    rig = NetRig()
    assert not rig.device.receive(b"lost")
    rig.driver.post(12 + 4)
    assert not rig.device.receive(b"long!")
    rig.driver.post(12 + 4)
    assert rig.device.receive(b"fits")
    received = rig.driver.receive()
    assert received is not None
    assert received.frame == b"fits"
    assert (rig.device.dropped_no_buffer, rig.device.dropped_too_long) == (1, 1)
    assert rig.driver.unused == 1


def test_nothing_leaks() -> None:
    """Memory comes back, also when a queue was full."""
    rig = NetRig(size=2)
    before = rig.allocator.outstanding
    rig.driver.send(b"x" * 60)
    with pytest.raises(Exception, match="free slots"):
        rig.driver.send(b"y" * 60)
    rig.driver.post(100, cuts=(50,))
    with pytest.raises(Exception, match="free slots"):
        rig.driver.post(100)
    assert rig.device.process_tx(limit=1) == [b"x" * 60]
    rig.device.receive(b"z")
    rig.driver.reap()
    rig.driver.receive()
    assert rig.allocator.outstanding == before


@pytest.mark.parametrize(
    ("header", "text"),
    [
        (NetHeader(num_buffers=1), "num_buffers not 0"),
        (NetHeader(flags=HeaderFlags.NEEDS_CSUM), "flags not 0 without CSUM"),
        (NetHeader(gso_type=GsoType.TCPV4), "without the feature"),
        (NetHeader(gso_type=2), "no defined value"),
        (NetHeader(gso_type=GSO_ECN), "modifier bits without a type"),
    ],
)
def test_device_refuses_header(header: NetHeader, text: str) -> None:
    """The golden device checks what a driver must not put into a header."""
    rig = NetRig()
    rig.driver.send(bytes(60), header=header)
    with pytest.raises(DriverBreach, match=text):
        rig.device.process_tx()


def test_device_refuses_buffers_of_the_wrong_kind() -> None:
    """The golden device checks the direction and length of buffers."""
    rig = NetRig()
    readable = lay_out(rig.allocator, 20).segments
    writable = lay_out(rig.allocator, 20).segments
    rig.driver.tx.add(readable, writable)
    with pytest.raises(DriverBreach, match="writable element in a transmit"):
        rig.device.process_tx()
    rig.driver.rx.add(readable, writable)
    with pytest.raises(DriverBreach, match="readable element in a receive"):
        rig.device.receive(b"x")
    rig = NetRig()
    rig.driver.tx.add(lay_out(rig.allocator, 11).segments, ())
    with pytest.raises(DriverBreach, match="shorter than its header"):
        rig.device.process_tx()


def _deliver(rig: NetRig, data: bytes) -> None:
    chain = rig.device.rx.next_buffer()
    assert chain is not None
    rig.device.rx.complete(chain, chain.write_all(rig.memory, data))


@pytest.mark.parametrize(
    ("header", "text"),
    [
        (NetHeader(num_buffers=0), "num_buffers not 1"),
        (NetHeader(num_buffers=2), "num_buffers not 1"),
        (NetHeader(num_buffers=1, flags=HeaderFlags.DATA_VALID), "flags not 0"),
        (NetHeader(num_buffers=1, gso_type=GsoType.UDP_L4), "without the feature"),
    ],
)
def test_driver_complains_about_header(header: NetHeader, text: str) -> None:
    """The driver checks what a device must not put into a header."""
    rig = NetRig()
    rig.driver.post(100)
    _deliver(rig, header.encode() + b"frame")
    with pytest.raises(DriverComplaint, match=text):
        rig.driver.receive()


def test_driver_complains_about_less_than_a_header() -> None:
    """A used length below the header's is a complaint."""
    rig = NetRig()
    rig.driver.post(100)
    _deliver(rig, bytes(11))
    with pytest.raises(DriverComplaint, match="less than a header"):
        rig.driver.receive()


@pytest.mark.parametrize("ring", [SPLIT, PACKED])
def test_buffer_given_back_unused_is_posted_again(ring: int) -> None:
    """Used length 0 is no packet: the buffer is counted, and serves the next packet."""
    rig = NetRig(size=2, ring=ring)
    for indirect in (False, True):
        rig.driver.post(100, indirect=indirect)
    packet = NetHeader(num_buffers=1).encode()
    _deliver(rig, b"")
    assert rig.driver.receive() is None
    _deliver(rig, b"")
    for frame in (b"first", b"second"):
        _deliver(rig, packet + frame)
        received = rig.driver.receive()
        assert received is not None
        assert received.frame == frame
    assert rig.driver.receive() is None
    assert rig.driver.unused == 2
    assert rig.driver.rx.outstanding == 0


@pytest.mark.parametrize("ring", [SPLIT, PACKED])
def test_buffers_taken_back_after_a_reset(ring: int) -> None:
    """What a queue held is freed; frames that were not transmitted are told by their cookies."""
    rig = NetRig(ring=ring)
    before = rig.allocator.outstanding
    rig.driver.send(b"one", cookie=1)
    rig.driver.send(b"two", cookie=2, indirect=True)
    rig.device.process_tx(1)
    assert rig.driver.reap() == [1]
    rig.driver.post(100)
    assert rig.driver.take_back(rig.driver.tx) == [2]
    assert rig.driver.take_back(rig.driver.rx) == []
    assert rig.allocator.outstanding == before


def test_merged_receive_buffers() -> None:
    """With MRG_RXBUF a frame spans buffers, all of them used together."""
    rig = NetRig(features=mask([F.MRG_RXBUF]))
    for _ in range(4):
        rig.driver.post(20)
    packet = NetHeader(num_buffers=3).encode() + bytes(range(40))
    for at in (0, 20, 40):
        _deliver(rig, packet[at : at + 20])
    received = rig.driver.receive()
    assert received is not None
    assert (received.frame, received.buffers) == (bytes(range(40)), 3)
    _deliver(rig, NetHeader(num_buffers=2).encode() + bytes(8))
    with pytest.raises(DriverComplaint, match="not used together"):
        rig.driver.receive()


def test_merged_receive_buffer_not_filled() -> None:
    """All but the last buffer of a frame must be full."""
    rig = NetRig(features=mask([F.MRG_RXBUF]))
    rig.driver.post(30)
    rig.driver.post(30)
    _deliver(rig, NetHeader(num_buffers=2).encode() + b"x")
    _deliver(rig, b"y")
    with pytest.raises(DriverComplaint, match="was not filled"):
        rig.driver.receive()


def test_header_rules_follow_features() -> None:
    """What a header may hold depends on the negotiated features."""
    tso = NetHeader(HeaderFlags.NEEDS_CSUM, GsoType.TCPV4 | GSO_ECN, num_buffers=1)
    guest = mask([F.GUEST_CSUM, F.GUEST_TSO4, F.GUEST_ECN])
    assert receive_faults(tso, guest) == []
    assert receive_faults(tso, guest & ~mask([F.GUEST_ECN])) != []
    rsc = NetHeader(HeaderFlags.RSC_INFO, num_buffers=1)
    assert receive_faults(rsc, mask([F.GUEST_CSUM])) == ["RSC_INFO without RSC_EXT"]
    sent = NetHeader(HeaderFlags.NEEDS_CSUM, GsoType.TCPV6)
    assert transmit_faults(sent, mask([F.CSUM, F.HOST_TSO6])) == []
    assert transmit_faults(NetHeader(0, GsoType.TCPV6), mask([F.CSUM, F.HOST_TSO6])) != []
    assert transmit_faults(NetHeader(HeaderFlags.DATA_VALID), mask([F.CSUM])) != []


def test_larger_headers() -> None:
    """Features that enlarge the header move the frame."""
    rig = NetRig(features=mask([F.HASH_REPORT]))
    rig.driver.send(b"frame", cuts=HEADER_ALONE)
    assert rig.device.process_tx() == [b"frame"]
    rig.driver.post(25, cuts=ONE_PIECE)
    assert rig.device.receive(b"frame")
    received = rig.driver.receive()
    assert received is not None
    assert received.frame == b"frame"
