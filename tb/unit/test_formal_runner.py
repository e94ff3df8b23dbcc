"""The runner of the proofs: what is wrong is told, and is never taken for a proof."""

import json
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from formal import cli, engine, sat
from formal.engine import Task, mutate, run, tasks_of
from formal.proof import Mutant, all_proofs, proof

TIMEOUT = 100
HARMLESS = Mutant("lib/stream.py", '"""Stream plumbing: FIFO, skid buffer, arbiter."""', '""""""')


@pytest.fixture(params=["z3", "sat"])
def skid(request, tmp_path, monkeypatch):
    """A small proof for either solver, whose runs are kept in a folder of their own."""
    for module in (engine, cli):
        monkeypatch.setattr(module, "FOLDER", tmp_path / "runs")
    return replace(all_proofs()["skid_buffer"], solver=request.param)


def prove(monkeypatch, *proofs):
    """Run the command line on these proofs."""
    monkeypatch.setattr(cli, "all_proofs", lambda: {each.name: each for each in proofs})
    return CliRunner().invoke(cli.app, ["--timeout", str(TIMEOUT)])


def test_right_proof_passes(skid, monkeypatch, tmp_path):
    """All runs end as they must, and are in the file."""
    result = prove(monkeypatch, replace(skid, mutants=skid.mutants[:1]))
    assert result.exit_code == 0, result.output
    records = json.loads((tmp_path / "runs" / "results.json").read_text())
    found = {record["run"]: (record["status"], record["wanted"]) for record in records}
    assert found == {
        "skid_buffer-0-prove": ("PASS", "PASS"),
        "skid_buffer-0-cover": ("PASS", "PASS"),
        "skid_buffer-0-mutant0": ("FAIL", "FAIL"),
    }


def test_failed_proof_is_told(skid, monkeypatch, tmp_path):
    """A fault in the RTL: the proof fails, and so does the command."""
    mutate(skid.mutants[0], tmp_path / "hdl")
    monkeypatch.setattr(engine, "PYTHON_ROOTS", (tmp_path / "hdl", *engine.PYTHON_ROOTS))
    outcome = run(Task(skid, 0, "prove"), TIMEOUT)
    assert (outcome.status, outcome.good) == ("FAIL", False)
    assert "Assert failed" in outcome.message
    result = prove(monkeypatch, replace(skid, mutants=(), cover=0))
    assert result.exit_code == 1
    assert "skid_buffer-0-prove: FAIL instead of PASS" in result.output


def test_surviving_mutant_is_told(skid, monkeypatch):
    """A mutant that the proof does not find is an error, and the line is named."""
    result = prove(monkeypatch, replace(skid, mutants=(HARMLESS,), cover=0))
    assert result.exit_code == 1
    assert "skid_buffer-0-mutant0: PASS instead of FAIL" in result.output
    assert "not caught: lib/stream.py" in result.output


def test_mutant_that_does_not_apply_is_told(skid):
    """The line has been changed since, or stands there twice."""
    for old in ("no such line", "Signal()"):
        broken = replace(skid, mutants=(Mutant("lib/stream.py", old, ""),))
        (task,) = [task for task in tasks_of(broken) if task.mutant is not None]
        outcome = run(task, TIMEOUT)
        assert (outcome.status, outcome.good) == ("ERROR", False)
        assert old in outcome.message


def test_unreachable_cover_is_told(skid):
    """A situation that cannot occur in so many cycles."""
    outcome = run(Task(replace(skid, cover=1), 0, "cover"), TIMEOUT)
    assert (outcome.status, outcome.good) == ("FAIL", False)
    assert "Unreached cover" in outcome.message


def test_open_induction_is_told(skid, monkeypatch, tmp_path):
    """No counterexample, but no proof either: a fault that shows later than the window is long."""
    mutate(skid.mutants[0], tmp_path / "hdl")
    monkeypatch.setattr(engine, "PYTHON_ROOTS", (tmp_path / "hdl", *engine.PYTHON_ROOTS))
    outcome = run(Task(replace(skid, depth=1), 0, "prove"), TIMEOUT)
    assert (outcome.status, outcome.good) == ("UNKNOWN", False)


def test_solver_out_of_time_is_told(tmp_path):
    """Yosys takes longer than that to begin."""
    status, message = sat.solve(tmp_path, "prove", 1, "", 0.001)
    assert status == "TIMEOUT"
    assert message


@pytest.mark.parametrize(
    ("log", "returncode"),
    [
        ("", 0),
        ("ERROR: No SAT model available for cell", 1),
        ("Induction step proven: SUCCESS!", 1),
        ("proved base case for 5 steps: SUCCESS!", 0),
        ("Induction step proven: SUCCESS!\nmodel found for base case: FAIL!", 0),
    ],
)
def test_unclear_log_is_an_error(log, returncode):
    """A solver that does not say one thing, and that of what it was asked, has said nothing."""
    status, message = sat.status_of(log, returncode, "prove", 5)
    assert status == "ERROR"
    assert message


def test_proof_without_mutant_is_refused():
    """It would show nothing."""
    with pytest.raises(ValueError, match="without a mutant"):
        proof("nothing", depth=1, sizes="")(lambda m: None)
