"""Serves one guest inside the simulator: the other side of `guest.rtl_main`."""

from __future__ import annotations

import gc
import signal
import time
from pathlib import Path
from types import FrameType
from typing import Any

import cocotb
from cocotb.utils import get_sim_time

from guest import connection
from guest.feature_mask import FeatureMask
from guest.options import RING_FEATURES, ServeOptions
from guest.rtl_config import TYPES
from guest.rtl_function import RtlFunction
from guest.rtl_ports import PORTS, Ports
from guest.server import Server
from guest.statistics import Statistics
from lib.sim import params
from virtio_model.spec import features as feat
from virtio_rtl.types.tlp import TLPType


def counts_of(function: RtlFunction, server: Server) -> Statistics:
    """Return what was counted up to now."""
    simulated_ns, peer = get_sim_time("ns"), function.ports.peer
    tlps: dict[str, int] = {}
    for (way, _, code), line in function.root.monitor.snapshot().lines.items():
        kind = f"{TLPType(code).name.lower().replace('_', ' ')} {way}"
        tlps[kind] = tlps.get(kind, 0) + line.tlps
    return Statistics(
        device=function.config.device,
        model="rtl",
        simulated_ns=simulated_ns,
        cycles=round(simulated_ns * function.config.clock_mhz / 1000),
        requests=int(function.dut.completed.value),
        notifications=function.notifications,
        table_interrupts=server.counts["message"] if server.own_msix else 0,
        eventfd_interrupts=server.interrupts.signalled,
        tlps=dict(sorted(tlps.items())),
        bar_reads=function.reads,
        bar_writes=function.writes,
        config_accesses=function.config_accesses,
        faults=len(function.root.target.unclaimed) + server.faults,
        damaged=peer.damaged if peer else 0,
        repeated=peer.repeated if peer else 0,
        given=function.ports.given.hex(),
    )


def _stop(number: int, frame: FrameType | None) -> None:
    """End as if the client had left: the figures are still written."""
    raise connection.ConnectionLost("terminated")


@cocotb.test()
async def serve_guest(dut: Any) -> None:
    """Wait for a guest, serve it until it leaves, and write the figures."""
    given = params()
    options = ServeOptions(
        socket=Path(given.socket),
        device=given.device,
        features=given.features,
        queues=given.queues,
        disk=Path(given.disk) if given.disk else None,
        mebibytes=given.mebibytes,
        seed=given.seed,
        own_msix=given.own_msix,
        timeout_s=given.timeout_s,
    )
    config = TYPES[options.device](options)
    ports = PORTS[options.device](dut, config, options) if options.device in PORTS else Ports()
    function = RtlFunction(dut, config, ports=ports)
    await function.bring_up()
    gc.freeze()  # what is there now stays: let the collector pass it by
    signal.signal(signal.SIGTERM, _stop)
    client = connection.Listener(options.socket).accept(options.timeout_s)
    started, worked = time.monotonic(), time.process_time()
    hidden = feat.mask(RING_FEATURES) & ~options.features
    server = Server(client, FeatureMask(function, hidden), own_msix=options.own_msix)
    try:
        await server.serve()
    finally:
        counts = counts_of(function, server)
        counts.wall_seconds = round(time.monotonic() - started, 3)
        # The process sleeps while there is nothing to simulate.
        counts.busy_seconds = round(time.process_time() - worked, 3)
        counts.write(Path(given.counts))
    violations = function.root.violations
    assert not violations, f"the device broke rules of the bus: {violations[:3]}"
