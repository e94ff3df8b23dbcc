"""What the device servers count at the end of a guest, without a guest."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest

from guest import rtl_flow
from guest.guest_memory import MappedMemory
from guest.interrupts import Interrupts
from guest.net_peer import Peer
from guest.rtl_ports import Ports
from guest.server import Server
from virtio_model.errors import DeviceFault


def function(ports: Any, unclaimed: int = 0) -> Any:
    """What the RTL flow asks of its function, which a simulator would have."""
    return SimpleNamespace(
        root=SimpleNamespace(
            monitor=SimpleNamespace(snapshot=lambda: SimpleNamespace(lines={})),
            target=SimpleNamespace(unclaimed=[object()] * unclaimed),
        ),
        config=SimpleNamespace(device="net", clock_mhz=250),
        dut=SimpleNamespace(completed=SimpleNamespace(value=5)),
        ports=ports,
        notifications=0,
        reads=0,
        writes=0,
        config_accesses=0,
    )


def server(*, lost: int = 0, refused: int = 0) -> Server:
    """A server at its end."""
    ended = Server.__new__(Server)
    ended.memory, ended.interrupts, ended.own_msix = MappedMemory(), Interrupts(0), True
    ended.counts = Counter({"message": 2, "message lost": lost})
    ended.memory.faults += [DeviceFault("the client refused a message")] * refused
    return ended


@pytest.fixture(autouse=True)
def _no_simulator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rtl_flow, "get_sim_time", lambda unit: 1000.0)


@pytest.mark.parametrize(
    ("unclaimed", "lost", "refused"), [(0, 0, 0), (2, 0, 0), (0, 3, 0), (0, 0, 1), (1, 1, 1)]
)
def test_rtl_counts_dma_and_messages_that_reach_nobody(
    unclaimed: int, lost: int, refused: int
) -> None:
    counts = rtl_flow.counts_of(function(Ports(), unclaimed), server(lost=lost, refused=refused))
    assert counts.faults == unclaimed + lost + refused
    assert (counts.requests, counts.cycles, counts.table_interrupts) == (5, 250, 2)


def test_frames_of_the_peer_are_counted() -> None:
    class Net(Ports):
        peer = Peer()

    Net.peer.damaged, Net.peer.repeated = 3, 4
    counts = rtl_flow.counts_of(function(Net()), server())
    assert (counts.damaged, counts.repeated, counts.faults) == (3, 4, 0)
