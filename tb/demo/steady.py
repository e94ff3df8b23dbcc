"""The rate in the middle of a run, where as much is under way at the start as at the end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from demo.ceiling import Ring, ceiling, raw_gbps
from demo.result import Steady
from virtio_rtl.config import DeviceConfig

ENOUGH = 32
"""Frames that a window must hold for a rate."""


class Arrival(NamedTuple):
    """When used descriptors of received frames arrived, and what had crossed the link by then.

    frames: received so far. wire_up, wire_down: bytes so far, DLLPs included.
    """

    time_ns: float
    frames: int
    wire_up: int
    wire_down: int


def steady(
    config: DeviceConfig,
    lengths: Sequence[int],
    arrivals: Sequence[Arrival],
    ring: Ring = "packed",
) -> Steady | None:
    """Measure from a quarter of the arrivals to three quarters; None if that is too short.

    The first used descriptor trails payload of many frames behind it, the last one trails none:
    from the one to the other, more frames seem to arrive than the link can carry.

    lengths: of all frames, in the order of their arrival.
    """
    if not arrivals:
        return None
    last = len(arrivals) - 1
    start, end = arrivals[last // 4], arrivals[last - last // 4]
    frames, time_ns = end.frames - start.frames, end.time_ns - start.time_ns
    if frames < ENOUGH or time_ns <= 0:
        return None
    raw, middle = raw_gbps(config), lengths[start.frames : end.frames]
    return Steady(
        frames=frames,
        frame_bytes=sum(middle),
        time_ns=round(time_ns, 3),
        model_mpps=ceiling(config, middle, "both", ring).mpps,
        busy_up=(end.wire_up - start.wire_up) * 8 / time_ns / raw,
        busy_down=(end.wire_down - start.wire_down) * 8 / time_ns / raw,
    )
