"""The rate of an ideal endpoint: no hardware, and no TLP but those that a case needs.

It goes through the same simulated link, root complex, memory and read latency as the device under
test, and is measured in the same way, so that no device can be better. `ideal_queue` and
`ideal_endpoint` are the endpoint, `ideal_flow` is one measurement inside the simulator.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import lcm
from pathlib import Path
from typing import Any

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from lib.locks import file_lock
from lib.paths import BUILD, ROOT
from virtio_model.wire import (
    Direction,
    Frame,
    Load,
    cut,
    descriptor_read_bytes,
    mixed_bytes_per_frame,
    segments_of,
)

FOLDER = BUILD / "bench"
MRRS = 512
MPS = 256
_SOURCES = (
    "tb/lib/pcie/*.py",
    "tb/bench/ideal*.py",
    "models/virtio_model/memory.py",
    "models/virtio_model/wire.py",
    "requirements.lock",
)
_WINDOW_BYTES = 600_000  # at least, in the busier direction
_WINDOW_FRAMES = (512, 4096)
_LIMIT_S = 1800
_NAME = "ideal_endpoint"


@dataclass(frozen=True)
class IdealCase:
    """What is measured.

    lanes, generation: of the link. direction: for "both", a frame each way at a time.
    frames: sent one after the other, over and over: bytes in memory, virtio-net header included
    (72 for a "64-byte frame"), or the bytes of each segment of a frame that has several.
    descriptors: into how many segments a frame given as one number is cut.
    completion_bytes: 256, or 64 for a host that splits at every read completion boundary.
    batch: buffers per descriptor read and per write of used descriptors, a power of two up to 16.
    doorbell_batch: frames per doorbell. host_read_ns: mean; the spread is that of the benchmark.
    """

    lanes: int
    generation: int
    direction: Direction
    frames: tuple[Frame, ...]
    descriptors: int = 1
    completion_bytes: int = 256
    batch: int = 16
    doorbell_batch: int = 32
    host_read_ns: float = 600.0

    def __post_init__(self) -> None:
        if self.completion_bytes not in (64, MPS):
            raise ValueError(f"completions of {self.completion_bytes} bytes: 64 or {MPS}")
        if self.batch not in (1, 2, 4, 8, 16):
            raise ValueError(f"batch {self.batch}: a power of two up to 16")

    @property
    def chains(self) -> tuple[tuple[int, ...], ...]:
        """Bytes of each segment, for each frame."""
        return tuple(
            cut(frame, self.descriptors) if isinstance(frame, int) else segments_of(frame)
            for frame in self.frames
        )

    @property
    def read_bytes(self) -> int:
        """Size of one read of descriptors."""
        return descriptor_read_bytes(self.chains, self.batch, MRRS)

    def load(self) -> Load:
        """Return what the wire model expects per frame."""
        return mixed_bytes_per_frame(
            self.direction,
            self.chains,
            "packed",
            self.batch,
            self.completion_bytes,
            MRRS,
            MPS,
            self.doorbell_batch,
        )

    @property
    def window(self) -> int:
        """Frames to measure: whole rounds of the list, and whole batches."""
        least, most = _WINDOW_FRAMES
        wanted = min(max(round(_WINDOW_BYTES / max(self.load())), least), most)
        step = lcm(self.batch, len(self.frames))
        return -(-wanted // step) * step


@dataclass(frozen=True)
class IdealResult:
    """What came out, counted at the root port over a window of steady state.

    Rates and bytes are per frame, for both ways per pair of frames. wire_up, wire_down: bytes of
    TLPs; dllp_up, dllp_down: bytes of DLLPs. gbps_up, gbps_down: of both together.
    """

    mpps: float
    wire_up: float
    wire_down: float
    gbps_up: float
    gbps_down: float
    dllp_up: float
    dllp_down: float
    window_ns: float
    frames: int


class EmptyDut(wiring.Component):
    """One flip-flop: the simulator wants a design, the ideal endpoint does not."""

    def __init__(self) -> None:
        super().__init__({"i": In(1), "o": Out(1)})

    def elaborate(self, platform: Any) -> Module:
        """Return the flip-flop."""
        m = Module()
        m.d.sync += self.o.eq(self.i)
        return m


def measure_ideal(
    cases: Sequence[IdealCase], folder: Path = FOLDER, seed: int | None = None
) -> list[IdealResult]:
    """Return the result of each case, from `folder`/ideal_cache.json or by simulation.

    A result is kept for as long as case, seed and the sources of endpoint and host stay the same.
    seed: default is SEED of the environment, else a fixed one.
    """
    from lib.sim import choose_seed

    seed = choose_seed(_NAME, seed)
    cache = folder / "ideal_cache.json"
    sources = _sources_hash()
    keys = [_key(case, sources, seed) for case in cases]
    with file_lock(folder / "ideal_cache.lock"):
        try:
            known = json.loads(cache.read_text())
        except (OSError, ValueError):
            known = {}
        known = {key: line for key, line in known.items() if line["sources"] == sources}
        missing = {key: case for key, case in zip(keys, cases, strict=True) if key not in known}
        if missing:
            for key, line in zip(missing, _simulate(list(missing.values()), seed), strict=True):
                known[key] = {"sources": sources, "result": line}
            cache.write_text(json.dumps(known, indent=1) + "\n")
    return [IdealResult(**known[key]["result"]) for key in keys]


def _simulate(cases: list[IdealCase], seed: int) -> list[dict[str, Any]]:
    from lib.sim import simulate

    with tempfile.TemporaryDirectory() as folder:
        parts = Path(folder)
        simulate(
            EmptyDut(),
            module="bench.ideal_flow",
            name=_NAME,
            params={"cases": [asdict(case) for case in cases], "folder": folder, "seed": seed},
            seed=seed,
            limit_s=_LIMIT_S,
        )
        return [json.loads((parts / f"{number}.json").read_text()) for number in range(len(cases))]


def _sources_hash() -> str:
    digest = hashlib.sha256()
    for path in sorted(path for pattern in _SOURCES for path in ROOT.glob(pattern)):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _key(case: IdealCase, sources: str, seed: int) -> str:
    text = json.dumps([asdict(case), sources, seed])
    return hashlib.sha256(text.encode()).hexdigest()[:24]
