"""Floods: the rings are kept full, and a window of steady state is measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cocotb
from cocotb.triggers import Event, Timer

from bench.account import Occupancy, split
from bench.bed import Bed
from bench.scenario import Scenario
from demo.host import Stalled
from demo.progress import ProgressWriter
from lib.pcie.monitor import DOWN, UP, Snapshot
from virtio_rtl.config import DeviceConfig

__all__ = ["Flow", "Window"]

_STALL_NS = 200_000
_TAIL_NS = 2_000
_FETCHED_NS = 2_000


@dataclass(frozen=True)
class Window:
    """What was seen in steady state.

    frames: per direction. wire_up, wire_down: bytes of TLPs. gbps_up, gbps_down: with DLLPs.
    peak_reads: most reads that the host had to answer at a time, since reset. split: bytes per
    frame by direction and purpose. occupancy: since DRIVER_OK.
    """

    frames: dict[str, int]
    time_ns: float
    wire_up: int
    wire_down: int
    gbps_up: float
    gbps_down: float
    doorbells: int
    peak_reads: int
    split: dict[str, dict[str, float]]
    occupancy: dict[str, list[float] | list[int]]


@dataclass(frozen=True)
class _Stand:
    """The accounts of one moment."""

    wire: Snapshot
    frames: dict[str, int]
    doorbells: int


class Flow:
    """Keeps the rings full and measures a window of steady state.

    What counts is when used descriptors arrive at the root port.
    """

    def __init__(self, dut: Any, config: DeviceConfig, scenario: Scenario, ring_size: int) -> None:
        self.dut = dut
        self.scenario = scenario
        self.bed: Any = self.make_bed(config, ring_size)
        self.progress = ProgressWriter()
        self.doorbells = 0
        self.moved: dict[str, int] = {}
        self.before: _Stand | None = None
        self.after: _Stand | None = None
        self.occupancy: dict[str, list[float] | list[int]] = {}
        self._news: dict[int, Event] = {}

    def make_bed(self, config: DeviceConfig, ring_size: int) -> Any:
        """Return what brings the device up: a `Bed`, or what offers the same to a flow."""
        return Bed(self.dut, config, self.scenario, ring_size)

    async def run(self) -> Window:
        """Bring up, fill the rings, measure."""
        bed = self.bed
        await bed.start()
        self._news = {index: Event() for index in bed.rings}
        self.moved = {bed.direction(index): 0 for index in bed.rings}
        bed.host.memory.write_hooks.append(self.written)
        occupancy = Occupancy(bed)
        workers = [cocotb.start_soon(self.work(index)) for index in bed.rings]
        if "receive" in self.moved:
            # With several pairs a frame waits a few us for a buffer, then it is dropped: all
            # rings are filled, and their first fetches back, before the first frame.
            while any(ring.can_add(ring.batch) for ring in bed.rings.values()):
                await Timer(100, "ns")
            await Timer(_FETCHED_NS, "ns")
            self.dut.generate.value = 1
        await self.watch()
        self.occupancy = occupancy.stop()
        for worker in workers:
            worker.cancel()
        await self.check()
        return self.window()

    def written(self, addr: int, data: bytes) -> None:
        """Count used descriptors as they arrive, and note where the window starts and ends."""
        bed = self.bed
        index = bed.used_at(addr)
        if index is None:
            return
        count = bed.rings[index].layout.completed(addr, data)
        bed.used[index] += count
        self.moved[bed.direction(index)] += count
        if bed.used[index] - bed.rings[index].taken >= bed.rings[index].batch:
            self._news[index].set()
        if self.before is None and min(self.moved.values()) >= self.scenario.warm_up:
            self.before = self.stand()
        elif self.before is not None and self.after is None:
            start = self.before.frames
            if min(self.moved[name] - start[name] for name in start) >= self.scenario.window:
                self.after = self.stand()

    def stand(self) -> _Stand:
        """Return the accounts of this moment."""
        return _Stand(self.bed.host.root.monitor.snapshot(), dict(self.moved), self.doorbells)

    async def work(self, index: int) -> None:
        """Drive a ring: take back what is used, add again, a doorbell for each batch."""
        bed, news = self.bed, self._news[index]
        ring, used = bed.rings[index], bed.used
        while True:
            while ring.can_add(ring.batch):
                ring.add(ring.batch)
                if ring.needs_kick():
                    self.doorbells += 1
                    await bed.host.pci.notify(index)
            while used[index] - ring.taken < ring.batch:
                news.clear()
                await news.wait()
            ring.poll()

    async def watch(self) -> None:
        """Wait for the end of the window; raise if nothing moves."""
        host, total = self.bed.host, self.scenario.warm_up + self.scenario.window
        seen, moved_at = -1, host.now_ns()
        while self.after is None:
            await Timer(1000, "ns")  # a worker's exception fails the test by itself
            done, now = min(self.moved.values()), host.now_ns()
            self.progress.tell(self.scenario.title, min(done, total), total)
            if done > seen:
                seen, moved_at = done, now
            elif now > moved_at + _STALL_NS:
                raise Stalled(
                    f"no progress for {_STALL_NS} ns: moved {self.moved}, "
                    f"doorbells {self.doorbells}; {await host.complaint()}"
                )

    async def check(self) -> None:
        """Hold the end of the run against what must be."""
        bed = self.bed
        for index, ring in bed.rings.items():
            ring.poll()
            assert ring.taken == bed.used[index], (index, ring.taken, bed.used[index])
        # A frame may leave the port after its buffer has come back.
        await Timer(_TAIL_NS, "ns")
        bed.check_port()
        bed.host.root.check()

    def window(self) -> Window:
        """Return what happened between the two stands."""
        before, after = self.before, self.after
        assert before is not None
        assert after is not None
        wire = after.wire - before.wire
        frames = {name: after.frames[name] - before.frames[name] for name in after.frames}
        return Window(
            frames=frames,
            time_ns=wire.time_ns,
            wire_up=wire.total(UP).wire_bytes,
            wire_down=wire.total(DOWN).wire_bytes,
            gbps_up=wire.gbps(UP, dllps=True),
            gbps_down=wire.gbps(DOWN, dllps=True),
            doorbells=after.doorbells - before.doorbells,
            peak_reads=self.bed.host.root.target.checker.peak_reads,
            split=split(wire, min(frames.values())),
            occupancy=self.occupancy,
        )
