"""The golden comparison inside the simulator: all cases of a file, one after the other."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cocotb

from demo.progress import ProgressWriter
from lib.sim import params
from soak.blk_traffic import BlkTraffic
from soak.case import load_cases
from soak.configs import soak_config
from soak.net_traffic import NetTraffic
from soak.records import RecordWriter
from soak.system import BlkSoakSystem, NetSoakSystem, SoakSystem
from soak.traffic import CaseFailed, Traffic, run_case

_TYPES: dict[str, tuple[type[SoakSystem], type[Traffic]]] = {
    "net": (NetSoakSystem, NetTraffic),
    "blk": (BlkSoakSystem, BlkTraffic),
}


@cocotb.test()
async def golden(dut: Any) -> None:
    """Run the cases of `params().cases`; what came of them goes to `params().records`."""
    options = params()
    config = soak_config(options.config)
    make_system, make_traffic = _TYPES[config.device]
    system = make_system(dut, config)
    await system.bring_up()
    progress = ProgressWriter()
    cases = load_cases(Path(options.cases))
    failed = []
    with RecordWriter(Path(options.records)) as records:
        for done, (number, case) in enumerate(cases):
            progress.tell("golden comparison", done, len(cases))
            began = time.monotonic()
            record: dict[str, Any] = {"number": number, "case": asdict(case)}
            try:
                record |= await run_case(make_traffic, system, case)
            except CaseFailed as error:
                record["failed"] = str(error)
                failed.append(f"case {number}: {error}")
            record["seconds"] = time.monotonic() - began
            records.case(record)
        progress.tell("golden comparison", len(cases), len(cases))
        records.end([])
    assert not failed, "\n".join(failed)
