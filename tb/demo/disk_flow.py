"""The demo of a block device inside the simulator: write an image, flush, read it back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cocotb
from cocotb.triggers import Timer
from cocotb.utils import get_sim_time

from demo.ceiling import raw_gbps
from demo.disk_config import disk_config
from demo.disk_result import Answer, DiskResult, Phase, Sample
from demo.host import Stalled
from demo.progress import ProgressWriter
from demo.result import HOST_LATENCY
from lib.device_system import MESSAGE_ADDRESS, DeviceSystem
from lib.golden import Check
from lib.golden.places import areas
from lib.pcie.monitor import DOWN, UP, AddressRanges
from lib.sim import params
from lib.words import counted
from virtio_model.blk_request import BlkLimits
from virtio_model.driver.blk import BlkDriver
from virtio_model.driver.framing import Framing
from virtio_model.spec import blk
from virtio_model.spec.blk import BlkFeature, RequestStatus
from virtio_model.spec.features import Feature
from virtio_rtl.config_blk import SECTOR_BYTES
from virtio_rtl.device.kind import device_type

REQUEST_BYTES = 64 << 10
"""Data of a request; the last one may be shorter."""
IN_FLIGHT = 32
RING = 64
_POLL_NS = 250
_STALL_NS = 500_000
_SAMPLE_NS = 1000
_FEATURES = ("indirect_desc", "event_idx")
_TYPE_FEATURES = (BlkFeature.SIZE_MAX, BlkFeature.SEG_MAX, BlkFeature.BLK_SIZE, BlkFeature.FLUSH)
_PIECES = Framing(readable=(16,), writable=(-1,), indirect=True)
"""Header, data and status apart, in an indirect table, as Linux has them."""
_DATA = "other"
"""What the link's account says of all that is not in a virtqueue: data, headers, tables."""


