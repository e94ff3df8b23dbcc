"""The ring monitor: a passive checker of both sides of all virtqueues of a device."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from lib.ring_monitor.breach import DEVICE, DRIVER, Report
from lib.ring_monitor.interrupts import Interrupts
from lib.ring_monitor.kicks import Kicks
from lib.ring_monitor.life import Life, Phase
from lib.ring_monitor.packed import PackedWatch
from lib.ring_monitor.queue import QueueSetup, QueueState, Shared, WatchedQueue
from lib.ring_monitor.regions import Kind, Region, RegionMap
from lib.ring_monitor.split import SplitWatch
from lib.ring_monitor.tap import MemoryTap
from virtio_model.memory import GuestMemory
from virtio_model.spec import features as feat
from virtio_model.spec.features import Feature
from virtio_model.spec.pci import NO_VECTOR

__all__ = ["RingMonitor"]

_DEVICE_READS = (Kind.DESC, Kind.DRIVER_AREA, Kind.TABLE, Kind.READABLE)


class RingMonitor:
    """Watches guest memory, and is told of registers, doorbells and interrupts.

    It knows the rules of both sides of split and packed virtqueues by itself, from no driver or
    device model, and writes each breach into `report` with time, virtqueue and requirement row.
    It changes nothing and waits for nothing; call `finish` at the end, with the device quiet.

    Parameters
    ----------
    memory
        Guest memory; all accesses of both sides have to go through it.
    now
        Gives the time; default: a count of events.
    interrupt_limit, kick_limit
        Time after which an interrupt or a kick that is due is missing; None: never.
    kick_flight
        How long a kick may be under way from the driver to `kick`.
    max_chain
        The device's limit on the length of a list, if it has one below the queue size.

    Limitations: interrupts are MSI-X messages (INTx is not judged). A device that reads a
    descriptor too early is noticed only by what it does with it.
    """

    def __init__(
        self,
        memory: GuestMemory,
        now: Callable[[], float] | None = None,
        *,
        interrupt_limit: float | None = None,
        kick_limit: float | None = None,
        kick_flight: float = 0.0,
        max_chain: int | None = None,
        quiet: Callable[[int], bool] = lambda _: False,
    ) -> None:
        self._events = 0
        self.memory = memory
        self.report = Report(now or (lambda: float(self._events)))
        self.life = Life()
        self.features = 0
        self.queues: dict[int, WatchedQueue] = {}
        self.interrupts = Interrupts(self.report, interrupt_limit, quiet)
        self.kicks = Kicks(self.report, kick_limit, kick_flight)
        self._regions = RegionMap()
        self._shared = Shared(
            memory, self.report, self._regions, self._advanced, self._wished, max_chain
        )
        self._tap = MemoryTap(memory, self)

    # What the driver does to the device

    def negotiated(self, features: int) -> None:
        """The feature set was accepted."""
        self.features = features

    def enable_queue(
        self,
        index: int,
        size: int,
        desc: int,
        driver_area: int,
        device_area: int,
        vector: int = NO_VECTOR,
    ) -> WatchedQueue:
        """A virtqueue was enabled."""
        if old := self.queues.get(index):
            self._close(old)
        setup = QueueSetup(index, size, desc, driver_area, device_area, self.features)
        kind = PackedWatch if feat.has(self.features, Feature.RING_PACKED) else SplitWatch
        self.queues[index] = queue = kind(setup, self._shared)
        self.interrupts.open(queue, vector)
        self.kicks.open(queue)
        queue.start()
        return queue

    def _close(self, queue: WatchedQueue) -> None:
        queue.close()
        self.interrupts.close(queue)
        self.kicks.close(queue)
        del self.queues[queue.index]

    def driver_ok(self) -> None:
        """DRIVER_OK was set."""
        self.life.driver_ok()

    def ask_reset(self) -> None:
        """A reset of the device was asked for."""
        self.life.ask_reset()
        for queue in self.queues.values():
            queue.state = QueueState.RESETTING

    def reset_done(self) -> None:
        """The status was read as 0. The memory of dead virtqueues stays known until set-up."""
        self.life.reset_done()
        self.features = 0

    def ask_queue_reset(self, index: int) -> None:
        """A reset of a virtqueue was asked for."""
        if queue := self.queues.get(index):
            queue.state = QueueState.RESETTING

    def queue_reset_done(self, index: int) -> None:
        """queue_reset was read as 0."""
        queue = self.queues.get(index)
        if queue and queue.state is QueueState.RESETTING:
            queue.state = QueueState.RESET
            self.interrupts.forget(queue)

    def kick(self, index: int, data: int | None = None) -> None:
        """A doorbell arrived at the device."""
        self._events += 1
        if self.life.phase in (Phase.SETUP, Phase.RESET):
            self.report.add(DRIVER, "drv-init-seq-07", index, "kick before DRIVER_OK")
        elif self.life.phase in (Phase.SUSPENDING, Phase.SUSPENDED):
            self.report.add(DRIVER, "drv-init-suspend-04", index, "kick after asking for suspend")
        elif (queue := self.queues.get(index)) is None:
            self.report.add(DRIVER, "drv-pci-kick-03", index, "kick of a virtqueue that is not set")
        elif queue.state is QueueState.ENABLED:
            self.kicks.kick(queue, data)

    # What the device does

    def interrupt(self, vector: int) -> None:
        """An interrupt message arrived."""
        self._events += 1
        self._tick()
        row = self.life.forbidden
        if row and (row != "init-suspend-03" or vector != self.interrupts.config_vector):
            self.report.add(
                DEVICE, row, None, f"interrupt {vector} in phase {self.life.phase.name}"
            )
            return
        self.interrupts.interrupt(vector)

    def _advanced(self, queue: WatchedQueue, old: int, new: int, by_device: bool) -> None:
        if by_device:
            self.interrupts.used(queue, old, new)
            return
        if self.life.phase in (Phase.SUSPENDING, Phase.SUSPENDED):
            queue.driver_breach("drv-init-suspend-03", "buffer made available during suspend")
        self.kicks.added(queue, old, new)

    def _wished(self, queue: WatchedQueue, by_device: bool) -> None:
        if by_device:
            self.kicks.wished(queue)
        else:
            self.interrupts.wished(queue)

    def _tick(self) -> None:
        self.interrupts.tick()
        self.kicks.tick()

    # Memory

    def driver_write(self, address: int, old: bytes, new: bytes) -> None:
        """The driver wrote guest memory."""
        self._events += 1
        end = address + len(new)
        told = []
        for queue in self.queues.values():
            if queue.state is QueueState.ENABLED and not queue.lost:
                told += [(queue, area) for area in queue.areas]
        for queue, area in told:
            start, stop = max(address, area.start), min(end, area.end)
            if start < stop and not queue.lost:
                before, after = (
                    old[start - address : stop - address],
                    new[start - address : stop - address],
                )
                queue.driver_wrote(area.kind, start - area.start, before, after)

    def device_read(self, address: int, data: bytes) -> None:
        """The device read guest memory."""
        self._access(address, len(data), writing=False, done=True)

    def device_write(self, address: int, data: bytes, done: bool) -> None:
        """The device wrote guest memory."""
        self._access(address, len(data), writing=True, done=done)

    def _access(self, address: int, length: int, *, writing: bool, done: bool) -> None:
        self._events += 1
        self._tick()
        end = address + length
        pieces = []
        while address < end:
            regions = self._regions.at(address)
            if not regions:
                reach = self._regions.reach(address, end)
                self._stray(address, reach, writing)
            else:
                region = self._pick(regions, writing)
                reach = min(end, region.end)
                pieces.append((region, address, reach))
            address = reach
        for region, start, reach in pieces:
            self._judge(region, start, reach, writing, done)

    @staticmethod
    def _may(region: Region, writing: bool) -> bool:
        if not writing:
            return region.kind in _DEVICE_READS
        packed = isinstance(region.queue, PackedWatch)
        return region.kind in (Kind.DEVICE_AREA, Kind.WRITABLE) or (
            region.kind is Kind.DESC and packed
        )

    def _pick(self, regions: Iterable[Region], writing: bool) -> Region:
        """Of several uses of the same memory, the one that allows the access."""
        return max(
            regions,
            key=lambda r: (r.queue.state is not QueueState.RESET, self._may(r, writing)),
        )

    def _stray(self, start: int, end: int, writing: bool) -> None:
        """An access to memory that belongs to no virtqueue."""
        if any(queue.lost for queue in self.queues.values()):
            return  # nobody can say what its buffers are
        row = self.life.forbidden
        index = None
        if row is None:
            packed = feat.has(self.features, Feature.RING_PACKED)
            row = (PackedWatch if packed else SplitWatch).rows["not exposed"]
        what = "wrote" if writing else "read"
        self.report.add(
            DEVICE, row, index, f"{what} {start:#x} to {end:#x}: no buffer of the device"
        )

    def _judge(self, region: Region, start: int, end: int, writing: bool, done: bool) -> None:
        queue = region.queue
        row = self.life.forbidden
        if row is None and queue.state is QueueState.RESET:
            row = "basic-vqreset-01"
        what = f"{'wrote' if writing else 'read'} {start:#x} to {end:#x}, {region.kind.value}"
        if row:
            queue.device_breach(row, what)
            return
        if not self._may(region, writing):
            if name := _forbidden_row(region, writing):
                queue.device_breach(queue.rows[name], what)
        elif writing and region.kind is Kind.WRITABLE and region.buffer:
            at = region.offset + start - region.start
            region.buffer.wrote(at, at + end - start)
        elif writing and done and not queue.lost and queue.state is QueueState.ENABLED:
            queue.device_wrote(region.kind, start - region.start, end - start)

    # The end

    def audit(self) -> Report:
        """Look for what is left over, with the device quiet; the report so far."""
        self._tick()
        if self.life.phase is Phase.LIVE:
            for queue in self.queues.values():
                if not queue.lost and queue.state is QueueState.ENABLED:
                    queue.audit()
        return self.report

    def finish(self) -> Report:
        """An audit, and stop listening."""
        self.audit()
        self._tap.close()
        return self.report


def _forbidden_row(region: Region, writing: bool) -> str | None:
    """Name of the row that an access breaks by its direction alone."""
    if region.kind is Kind.WRITABLE:
        return "writable"
    if not writing:
        return "driver area" if isinstance(region.queue, PackedWatch) else None
    return "readable" if region.kind in (Kind.READABLE, Kind.TABLE) else "driver area"
