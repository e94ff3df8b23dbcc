"""One end of a simulated PCIe link: cocotbext-pcie's `SimPort`, in far fewer simulator events.

Flow control, ACK and update timers, wire sizes and rates are cocotbext-pcie's. What is replaced
is how a TLP gets across: instead of a queue, two tasks and two timers per TLP, its time on the
wire is computed when it is handed over, and one task per port delivers in order of arrival.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from typing import Any

import cocotb
from cocotb.triggers import Event, Timer
from cocotb.utils import get_sim_time
from cocotbext.pcie.core.dllp import Dllp, DllpType, FcType
from cocotbext.pcie.core.port import SimPort
from cocotbext.pcie.core.tlp import Tlp

from lib.pcie.packet import Packet
from lib.pcie.tlp_codec import packet_of, tlp_of

_SLOW_SENDER_BACKLOG = 8


def _ahead(ends: deque[float]) -> int:
    """Drop the times that are over; how many are left."""
    now = get_sim_time()
    while ends and ends[0] <= now:
        ends.popleft()
    return len(ends)


class LinkPort(SimPort):
    """Sends and receives `Packet`s; talks to a plain `SimPort`, too.

    credits: what this end advertises, [PH, PD, NPH, NPD, CPLH, CPLD]; 0 is infinite.
    max_payload: bytes, for the ACK and flow control update latencies of PCIe. [§2.6.1.2, §3.5.2]
    on_packet: called with every packet that arrives. True: it is taken, and `release()` must be
    called once its receive buffer is free. False: it goes to cocotbext-pcie's `rx_handler`.
    on_credit: called when the other end has granted credits.
    monitor: a `LinkMonitor` that counts what this end sends and receives.

    A packet that lacks credits waits; posted ones and completions may pass waiting nonposted
    ones, nothing passes a waiting posted one or completion. [PCIe 3.0 §2.4.1]
    """

    next_transmit_seq: int
    next_recv_seq: int

    def __init__(self, credits: list[int], max_payload: int = 256) -> None:
        self.on_packet: Callable[[Packet], bool] | None = None
        self.on_credit: Callable[[], None] | None = None
        self.monitor: Any = None
        self._pending: deque[Packet] = deque()
        self._ends: deque[float] = deque()  # when each TLP that was handed over leaves the wire
        self._request_ends: deque[float] = deque()  # the same of those that are requests
        self._flying: deque[tuple[float, Packet]] = deque()
        self._wire_free = 0.0
        self._launched = Event()
        super().__init__(fc_init=[list(credits)] * 8)
        self.max_payload_size = max_payload
        self._fc = self.fc_state[0]
        cocotb.start_soon(self._run_deliver())

    # Sending

    def submit(self, packet: Packet) -> None:
        """Hand a packet over; it goes as soon as wire and credits allow."""
        self._pending.append(packet)
        self._pump()

    def backlog(self) -> int:
        """Return how many TLPs wait for credits or for the wire, the one on it included."""
        return len(self._pending) + _ahead(self._ends)

    def requests_waiting(self) -> int:
        """Return how many of them are no completions."""
        waiting = sum(packet.fc_type is not FcType.CPL for packet in self._pending)
        return waiting + _ahead(self._request_ends)

    async def send(self, tlp: Any) -> None:
        """Send from cocotbext-pcie's side: a `Tlp`, one that waits for room."""
        tlp.release_fc()
        while self.backlog() > _SLOW_SENDER_BACKLOG:
            await Timer(10, "ns")
        self.submit(packet_of(tlp))

    @property
    def up(self) -> bool:
        """Whether flow control is initialised in both directions."""
        return bool(self.fc_initialized and self._fc.initialized.is_set())

    def _pump(self) -> None:
        if not self._fc.initialized.is_set():
            return
        pending, state = self._pending, self._fc
        held: list[Packet] = []
        while pending:
            packet = pending[0]
            kind = packet.fc_type
            behind = bool(held) and kind is FcType.NP
            if behind or not state.tx_has_credit(kind, packet.data_credits):
                if kind is not FcType.NP:
                    break
                held.append(pending.popleft())
                continue
            pending.popleft()
            state.tx_consume_fc(kind, packet.data_credits)
            self._launch(packet)
        pending.extendleft(reversed(held))

    def _launch(self, packet: Packet) -> None:
        now = get_sim_time()
        start = max(float(now), self._wire_free)
        end = start + packet.wire_size * self.symbol_period * self.time_scale
        self._wire_free = end
        self._ends.append(end)
        if packet.fc_type is not FcType.CPL:
            self._request_ends.append(end)
        self._flying.append((end + self.link_delay_steps, packet))
        self._launched.set()

    async def _run_deliver(self) -> None:
        flying, launched = self._flying, self._launched
        while True:
            while not flying:
                launched.clear()
                await launched.wait()
            arrival, packet = flying.popleft()
            wait = math.ceil(arrival - get_sim_time())
            if wait > 0:
                await Timer(wait, "step")
            if self.monitor is not None:
                self.monitor.count(packet, sent=True)
            if isinstance(self.other, LinkPort):
                self.other.deliver(packet)
            else:
                tlp = tlp_of(packet)
                tlp.seq = self.next_transmit_seq
                await self.other.ext_recv(tlp)
            self.next_transmit_seq = (self.next_transmit_seq + 1) & 0xFFF

    # Receiving

    async def ext_recv(self, pkt: Any) -> None:
        """Take what the other end sends: a DLLP, or a `Tlp` of a plain port."""
        if isinstance(pkt, Tlp):
            self.deliver(packet_of(pkt))
        else:
            if self.monitor is not None:
                self.monitor.count_dllp(sent=False)
            self.handle_dllp(pkt)

    def deliver(self, packet: Packet) -> None:
        """Take a packet that has arrived."""
        self.next_recv_seq = (self.next_recv_seq + 1) & 0xFFF
        self.start_ack_latency_timer()
        self._fc.rx_consume_fc(packet.fc_type, packet.data_credits)
        if self.monitor is not None:
            self.monitor.count(packet, sent=False)
        if self.on_packet is not None and self.on_packet(packet):
            return
        tlp = tlp_of(packet)
        tlp.release_fc_cb = lambda: (setattr(tlp, "release_fc_cb", None), self.release(packet))
        self.rx_queue.put_nowait(tlp)

    def release(self, packet: Packet) -> None:
        """Give the receive credits of a packet back."""
        state = self._fc
        header = {FcType.P: state.ph, FcType.NP: state.nph, FcType.CPL: state.cplh}
        if not header[packet.fc_type].rx_initial_allocation:
            return  # advertised as infinite: there is nothing to update
        state.rx_release_fc(packet.fc_type, packet.data_credits)

    # Data link layer packets

    def handle_dllp(self, dllp: Dllp) -> None:
        """Handle ACK (nothing is ever lost here) and flow control."""
        if dllp.type == DllpType.ACK:
            self.ackd_seq = dllp.seq
            return
        was_up = self._fc.initialized.is_set()
        super().handle_dllp(dllp)
        if self._fc.initialized.is_set():
            if self._pending:
                self._pump()
            if self.on_credit is not None and (not was_up or dllp.type & 0xC0 == 0x80):
                self.on_credit()

    async def handle_tx(self, pkt: Dllp) -> None:
        """Put a DLLP on the wire: after the TLP under way, before those that wait."""
        steps = pkt.get_wire_size() * self.symbol_period * self.time_scale
        self._wire_free = max(float(get_sim_time()), self._wire_free) + steps
        if self.monitor is not None:
            self.monitor.count_dllp(sent=True)
        await Timer(max(int(steps), 1), "step")
        cocotb.start_soon(self._transmit(pkt))


def disarm(port: SimPort) -> None:
    """Silence a port that was made but will never be connected."""
    port.fc_initialized = True
