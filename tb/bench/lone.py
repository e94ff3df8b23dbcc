"""One buffer at a time, one doorbell each: what the device adds between doorbell and interrupt.

Measured at the device's own TLP ports. A packet's time runs from the cycle in which the doorbell
TLP is taken at `rx_tlp` to the cycle in which the interrupt message is taken at `tx_tlp`. From it
are subtracted the reads that the buffer cannot do without: its descriptors (the first fetch after
the doorbell; with a split virtqueue also the first reads of the available index and of its ring),
its payload, and the driver's event suppression. Each counts from the cycle in
which its request is taken at `tx_tlp` to the cycle in which the last beat of its last completion
is taken at `rx_tlp`; cycles in which several are in flight count once. Other reads, such as the
look for more descriptors, are not subtracted.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from statistics import median
from typing import Any

from cocotb.triggers import RisingEdge, Timer

from bench.bed import Bed
from bench.scenario import Scenario
from bench.tlp_tap import TlpTap, TlpTime, merged, read_spans
from demo.hop_timer import TIME_BITS
from demo.host import MESSAGE_ADDRESS, Stalled
from demo.loopback import STROBES
from demo.progress import ProgressWriter
from lib.pcie.monitor import UP
from lib.pcie.packet import MEM_WRITE
from lib.port import reader
from virtio_rtl.config import DeviceConfig

__all__ = ["HOPS", "RING_SIZE", "Lone", "LonePacket", "hop_table", "serial_reads"]

RING_SIZE = 64

_STALL_NS = 200_000
_POLL_NS = 50
_IDLE_NS = (3_000, 4_000)
"""Between packets: longer than what the device does behind its interrupt; at a random phase."""

HOPS = {
    "doorbell": "doorbell at the scheduler",
    "scheduled": "virtqueue scheduled",
    "fetch_issued": "descriptor read issued",
    "fetch_received": "descriptor received",
    "walked": "chain walked",
    "payload_requested": "payload read issued",
    "payload_delivered": "payload delivered",
    "frame_out": "frame out of the port",
    "completed": "buffer completed",
    "used_written": "used descriptor written",
    "event_requested": "event suppression read issued",
    "event_received": "event suppression received",
    "interrupt": "interrupt message built",
}
"""The strobes of `HopTimer` in words."""

_RECEIVE = {
    "payload_requested": "payload write issued",
    "payload_delivered": "payload accepted for writing",
}


@dataclass(frozen=True)
class LonePacket:
    """One packet. All times are cycles since its doorbell TLP was taken.

    total: to the interrupt TLP. reads: stretches in which the host was reading for it.
    hops: strobe -> cycle.
    """

    total: int
    reads: tuple[tuple[int, int], ...]
    hops: dict[str, int]

    @property
    def added(self) -> int:
        """Cycles that the device adds."""
        return self.total - sum(end - start for start, end in self.reads)


def serial_reads(
    doorbell: int, interrupt: int, spans: list[tuple[int, int, str]]
) -> list[tuple[int, int]]:
    """Return the stretches of (start, end, purpose) reads that lie in a packet's way.

    Of the reads that find the buffer only the first of each kind counts.
    """
    inside = [span for span in sorted(spans) if doorbell < span[0] and span[1] <= interrupt]
    finding = ("index", "entries", "descriptors")
    first = [next((span for span in inside if span[2] == kind), None) for kind in finding]
    wanted = [span for span in inside if span[2] in ("payload", "events") or span in first]
    return merged([(start, end) for start, end, _ in wanted])


def hop_table(packets: list[LonePacket], *, receive: bool) -> list[dict[str, Any]]:
    """Return the hops in order of time: medians over the packets of the `cycles` since the hop
    before, of those the `host_read` ones, and of the cycles since the doorbell, `at`.

    Hops that some packet lacks are left out.
    """
    words = HOPS | (_RECEIVE if receive else {})
    common = set.intersection(*(set(packet.hops) for packet in packets)) & set(HOPS)
    ends = {name: [packet.hops[name] for packet in packets] for name in common}
    order = sorted(common, key=lambda name: (median(ends[name]), list(HOPS).index(name)))
    rows, before = [], [0] * len(packets)
    last = [packet.total for packet in packets]
    for name, after in [*((words[name], ends[name]) for name in order), ("interrupt TLP", last)]:
        reads = [
            sum(max(0, min(end, stop) - max(begin, start)) for begin, end in packet.reads)
            for packet, start, stop in zip(packets, before, after, strict=True)
        ]
        steps = [stop - start for start, stop in zip(before, after, strict=True)]
        rows.append(
            {
                "name": name,
                "cycles": median(steps),
                "host_read": median(reads),
                "at": median(after),
            }
        )
        before = after
    return rows


class Lone:
    """Sends lone packets through one ring, and times each."""

    def __init__(self, dut: Any, config: DeviceConfig, scenario: Scenario) -> None:
        self.dut = dut
        self.config = config
        self.scenario = scenario
        self.bed = Bed(dut, config, scenario, RING_SIZE)
        self.progress = ProgressWriter()
        self.period_ns = 1000 / config.clock_mhz
        self.rx, self.tx = (
            TlpTap(dut, name, config.width, self.period_ns) for name in ("rx_tlp", "tx_tlp")
        )
        self._zero = 0  # cycle of simulated time in which the hop timer's count was 0

    async def run(self) -> list[LonePacket]:
        """Bring up and time `window` packets; the first `warm_up` are not counted."""
        bed, scenario = self.bed, self.scenario
        await bed.start()
        (index,) = bed.rings
        self.dut.generate.value = int(scenario.direction == "receive")
        edge = RisingEdge(self.dut.clk)
        await edge
        self._zero = self.tx.cycle() - reader(self.dut.now)()
        packets = []
        total = scenario.warm_up + scenario.window
        for number in range(total):
            await Timer(round(1000 * random.uniform(*_IDLE_NS)), "ps")
            packets.append(await self.one(index))
            self.progress.tell(scenario.title, number + 1, total)
        bed.check_port()
        bed.host.root.check()
        return packets[scenario.warm_up :]

    async def one(self, index: int) -> LonePacket:
        """Add a buffer, ring, wait for the interrupt."""
        bed, dut, edge = self.bed, self.dut, RisingEdge(self.dut.clk)
        ring, interrupts = bed.rings[index], bed.host.root.interrupts.received
        ring.add(1)
        assert ring.needs_kick(), "a device that idles must want doorbells"
        self.rx.seen.clear()
        self.tx.seen.clear()
        await edge
        dut.arm.value = 0
        await edge
        before = len(interrupts)
        await bed.host.pci.notify(index)
        limit = bed.host.now_ns() + _STALL_NS
        while len(interrupts) == before:
            if bed.host.now_ns() > limit:
                raise Stalled(f"no interrupt in {_STALL_NS} ns; {await bed.host.complaint()}")
            await Timer(_POLL_NS, "ns")
        assert len(interrupts) == before + 1, "one buffer, one interrupt"
        assert interrupts[-1].data == index  # as the host has programmed MSI-X
        assert ring.poll() == 1, "the used descriptor comes before the interrupt"
        packet = self._timed(index)
        await edge
        dut.arm.value = 1
        return packet

    def _timed(self, index: int) -> LonePacket:
        host = self.bed.host
        doorbell = self._only(self.rx.seen, host.doorbell_address(index)).first
        interrupt = self._only(self.tx.seen, MESSAGE_ADDRESS).first
        spans = [
            (span.start, span.end, host.purpose(span.request, UP))
            for span in read_spans(self.tx.seen, self.rx.seen)
        ]
        reads = serial_reads(doorbell, interrupt, spans)
        times, seen = reader(self.dut.times)(), reader(self.dut.seen)()
        mask = (1 << TIME_BITS) - 1
        hops = {
            name: (times >> TIME_BITS * place & mask) + self._zero - doorbell
            for place, name in enumerate(STROBES)
            if seen >> place & 1
        }
        return LonePacket(
            interrupt - doorbell,
            tuple((start - doorbell, end - doorbell) for start, end in reads),
            {name: at for name, at in hops.items() if 0 <= at <= interrupt - doorbell},
        )

    @staticmethod
    def _only(seen: list[TlpTime], address: int) -> TlpTime:
        (found,) = [
            tlp for tlp in seen if tlp.packet.type == MEM_WRITE and tlp.packet.address == address
        ]
        return found