class DiskDemo(DeviceSystem):
    """One run; `run` does it all."""

    DEPENDENCIES = blk.DEPENDENCIES

    def __init__(self, dut: Any) -> None:
        self.options = params()
        self.image = Path(self.options.image).read_bytes()
        config = disk_config(self.options.config, len(self.image))
        super().__init__(
            dut,
            config,
            sizes=RING,
            ring=self.options.ring,
            features=_FEATURES,
            type_features=sum(1 << feature for feature in _TYPE_FEATURES),
            memory_bytes=(IN_FLIGHT + 8) * (REQUEST_BYTES + 4096),
        )
        kind = device_type("blk")
        self.limits = BlkLimits.of(kind.values(config), kind.features(config))
        self.progress = ProgressWriter()
        self.samples: list[Sample] = []
        self.kicks = 0
        self.start_ns = 0.0
        self.failed: list[str] = []
        self.read_back = bytearray(len(self.image))
        self.driver: BlkDriver

    def make_drivers(self) -> None:
        """One driver for the virtqueue."""
        self.driver = BlkDriver(
            self.memory, self.allocator, self.queues, self.accepted, limits=self.limits
        )

    async def run(self) -> None:
        """Bring up, write, flush, read, compare, and write the result."""
        self.progress.tell("enumerating, negotiating", 0, 0)
        await self.bring_up()
        self.name_addresses()
        self.start_ns = get_sim_time("ns")
        chunks = range(0, len(self.image), REQUEST_BYTES)
        phases = [
            await self.phase("write", self.write, chunks, len(self.image)),
            await self.phase("flush", self.flush, range(1), 0),
            await self.phase("read", self.read, chunks, len(self.image)),
        ]
        Path(self.options.read_back).write_bytes(self.read_back)
        self.result(phases).save(Path(self.options.result))

    def name_addresses(self) -> None:
        """For the link's account."""
        ranges = AddressRanges()
        for purpose, start, end in areas(self.queues[0]):
            ranges.add(purpose, start, end)
        ranges.add("interrupt", MESSAGE_ADDRESS, MESSAGE_ADDRESS + 4)
        doorbell = self.access.bar_address(0, self.pci.queues[0].notify_offset)
        ranges.add("doorbell", doorbell, doorbell + 4)
        self.host.monitor.classifier = ranges

    # Requests

    def write(self, at: int, cookie: Any) -> None:
        """Write the piece of the image from `at` on."""
        piece = self.image[at : at + REQUEST_BYTES]
        self.driver.write(at // SECTOR_BYTES, piece, framing=_PIECES, cookie=cookie)

    def read(self, at: int, cookie: Any) -> None:
        """Read the piece that is as long."""
        length = len(self.image[at : at + REQUEST_BYTES])
        sectors = length // SECTOR_BYTES
        self.driver.read(at // SECTOR_BYTES, sectors, framing=_PIECES, cookie=cookie)

    def flush(self, at: int, cookie: Any) -> None:
        """Flush."""
        self.driver.flush(framing=_PIECES, cookie=cookie)

    # A phase

    async def phase(
        self, name: str, send: Callable[[int, Any], None], places: range, data_bytes: int
    ) -> Phase:
        """Send a request for each place, up to `IN_FLIGHT` at a time, and take all answers."""
        queue, monitor = self.queues[0], self.host.monitor
        before, start = monitor.snapshot(), self.now()
        kicks, interrupts = self.kicks, len(self.interrupts)
        answers: list[Answer] = []
        sent = 0
        progress_at = start
        queue.disable_interrupts()
        while len(answers) < len(places):
            first = sent
            while sent < len(places) and sent - len(answers) < IN_FLIGHT:
                send(places[sent], (places[sent], self.now()))
                sent += 1
            if sent > first:
                self.kicks += await self.pci.kick(0)
            got = self.take(name, answers)
            self.note(sent - len(answers))
            self.progress.tell(f"{name}: requests", len(answers), len(places))
            if got:
                progress_at = self.now()
            elif self.now() > progress_at + _STALL_NS:
                raise Stalled(await self.complaint(name, sent, len(answers)))
            else:
                before_rest = len(self.interrupts)
                if not queue.enable_interrupts():
                    await self.interrupt(before_rest)
                queue.disable_interrupts()
        account = monitor.snapshot() - before
        up, down = account.total(UP), account.total(DOWN)
        raw = raw_gbps(self.config)
        return Phase(
            name=name,
            data_bytes=data_bytes,
            start_ns=round(start, 3),
            time_ns=round(self.now() - start, 3),
            doorbells=self.kicks - kicks,
            interrupts=len(self.interrupts) - interrupts,
            tlps_up=up.tlps,
            tlps_down=down.tlps,
            wire_up=up.wire_bytes,
            wire_down=down.wire_bytes,
            busy_up=account.gbps(UP, dllps=True) / raw,
            busy_down=account.gbps(DOWN, dllps=True) / raw,
            answers=answers,
        )

    def take(self, name: str, answers: list[Answer]) -> int:
        """Take the answers that there are; how many."""
        count = 0
        while (done := self.driver.poll()) is not None:
            at, sent_ns = done.cookie
            answers.append(Answer(round(sent_ns, 3), round(self.now(), 3)))
            if done.status != RequestStatus.OK:
                self.failed.append(f"{name} of sector {at // SECTOR_BYTES}: {done.status.name}")
            elif done.data:
                self.read_back[at : at + len(done.data)] = done.data
            count += 1
        return count

    async def interrupt(self, before: int) -> None:
        """Wait for an interrupt, for a bounded time; the caller finds out if there was none."""
        limit = self.now() + _STALL_NS
        flying = self.samples[-1].in_flight
        while len(self.interrupts) == before and self.now() < limit:
            await Timer(_POLL_NS, "ns")
            self.note(flying)

    def note(self, in_flight: int) -> None:
        """Take a sample of the link, unless there is one of this microsecond."""
        if self.samples:
            last = self.samples[-1]
            if last.in_flight == in_flight and self.now() < last.at_ns + _SAMPLE_NS:
                return
        account = self.host.monitor.snapshot()
        down, up = (account.total(way, _DATA).data_bytes for way in (DOWN, UP))
        self.samples.append(Sample(round(self.now(), 3), down, up, in_flight))

    def now(self) -> float:
        """Simulated time since the first doorbell, in ns."""
        return float(get_sim_time("ns")) - self.start_ns

    async def complaint(self, name: str, sent: int, done: int) -> str:
        """Return where everything stands, for the message of a stalled run."""
        notes = [f"{name}: no answer within {_STALL_NS} ns, {done} of {sent} requests answered"]
        try:
            notes.append(f"device status {int(await self.pci.status()):#04x}")
        except Exception as error:
            notes.append(f"the device does not answer ({error})")
        notes += [*self.host.violations[:1], *map(str, self.memory.faults[:1])]
        return "; ".join(notes)

    # Result

    def checks(self, phases: list[Phase]) -> list[Check]:
        """What the driver and the root complex say."""
        total = sum(phase.requests for phase in phases)
        wrong = next(
            (
                at
                for at, (a, b) in enumerate(zip(self.image, self.read_back, strict=True))
                if a != b
            ),
            None,
        )
        checks = [
            Check("answers", not self.failed, (self.failed or [f"{total} requests, all OK"])[0]),
            Check(
                "what was read back",
                wrong is None,
                counted(len(self.image), "byte")
                if wrong is None
                else f"differs from byte {wrong:,} on",
            ),
        ]
        try:
            self.host.check()
            detail = f"{counted(self.host.target.reads, 'read')}, " + counted(
                self.host.target.writes, "write"
            )
            checks.append(Check("rules of PCIe", not self.memory.faults, detail))
        except AssertionError as error:
            checks.append(Check("rules of PCIe", False, str(error).splitlines()[0][:200]))
        return checks

    def result(self, phases: list[Phase]) -> DiskResult:
        """Put everything together."""
        latency, checker = self.host.target.latency, self.host.target.checker
        names: dict[int, str] = {bit.value: f"VIRTIO_F_{bit.name}" for bit in Feature}
        names |= {bit.value: f"VIRTIO_BLK_F_{bit.name}" for bit in BlkFeature}
        places = range(self.accepted.bit_length())
        config = asdict(self.config)
        return DiskResult(
            config={key: config[key] for key in self.options.shown},
            image=self.options.source,
            image_bytes=len(self.image),
            seed=self.options.seed,
            device={
                "capacity": counted(self.limits.capacity, "sector"),
                "data of a request": f"{REQUEST_BYTES:,} bytes",
                "requests in flight": f"up to {IN_FLIGHT}",
                "ring format": self.options.ring,
                "features negotiated": ", ".join(names[at] for at in places
                                                 if self.accepted >> at & 1),
                HOST_LATENCY: f"{latency.low_ns:,.0f} to {latency.high_ns:,.0f} ns, "
                f"mean {latency.mean_ns:,.0f}",
                "largest payload of a TLP (MPS)": f"{checker.max_payload:,} bytes",
                "largest read request (MRRS)": f"{checker.max_read_request:,} bytes",
            },
            phases=phases,
            samples=self.samples,
            checks=self.checks(phases),
        )  # fmt: skip


@cocotb.test()
async def demo(dut: Any) -> None:
    """Run the demo as `lib.sim.params()` says."""
    await DiskDemo(dut).run()
