"""The short form of the long runs: a golden comparison of 5,000 buffers on one device."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest
from typer.testing import CliRunner

from lib.paths import BUILD
from lib.sim import choose_seed, simulate
from soak.case import draw_cases, save_cases
from soak.cli import app
from soak.configs import soak_config
from soak.golden_jobs import golden_jobs
from virtio_rtl.top import VirtioDevice

BUFFERS = 5_000


def test_golden_comparison():
    """Every buffer as the golden device has it, whatever was negotiated."""
    name = "soak_short"
    seed = choose_seed(name)
    folder = BUILD / "soak"
    folder.mkdir(parents=True, exist_ok=True)
    cases, records = folder / "short.cases", folder / "short.records"
    drawn = draw_cases(seed, BUFFERS)
    save_cases(cases, list(enumerate(drawn)))
    simulate(
        VirtioDevice(soak_config("net-x8")),
        module="soak.golden",
        name=name,
        params={"config": "net-x8", "cases": str(cases), "records": str(records)},
        seed=seed,
    )
    done = [json.loads(line) for line in records.read_text().splitlines()]
    assert sum(record["buffers"] for record in done) >= BUFFERS
    met = {
        (case["ring"], case["interrupts"], "event_idx" in case["features"])
        for case in (record["case"] for record in done)
    }
    assert len(met) == 12


@pytest.mark.parametrize("buffers", [500, 3_000])
def test_cases_are_drawn_again(buffers):
    """The same seed draws the same cases; another one draws others."""
    drawn = draw_cases(7, buffers)
    assert drawn == draw_cases(7, buffers)
    assert drawn != draw_cases(8, buffers)
    assert sum(case.buffers for case in drawn) >= buffers
    for case in drawn:
        if case.ring == "split":
            assert all(size & (size - 1) == 0 for size in case.rx_sizes + case.tx_sizes)


def test_jobs_hold_every_case_once():
    """However many simulations there are; a single case can be had alone."""
    whole = [item for job in golden_jobs(3, 8_000, None, 1) for item in job.cases]
    assert [number for number, _ in whole] == list(range(len(whole)))
    assert sum(case.buffers for _, case in whole) >= 8_000
    for parts in (2, 5):
        jobs = golden_jobs(3, 8_000, None, parts)
        assert len({job.name for job in jobs}) == len(jobs)
        assert sorted(number for job in jobs for number, _ in job.cases) == list(range(len(whole)))
    last = len(whole) - 1
    assert [job.cases for job in golden_jobs(3, 8_000, last, 2)] == [(whole[last],)]


@pytest.mark.parametrize("arguments", [["gold"], ["--case", "3"], ["golden", "--case", "10000"]])
def test_wrong_arguments(arguments, tmp_path):
    """One line, and status 2."""
    result = CliRunner().invoke(app, [*arguments, "--buffers", "500", "--output", str(tmp_path)])
    assert result.exit_code == 2
    assert "error: " in result.output


def test_a_failure_tells_how_to_see_it_again(monkeypatch, tmp_path):
    """Exit status 1, the reason, and the command for the case alone."""

    def run(jobs, **options):
        records = [
            {"number": number, "case": asdict(case), "config": job.config, "failed": "a bad end"}
            if number == 1
            else {"number": number, "case": asdict(case), "config": job.config}
            | {"buffers": case.buffers, "bytes": 10, "us": 1.0, "interrupts": 0}
            for job in jobs
            for number, case in job.cases
        ]
        return records, []

    monkeypatch.setattr("soak.cli.run_jobs", run)
    arguments = ["golden", "--buffers", "2000", "--seed", "9", "--output", str(tmp_path)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 1
    assert "a bad end" in result.output
    assert "ARGS='golden --seed 9 --buffers 2000 --case 1'" in result.output
    assert json.loads((tmp_path / "results.json").read_text())["seed"] == 9
