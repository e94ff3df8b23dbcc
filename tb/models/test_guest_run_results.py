"""What the guest says, what is made of it, table and report."""

import io
import json
import re

import pytest
from rich.console import Console

from guest import matrix, report, statistics, table
from guest.matrix import Case
from guest.results import PANIC, CaseResult, Check, Transcript, judge
from guest.statistics import Statistics

CASE = Case("blk", "packed", True, "stable", tuple(matrix.EXTRAS))


def bits(*names):
    return "".join(
        "1" if bit in {matrix.BITS[name] for name in names} else "0" for bit in range(64)
    )


def transcript(*lines):
    said = Transcript()
    for number, line in enumerate(lines):
        said.feed(line, float(number))
    return said


GOOD = (
    "RESULT boot ok 6.1.0-50-cloud-amd64",
    "NOTE features "
    + bits("INDIRECT_DESC", "EVENT_IDX", "VERSION_1", "ACCESS_PLATFORM", "RING_PACKED",
           "RING_RESET"),
    "RESULT blk-verify ok 64 KiB written and read back\r",
    "END",
)  # fmt: skip


def verdicts(said, counts, case=CASE, msix="table"):
    return {check.name: check for check in judge(case, said, counts, msix)}


def test_lines_of_the_guest():
    said = transcript(*GOOD, "RESULT x fail it is: broken", "noise", "RESULTS y ok", "")
    assert said.ended
    assert said.release == "6.1.0-50-cloud-amd64"
    assert said.checks[1] == Check("blk-verify", True, "64 KiB written and read back")
    assert said.checks[2] == Check("x", False, "it is: broken")
    assert len(said.checks) == 3
    assert said.times["blk-verify"] == 2.0


def test_first_of_each_note_and_time_counts():
    said = transcript("NOTE bytes 00", "RESULT a ok", "NOTE bytes 11", "RESULT a ok", "NOTE step b")
    assert said.notes["bytes"] == "00"
    assert said.times["a"] == 1.0
    assert said.news == "b"


def test_a_word_that_is_not_ok_is_a_failure():
    assert not transcript("RESULT a okay").checks[0].passed
    assert not transcript("RESULT a").checks[0].passed


def test_a_good_case():
    checks = judge(CASE, transcript(*GOOD), Statistics(table_interrupts=3), "table")
    assert all(check.passed for check in checks)
    result = CaseResult(CASE, checks)
    assert result.passed
    assert result.reason == ""


def test_a_feature_not_taken_fails():
    said = transcript(GOOD[0], "NOTE features " + bits("VERSION_1", "EVENT_IDX"))
    check = verdicts(said, Statistics(table_interrupts=1))["features"]
    assert not check.passed
    assert check.detail == "no RING_PACKED, no RING_RESET"


def test_a_feature_not_offered_fails():
    split = Case("blk", "split", True, "stable")
    check = verdicts(transcript(*GOOD), Statistics(table_interrupts=1), split)["features"]
    assert check.detail == "RING_PACKED was not offered, RING_RESET was not offered"
    assert not check.passed


def test_interrupts_must_come_the_way_that_was_asked_for():
    said = transcript(*GOOD)
    by_fd = Statistics(eventfd_interrupts=4)
    assert "QEMU treat MSI-X" in verdicts(said, by_fd)["interrupts"].detail
    assert not verdicts(said, by_fd)["interrupts"].passed
    assert verdicts(said, by_fd, msix="eventfd")["interrupts"].passed


def test_dma_faults_fail():
    assert not verdicts(transcript(*GOOD), Statistics(faults=1))["dma"].passed


def test_frames_that_the_device_has_damaged_fail():
    case = Case("net", "packed", True, "stable")
    check = verdicts(transcript(*GOOD), Statistics(damaged=0, repeated=2), case)["frames"]
    assert check == Check("frames", True, "0 damaged, 2 TCP segments came twice")
    assert not verdicts(transcript(*GOOD), Statistics(damaged=1), case)["frames"].passed
    assert "frames" not in verdicts(transcript(*GOOD), Statistics())


def test_bytes_of_the_guest_are_those_that_the_source_gave():
    case = Case("entropy", "packed", True, "stable")
    given = bytes(range(256)).hex()
    counts = Statistics(table_interrupts=1, given=given)

    def check(*told, counts=counts):
        lines = [f"NOTE bytes {text}" for text in told]
        return verdicts(transcript(*GOOD, *lines), counts, case)["bytes"]

    first, second = given[32:160], given[256:384]
    assert check(first, second).passed
    assert not check(second, first).passed
    assert not check(first, first).passed
    assert not check(first, second[:-1] + "e").passed
    assert not check().passed
    assert not check(first, counts=Statistics()).passed
    # Other devices have none.
    assert "bytes" not in verdicts(transcript(*GOOD), Statistics())


