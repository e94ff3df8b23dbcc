"""The record that comes out of a measurement: a line of results.json."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from bench.blk_ring import BATCH as REQUESTS
from bench.blk_ring import IN_FLIGHT
from bench.fast_chains import Framing
from bench.flow import Window
from bench.lone import LonePacket, hop_table
from bench.scenario import BATCH, HOST_READ_NS, Scenario, blk_shape
from demo.ceiling import BATCH as FETCH_BATCH
from demo.ceiling import link_gbps, raw_gbps
from lib.pcie.monitor import DOWN, UP
from virtio_model.spec.net import HEADER_SIZE
from virtio_model.wire import Load, mixed_bytes_per_frame
from virtio_model.wire_blk import blk_bytes_per_request
from virtio_rtl.config import DeviceConfig

__all__ = ["flow_record", "lone_record", "packet_pieces", "request_record"]


def packet_pieces(framing: Framing) -> tuple[int, ...]:
    """Return the bytes of a packet in each descriptor; those that it does not reach are left out.

    A receive buffer may be longer than its packet.
    """
    left, found = framing.length + HEADER_SIZE, []
    for piece in framing.pieces:
        found.append(min(piece, left))
        left -= found[-1]
        if not left:
            break
    return tuple(found)


def wire_load(scenario: Scenario, framings: dict[str, list[Framing]]) -> Load:
    """Return what the wire model expects per frame; for both ways, per frame each way."""
    total = Load(0, 0)
    for name in ("transmit", "receive"):
        if scenario.direction in (name, "both"):
            frames = [packet_pieces(framing) for framing in framings[name]]
            total += mixed_bytes_per_frame(
                name, frames, scenario.ring, FETCH_BATCH, scenario.piece, doorbell_batch=BATCH
            )
    return total


def _head(config: DeviceConfig, scenario: Scenario, ring_size: int) -> dict[str, Any]:
    return {
        "config": config.name,
        "ring": scenario.ring,
        "direction": scenario.direction,
        "case": scenario.case,
        "frame_bytes": scenario.frame_bytes,
        "queue_pairs": config.queue_pairs,
        "ring_size": ring_size,
        "host_read_ns": HOST_READ_NS,
        "link_gbps": round(raw_gbps(config), 3),
        "scenario": asdict(scenario),
    }


def flow_record(
    config: DeviceConfig,
    scenario: Scenario,
    window: Window,
    ring_size: int,
    framings: dict[str, list[Framing]],
) -> dict[str, Any]:
    """Return the record of a flood. For both ways, rates and bytes are per pair of frames, one
    each way; the slower way counts."""
    drawn = framings[scenario.direction] if scenario.case == "framing" else []
    return _head(config, scenario, ring_size) | {
        **_rates(config, window, wire_load(scenario, framings)),
        "batch": BATCH,
        "drawn": [packet_pieces(framing) for framing in drawn],
    }


def request_record(
    config: DeviceConfig, scenario: Scenario, window: Window, ring_size: int
) -> dict[str, Any]:
    """Return the record of a block device's flood; rates and bytes are per request."""
    load = blk_bytes_per_request(
        "read" if scenario.direction == "read" else "write",
        blk_shape(scenario),
        scenario.ring,
        batch=FETCH_BATCH,
        chunk=scenario.piece,
    )
    return _head(config, scenario, ring_size) | {
        **_rates(config, window, load),
        "batch": REQUESTS,
        "in_flight": IN_FLIGHT,
    }


def _rates(config: DeviceConfig, window: Window, load: Load) -> dict[str, Any]:
    """Return what a window has shown, and what the wire model expects."""
    frames = min(window.frames.values())
    mpps = frames / window.time_ns * 1e3
    limit = link_gbps(config) * 1e3 / 8 / max(load)
    return {
        "mpps": round(mpps, 4),
        "ceiling_mpps": round(limit, 4),
        "ideal_mpps": None,
        "ratio": round(mpps / limit, 4),
        "ratio_of_ideal": None,
        "cycles_per_frame": round(config.clock_mhz / mpps, 4),
        "wire_up": round(window.wire_up / frames, 3),
        "wire_down": round(window.wire_down / frames, 3),
        "ceiling_wire_up": round(load.up, 3),
        "ceiling_wire_down": round(load.down, 3),
        "gbps_up": round(window.gbps_up, 3),
        "gbps_down": round(window.gbps_down, 3),
        "frames": window.frames,
        "window_ns": round(window.time_ns, 1),
        "doorbells": window.doorbells,
        "peak_reads_in_flight": window.peak_reads,
        "split_up": window.split[UP],
        "split_down": window.split[DOWN],
        "occupancy": window.occupancy,
    }


def lone_record(
    config: DeviceConfig, scenario: Scenario, packets: Sequence[LonePacket], ring_size: int
) -> dict[str, Any]:
    """Return the record of lone packets; what a rate would say is null."""
    rates = ("mpps", "ceiling_mpps", "ideal_mpps", "ratio", "ratio_of_ideal", "cycles_per_frame")
    wires = ("wire_up", "wire_down", "ceiling_wire_up", "ceiling_wire_down")
    return _head(config, scenario, ring_size) | {
        **dict.fromkeys(rates + wires),
        "latency_ns": [round(packet.total * 1000 / config.clock_mhz, 1) for packet in packets],
        "added_cycles": [packet.added for packet in packets],
        "hops": hop_table(list(packets), receive=scenario.direction == "receive"),
    }
