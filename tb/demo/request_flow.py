"""A demo of requests inside the simulator: phases of requests, with a bound on those in flight."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from cocotb.triggers import Timer
from cocotb.utils import get_sim_time

from demo.ceiling import raw_gbps
from demo.host import Stalled
from demo.progress import ProgressWriter
from demo.request_config import SHOWN
from demo.request_result import Answer, Phase, RequestResult, Sample, Words
from demo.result import HOST_LATENCY
from lib.device_system import MESSAGE_ADDRESS, DeviceSystem
from lib.golden import Check
from lib.golden.places import areas
from lib.pcie.monitor import DOWN, UP, AddressRanges
from lib.sim import params
from lib.words import counted
from virtio_model.spec.features import Feature
from virtio_rtl.config import DeviceConfig

__all__ = ["IN_FLIGHT", "Done", "RequestDemo"]

IN_FLIGHT = 32
RING = 64
_POLL_NS = 250
_STALL_NS = 500_000
_SAMPLE_NS = 1000
_DATA = "other"
"""What the link's account says of all that is not in a virtqueue: data, headers, tables."""


class Done(NamedTuple):
    """An answer that a driver has taken: when its request was sent, and the bytes it moved."""

    sent_ns: float
    data_bytes: int


class RequestDemo(DeviceSystem):
    """One run with the options of `lib.sim.params()`; `run` does it all.

    A subclass has the driver: `phases`, `take` and the checks of its own.
    """

    RING_FEATURES: ClassVar[tuple[str, ...]] = ("indirect_desc", "event_idx")
    FEATURE_NAMES: ClassVar[Mapping[int, str]] = {}
    """Feature bits of the device type."""

    def __init__(self, dut: Any, config: DeviceConfig, **more: Any) -> None:
        self.options = params()
        super().__init__(
            dut,
            config,
            sizes=RING,
            ring=self.options.ring,
            features=self.RING_FEATURES,
            **more,
        )
        self.progress = ProgressWriter()
        self.samples: list[Sample] = []
        self.kicks = 0
        self.start_ns = 0.0

    # For a device type

    async def phases(self) -> list[Phase]:
        """Do everything, in phases."""
        raise NotImplementedError

    def take(self, phase: str) -> Done | None:
        """Take an answer, if there is one."""
        raise NotImplementedError

    def checks(self) -> list[Check]:
        """Hold the run against what should have been."""
        raise NotImplementedError

    def words(self) -> Words:
        """How to speak of it."""
        raise NotImplementedError

    def settings(self) -> dict[str, str]:
        """Return what else the report should say of the run."""
        raise NotImplementedError

    # A run

    async def run(self) -> None:
        """Bring up, do all phases, and write the result."""
        self.progress.tell("enumerating, negotiating", 0, 0)
        await self.bring_up()
        self.name_addresses()
        self.start_ns = get_sim_time("ns")
        phases = await self.phases()
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

    # A phase

    async def phase(
        self, name: str, send: Callable[[Any, float], None], wanted: Sequence[Any]
    ) -> Phase:
        """Send a request for each that is wanted, `IN_FLIGHT` at a time, and take all answers.

        send: gets what is wanted, and the time that `take` must give back.
        """
        queue, monitor = self.queues[0], self.host.monitor
        before, start = monitor.snapshot(), self.now()
        kicks, interrupts = self.kicks, len(self.interrupts)
        answers: list[Answer] = []
        sent = data_bytes = 0
        progress_at = start
        queue.disable_interrupts()
        while len(answers) < len(wanted):
            first = sent
            while sent < len(wanted) and sent - len(answers) < IN_FLIGHT:
                send(wanted[sent], self.now())
                sent += 1
            if sent > first:
                self.kicks += await self.pci.kick(0)
            got = 0
            while (done := self.take(name)) is not None:
                answers.append(Answer(round(done.sent_ns, 3), round(self.now(), 3)))
                data_bytes += done.data_bytes
                got += 1
            self.note(sent - len(answers))
            self.progress.tell(f"{name}: requests", len(answers), len(wanted))
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

    def rules_of_pcie(self) -> Check:
        """What the root complex says."""
        try:
            self.host.check()
        except AssertionError as error:
            return Check("rules of PCIe", False, str(error).splitlines()[0][:200])
        target = self.host.target
        detail = f"{counted(target.reads, 'read')}, {counted(target.writes, 'write')}"
        return Check("rules of PCIe", not self.memory.faults, detail)

    def result(self, phases: list[Phase]) -> RequestResult:
        """Put everything together."""
        latency, checker = self.host.target.latency, self.host.target.checker
        names = {bit.value: f"VIRTIO_F_{bit.name}" for bit in Feature} | dict(self.FEATURE_NAMES)
        places = range(self.accepted.bit_length())
        config = asdict(self.config)
        return RequestResult(
            config={key: config[key] for key in SHOWN},
            words=self.words(),
            seed=self.options.seed,
            device={
                **self.settings(),
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
            checks=[*self.checks(), self.rules_of_pcie()],
        )  # fmt: skip
