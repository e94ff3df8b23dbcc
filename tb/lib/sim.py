"""Run cocotb tests against an Amaranth component: convert, build (cached), simulate, report.

The one entry point is `simulate()`; see README.md beside this file for the pattern.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import re
import sys
import time
import xml.etree.ElementTree as ElementTree
import zlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from lib.convert import to_verilog
from lib.locks import file_lock
from lib.paths import BUILD, PYTHON_ROOTS, TEST_ROOTS, verilator_root
from lib.verilate import build_model

PARAMS = "VIRTIO_TB_PARAMS"


class SimulationFailed(Exception):
    """At least one cocotb test failed, or the simulation broke off."""


@dataclass(frozen=True)
class SimResult:
    """What a simulation left behind."""

    passed: list[str]
    directory: Path
    seed: int
    seconds: dict[str, float]


def params() -> SimpleNamespace:
    """Return, inside a cocotb test, what `simulate(params=...)` was given."""
    return SimpleNamespace(**json.loads(os.environ.get(PARAMS, "{}")))


def choose_seed(name: str, seed: int | None = None) -> int:
    """Return the seed: argument, else SEED (a number, or `random`), else fixed per name."""
    if seed is not None:
        return seed
    wanted = os.environ.get("SEED", "")
    if wanted == "random":
        return random.SystemRandom().getrandbits(31)
    return int(wanted, 0) if wanted else zlib.crc32(name.encode()) & 0x7FFFFFFF


def simulate(
    component: Any,
    *,
    module: str,
    name: str,
    testcase: str | Sequence[str] | None = None,
    params: Mapping[str, Any] | None = None,
    env: Mapping[str, str] | None = None,
    plusargs: Sequence[str] = (),
    seed: int | None = None,
    waive: Collection[str] = (),
    optimise: bool = False,
    public: bool = False,
    limit_s: int = 600,
    timescale: tuple[str, str] = ("1ns", "1ps"),
) -> SimResult:
    """Simulate `component` as the top module `dut` under the cocotb tests of `module`.

    module: name of the Python module with the `@cocotb.test()` functions, usually `__name__`.
    name: names this run (its directory is build/sim/<name>); unique among all runs.
    testcase: names of the cocotb tests to run; default: all of the module.
    params: anything that JSON can hold; the cocotb side reads it with `lib.sim.params()`.
    env: extra environment variables for the simulation.
    plusargs: arguments for `$value$plusargs` of Verilog files, such as `+name=value`.
    waive: outputs that are constant on purpose (a forgotten output is constant, too).
    optimise: compile with -O3: for long runs only.
    public: let the tests see inner signals, at the price of speed.
    limit_s: seconds of real time after which the simulation is ended.

    Environment: SEED, WAVES=1 (dump.vcd in the run's directory), COCOTB_LOG_LEVEL.
    """
    __tracebackhide__ = True
    marks = [time.monotonic()]
    waves = os.environ.get("WAVES", "0") not in ("", "0")
    netlist = to_verilog(component, waive=waive)
    marks.append(time.monotonic())
    model = build_model(netlist, optimise=optimise, waves=waves, public=public, timescale=timescale)
    marks.append(time.monotonic())
    chosen = choose_seed(name, seed)
    directory = BUILD / "sim" / re.sub(r"[^A-Za-z0-9_.=-]+", "_", name)
    environment = {
        "COCOTB_LOG_LEVEL": os.environ.get("COCOTB_LOG_LEVEL", "WARNING"),
        "COCOTB_ANSI_OUTPUT": "0",
        PARAMS: json.dumps(dict(params or {})),
        **(env or {}),
    }
    with file_lock(directory.with_suffix(".lock")):  # a name that is used twice waits
        passed, failed, log = _run(
            model, directory, module, testcase, chosen, environment, plusargs, waves, limit_s
        )
    marks.append(time.monotonic())
    steps = zip(("convert", "build", "run"), itertools.pairwise(marks), strict=True)
    seconds = {step: round(end - start, 2) for step, (start, end) in steps}
    print(f"simulation {name}: seed {chosen}, {len(passed)} passed, {seconds}, in {directory}")
    if failed or not passed:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-60:])
        what = "\n".join(failed) or "no cocotb test ran to its end"
        raise SimulationFailed(
            f"{name} (repeat with SEED={chosen}; log: {log})\nfailed:\n{what}\n--- log:\n{tail}"
        )
    return SimResult(passed, directory, chosen, seconds)


def _run(
    model: Path,
    directory: Path,
    module: str,
    testcase: str | Sequence[str] | None,
    seed: int,
    env: Mapping[str, str],
    plusargs: Sequence[str],
    waves: bool,
    limit_s: int,
) -> tuple[list[str], list[str], Path]:
    """Run the simulation; return the passed and failed tests, and the log."""
    from cocotb_tools.runner import get_runner

    directory.mkdir(parents=True, exist_ok=True)
    log, results = directory / "sim.log", directory / "results.xml"
    results.unlink(missing_ok=True)
    for root in (*PYTHON_ROOTS, *TEST_ROOTS):  # the runner hands sys.path on as PYTHONPATH
        if str(root) not in sys.path:
            sys.path.append(str(root))
    os.environ.setdefault("VERILATOR_ROOT", str(verilator_root()))
    runner: Any = get_runner("verilator")
    runner.log.setLevel("ERROR")
    runner._get_sim_cmd_prefix = lambda: ["timeout", "-k", "5", str(limit_s)]
    broken = None
    try:
        runner.test(
            test_module=module,
            hdl_toplevel="dut",
            hdl_toplevel_lang="verilog",
            test_filter=_filter(testcase),
            seed=seed,
            extra_env=env,
            plusargs=plusargs,
            waves=waves,
            build_dir=model,
            test_dir=directory,
            results_xml=str(results),
            log_file=log,
        )
    except (RuntimeError, SystemExit) as error:  # judged by what it left behind
        broken = error
    passed, failed = _read_results(results)
    if broken and not failed:
        failed = [f"simulation ended abnormally: {broken}"]
    return passed, failed, log


def _filter(testcase: str | Sequence[str] | None) -> str | None:
    """Return the expression that matches just these tests, with all their parameters."""
    if testcase is None:
        return None
    names = [testcase] if isinstance(testcase, str) else testcase
    return rf"\.({'|'.join(re.escape(name) for name in names)})(/.*)?$"


def _read_results(path: Path) -> tuple[list[str], list[str]]:
    """Return the names of passed tests, and of failed ones with the reason, from results.xml."""
    passed: list[str] = []
    failed: list[str] = []
    if not path.exists():
        return passed, failed
    for case in ElementTree.parse(path).iter("testcase"):
        bad = [child for child in case if child.tag in ("failure", "error")]
        test = f"{case.get('classname')}.{case.get('name')}"
        if bad:
            reason = bad[0].get("message") or bad[0].get("error_msg") or (bad[0].text or "")
            failed.append(f"{test}: {reason.strip()[:300]}")
        elif case.find("skipped") is None:
            passed.append(test)
    return passed, failed
