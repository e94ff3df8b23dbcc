"""The demo inside the simulator: bring the device up, time lone packets, flood it, compare."""

from __future__ import annotations

import random
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cocotb
from cocotb.triggers import Timer

from demo import capture
from demo.ceiling import ceiling
from demo.host import RX, TX, Host, Stalled
from demo.journey import LONE_FRAME, time_journey
from demo.port_monitor import PortMonitor
from demo.progress import ProgressWriter
from demo.result import HOST_LATENCY, Flood, Journey, Result, WireLine
from demo.steady import Arrival, steady
from lib.golden import Check, Journal, PairDriver, QueueMaker, Twin, compare
from lib.golden.places import used_entries
from lib.pcie.monitor import DOWN, UP
from lib.sim import params
from lib.words import counted
from virtio_model.driver.net import NetDriver
from virtio_model.spec.features import Feature
from virtio_model.spec.net import HEADER_SIZE, NetFeature
from virtio_rtl.config import named_config

_POLL_NS = 250
_STALL_NS = 500_000
_RING = 256
_SLACK = 1 << 16
_ALIGN = 64


class Demo:
    """One run; `run` does it all."""

    def __init__(self, dut: Any) -> None:
        options = params()
        self.dut = dut
        self.config = named_config(options.config)
        self.options = options
        self.progress = ProgressWriter()
        self.frames = capture.load(Path(options.sent), self.config).frames
        longest = max(LONE_FRAME, *map(len, self.frames)) + HEADER_SIZE
        self.buffer_bytes = -(-longest // _ALIGN) * _ALIGN
        self.ring_size = min(_RING, self.config.queue_size_max)
        self.memory_bytes = _SLACK + 2 * self.ring_size * (self.buffer_bytes + _ALIGN + 16)
        self.host = Host(dut, self.config, memory_bytes=self.memory_bytes)
        self.lone_frame = bytes(range(LONE_FRAME))
        self.received_at: list[float] = []
        self.kicks = 0
        self.journal = Journal()
        self.driver: PairDriver
        self.twin: Twin

    async def run(self) -> None:
        """Bring up, measure, compare, and write the result."""
        tell = self.progress.tell
        dut, host = self.dut, self.host
        dut.arm.value = 1
        dut.release.value = 1
        self.port = PortMonitor(dut)
        tell("enumerating, negotiating", 0, 0)
        await host.start(self.options.ring)
        seed = random.getrandbits(32)
        maker = QueueMaker(host.memory, host.allocator, host.features, None, seed)
        rx, tx = (maker.make(self.ring_size) for _ in (RX, TX))
        net = NetDriver(host.memory, host.allocator, rx, tx, host.features)
        self.driver = PairDriver(0, net, self.journal)
        self.twin = Twin(host.memory, [self.ring_size] * 2, host.features, None, seed)
        for index, queue in ((RX, rx), (TX, tx)):
            await host.setup_queue(index, queue)
        await host.go()
        tell("timing a lone packet", 0, 2)
        journeys = await self.lone_packets()
        flood = await self.flood()
        tell("comparing with the golden model", 0, 0)
        everything = [self.lone_frame, *self.frames]
        self.twin.replay(self.journal, [everything], [self.driver])
        checks = compare(
            host.memory,
            [self.driver],
            self.twin,
            [self.port.frames],
            frames=[everything],
            note=f" ({len(self.frames):,} of the capture and the lone one)",
        )
        checks.append(self.bus_check())
        capture.save(
            Path(self.options.received),
            [got.frame for got in self.driver.received[1:]],
            [round(at) for at in self.received_at[1:]],
        )
        self.result(flood, journeys, checks).save(Path(self.options.result))

    # Driver

    async def kick(self, index: int) -> None:
        """Notify the device if it wants that."""
        self.kicks += await self.host.pci.kick(index)

    async def refill(self) -> None:
        """Keep the receive ring posted."""
        while self.driver.net.rx.free_slots:
            self.driver.post(self.buffer_bytes)
        await self.kick(RX)

    def receive(self) -> int:
        """Take what has been received."""
        count = self.driver.receive()
        self.received_at += [self.host.now_ns()] * count
        return count

    # Lone packets

    async def lone_packets(self) -> list[Journey]:
        """Time one packet out, and the same packet back in, each with its interrupt."""
        await self.refill()
        await self.host.quiet()
        self.dut.release.value = 0
        net, ring = self.driver.net, self.options.ring
        out = await time_journey(self.host, net, TX, ring, self.send_lone, self.until)
        assert self.driver.reap() == 1
        back = await time_journey(self.host, net, RX, ring, self.release_lone, self.until)
        self.receive()
        return [out, back]

    async def send_lone(self) -> None:
        """Make the lone packet available and ring."""
        self.driver.send(self.lone_frame)
        await self.kick(TX)

    async def release_lone(self) -> None:
        """Let the packet that waits in the loop come back."""
        self.dut.release.value = 1

    async def until(self, done: Any, what: str) -> None:
        """Wait, for a bounded time."""
        limit = self.host.now_ns() + _STALL_NS
        while not done():
            if self.host.now_ns() > limit:
                raise Stalled(f"no {what} within {_STALL_NS} ns; {await self.complaint()}")
            await Timer(_POLL_NS, "ns")

    async def complaint(self) -> str:
        """Return where everything stands, for the message of a stalled run."""
        driver, used = self.driver, [len(tap.entries) for tap in self.driver.used]
        sent = sum(action == "send" for action, *_ in self.journal.actions)
        return (
            f"{sent} frames handed over, {len(self.port.frames)} left the port, "
            f"{used[TX]} transmit buffers used ({driver.net.tx.outstanding} not "
            f"reaped), {used[RX]} receive buffers used "
            f"({len(driver.received)} taken); {await self.host.complaint()}"
        )

    # The flood

    async def flood(self) -> Flood:
        """Send the whole capture with full rings, as a driver that polls while there is work."""
        host, driver, total = self.host, self.driver, len(self.frames)
        await self.refill()
        await self.host.quiet()
        self.kicks = 0
        interrupts = len(host.root.interrupts.received)
        arrivals = self.note_arrivals()
        before, start = host.root.monitor.snapshot(), host.now_ns()
        sent = received = reaped = 0
        progress_at = start
        while received < total or reaped < total:
            while sent < total and driver.net.tx.free_slots:
                driver.send(self.frames[sent])
                sent += 1
            await self.kick(TX)
            await self.refill()
            self.progress.tell("moving frames", received, total)
            news = driver.reap()
            got = self.receive()
            reaped += news
            received += got
            if news or got:
                progress_at = host.now_ns()
                await Timer(_POLL_NS, "ns")
            elif host.now_ns() > progress_at + _STALL_NS:
                raise Stalled(f"no progress for {_STALL_NS} ns; {await self.complaint()}")
            else:
                await self.rest()
        end = max(arrival.time_ns for arrival in arrivals)
        wire = host.root.monitor.snapshot() - before
        return Flood(
            frames=total,
            frame_bytes=sum(map(len, self.frames)),
            time_ns=round(end - start, 3),
            steady=steady(self.config, [*map(len, self.frames)], arrivals, self.options.ring),
            ring_size=self.ring_size,
            doorbells=self.kicks,
            interrupts=len(host.root.interrupts.received) - interrupts,
            wire=[
                WireLine(way, purpose, line.tlps, line.wire_bytes)
                for (way, purpose, _), line in sorted(wire.lines.items())
            ],
        )

    async def rest(self) -> None:
        """A poll found nothing: wait for an interrupt, as NAPI does, then mask it again."""
        net = self.driver.net
        interrupts, queues = self.host.root.interrupts, (net.rx, net.tx)
        before = len(interrupts.received)
        waiting = [queue.enable_interrupts() for queue in queues]
        if not any(waiting):
            await self.until(lambda: len(interrupts.received) > before, "interrupt")
        for queue in queues:
            queue.disable_interrupts()

    def note_arrivals(self) -> list[Arrival]:
        """Note from now on when received frames show in the ring."""
        arrivals: list[Arrival] = []
        first, last, size = used_entries(self.driver.net.rx)

        def written(addr: int, data: bytes) -> None:
            if first <= addr < last:
                before = arrivals[-1].frames if arrivals else 0
                account = self.host.root.monitor.snapshot()
                up, down = (
                    round(account.gbps(way, dllps=True) * account.time_ns / 8) for way in (UP, DOWN)
                )
                arrivals.append(Arrival(account.time_ns, before + len(data) // size, up, down))

        self.host.memory.write_hooks.append(written)
        return arrivals

    # Result

    def bus_check(self) -> Check:
        """Return what the root complex thinks of the device's manners."""
        try:
            self.host.root.check()
        except AssertionError as error:
            return Check("rules of PCIe", False, str(error).splitlines()[0][:200])
        target = self.host.root.target
        if self.port.errors:
            return Check(
                "rules of PCIe", False, f"{counted(self.port.errors, 'frame')} marked as bad"
            )
        return Check(
            "rules of PCIe",
            True,
            f"{counted(target.reads, 'read')}, {counted(target.writes, 'write')}",
        )

    def result(self, flood: Flood, journeys: list[Journey], checks: list[Check]) -> Result:
        """Put everything together."""
        host, latency = self.host, self.host.root.target.latency
        checker = host.root.target.checker
        return Result(
            config=asdict(self.config),
            capture=self.options.capture,
            seed=self.options.seed,
            device={
                "MAC address": ":".join(f"{octet:02x}" for octet in host.mac),
                "ring format": self.options.ring,
                "features negotiated": ", ".join(feature_names(host.features)),
                HOST_LATENCY: f"{latency.low_ns:,.0f} to {latency.high_ns:,.0f} ns, "
                f"mean {latency.mean_ns:,.0f}",
                "largest payload of a TLP (MPS)": f"{checker.max_payload:,} bytes",
                "largest read request (MRRS)": f"{checker.max_read_request:,} bytes",
            },
            flood=flood,
            ceiling=ceiling(self.config, map(len, self.frames), "both", self.options.ring),
            journeys=journeys,
            checks=checks,
        )


def feature_names(features: int) -> list[str]:
    """Return the names that the virtio specification gives to the features of a set."""
    names: dict[int, str] = {bit.value: f"VIRTIO_F_{bit.name}" for bit in Feature}
    names |= {bit.value: f"VIRTIO_NET_F_{bit.name}" for bit in NetFeature}
    places = range(features.bit_length())
    return [names.get(at, f"bit {at}") for at in places if features >> at & 1]


@cocotb.test()
async def demo(dut: Any) -> None:
    """Run the demo as `lib.sim.params()` says."""
    await Demo(dut).run()
