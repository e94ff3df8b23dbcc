"""Hostile runs inside the simulator: all cases of a file, a device reset between them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cocotb

from demo.progress import ProgressWriter
from lib.hostile import draw_plan, make_hostile_run, make_hostile_system
from lib.sim import params
from soak.configs import soak_config
from soak.records import RecordWriter

_STEP = 20


@cocotb.test()
async def hostile(dut: Any) -> None:
    """Run the cases of `params().cases`; what came of them goes to `params().records`.

    A case is the seed of its plan.
    """
    options = params()
    config = soak_config(options.config)
    system = make_hostile_system(dut, config)
    await system.bring_up()
    runs = make_hostile_run(system)
    await runs.prepare()
    progress = ProgressWriter()
    cases = json.loads(Path(options.cases).read_text())
    failed = []
    with RecordWriter(Path(options.records)) as records:
        for done, (number, case) in enumerate(cases):
            if done % _STEP == 0:
                progress.tell("hostile runs", done, len(cases))
            plan = draw_plan(case["seed"], device=config.device)
            outcome = await runs.run(plan)
            record: dict[str, Any] = {
                "number": number,
                "case": case,
                "ring": plan.ring,
                "features": plan.features,
                "intruder": plan.intruder,
                "cycles": outcome.cycles,
                "reset": outcome.reset,
                "neighbour": outcome.neighbour,
                "halted": outcome.halted,
                "busy": outcome.busy,
            }
            if outcome.faults:
                record["failed"] = "; ".join(outcome.faults)
                failed.append(f"case {number}: {record['failed']}\n{plan.show()}")
            records.case(record)
        progress.tell("hostile runs", len(cases), len(cases))
        ended = await runs.finish()
        records.end(ended)
        failed += ended
    assert not failed, "\n".join(failed)
