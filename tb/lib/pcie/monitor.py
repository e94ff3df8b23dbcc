"""What crosses the link: TLPs and bytes by direction, purpose and type.

Bytes are those of the wire that cocotbext-pcie models: header + payload + 8, which is MWr 24,
MRd 24, CplD 20 plus data when addresses need 64 bits (4 less for requests below 4 GiB).
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from cocotb.utils import get_sim_time

from lib.pcie.packet import MEM_WRITE, Packet
from virtio_rtl.types.tlp import TLPType

UP = "up"
"""From the device to the host."""
DOWN = "down"
"""From the host to the device."""

Classifier = Callable[[Packet, str], str]
_DLLP_BYTES = 8


class AddressRanges:
    """Classifier of memory requests by address; the first range that holds the start wins.

    ranges: name -> [(start, end), ...]; all other requests are "other". Completions with data take
    the class of the read that they answer.
    """

    def __init__(self, ranges: Mapping[str, Iterable[tuple[int, int]]] | None = None) -> None:
        self._ranges: list[tuple[int, int, str]] = []
        for name, pieces in (ranges or {}).items():
            for start, end in pieces:
                self.add(name, start, end)

    def add(self, name: str, start: int, end: int) -> None:
        """Add a range; ranges must not overlap."""
        bisect.insort(self._ranges, (start, end, name))

    def __call__(self, packet: Packet, direction: str) -> str:
        """Return the class of a packet."""
        if packet.type > MEM_WRITE:
            return TLPType(packet.type).name.lower()
        index = bisect.bisect_right(self._ranges, (packet.address, 1 << 64, "")) - 1
        if index >= 0:
            start, end, name = self._ranges[index]
            if start <= packet.address < end:
                return name
        return "other"


class Line(NamedTuple):
    """One line of the account."""

    tlps: int
    wire_bytes: int
    data_bytes: int


@dataclass(frozen=True)
class Snapshot:
    """The account at one time, or (by subtraction) over a window."""

    time_ns: float
    lines: dict[tuple[str, str, int], Line]
    dllps: dict[str, int]

    def __sub__(self, earlier: Snapshot) -> Snapshot:
        lines = {}
        for key, line in self.lines.items():
            before = earlier.lines.get(key, Line(0, 0, 0))
            lines[key] = Line(*(now - then for now, then in zip(line, before, strict=True)))
        return Snapshot(
            self.time_ns - earlier.time_ns,
            {key: line for key, line in lines.items() if line.tlps},
            {way: count - earlier.dllps[way] for way, count in self.dllps.items()},
        )

    def total(
        self,
        direction: str | None = None,
        category: str | None = None,
        kind: TLPType | None = None,
    ) -> Line:
        """Return the sum over the lines that match."""
        sums = [0, 0, 0]
        for (way, purpose, code), line in self.lines.items():
            if direction not in (None, way) or category not in (None, purpose):
                continue
            if kind is None or kind.value == code:
                sums = [total + part for total, part in zip(sums, line, strict=True)]
        return Line(*sums)

    def gbps(self, direction: str, *, dllps: bool = False) -> float:
        """Return the rate in Gb/s of TLPs on the wire, on request with DLLPs."""
        size = self.total(direction).wire_bytes
        if dllps:
            size += _DLLP_BYTES * self.dllps[direction]
        return size * 8 / self.time_ns

    def table(self) -> str:
        """Return a table for people."""
        rows = [f"{self.time_ns:.0f} ns", "direction category type tlps wire_bytes data_bytes"]
        for (way, purpose, code), line in sorted(self.lines.items()):
            rows.append(" ".join(map(str, (way, purpose, TLPType(code).name, *line))))
        return "\n".join(rows)


class Sighting(NamedTuple):
    """A packet that a watch was set on."""

    time_ns: float
    direction: str
    packet: Packet


class Watch:
    """Times of the packets that a predicate picks."""

    def __init__(self, wanted: Callable[[Packet, str], bool]) -> None:
        self.wanted = wanted
        self.seen: list[Sighting] = []


class LinkMonitor:
    """Counts at the root port: what goes down when it has arrived, what comes up as it arrives.

    classifier: called once per packet with (packet, direction), gives its category; the result
    stays in `packet.category`, and completions inherit it from their read.
    """

    def __init__(self, classifier: Classifier | None = None) -> None:
        self.classifier: Classifier = classifier or AddressRanges()
        self.watches: list[Watch] = []
        self._lines: dict[tuple[str, str, int], list[int]] = {}
        self._dllps = {UP: 0, DOWN: 0}

    def count(self, packet: Packet, *, sent: bool) -> None:
        """Count a packet; `sent` by the root port, or received."""
        way = DOWN if sent else UP
        if packet.category is None:
            packet.category = self.classifier(packet, way)
        key = (way, packet.category, packet.type)
        line = self._lines.get(key)
        if line is None:
            line = self._lines[key] = [0, 0, 0]
        line[0] += 1
        line[1] += packet.wire_size
        line[2] += len(packet.data)
        for watch in self.watches:
            if watch.wanted(packet, way):
                watch.seen.append(Sighting(get_sim_time("ns"), way, packet))

    def count_dllp(self, *, sent: bool) -> None:
        """Count a data link layer packet."""
        self._dllps[DOWN if sent else UP] += 1

    def watch(self, wanted: Callable[[Packet, str], bool]) -> Watch:
        """Record the times of the packets for which `wanted(packet, direction)` is true."""
        watch = Watch(wanted)
        self.watches.append(watch)
        return watch

    def snapshot(self) -> Snapshot:
        """Return the account so far."""
        lines = {key: Line(*line) for key, line in self._lines.items()}
        return Snapshot(get_sim_time("ns"), lines, dict(self._dllps))
