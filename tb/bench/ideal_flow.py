"""One measurement of the ideal endpoint inside the simulator."""

from __future__ import annotations

import json
import random
from dataclasses import asdict
from math import gcd
from pathlib import Path
from typing import Any, Literal

import cocotb
from cocotb.triggers import Timer
from cocotb.utils import get_sim_time

from bench.ideal import MPS, MRRS, IdealCase, IdealResult
from bench.ideal_endpoint import IdealEndpoint
from bench.ideal_queue import IdealQueue
from lib.pcie.host import HostRootComplex, memory_request
from lib.pcie.latency import ReadLatency
from lib.pcie.monitor import DOWN, UP, Snapshot
from lib.pcie.packet import MEM_WRITE
from lib.sim import params
from virtio_model.memory import Allocator, GuestMemory
from virtio_model.rings.packed import DESC_SIZE, DescFlags

_MEMORY_BASE = 1 << 32
_DOORBELLS = 1 << 40
_RING = 1024  # descriptors, at least
_DLLP_BYTES = 8
_STALL_NS = 100_000

Kind = Literal["transmit", "receive"]


class IdealRing:
    """The host's side: a packed ring that is full for ever, and its buffers.

    Every frame of the case has one buffer, however often it stands in the ring.
    """

    def __init__(self, case: IdealCase, kind: Kind, memory: GuestMemory, allocator: Allocator):
        chains = case.chains
        self.case = case
        self.kind = kind
        self.memory = memory
        self.frame_bytes = max(map(sum, chains))
        self.payload = random.randbytes(self.frame_bytes)
        self.segments: list[list[tuple[int, int]]] = []  # of each frame: address, bytes
        receive = kind == "receive"
        for chain in chains:
            frame = []
            for length in chain:
                address = allocator.alloc(length, MRRS)
                memory.grant(address, length, writable=receive, readable=not receive)
                frame.append((address, length))
            self.segments.append(frame)
        lap = sum(map(len, chains))
        # Whole rounds of the list, whole batches of frames, whole reads of descriptors.
        fetch = case.read_bytes // DESC_SIZE
        rounds, least = 1, _RING // lap
        for need in (case.batch // gcd(len(chains), case.batch), fetch // gcd(lap, fetch)):
            rounds *= need // gcd(rounds, need)
        rounds *= -(-max(least, 1) // rounds)
        self.size = lap * rounds
        self.address = allocator.alloc(DESC_SIZE * self.size, 4096)
        memory.grant(self.address, DESC_SIZE * self.size, writable=True)
        memory.write(self.address, self._descriptors() * rounds)
        if not receive:
            self._fill()

    def _descriptors(self) -> bytes:
        made = bytearray()
        write = DescFlags.WRITE if self.kind == "receive" else 0
        for number, frame in enumerate(self.segments):
            for index, (address, length) in enumerate(frame):
                chained = DescFlags.NEXT if index < len(frame) - 1 else 0
                made += address.to_bytes(8, "little") + length.to_bytes(4, "little")
                made += number.to_bytes(2, "little") + int(write | chained).to_bytes(2, "little")
        return bytes(made)

    def _fill(self) -> None:
        for frame in self.segments:
            at = 0
            for address, length in frame:
                self.memory.write(address, self.payload[at : at + length])
                at += length

    def queue(self) -> IdealQueue:
        """Return the endpoint's side."""
        return IdealQueue(
            self.kind,
            self.address,
            self.size,
            read_bytes=self.case.read_bytes,
            batch=self.case.batch,
            payload=self.payload,
            mrrs=MRRS,
            mps=MPS,
        )

    def check(self) -> None:
        """Hold what the endpoint has written against what it was to write."""
        for frame in self.segments:
            found = b"".join(self.memory.read(address, length) for address, length in frame)
            assert found == self.payload[: len(found)], (self.kind, frame)


class IdealFlow:
    """Measures a window of steady state; what counts is when used descriptors arrive."""

    def __init__(self, case: IdealCase) -> None:
        self.case = case
        kinds: tuple[Kind, ...] = ("transmit", "receive")
        buffers = sum(sum(length + 2 * MRRS for length in chain) for chain in case.chains)
        descriptors = 64 * (_RING + sum(map(len, case.chains))) * DESC_SIZE
        size = 2 * (buffers + descriptors) + (1 << 20)
        self.memory = memory = GuestMemory(size, _MEMORY_BASE, raise_faults=False)
        allocator = Allocator(memory)
        self.rings = [
            IdealRing(case, kind, memory, allocator)
            for kind in kinds
            if case.direction in (kind, "both")
        ]
        mean = case.host_read_ns
        latency = ReadLatency(mean, (mean * 2 / 3, mean * 5 / 3))
        self.root = HostRootComplex(
            memory,
            latency=latency,
            max_payload=MPS,
            max_read_request=MRRS,
            split_on_all_rcb=case.completion_bytes == 64,
        )
        self.doorbells = [_DOORBELLS + 4 * index for index in range(len(self.rings))]
        self.endpoint = IdealEndpoint(
            [ring.queue() for ring in self.rings],
            self.doorbells,
            lanes=case.lanes,
            generation=case.generation,
            max_payload=MPS,
        )
        self.root.make_port().connect(self.endpoint.port)
        self.used = [0] * len(self.rings)
        self.rung = [0] * len(self.rings)
        self.before: tuple[Snapshot, list[int]] | None = None
        self.after: tuple[Snapshot, list[int]] | None = None
        memory.write_hooks.append(self._written)

    def _written(self, address: int, data: bytes) -> None:
        for index, ring in enumerate(self.rings):
            if ring.address <= address < ring.address + ring.size * DESC_SIZE:
                self.used[index] += -(-len(data) // DESC_SIZE)
                if self.used[index] >= (self.rung[index] + 1) * self.case.doorbell_batch:
                    self._ring_doorbell(index)
                    self.rung[index] += 1
                break
        else:
            return
        window = self.case.window
        if self.before is None:
            if min(self.used) >= max(window // 4, 128):
                self.before = self._stand()
        elif self.after is None:
            counts = self.before[1]
            if min(now - then for now, then in zip(self.used, counts, strict=True)) >= window:
                self.after = self._stand()

    def _stand(self) -> tuple[Snapshot, list[int]]:
        return self.root.monitor.snapshot(), list(self.used)

    def _ring_doorbell(self, index: int) -> None:
        request = memory_request(MEM_WRITE, self.doorbells[index], 4, bytes(4))
        self.root.link.submit(request)

    async def run(self) -> IdealResult:
        """Train, fill the pipe, measure."""
        while not self.root.link.up or not self.endpoint.port.up:
            await Timer(10, "ns")
        for index in range(len(self.rings)):
            self._ring_doorbell(index)
        seen, moved_at = 0, get_sim_time("ns")
        while self.after is None:
            await Timer(1000, "ns")
            if sum(self.used) > seen:
                seen, moved_at = sum(self.used), get_sim_time("ns")
            assert get_sim_time("ns") < moved_at + _STALL_NS, f"stalled: used {self.used}"
        self.root.check()
        for ring in self.rings:
            ring.check()
        return self._result()

    def _result(self) -> IdealResult:
        assert self.before is not None
        assert self.after is not None
        wire = self.after[0] - self.before[0]
        frames = min(now - then for now, then in zip(self.after[1], self.before[1], strict=True))
        return IdealResult(
            mpps=frames / wire.time_ns * 1e3,
            wire_up=wire.total(UP).wire_bytes / frames,
            wire_down=wire.total(DOWN).wire_bytes / frames,
            gbps_up=wire.gbps(UP, dllps=True),
            gbps_down=wire.gbps(DOWN, dllps=True),
            dllp_up=wire.dllps[UP] * _DLLP_BYTES / frames,
            dllp_down=wire.dllps[DOWN] * _DLLP_BYTES / frames,
            window_ns=wire.time_ns,
            frames=frames,
        )


@cocotb.test()
@cocotb.parametrize(("number", range(len(getattr(params(), "cases", [])))))
async def measure_one(dut: Any, number: int) -> None:
    """Measure case `number` of `lib.sim.params()`."""
    options = params()
    fields = options.cases[number]
    fields["frames"] = tuple(
        frame if isinstance(frame, int) else tuple(frame) for frame in fields["frames"]
    )
    case = IdealCase(**fields)
    random.seed(f"{options.seed} {case}")  # whatever else is measured in the same simulation
    result = await IdealFlow(case).run()
    (Path(options.folder) / f"{number}.json").write_text(json.dumps(asdict(result)))
