"""Puts the ideal endpoint's rate beside each measured one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.ideal import IdealCase, measure_ideal
from bench.scenario import HOST_READ_NS
from demo.ceiling import BATCH as FETCH_BATCH
from virtio_model.wire import memory_bytes
from virtio_rtl.config import named_config

__all__ = ["add_ideal", "ideal_case"]

Record = dict[str, Any]

_NO_DOORBELLS = 1 << 30


def ideal_case(record: Record) -> IdealCase:
    """Return what the ideal endpoint has to do to be compared with a record.

    Random frames are those that the measurement drew, piece by piece. But for the first there are
    no doorbells: a device that reads on by itself in a flood asks for none.
    """
    config, scenario = named_config(record["config"]), record["scenario"]
    drawn = record.get("drawn")
    frames = tuple(map(tuple, drawn)) if drawn else (memory_bytes(scenario["length"]),)
    return IdealCase(
        config.lanes,
        config.generation,
        record["direction"],
        frames,
        completion_bytes=scenario["piece"],
        batch=FETCH_BATCH,
        doorbell_batch=_NO_DOORBELLS,
        host_read_ns=HOST_READ_NS,
    )


def add_ideal(records: Sequence[Record], folder: Path, seed: int) -> None:
    """Set `ideal_mpps` and `ratio_of_ideal` where there is a rate.

    The ideal endpoint knows packed virtqueues of net devices only.
    """
    rated = [
        record
        for record in records
        if record["mpps"] is not None
        and record["ring"] == "packed"
        and named_config(record["config"]).device == "net"
    ]
    results = measure_ideal([ideal_case(record) for record in rated], folder, seed)
    for record, result in zip(rated, results, strict=True):
        record["ideal_mpps"] = round(result.mpps, 4)
        record["ratio_of_ideal"] = round(record["mpps"] / result.mpps, 4)
