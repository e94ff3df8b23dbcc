"""What watching a virtqueue needs in either ring format."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto

from lib.ring_monitor.breach import DEVICE, DRIVER, Report
from lib.ring_monitor.buffers import Buffer
from lib.ring_monitor.regions import Kind, Region, RegionMap
from virtio_model.memory import GuestMemory
from virtio_model.spec import features as feat
from virtio_model.spec.features import Feature

__all__ = ["Event", "Mode", "QueueSetup", "QueueState", "Shared", "WatchedQueue", "passes"]


class QueueState(Enum):
    """Life of a virtqueue."""

    ENABLED = auto()
    RESETTING = auto()
    RESET = auto()


class Mode(Enum):
    """When a side wants to be notified."""

    ALWAYS = auto()
    NEVER = auto()
    EVENT = auto()


@dataclass(frozen=True)
class Event:
    """Wishes of a side: `place` (modulo the queue's `circle`) counts with Mode.EVENT."""

    mode: Mode
    place: int = 0


def passes(event: Event, circle: int, old: int, new: int) -> bool:
    """Whether the progress old -> new asks for a notification; positions count up for ever."""
    if event.mode is Mode.EVENT:
        return (event.place - old) % circle < new - old
    return event.mode is Mode.ALWAYS and new > old


@dataclass
class QueueSetup:
    """What the driver programmed."""

    index: int
    size: int
    desc: int
    driver_area: int
    device_area: int
    features: int


@dataclass
class Shared:
    """What all virtqueues of a monitor share.

    `advanced` hears of progress: (queue, old, new, by the device); `wished` of a changed event
    suppression: (queue, by the device).
    """

    memory: GuestMemory
    report: Report
    regions: RegionMap
    advanced: Callable[[WatchedQueue, int, int, bool], None]
    wished: Callable[[WatchedQueue, bool], None]
    max_chain: int | None = None


class WatchedQueue:
    """A virtqueue under watch: outstanding buffers and their memory.

    A subclass knows a ring format. It is told of writes to the three areas, finds buffers that
    become available or used, and calls `expose` and `finish_used`.

    `lost` is set when the driver has broken the ring so far that nothing more can be said about
    it; the monitor then leaves the virtqueue alone until it is set up again.
    """

    rows: dict[str, str]
    circle: int

    def __init__(self, setup: QueueSetup, shared: Shared) -> None:
        self.setup = setup
        self.index = setup.index
        self.size = setup.size
        self.shared = shared
        self.memory = shared.memory
        self.state = QueueState.ENABLED
        self.lost = False
        self.buffers: dict[int, Buffer] = {}
        self.owner: dict[int, Buffer] = {}
        self.returned: set[int] = set()
        self.avail = 0
        self.used = 0
        self._regions: dict[int, list[Region]] = {}
        self.areas: list[Region] = []

    def has(self, feature: Feature) -> bool:
        """Whether a feature was negotiated."""
        return feat.has(self.setup.features, feature)

    # Reports

    def device_breach(self, row: str, text: str) -> None:
        """The device broke a rule."""
        self.shared.report.add(DEVICE, row, self.index, text)

    def driver_breach(self, row: str, text: str, *, lost: bool = False) -> None:
        """The driver broke a rule; `lost`: nothing can be said about the ring any more."""
        self.shared.report.add(DRIVER, row, self.index, text)
        self.lost = self.lost or lost

    # Memory

    def add_area(self, kind: Kind, start: int, length: int, align: int, row: str) -> None:
        """One of the three areas."""
        if start % align:
            self.driver_breach(row, f"{kind.value} at {start:#x} is not aligned to {align}")
        region = Region(start, start + length, kind, self)
        self.areas.append(region)
        self.shared.regions.add(region)

    def close(self) -> None:
        """Forget all regions."""
        for buffer in list(self.buffers.values()):
            self._forget(buffer)
        for region in self.areas:
            self.shared.regions.remove(region)
        self.areas = []

    def expose(self, buffer: Buffer) -> None:
        """A buffer became available."""
        if buffer.misordered:
            self.driver_breach(self.rows["framing"], "readable element behind a writable one")
        bytes_in_all = sum(element.length for element in buffer.elements)
        if bytes_in_all > 1 << 32 and "too long" in self.rows:
            self.driver_breach(self.rows["too long"], "a buffer of more than 2^32 bytes")
        limit = min(self.size, self.shared.max_chain or self.size)
        if len(buffer.elements) > limit:
            self.driver_breach(self.rows["chain"], f"{len(buffer.elements)} elements in a buffer")
        self.buffers[buffer.id] = buffer
        self.returned.discard(buffer.id)
        for slot in buffer.slots:
            self.owner[slot] = buffer
        regions = [
            Region(start, end, kind, self, buffer, offset)
            for start, end, kind, offset in buffer.stretches()
        ]
        self._regions[id(buffer)] = regions
        for region in regions:
            self.shared.regions.add(region)

    def _forget(self, buffer: Buffer) -> None:
        del self.buffers[buffer.id]
        for slot in buffer.slots:
            self.owner.pop(slot, None)
        for region in self._regions.pop(id(buffer)):
            self.shared.regions.remove(region)

    def batch(self, buffer_id: int) -> list[Buffer]:
        """The outstanding buffers that a used entry with this id gives back; none if it is wrong.

        With IN_ORDER one entry may stand for all buffers up to the one that it names.
        """
        if buffer_id not in self.buffers:
            if buffer_id in self.returned:
                row = "resv-feat-05" if self.has(Feature.IN_ORDER) else self.rows["twice"]
                self.device_breach(row, f"buffer {buffer_id} is used twice, or out of order")
            else:
                self.device_breach(self.rows["id"], f"used id {buffer_id} is not outstanding")
            return []
        order = list(self.buffers)
        if not self.has(Feature.IN_ORDER):
            return [self.buffers[buffer_id]]
        return [self.buffers[other] for other in order[: order.index(buffer_id) + 1]]

    def finish_used(self, batch: list[Buffer], length: int) -> None:
        """Buffers came back, the last one with `length` bytes written."""
        last = batch[-1]
        if length > last.capacity:
            self.device_breach(
                self.rows["length"],
                f"buffer {last.id}: used length {length} of {last.capacity} writable bytes",
            )
        elif length > last.prefix:
            self.device_breach(
                self.rows["payload"],
                f"buffer {last.id}: used length {length}, but only {last.prefix} bytes written",
            )
        for skipped in batch[:-1]:
            if skipped.prefix < skipped.capacity:
                self.device_breach(
                    self.rows["batch"], f"buffer {skipped.id} is skipped, but not filled"
                )
        for buffer in batch:
            self._forget(buffer)
            self.returned.add(buffer.id)

    # What a format does

    def start(self) -> None:
        """Look at what the ring holds already when the virtqueue is enabled."""
        raise NotImplementedError

    def driver_wrote(self, kind: Kind, at: int, old: bytes, new: bytes) -> None:
        """The driver wrote `new`, `at` bytes behind the start of an area."""
        raise NotImplementedError

    def device_wrote(self, kind: Kind, at: int, length: int) -> None:
        """The device wrote, `at` bytes behind the start of an area."""
        raise NotImplementedError

    def driver_wishes(self) -> Event:
        """When the driver wants an interrupt."""
        raise NotImplementedError

    def device_wishes(self) -> Event:
        """When the device wants a kick."""
        raise NotImplementedError

    def kick_data(self) -> int:
        """Upper half of a kick with data."""
        raise NotImplementedError

    def audit(self) -> None:
        """At the end, with the device quiet."""