def test_firmware_has_neither_features_nor_interrupts():
    case = Case("blk", "packed", True, "", steps=(), kind="firmware")
    assert set(verdicts(transcript("RESULT firmware ok"), Statistics(), case)) == {
        "firmware",
        "missing",
        "dma",
    }


def test_a_guest_that_says_nothing_has_not_passed():
    assert not CaseResult(CASE).passed
    assert CaseResult(CASE).reason == "the guest said nothing"
    assert CaseResult(CASE, [Check("a", True)], error="it hangs").reason == "it hangs"
    failed = CaseResult(CASE, [Check("a", True), Check("b", False, "why")])
    assert failed.reason == "b: why"


@pytest.mark.parametrize(
    "line",
    [
        "[    2.0] Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000100",
        "[    2.0] BUG: kernel NULL pointer dereference, address: 0000000000000000",
        "[    2.0] Oops: 0000 [#1] PREEMPT SMP NOPTI",
        "[  243.0] INFO: task dd:77 blocked for more than 120 seconds.",
        "[    2.0] WARNING: CPU: 0 PID: 1 at drivers/virtio/virtio_ring.c:1 x+0x1/0x2",
        "[    2.0] WARNING: CPU: 1 PID: 77 at x+0x1/0x2",
        "[    2.0] WARNING: drivers/virtio/virtio_ring.c:1 at x+0x1/0x2, CPU#0: modprobe/77",
        "[    2.0] WARNING: at x+0x1/0x2 [virtio_ring], CPU#1: swapper/1/0",
        "[    2.0] ------------[ cut here ]------------",
        "[    2.0] kernel BUG at drivers/virtio/virtio_ring.c:1!",
    ],
)
def test_kernel_in_trouble(line):
    assert PANIC.search(line)


@pytest.mark.parametrize(
    "line",
    [
        "[ 1.0] virtio_blk virtio0: 1/0/0 queues",
        "[ 1.0] DEBUG: Oops is a word",
        "[ 1.0] WARNING: CPU does not support IBPB.",
        "[ 1.0] fio: WARNING: look at this",
        "",
    ],
)
def test_kernel_not_in_trouble(line):
    assert not PANIC.search(line)


def test_statistics_read_back(tmp_path):
    counts = Statistics("blk", "rtl", 1000.0, 250, 3.0, 0.5, requests=7, tlps={"memory read": 3})
    counts.write(tmp_path / "s.json")
    assert statistics.read(tmp_path / "s.json") == counts
    assert counts.cycles_per_second == 500.0
    assert Statistics(cycles=5).cycles_per_second == 0.0


def test_statistics_of_another_version(tmp_path):
    path = tmp_path / "s.json"
    path.write_text(json.dumps({"requests": 3, "colour": "blue"}))
    assert statistics.read(path).requests == 3
    path.write_text("[]")
    with pytest.raises(ValueError, match="no statistics"):
        statistics.read(path)


def results():
    good = CaseResult(
        CASE,
        [Check("blk-verify", True, "a < b")],
        release="6.1.0-50-cloud-amd64",
        features=("RING_RESET",),
        statistics=Statistics("blk", "rtl", 221000.0, 55250, 6.0, 2.0, 12, 5, 9,
                              tlps={"memory read": 700, "message": 3}),
        seconds=6.0,
        boot_seconds=2.5,
        verified_seconds=4.0,
    )  # fmt: skip
    bad = CaseResult(
        Case("net", "split", False, "backports"),
        error="the guest hangs <somewhere>",
        console_tail="last <words>",
    )
    return [good, bad]


def test_table_has_the_figures():
    text = io.StringIO()
    table.show(Console(file=text, width=table.WIDTH), results())
    lines = text.getvalue().splitlines()
    good = next(line for line in lines if "blk" in line)
    for cell in ("6.1.0-50", "reset", "1/1", "4.0", "221", "27.6", "12", "9", "703", "6.0"):
        assert cell in good
    assert "1 of 2 guests passed" in text.getvalue()


def test_report_stands_alone():
    page = report.render(results(), "rtl", "11.1.3")
    assert page.startswith("<!doctype html>")
    assert "<svg" in page
    assert not re.search(r"<(script|link|img|iframe)\b", page)
    assert not re.search(r"(src|href)=.https?:", page)
    assert "the guest hangs &lt;somewhere&gt;" in page
    assert "last &lt;words&gt;" in page
    assert "a &lt; b" in page
    assert "memory read" in page
    assert "simulated RTL" in page
