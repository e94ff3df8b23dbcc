"""The simulator's end: one cocotb test per scenario, one file per record."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import cocotb

from bench.blk_bed import BlkFlow
from bench.flow import Flow
from bench.lone import RING_SIZE as LONE_RING_SIZE
from bench.lone import Lone
from bench.record import flow_record, lone_record, request_record
from bench.scenario import Scenario
from lib.sim import params
from virtio_rtl.config import named_config


@cocotb.test()
@cocotb.parametrize(("number", range(len(getattr(params(), "scenarios", [])))))
async def measure(dut: Any, number: int) -> None:
    """Measure scenario `number` of `lib.sim.params()`."""
    options = params()
    config = named_config(options.config)
    scenario = Scenario(**options.scenarios[number])
    # The same draws whatever else is measured in this simulation.
    random.seed(f"{options.seed} {config.name} {scenario.title}")
    if scenario.case == "lone":
        packets = await Lone(dut, config, scenario).run()
        record = lone_record(config, scenario, packets, LONE_RING_SIZE)
    elif scenario.of_blk:
        requests = BlkFlow(dut, config, scenario, options.ring_size)
        window = await requests.run()
        record = request_record(config, scenario, window, requests.bed.ring_size)
    else:
        flow = Flow(dut, config, scenario, options.ring_size)
        window = await flow.run()
        record = flow_record(config, scenario, window, options.ring_size, flow.bed.framings)
    record["seed"] = options.seed
    (Path(options.folder) / f"{options.numbers[number]}.json").write_text(json.dumps(record))
