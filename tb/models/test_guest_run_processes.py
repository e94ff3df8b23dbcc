"""A run of server and QEMU, with programs that pretend to be both."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from guest import children, matrix
from guest.boot import Images
from guest.children import Child
from guest.errors import GuestError
from guest.matrix import Case
from guest.packages import Kernel
from guest.qemu import Qemu
from guest.run import Run, Setting
from guest.tail import Tail, last_lines

CASE = Case("blk", "split", True, "stable")
BITS = "".join("1" if bit in (28, 29, 32) else "0" for bit in range(64))
GOOD = f"""
say("RESULT boot ok 6.1.0-1")
say("NOTE features {BITS}")
say("RESULT blk-verify ok 64 KiB")
say("END")
"""
SERVER = """
import json, os, socket, sys
options = dict(zip(sys.argv[1::2], sys.argv[2::2]))
print(os.getpid(), flush=True)
BEFORE
listener = socket.socket(socket.AF_UNIX)
listener.bind(options["--socket"])
listener.listen()
client, _ = listener.accept()
client.recv(1)
json.dump({"table_interrupts": 3, "requests": 5}, open(options["--statistics"], "w"))
"""
QEMU = """
import os, socket, sys, time
print(os.getpid(), flush=True)
serial = [a[5:] for a, b in zip(sys.argv[1:], sys.argv) if b == "-serial"]
console, results = (open(path, "w", buffering=1) for path in serial)
device = next(a for a, b in zip(sys.argv[1:], sys.argv) if b == "-device" and "socket" in a)
client = socket.socket(socket.AF_UNIX)
client.connect(device.split('"path":"')[1].split('"')[0])
def say(line): results.write(line + "\\n")
BODY
"""


class FakeImages(Images):
    """Stands for images that nothing boots."""

    def __init__(self):
        super().__init__(Path("none"))

    def get(self, name, programs):
        return Kernel(name, "6.1", Path("vmlinuz"), Path("modules")), Path("initramfs")


@pytest.fixture
def start(tmp_path):
    """Run a case with Python code as guest (`say` and `console` there) and before listening."""

    def play(body, before="", **options):
        (tmp_path / "qemu.py").write_text(QEMU.replace("BODY", body))
        (tmp_path / "server.py").write_text(SERVER.replace("BEFORE", before))
        python = (sys.executable, "-S")
        setting = Setting(
            model="golden",
            qemu=Qemu((*python, str(tmp_path / "qemu.py")), (11, 1), "fake"),
            images=FakeImages(),
            folder=tmp_path / "runs in a folder with a long name" / ("x" * 60),
            server=(*python, str(tmp_path / "server.py")),
            **options,
        )
        return Run(CASE, setting).finish()

    yield play
    for log in tmp_path.glob("runs*/x*/*/*.log"):
        first = log.read_text(errors="replace").split("\n")[0]
        if first.isdigit():
            assert not os.path.exists(f"/proc/{first}"), f"{log.name} lives on"


def test_a_guest_that_does_its_work(start):
    result = start(GOOD)
    assert result.reason == ""
    assert result.passed
    assert result.release == "6.1.0-1"
    assert set(result.features) == {"INDIRECT_DESC", "EVENT_IDX", "VERSION_1"}
    assert result.statistics.requests == 5
    assert 0 <= result.boot_seconds <= result.verified_seconds <= result.seconds


def test_a_check_that_fails(start):
    result = start(GOOD.replace("blk-verify ok", "blk-verify fail"))
    assert not result.passed
    assert result.reason == "blk-verify: 64 KiB"


def test_console_goes_where_it_is_asked_for(start):
    lines: list[str] = []
    start('console.write("hello\\r\\nworld\\n"); time.sleep(0.5)' + GOOD, console=lines.append)
    assert lines == ["hello", "world"]


def test_a_panic_ends_the_run_with_the_tail_of_the_console(start):
    result = start(
        'console.write("one\\nKernel panic - not syncing: no init\\ntwo\\n"); time.sleep(60)'
    )
    assert result.error == "the guest's kernel is in trouble: Kernel panic - not syncing: no init"
    assert result.console_tail.split("\n") == ["one", "Kernel panic - not syncing: no init", "two"]
    assert result.seconds < 30


def test_a_warning_is_told_by_the_line_after_the_cut(start):
    cut, line = "----[ cut here ]----", "WARNING: a.c:1 at x+0x1/0x2, CPU#0: dd/77"
    for after, told in ((line, line), ("something", "see its console.log")):
        lines = f'console.write("{cut}\\n"); time.sleep(0.3); console.write("{after}\\n")'
        result = start(lines + "; time.sleep(60)")
        assert result.error == f"the guest's kernel is in trouble: {told}"
        assert result.seconds < 30


def test_a_guest_that_hangs(start):
    result = start('say("NOTE step work"); time.sleep(60)', silence=0.5)
    assert result.error == "the guest hangs: nothing heard for 0 s (work)"


def test_a_guest_that_is_not_done_in_time(start):
    result = start('while True: say("NOTE step work"); time.sleep(0.05)', timeout=0.5)
    assert result.error == "the guest was not done after 0 s (work)"


def test_qemu_that_ends_too_early(start):
    result = start('print("no such device", file=sys.stderr); sys.exit(3)')
    assert result.error == "QEMU ended with status 3 before the guest was done: no such device"


def test_server_that_does_not_start(start):
    result = start(GOOD, 'sys.exit("error: no model of RTL")')
    assert result.error == "the device server ended with status 1: error: no model of RTL"


def test_server_that_breaks_while_the_guest_runs(start):
    result = start(
        'os.kill(int(open(os.path.dirname(serial[0]) + "/server.log").readline()), 11); '
        "time.sleep(60)"
    )
    assert result.error.startswith("the device server ended with status -11")


def test_results_of_an_earlier_run_do_not_count(start):
    assert start(GOOD).passed
    assert start("sys.exit(0)").checks == []


def test_commands_say_what_the_case_is(tmp_path):
    case = Case("net", "packed", False, "stable", ("IN_ORDER",), ("quick", "work"))
    setting = Setting("rtl", Qemu(("qemu",), (11, 1), ""), FakeImages(), tmp_path, seed=9)
    run = Run(case, setting)
    server = " ".join(run._server_command(tmp_path / "s"))
    assert "--device net --model rtl --msix table --seed 9" in server
    assert "--features INDIRECT_DESC,RING_PACKED,IN_ORDER" in server
    qemu = " ".join(run._qemu_command(tmp_path / "s"))
    assert "guest.device=net guest.run=quick,work" in qemu
    assert '"x-msg-timeout":600000' in qemu
    assert "bootindex" not in qemu
    assert "-smp 1 " in qemu
    run = Run(replace(case, processors=2), setting)
    assert "-smp 2 " in " ".join(run._qemu_command(tmp_path / "s"))
    assert "-no-reboot" in run._qemu_command(tmp_path / "s")
    run = Run(replace(case, steps=("machine_reset", "quick")), setting)
    assert "-no-reboot" not in run._qemu_command(tmp_path / "s")
    served = Run(replace(case, config="net-x8"), setting)._server_command(tmp_path / "s")
    assert "--device net-x8 --model rtl" in " ".join(served)
    disk = Run(Case("blk", "packed", True, "stable", config="blk-x8"), setting)
    assert "--mebibytes" not in disk._server_command(tmp_path / "s")
    firmware = next(case for case in matrix.full(("blk",)) if case.kind == "firmware")
    run = Run(firmware, setting)
    assert "bootindex" in " ".join(run._qemu_command(tmp_path / "s"))
    assert "-kernel" not in run._qemu_command(tmp_path / "s")
    assert "--disk" in run._server_command(tmp_path / "s")


def gone(pid):
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except OSError:
            return True
        if state == "Z":
            return True
        time.sleep(0.02)
    return False


def test_stop_takes_the_whole_group(tmp_path):
    child = Child(["sh", "-c", "sleep 60 & echo $!; wait"], tmp_path / "log")
    pid = wait_for_pid(tmp_path / "log")
    child.stop()
    assert child.ended is not None
    assert gone(pid)


def wait_for_pid(path):
    deadline = time.monotonic() + 10
    while not path.exists() or not path.read_text().endswith("\n"):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return int(path.read_text().split()[0])


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGKILL])
def test_no_process_outlives_the_program(tmp_path, how):
    log = tmp_path / "log"
    code = (
        "from guest import children; from pathlib import Path; import signal, time; "
        # A shell starts what runs in the background with Ctrl-C ignored; this is not about that.
        "signal.signal(signal.SIGINT, signal.default_int_handler); children.stop_on_signals(); "
        f"children.Child(['sh', '-c', 'echo $$; exec sleep 60'], Path({str(log)!r})); "
        "time.sleep(60)"
    )
    program = subprocess.Popen(
        [sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": ":".join(sys.path)},
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    pid = wait_for_pid(log)
    program.send_signal(how)
    program.wait(20)
    assert gone(pid)


def test_nothing_starts_after_the_end(tmp_path, monkeypatch):
    monkeypatch.setattr(children, "_closing", children.threading.Event())
    children.stop_all()
    with pytest.raises(GuestError, match="stopped"):
        Child(["true"], tmp_path / "log")


def test_files_that_grow(tmp_path):
    path = tmp_path / "f"
    tail = Tail(path)
    assert list(tail.lines()) == []
    path.write_bytes(b"one\r\ntw")
    assert list(tail.lines()) == ["one"]
    with path.open("ab") as file:
        file.write(b"o\n\xff\n")
    assert list(tail.lines()) == ["two", "\ufffd"]
    assert last_lines(path, 2) == "two\n\ufffd"
    assert last_lines(tmp_path / "none", 2) == ""
