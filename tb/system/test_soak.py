"""The short form of the long runs: a golden comparison of 5,000 buffers on one device."""

from __future__ import annotations

import json

import pytest

from lib.paths import BUILD
from lib.sim import choose_seed, simulate
from soak.case import draw_cases, save_cases
from soak.configs import soak_config
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
    for ring in ("split", "packed"):
        assert any(record["case"]["ring"] == ring for record in done)


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
