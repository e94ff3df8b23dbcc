"""What DPDK's driver needs of the network device and of its peer."""

import subprocess

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether
from scapy.packet import Raw

from guest.golden_net import NetType
from guest.net_peer import EchoPeer, Peer
from guest.script_files import SCRIPTS
from virtio_model.device.make import make_device_queue
from virtio_model.driver.make import make_queue
from virtio_model.driver.net import NetDriver
from virtio_model.errors import DriverBreach
from virtio_model.memory import Allocator, GuestMemory
from virtio_model.net_header import NetHeader

PEER, GUEST = "02:00:00:00:00:02", "02:00:00:00:00:01"
HEAD = Ether(src=GUEST, dst=PEER)


@pytest.mark.parametrize("length", [0, 1, 18, 1472])
def test_datagram_comes_back(length):
    data = bytes(place % 251 for place in range(length))
    sent = HEAD / IP(src="10.0.0.1", dst="10.0.0.2") / UDP(sport=9, dport=7) / Raw(data)
    (frame,) = EchoPeer().answer(bytes(sent))
    back = Ether(frame)
    assert (back.src, back.dst) == (PEER, GUEST)
    assert (back[IP].src, back[IP].dst) == ("10.0.0.2", "10.0.0.1")
    assert (back[UDP].sport, back[UDP].dport) == (7, 9)
    assert bytes(back[UDP])[8 : back[UDP].len] == data
    # Both checksums are those that scapy works out anew.
    again = Ether(frame)
    del again[IP].chksum, again[UDP].chksum
    again = Ether(bytes(again))
    assert (again[IP].chksum, again[UDP].chksum) == (back[IP].chksum, back[UDP].chksum)


@pytest.mark.parametrize(
    "packet",
    [
        IP(dst="10.0.0.2") / UDP(dport=8),
        IP(dst="10.0.0.3") / UDP(dport=7),
        IP(dst="10.0.0.2", frag=2) / UDP(dport=7),
        IP(dst="10.0.0.2", flags="MF") / UDP(dport=7),
        IP(dst="10.0.0.2", proto=17),
    ],
    ids=["port", "host", "later fragment", "first fragment", "no header"],
)
def test_what_gets_no_answer(packet):
    packet.src = "10.0.0.1"
    assert EchoPeer().answer(bytes(HEAD / packet)) == []


VERSION_1, PACKED, IN_ORDER = 1 << 32, 1 << 34, 1 << 35
LINE = "VIRTIO_INIT: set_rxtx_funcs(): virtio: using {} path on port 0\n"


@pytest.mark.parametrize(
    ("features", "processor", "wanted"),
    [
        (0, "avx512f", "standard Tx,vectorized Rx"),
        (IN_ORDER, "avx512f", "inorder Rx,inorder Tx"),
        (PACKED, "avx512f", "packed ring standard Rx,packed ring standard Tx"),
        (PACKED | IN_ORDER, "avx2", "packed ring standard Rx,packed ring standard Tx"),
        (PACKED | IN_ORDER, "avx512f", "packed ring vectorized Rx,packed ring vectorized Tx"),
    ],
)
def test_code_that_testpmd_must_choose(tmp_path, features, processor, wanted):
    def takes(*lines):
        (tmp_path / "log").write_text("".join(LINE.format(line) for line in lines))
        (tmp_path / "cpuinfo").write_text(f"flags : sse4_2 {processor} avx512vl\n")
        text = (
            f". {SCRIPTS}/dpdk.sh; LOG={tmp_path}/log; PROCESSOR={tmp_path}/cpuinfo; "
            f'takes "$(wanted_paths 0x{features | VERSION_1:x})"'
        )
        return subprocess.run(["sh", "-c", text], capture_output=True, text=True, check=False)

    rx, tx = sorted(wanted.split(","), key=lambda path: path.endswith("Tx"))
    assert takes(tx, rx).returncode == 0
    other = takes("standard Rx", tx)
    assert (other.returncode, other.stdout) == (1, f"expected: {wanted}\n")
    assert takes(rx).returncode == 1
    assert takes().returncode == 1


class Wire(Peer):
    """A peer that keeps what it gets."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []

    def answer(self, frame: bytes) -> list[bytes]:
        self.frames.append(frame)
        return []


def device_and_driver(wire: Wire) -> tuple[NetType, NetDriver]:
    memory = GuestMemory(1 << 20, base=0x2000)
    allocator = Allocator(memory)
    rxq, txq = (make_queue(memory, allocator, 8, 0) for _ in range(2))
    device = NetType(wire)
    device.start(memory, 0, [make_device_queue(memory, queue, 0) for queue in (rxq, txq)])
    return device, NetDriver(memory, allocator, rxq, txq, 0)


def test_frame_that_is_sent_on_with_the_header_it_came_with():
    wire = Wire()
    device, driver = device_and_driver(wire)
    driver.send(b"x" * 60, header=NetHeader(num_buffers=1))
    assert device.process(1, 8) == 1
    assert wire.frames == [b"x" * 60]


def test_other_faults_of_a_header_are_not_let_pass():
    wire = Wire()
    device, driver = device_and_driver(wire)
    driver.send(b"x" * 60, header=NetHeader(flags=1, num_buffers=1))
    with pytest.raises(DriverBreach, match=r"^flags not 0 without CSUM \(id"):
        device.process(1, 8)
    assert wire.frames == []
