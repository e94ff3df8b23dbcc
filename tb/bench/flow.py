"""One measurement inside the simulator."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import cocotb
import numpy as np
from cocotb.triggers import Event, Timer

from bench.fast_ring import FastRing
from bench.scenario import BATCH, HOST_READ_NS, Scenario, Window, record
from demo.host import RX, TX, Host, Stalled
from demo.progress import ProgressWriter
from lib.pcie.monitor import DOWN, UP, Snapshot
from lib.sim import params
from virtio_rtl.config import named_config

_STALL_NS = 200_000
_MEMORY = 1 << 23
_TAIL_NS = 2_000


class Flow:
    """Keeps the rings full and measures a window of steady state.

    What counts is when used descriptors arrive at the root port.
    """

    def __init__(self, dut: Any, config_name: str, scenario: Scenario, ring_size: int) -> None:
        self.dut = dut
        self.ring_size = ring_size
        self.scenario = scenario
        self.config = named_config(config_name)
        self.host = Host(dut, self.config, memory_bytes=_MEMORY, read_ns=HOST_READ_NS)
        self.progress = ProgressWriter()
        self.news = Event()
        self.doorbells = 0
        self.rings: dict[str, FastRing] = {}
        self.used: dict[str, int] = {}
        self.before: tuple[Snapshot, dict[str, int], int] | None = None
        self.after: tuple[Snapshot, dict[str, int], int] | None = None

    async def run(self) -> Window:
        """Bring up, fill the rings, measure."""
        host, scenario, dut = self.host, self.scenario, self.dut
        dut.generate.value = 0
        dut.frame_bytes.value = scenario.length
        await host.start()
        draw = np.random.default_rng(random.getrandbits(32))
        for name, index in (("receive", RX), ("transmit", TX)):
            ring = FastRing(
                host.memory,
                host.allocator,
                self.ring_size,
                scenario.length,
                receive=index == RX,
                draw=draw,
            )
            await host.setup_queue(index, ring)
            if scenario.direction in (name, "both"):
                self.rings[name], self.used[name] = ring, 0
        host.memory.write_hooks.append(self.written)
        await host.go()
        indices = {"receive": RX, "transmit": TX}
        workers = [
            cocotb.start_soon(self.work(ring, indices[name])) for name, ring in self.rings.items()
        ]
        dut.generate.value = int("receive" in self.rings)
        await self.watch()
        for worker in workers:
            worker.cancel()
        await Timer(_TAIL_NS, "ns")
        self.check()
        return self.window()

    def written(self, addr: int, data: bytes) -> None:
        """Count used descriptors as they arrive, and note where the window starts and ends."""
        for name, ring in self.rings.items():
            if ring.desc_addr <= addr < ring.desc_addr + 16 * ring.size:
                self.used[name] += len(data) // 16
                self.news.set()
        done = min(self.used.values())
        if self.before is None and done >= self.scenario.warm_up:
            self.before = self.stand()
        elif self.before is not None and self.after is None:
            counts = self.before[1]
            if min(self.used[name] - counts[name] for name in counts) >= self.scenario.window:
                self.after = self.stand()

    def stand(self) -> tuple[Snapshot, dict[str, int], int]:
        """Return the accounts of this moment."""
        return self.host.root.monitor.snapshot(), dict(self.used), self.doorbells

    async def work(self, ring: FastRing, index: int) -> None:
        """Drive a ring: take back what is used, add again, a doorbell for each batch."""
        while True:
            while ring.free >= BATCH:
                ring.add(BATCH)
                if ring.needs_kick():
                    self.doorbells += 1
                    await self.host.pci.notify(index)
            name = "receive" if index == RX else "transmit"
            while self.used[name] - ring.taken < BATCH:
                self.news.clear()
                await self.news.wait()
            ring.poll()

    async def watch(self) -> None:
        """Wait for the end of the window; raise if nothing moves."""
        total = self.scenario.warm_up + self.scenario.window
        seen, moved_at = -1, self.host.now_ns()
        while self.after is None:
            await Timer(1000, "ns")  # a worker's exception fails the test by itself
            done, now = min(self.used.values()), self.host.now_ns()
            self.progress.tell(self.scenario.title, min(done, total), total)
            if done > seen:
                seen, moved_at = done, now
            elif now > moved_at + _STALL_NS:
                raise Stalled(
                    f"no progress for {_STALL_NS} ns: used {self.used}, "
                    f"doorbells {self.doorbells}; {await self.host.complaint()}"
                )

    def check(self) -> None:
        """Hold the end of the run against what must be."""
        for ring in self.rings.values():
            ring.poll()
        if "transmit" in self.rings:
            errors, taken = int(self.dut.errors.value), int(self.dut.taken.value)
            assert errors == 0, f"{errors} wrong beats at the transmit port"
            assert taken >= self.rings["transmit"].taken, (taken, self.rings["transmit"].taken)
        for name, ring in self.rings.items():
            assert ring.taken == self.used[name], (name, ring.taken, self.used[name])
        self.host.root.check()

    def window(self) -> Window:
        """Return what happened between the two stands."""
        assert self.before is not None
        assert self.after is not None
        (start, frames_before, doorbells_before) = self.before
        (end, frames_after, doorbells_after) = self.after
        wire = end - start
        return Window(
            frames={name: frames_after[name] - frames_before[name] for name in frames_after},
            time_ns=wire.time_ns,
            wire_up=wire.total(UP).wire_bytes,
            wire_down=wire.total(DOWN).wire_bytes,
            gbps_up=wire.gbps(UP, dllps=True),
            gbps_down=wire.gbps(DOWN, dllps=True),
            doorbells=doorbells_after - doorbells_before,
            peak_reads=self.host.root.target.checker.peak_reads,
        )


@cocotb.test()
@cocotb.parametrize(("number", range(len(getattr(params(), "scenarios", [])))))
async def measure(dut: Any, number: int) -> None:
    """Measure scenario `number` of `lib.sim.params()`."""
    options = params()
    scenario = Scenario(**options.scenarios[number])
    flow = Flow(dut, options.config, scenario, options.ring_size)
    window = await flow.run()
    line = record(flow.config, scenario, window, options.ring_size)
    (Path(options.folder) / f"{number}.json").write_text(json.dumps(line))
