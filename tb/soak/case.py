"""What is drawn for one stretch of traffic: ring format, features, sizes, framing, the host."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

__all__ = ["Case", "draw_cases", "load_cases", "save_cases"]

RING_FEATURES = (
    "indirect_desc", "event_idx", "in_order", "notification_data", "notif_config_data",
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One stretch of traffic: the device is reset, brought up, used and compared.

    Parameters
    ----------
    ring, features
        As for `lib.net_features.wanted_features`.
    rx_sizes, tx_sizes
        Virtqueue sizes by queue pair, modulo the number of entries.
    frames
        Each way.
    longest
        Bytes of the longest frame; short ones are as frequent.
    cuts
        Most cuts of a buffer into segments.
    tables
        Share of buffers in indirect tables, where negotiated.
    short
        Share of receive buffers that may be too short for a frame.
    policy
        How a split virtqueue chooses free descriptors, without IN_ORDER.
    batch
        Most buffers that are made available before a kick.
    interrupts
        "on"; "off": the driver polls; "idle": only while there is nothing to do, and with
        EVENT_IDX some buffers later.
    max_payload, max_read_request, boundary, pieces
        Bytes; `pieces`: completions end at each boundary.
    latency_ns
        Shortest and longest of the host.
    sample
        When the host looks at memory, as `MemoryTarget.sample`.
    gap_ns
        Longest pause between completions of one read.
    stall
        Chance of a stall per cycle on TLP and AXI streams.
    seed
        Of everything else that is drawn while it runs.
    """

    ring: str
    features: tuple[str, ...]
    rx_sizes: tuple[int, ...]
    tx_sizes: tuple[int, ...]
    frames: int
    longest: int
    cuts: int
    tables: float
    short: float
    policy: str
    batch: int
    interrupts: str
    max_payload: int
    max_read_request: int
    boundary: int
    pieces: bool
    latency_ns: tuple[int, int]
    sample: str
    gap_ns: int
    stall: float
    seed: int

    @property
    def buffers(self) -> int:
        """Buffers that are used, both ways."""
        return 2 * self.frames

    @staticmethod
    def of(record: dict[str, Any]) -> Case:
        """From JSON."""
        lists = {key: tuple(value) for key, value in record.items() if isinstance(value, list)}
        return Case(**{**record, **lists})


@st.composite
def cases(draw: st.DrawFn, frames: tuple[int, int]) -> Case:
    """Any case; `frames` is the range of frames each way."""
    ring = draw(st.sampled_from(("packed", "split")))
    chosen = draw(st.lists(st.booleans(), min_size=5, max_size=5))
    # Of a list, the first entries are drawn a little more often than the last ones.
    powers = st.sampled_from((64, 128, 256, 32, 16, 64, 128, 256, 8, 4, 2, 1))
    sizes = powers if ring == "split" else st.one_of(st.integers(1, 300), powers)
    rx_sizes, tx_sizes = (tuple(draw(st.lists(sizes, min_size=4, max_size=4))) for _ in range(2))
    latency = draw(st.sampled_from(((50, 300), (300, 600), (100, 200), (50, 1000))))
    low = draw(st.integers(*latency))
    batch = draw(st.sampled_from((16, 64, 5, 300, 2, 1)))
    count = draw(st.integers(*frames))
    if min(rx_sizes[0], tx_sizes[0]) <= 8 or batch <= 2:
        count = max(count // 8, 20)  # slow, for only a few buffers are in flight
    return Case(
        ring=ring,
        features=tuple(
            name for name, on in zip(RING_FEATURES, chosen, strict=True) if on
        ),
        rx_sizes=rx_sizes,
        tx_sizes=tx_sizes,
        frames=count,
        longest=draw(st.sampled_from((200, 100, 60, 200, 600, 1514))),
        cuts=draw(st.sampled_from((3, 0, 1, 0, 7, 15))),
        tables=draw(st.sampled_from((0.5, 0.0, 1.0))),
        short=draw(st.sampled_from((0.0, 0.0, 0.2))),
        policy=draw(st.sampled_from(("linux", "fifo", "random"))),
        batch=batch,
        interrupts=draw(st.sampled_from(("on", "off", "idle"))),
        max_payload=draw(st.sampled_from((128, 256))),
        max_read_request=draw(st.sampled_from((128, 256, 512))),
        boundary=draw(st.sampled_from((64, 128))),
        pieces=draw(st.booleans()),
        latency_ns=(low, draw(st.integers(low, latency[1]))),
        sample=draw(st.sampled_from(("answer", "arrival", "random"))),
        gap_ns=draw(st.sampled_from((0, 0, 0, 20, 100))),
        stall=draw(st.sampled_from((0.0, 0.0, 0.0, 0.1, 0.3))),
        seed=draw(st.integers(0, (1 << 32) - 1)),
    )  # fmt: skip


def draw_cases(number: int, buffers: int, frames: tuple[int, int] = (160, 700)) -> list[Case]:
    """At least so many buffers, in cases drawn with this seed; the same whenever called."""
    chosen: list[Case] = []
    seen: set[int] = set()
    for case in _drawn(number, 8 * (buffers // sum(frames) + 8), frames):
        # Hypothesis repeats parts of what it has drawn: those cases have a seed in common.
        if case.seed not in seen and sum(one.buffers for one in chosen) < buffers:
            chosen.append(_spread(case, len(chosen)))
        seen.add(case.seed)
    at = 0
    while sum(case.buffers for case in chosen) < buffers:
        chosen.append(replace(chosen[at], seed=number + at))
        at += 1
    return chosen


def _spread(case: Case, place: int) -> Case:
    """Twelve cases in turn have all of what decides about interrupts; the rest is as drawn."""
    features = set(case.features) - {"event_idx"}
    if place // 6 % 2:
        features.add("event_idx")
    ring = ("split", "packed")[place % 2]
    rx_sizes, tx_sizes = (
        tuple(1 << size.bit_length() - 1 for size in sizes) if ring == "split" else sizes
        for sizes in (case.rx_sizes, case.tx_sizes)
    )
    return replace(
        case,
        ring=ring,
        features=tuple(name for name in RING_FEATURES if name in features),
        rx_sizes=rx_sizes,
        tx_sizes=tx_sizes,
        interrupts=("on", "off", "idle")[place // 2 % 3],
    )


def _drawn(number: int, count: int, frames: tuple[int, int]) -> list[Case]:
    found: list[Case] = []

    @seed(number)
    @settings(
        max_examples=count,
        phases=[Phase.generate],
        database=None,
        deadline=None,
        derandomize=False,
        suppress_health_check=list(HealthCheck),
    )
    @given(cases(frames))
    def collect(case: Case) -> None:
        found.append(case)

    collect()
    return found[1:]  # the first is always the simplest


def save_cases(path: Path, chosen: Sequence[tuple[int, Case]]) -> None:
    """Write cases with their numbers."""
    path.write_text(json.dumps([[number, asdict(case)] for number, case in chosen]))


def load_cases(path: Path) -> list[tuple[int, Case]]:
    """Read what `save_cases` wrote."""
    return [(number, Case.of(record)) for number, record in json.loads(path.read_text())]
