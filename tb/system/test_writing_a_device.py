"""The code of docs/writing-a-device.md, run as it stands there, in a directory of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from lib.page_code import code_blocks
from lib.paths import BUILD, PYTHON_ROOTS

PAGE = "writing-a-device.md"
DEVICE = "hash_device.py"
FAULTS = {
    "padding left out": ("Mux(n < beat.count, beat.data.word_select(n, 8), 0)",
                         "beat.data.word_select(n, 8)"),
    "the bytes of the next request taken": ("& some & ~read", "& ~read"),
}  # fmt: skip
"""Fault in the device -> what stands on the page, and what stands there instead."""


def run_page(name: str, files: dict[str, str], *chosen: str) -> tuple[dict[str, bool], str]:
    """Run the tests of the page in a directory of their own: (test -> passed, the output)."""
    directory = BUILD / "page" / name
    directory.mkdir(parents=True, exist_ok=True)
    for file, text in files.items():
        (directory / file).write_text(text)
    results = directory / "results.xml"
    results.unlink(missing_ok=True)
    # It is a run of its own, not a part of this one.
    env = {key: value for key, value in os.environ.items() if "PYTEST" not in key}
    env["PYTHONPATH"] = os.pathsep.join(map(str, PYTHON_ROOTS))
    env["VIRTIO_BUILD"] = str(BUILD)
    tests = [f"test_hash_device.py::{test}" for test in chosen] or ["test_hash_device.py"]
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", ".",
         "-c", os.devnull, f"--junitxml={results}", *tests],
        cwd=directory,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=900,
        check=False,
    )  # fmt: skip
    assert results.exists(), ran.stdout[-4000:]
    return _outcomes(results), ran.stdout


def _outcomes(results: Path) -> dict[str, bool]:
    return {
        str(case.get("name")): not any(child.tag in ("failure", "error") for child in case)
        for case in ElementTree.parse(results).iter("testcase")
    }


def test_the_page_runs() -> None:
    """The device of the page, at its door and as a whole in both ring formats: all tests pass."""
    outcomes, output = run_page("writing_a_device", code_blocks(PAGE))
    assert outcomes == {
        "test_the_device_at_its_door": True,
        "test_the_whole_device": True,
    }, output[-4000:]


def test_the_device_is_short() -> None:
    """A new device type costs less than 60 lines."""
    assert len(code_blocks(PAGE)[DEVICE].splitlines()) < 60


@pytest.mark.parametrize("fault", FAULTS)
def test_the_page_finds_a_fault(fault: str) -> None:
    """The tests of the page fail for a device with a fault."""
    files = code_blocks(PAGE)
    before, after = FAULTS[fault]
    assert files[DEVICE].count(before) == 1
    files[DEVICE] = files[DEVICE].replace(before, after)
    outcomes, output = run_page("writing_a_device_fault", files, "test_the_device_at_its_door")
    assert outcomes == {"test_the_device_at_its_door": False}, output[-4000:]
    assert "SimulationFailed" in output
