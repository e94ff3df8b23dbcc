"""Serves one guest with a golden device."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from guest.connection import Listener
from guest.golden_blk import BlkType
from guest.golden_entropy import EntropyType
from guest.golden_function import GoldenFunction
from guest.golden_net import NetType
from guest.golden_types import GoldenType
from guest.options import ServeOptions
from guest.server import Server, run
from guest.statistics import Statistics

_MIB = 1 << 20


def _blk(options: ServeOptions) -> GoldenType:
    image = bytearray(options.disk.read_bytes() if options.disk else b"")
    sectors = max(options.mebibytes * _MIB, len(image)) + 511 >> 9
    image.extend(bytes((sectors << 9) - len(image)))
    return BlkType(image, queues=options.queues, serial=b"golden")


TYPES: Mapping[str, Callable[[ServeOptions], GoldenType]] = {
    "net": lambda _: NetType(),
    "blk": _blk,
    "entropy": lambda options: EntropyType(options.seed),
}
"""Every device type, by name: what is here, a guest can be given."""


def serve(options: ServeOptions) -> Statistics:
    """Serve one client until it leaves; what was counted."""
    device = TYPES[options.device](options)
    function = GoldenFunction(device, offered=options.features)
    listener = Listener(options.socket)
    print(f"listening on {options.socket}", flush=True)
    client = listener.accept(options.timeout_s)
    started = time.monotonic()
    server = Server(client, function, own_msix=options.own_msix)
    run(server.serve())
    peer = device.peer if isinstance(device, NetType) else None
    return Statistics(
        device=options.device,
        model="golden",
        wall_seconds=round(time.monotonic() - started, 3),
        requests=function.buffers,
        notifications=function.kicks,
        table_interrupts=server.counts["message"],
        eventfd_interrupts=server.interrupts.signalled,
        bar_reads=server.counts["bar read"],
        bar_writes=server.counts["bar write"],
        config_accesses=server.counts["config"],
        faults=server.faults,
        damaged=peer.damaged if peer else 0,
        repeated=peer.repeated if peer else 0,
        given=device.given.hex() if isinstance(device, EntropyType) else "",
    )
