"""What limits a measurement, as far as its record tells."""

from __future__ import annotations

from math import ceil
from statistics import median
from typing import NamedTuple

from bench.targets import Record
from demo.result import waits_for_host
from virtio_model.wire import DESC, memory_bytes
from virtio_rtl.config import NAMED_CONFIGS

FULL = 0.97
"""Share of what there is from which a link, a TLP stream or the tags count as full."""

_BATCH = 16
_MPS = 256
_MRRS = 512


def bottleneck(record: Record) -> str:
    """Name what is full: link, TLP stream, tags; else say that it is inside of the device.

    A record's own `bottleneck`, the result of an inquiry, goes before what is guessed here.
    """
    if text := record.get("bottleneck"):
        return str(text)
    if record.get("case") == "lone":
        return _longest_hop(record)
    if not record.get("mpps"):
        return ""
    busy = {way: record.get(f"gbps_{way}", 0) / record["link_gbps"] for way in ("up", "down")}
    way = max(busy, key=lambda name: busy[name])
    if busy[way] >= FULL:
        return f"link, {_WAYS[way]}: {busy[way]:.1%} of {record['link_gbps']:.1f} Gb/s"
    beats, cycles = tlp_beats(record), record["cycles_per_frame"]
    if beats and beats >= FULL * cycles:
        width = NAMED_CONFIGS[record["config"]].width
        return f"TLP stream of {width} bits: {beats:.2f} beats in {cycles:.2f} cycles a frame"
    unit = "request" if record.get("in_flight") else "frame"
    where = f"inside the device: {cycles:.2f} cycles a {unit}"
    where += f", at least {beats:.2f} for its TLPs" if beats else ""
    tags = read_tags(record)
    reads = (record.get("occupancy") or {}).get("reads")
    if tags and reads and median(reads) >= FULL * tags:
        where = f"reads in flight: all {tags} tags in use"
    return f"{where}; link {_WAYS[way]} {busy[way]:.0%} busy"


_WAYS = {"up": "device to host", "down": "host to device"}


def read_tags(record: Record) -> int | None:
    """Return how many reads the record's configuration can have in flight."""
    config = NAMED_CONFIGS.get(record["config"])
    return config.read_tags if config else None


def tlp_beats(record: Record) -> float | None:
    """Return the least beats per frame of the busier TLP stream of the device.

    Every TLP starts on a beat of its own, header beside the first data. Buffers that lie askew of
    completion boundaries take more. None for frames of random sizes, block requests
    and unknown configurations.
    """
    config = NAMED_CONFIGS.get(record["config"])
    frame_bytes = record["frame_bytes"]
    if config is None or config.device != "net" or not isinstance(frame_bytes, int):
        return None
    length = record.get("scenario", {}).get("length")
    size = (
        memory_bytes(length) if length else memory_bytes(frame_bytes, with_fcs=frame_bytes < 1500)
    )
    chunk = 64 if record.get("case") == "pieces64" else 256

    def beats(length: int, piece: int) -> int:
        """Beats of TLPs with `length` bytes of data in pieces."""
        whole, rest = divmod(length, piece)
        lanes = config.width // 8
        return whole * ceil(piece / lanes) + ceil(rest / lanes)

    fetch_up = 1 / _BATCH
    fetch_down = beats(_BATCH * DESC, chunk) / _BATCH
    used = beats(_BATCH * DESC, _MPS) / _BATCH
    up = {
        "transmit": ceil(size / _MRRS) + fetch_up + used,
        "receive": beats(size, _MPS) + fetch_up + used,
    }
    down = {"transmit": beats(size, chunk) + fetch_down, "receive": fetch_down}
    ways = up.keys() if record["direction"] == "both" else [record["direction"]]
    return max(sum(up[way] for way in ways), sum(down[way] for way in ways))


class HopTime(NamedTuple):
    """Cycles between a hop and the one before it, and since the doorbell."""

    name: str
    device: float
    host: float
    at: float


def hop_times(record: Record) -> list[HopTime]:
    """Return the hops of a lone packet.

    `cycles` of a record is the whole step, `host_read` the host's share of it. Where that is not
    given, the hop's name tells whose time it was.
    """
    times, at = [], 0.0
    for hop in record.get("hops") or []:
        name, whole, host = hop["name"], hop["cycles"], hop.get("host_read")
        if host is None:
            host = whole if waits_for_host(name) else 0
        at = hop.get("at", at + whole)
        times.append(HopTime(name, whole - host, host, at))
    return times


def _longest_hop(record: Record) -> str:
    if not (hops := hop_times(record)):
        return ""
    longest = max(hops, key=lambda hop: hop.device)
    return f"longest hop in the device: {longest.name}, {longest.device:.0f} cycles"
