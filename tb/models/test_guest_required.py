"""Checks that a guest must tell: all of the scripts' are named; one that is absent is noticed."""

import re

import pytest

from guest import matrix
from guest.initramfs import SCRIPTS
from guest.matrix import Case
from guest.required import CHECKS, missing, required
from guest.results import Transcript, judge
from guest.statistics import Statistics

CASES = matrix.full(tuple(matrix.DEVICES))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_each_check_of_a_case_is_missed(case):
    told = list(required(case).elements())
    assert told
    assert missing(case, told) == []
    assert missing(case, [*told, "one more"]) == []
    for place, name in enumerate(told):
        assert missing(case, told[:place] + told[place + 1 :]) == [name]


def test_a_check_that_is_missing_fails_the_case():
    case = Case("blk", "packed", True, "stable", steps=("quick", "work", "life"))
    told = Transcript()
    for name in (required(case) - required(Case("blk", "packed", True, "stable"))).elements():
        if name != "blk-discard":
            told.feed(f"RESULT {name} ok")
    found = {check.name: check for check in judge(case, told, Statistics(), "table")}
    assert not found["missing"].passed
    # Of the quick checks there is one for each return of the device, and one is not here.
    assert found["missing"].detail == "blk-discard, blk-verify, boot"


def test_life_has_a_quick_check_after_each_return():
    names = required(Case("net", "split", True, "stable", steps=("quick", "work", "life")))
    assert names["net-ping"] == names["net-up"] == 7
    assert names["unload"] == names["reset-in-traffic-3"] == names["net-tcp"] == 1


def test_a_machine_that_is_reset_boots_twice():
    names = required(Case("blk", "split", True, "stable", steps=("machine_reset", "quick")))
    assert names == {"boot": 2, "machine-reset": 1, "blk-verify": 1}


def test_firmware_says_one_word():
    case = Case("blk", "packed", True, "", steps=(), kind="firmware")
    assert missing(case, []) == ["firmware"]
    assert missing(case, ["firmware"]) == []


@pytest.mark.parametrize("script", sorted({script for script, _ in CHECKS}))
def test_every_check_of_a_script_is_required(script):
    """No check can be added that may be left out; loops have their variable in the name."""
    text = (SCRIPTS / f"{script}.sh").read_text()
    written = set(re.findall(r"^ *check \"?([a-z0-9$-]+)\"? ", text, re.MULTILINE))
    written |= set(re.findall(r"^ *result ([a-z-]+) ok", text, re.MULTILINE))
    named = {name for (of, _), names in CHECKS.items() if of == script for name in names}
    for name in written:
        pattern = name.replace("$size", r"\d+")
        assert any(re.fullmatch(pattern, each) for each in named), name
    for each in named:
        assert any(re.fullmatch(name.replace("$size", r"\d+"), each) for name in written), each
