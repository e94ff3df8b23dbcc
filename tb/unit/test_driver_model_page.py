"""The code of docs/driver-model.md, run as it stands there, in a directory of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from lib.page_code import code_blocks
from lib.paths import BUILD, ROOT
from lib.sim import choose_seed
from lib.verilate import environment, object_cache, require_tools

FAULTS = {
    "used too early": (": USED_ID;", ": {on} ? USED_IDX : USED_ID;", "[split-used-01]"),
    "length too long": ("2, total)", "2, {on} ? total + 32'd1 : total)", "[split-used-02]"),
    "a byte left out": (
        "write(addr, 0",
        "write({on} && total == 1 && length != 1 ? addr + 64'd1 : addr, 0",
        "[split-used-02]",
    ),
    "no interrupt": ("irq <= !", "irq <= {on} ? 1'd0 : !", "SimTimeoutError"),
    "driver's silence ignored": ("!mem_rdata[0]", "({on} | !mem_rdata[0])", "[split-usednotif-02]"),
    "a wrong buffer": ("{16'd0, head}", "{16'd0, head ^ 16'({on})}", "[fact-split-ring-03]"),
    "a kick lost": ("if (kick)", "if (kick && !({on} && used[2:0] == 3'd7))", "SimTimeoutError"),
}
"""Fault in the device -> (text on the page, what stands there instead, what is reported)."""


def run_page(name: str, files: dict[str, str]) -> tuple[dict[str, str], str]:
    """Run a testbench in the directory `name`: (test -> "" or why it failed, the whole output)."""
    require_tools()
    directory = BUILD / "page" / name
    directory.mkdir(parents=True, exist_ok=True)
    for file in ("fill.v", "test_fill.py", "run.py"):
        (directory / file).write_text(files[file])
    results = directory / "results.xml"
    results.unlink(missing_ok=True)
    # The runner would treat it as a part of this pytest run.
    outside = {name: value for name, value in environment().items() if "PYTEST" not in name}
    env = outside | {
        "PYTHONPATH": os.pathsep.join(str(ROOT / part) for part in ("models", "tb")),
        "COCOTB_RANDOM_SEED": str(choose_seed(f"page_{name}")),
        "OBJCACHE": object_cache(),
        "MAKEFLAGS": "CFG_CXXFLAGS_PCH_I=-include VM_PARALLEL_BUILDS=0 OPT_FAST=-Og",
    }
    ran = subprocess.run(
        [sys.executable, "run.py"],
        cwd=directory,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
        check=False,
    )
    assert results.exists(), ran.stdout[-4000:]
    return _outcomes(results), ran.stdout


def _outcomes(results: Path) -> dict[str, str]:
    outcomes = {}
    for case in ElementTree.parse(results).iter("testcase"):
        bad = [child for child in case if child.tag in ("failure", "error")]
        text = "".join((bad[0].get("message") or "") + (bad[0].text or "") for _ in bad[:1])
        outcomes[str(case.get("name"))] = text if not bad else text or "failed"
    return outcomes


def faulty(chosen: str) -> dict[str, str]:
    """The page with all faults in the device, of which a run has the chosen one.

    The device is the same in all runs, so it is built once.
    """
    files = code_blocks("driver-model.md")
    device = files["fill.v"]
    switch = 'reg [7:0] fault = 0; initial if ($value$plusargs("fault=%d", fault)) begin end'
    changes = [("reg [3:0]  state;", f"reg [3:0]  state; {switch}")]
    for number, (before, after, _) in enumerate(FAULTS.values(), 1):
        changes.append((before, after.replace("{on}", f"(fault == 8'd{number})")))
    for before, after in changes:
        assert device.count(before) == 1, before
        device = device.replace(before, after)
    number = list(FAULTS).index(chosen) + 1
    run = files["run.py"].replace("test_dir=", f'plusargs=["+fault={number}"], test_dir=')
    return files | {"fill.v": device, "run.py": run}


def test_the_page_runs() -> None:
    """Device and testbench as they stand on the page: every test of it passes."""
    outcomes, output = run_page("as_it_stands", code_blocks("driver-model.md"))
    assert len(outcomes) == 3
    assert not any(outcomes.values()), output[-4000:]


@pytest.mark.parametrize("fault", FAULTS)
def test_the_page_finds_a_broken_device(fault: str) -> None:
    """The testbench of the page fails for a device with a fault, and says what is wrong."""
    outcomes, output = run_page("faulty", faulty(fault))
    assert any(outcomes.values())
    assert FAULTS[fault][-1] in output, output[-4000:]
