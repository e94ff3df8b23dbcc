"""The short form of the long runs: a golden comparison on a device of each type."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest
from rich.console import Console
from typer.testing import CliRunner

from lib.paths import BUILD
from lib.sim import choose_seed, simulate
from soak.case import draw_cases, save_cases
from soak.cli import app
from soak.configs import BLK, DISK, PAIRS, TYPES, soak_config, soak_device
from soak.golden_jobs import golden_jobs
from soak.hostile_jobs import hostile_jobs
from soak.jobs import Job, run_jobs
from soak.records import Records, RecordWriter, read_records

NET = "net-x8", 5_000, (160, 700)
DISKS = BLK, 648, (20, 27)
WHICH = NET, pytest.param(*DISKS, marks=pytest.mark.sweep)


@pytest.mark.parametrize(("config", "buffers", "frames"), WHICH, ids=["net", "blk"])
def test_golden_comparison(config, buffers, frames):
    """Every buffer as the golden device has it, whatever was negotiated."""
    name = f"soak_short_{config}"
    seed = choose_seed(name)
    folder = BUILD / "soak"
    folder.mkdir(parents=True, exist_ok=True)
    cases, records = folder / f"short_{config}.cases", folder / f"short_{config}.records"
    drawn = draw_cases(seed, buffers, frames)
    save_cases(cases, list(enumerate(drawn)))
    simulate(
        soak_device(soak_config(config)),
        module="soak.golden",
        name=name,
        params={"config": config, "cases": str(cases), "records": str(records)},
        seed=seed,
    )
    found = read_records(records)
    assert found.end == []
    done = found.cases
    assert sum(record["buffers"] for record in done) >= buffers
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


@pytest.mark.parametrize("types", [TYPES, ("net",), ("blk",)], ids="+".join)
def test_jobs_hold_every_case_once(types):
    """However many simulations there are; a single case can be had alone."""
    whole = [item for job in golden_jobs(3, 12_000, None, 1, types) for item in job.cases]
    assert [number for number, _ in whole] == list(range(len(whole)))
    assert sum(case.buffers for _, case in whole) >= 12_000
    for parts in (2, 5):
        jobs = golden_jobs(3, 12_000, None, parts, types)
        assert len({job.name for job in jobs}) == len(jobs)
        assert sorted(number for job in jobs for number, _ in job.cases) == list(range(len(whole)))
    last = len(whole) - 1
    assert [job.cases for job in golden_jobs(3, 12_000, last, 2, types)] == [(whole[last],)]
    for runs in (1, 7, 300):
        jobs = hostile_jobs(3, runs, None, 2, types)
        assert sorted(number for job in jobs for number, _ in job.cases) == list(range(runs))


def test_devices_of_the_jobs():
    """As many as are worth to be built; those of one type where that is asked for."""

    def configs(buffers, types=TYPES):
        return {job.config for job in golden_jobs(3, buffers, None, 2, types)}

    assert configs(3_000) == {"net-x8", PAIRS, BLK}
    assert configs(20_000) == {"net-x8", PAIRS, BLK, DISK}
    assert configs(20_000, ("net",)) == {"net-x8", PAIRS}
    assert {job.config for job in hostile_jobs(3, 9, None, 2, ("blk",))} == {BLK}


@pytest.mark.parametrize(
    "arguments", [["gold"], ["--case", "3"], ["golden", "--case", "10000"], ["--device", "disk"]]
)
def test_wrong_arguments(arguments, tmp_path):
    """One line, and status 2."""
    result = CliRunner().invoke(app, [*arguments, "--buffers", "500", "--output", str(tmp_path)])
    assert result.exit_code == 2
    assert "error: " in result.output


@pytest.mark.parametrize("more", [[], ["--device", "blk"]])
def test_a_failure_tells_how_to_see_it_again(monkeypatch, tmp_path, more):
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
    result = CliRunner().invoke(app, [*arguments, *more])
    assert result.exit_code == 1
    assert "a bad end" in result.output
    options = " ".join(["golden --seed 9 --buffers 2000", *more])
    assert f"ARGS='{options} --case 1'" in " ".join(result.output.split())
    assert json.loads((tmp_path / "results.json").read_text())["seed"] == 9


GOOD, BAD = {"number": 0}, {"number": 1, "failed": "a bad end"}


@pytest.mark.parametrize(
    ("cases", "end", "failure", "told"),
    [
        ([GOOD, BAD], [], "case 1: a bad end", []),
        ([GOOD, BAD], ["sector 7 was changed"], "case 1: a bad end", ["sector 7 was changed"]),
        ([GOOD], ["one thing", "another"], "one thing", ["one thing", "another"]),
        ([GOOD, BAD], None, "no answer", ["broke off behind the last case: no answer"]),
        ([BAD], None, "no answer", ["1 cases were not run: no answer"]),
        ([GOOD, GOOD], [], "the simulator left with 3", ["the simulator left with 3"]),
        ([GOOD, GOOD], None, "", ["broke off behind the last case: no reason given"]),
        ([GOOD, GOOD], [], "", []),
    ],
)
def test_nothing_that_went_wrong_is_lost(monkeypatch, tmp_path, cases, end, failure, told):
    """What is wrong at the end is told although a case has failed; a failed case once only."""
    written = tmp_path / "records"
    with RecordWriter(written) as writer:
        for record in cases:
            writer.case(record)
        if end is not None:
            writer.end(end)
    assert read_records(written) == Records(cases, end)
    job = Job("the_job", "soak.hostile", BLK, ((0, {}), (1, {})))
    monkeypatch.setattr(
        "soak.jobs.run_pool", lambda jobs, *_, **__: [(jobs[0], (read_records(written), failure))]
    )
    records, broken = run_jobs([job], workers=1, seed=1, folder=tmp_path, console=Console())
    assert [record["number"] for record in records] == sorted(item["number"] for item in cases)
    assert len(broken) == len(told)
    for line, text in zip(broken, told, strict=True):
        assert line.startswith("the_job: ")
        assert line.endswith(text)


def test_records_of_a_simulation_that_did_not_begin(tmp_path):
    """There is no file."""
    assert read_records(tmp_path / "nothing") == Records([], None)
