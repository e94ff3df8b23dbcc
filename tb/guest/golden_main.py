"""Serves one guest with a golden device."""

from __future__ import annotations

import time

from guest.connection import Listener
from guest.device_types import ByType
from guest.golden_function import GoldenFunction
from guest.net_peer import Peer
from guest.options import ServeOptions
from guest.server import Server, run
from guest.statistics import Statistics

TYPES = ByType("golden", "make")
"""By device type: a function that makes a `GoldenType` of `ServeOptions`."""


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
    peer: Peer | None = getattr(device, "peer", None)
    given: bytes = getattr(device, "given", b"")
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
        given=given.hex(),
    )
