"""One case: a device server, QEMU with the guest, and what became of them."""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from guest import matrix, mbr, statistics
from guest.boot import Images
from guest.children import Child
from guest.errors import GuestError
from guest.matrix import Case
from guest.qemu import Qemu
from guest.results import CUT, PANIC, CaseResult, Transcript, judge
from guest.script_files import shown_at_work
from guest.tail import Tail, last_lines

_POLL_S = 0.1
_SERVER_START_S = 900
"""Building a model of the RTL may come before the server listens, beside another one's."""
_SERVER_END_S = 30
_OFF_S = 15
_TROUBLE_S = 1.0
"""How long to wait for a line that says more than that there is trouble."""

_APPEND = (
    "console=ttyS0 panic=-1 oops=panic nosoftlockup rcupdate.rcu_cpu_stall_suppress=1 "
    "random.trust_cpu=on"
)


@dataclass(frozen=True)
class Setting:
    """What all cases of a run share.

    msix: "table" (the device's own) or "eventfd". timeout: seconds for one guest. silence: seconds
    without a word from the guest after which it counts as hung. console: lines of the guest's
    console go there as they come.
    """

    model: str
    qemu: Qemu
    images: Images
    folder: Path
    msix: str = "table"
    timeout: float = 600.0
    silence: float = 180.0
    memory_mebibytes: int = 512
    seed: int = 1
    console: Callable[[str], None] | None = None
    server: tuple[str, ...] = (sys.executable, "-m", "guest.serve")


class Run:
    """A case under way: `finish` runs it to its end and returns what became of it.

    `news` says in a word or two where it is.
    """

    def __init__(self, case: Case, setting: Setting) -> None:
        self.case = case
        self.setting = setting
        self.news = "start"
        self.folder = setting.folder / case.name
        self.transcript = Transcript()
        self._started = 0.0

    def finish(self) -> CaseResult:
        """Run the case."""
        result = CaseResult(self.case)
        children: list[Child] = []
        self._prepare()
        started = time.monotonic()
        # The name of a socket is short, that of a clone may be long.
        place = Path(tempfile.mkdtemp(prefix="guest-"))
        try:
            self._play(children, place / "socket")
        except GuestError as error:
            result.error = str(error)
        finally:
            for child in reversed(children):
                child.stop()
            shutil.rmtree(place, ignore_errors=True)
        result.seconds = time.monotonic() - started
        with suppress(OSError, ValueError):
            result.statistics = statistics.read(self.folder / "statistics.json")
        result.release = self.transcript.release
        result.features = matrix.taken(self.transcript.notes.get("features", ""))
        times = self.transcript.times
        result.boot_seconds = times.get("boot", 0.0)
        result.verified_seconds = times.get(shown_at_work(self.case.script), 0.0)
        if result.error:
            result.checks = self.transcript.checks
            result.console_tail = last_lines(self.folder / "console.log", 20)
        else:
            result.checks = judge(self.case, self.transcript, result.statistics, self.setting.msix)
        return result

    def _prepare(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        for path in self.folder.iterdir():
            if not path.is_dir():
                path.unlink()
        if self.case.kind == "firmware":
            (self.folder / "disk.img").write_bytes(mbr.disk())

    def _play(self, children: list[Child], socket: Path) -> None:
        self.news = "device"
        server = Child(self._server_command(socket), self.folder / "server.log")
        children.append(server)
        deadline = time.monotonic() + _SERVER_START_S
        while not socket.exists():
            self._server_lives(server)
            if time.monotonic() > deadline:
                raise GuestError(f"the device server did not listen in {_SERVER_START_S} s")
            time.sleep(_POLL_S)
        self.news = "boot"
        self._started = time.monotonic()
        qemu = Child(self._qemu_command(socket), self.folder / "qemu.log")
        children.append(qemu)
        self._watch(server, qemu)
        qemu.stop()
        self.news = "end"
        # The guest is gone: the server ends by itself, and writes its statistics.
        deadline = time.monotonic() + _SERVER_END_S
        while server.ended is None and time.monotonic() < deadline:
            time.sleep(_POLL_S)
        if server.ended is None:
            raise GuestError(f"the device server did not end in {_SERVER_END_S} s")
        self._server_lives(server, may_have_ended=True)

    def _watch(self, server: Child, qemu: Child) -> None:
        console = Tail(self.folder / "console.log")
        results = Tail(self.folder / "results.log")
        begin = heard = time.monotonic()
        off_at = cut_at = 0.0
        while True:
            alive = qemu.ended is None
            for line in console.lines():
                heard = time.monotonic()
                if self.setting.console:
                    self.setting.console(line)
                if CUT in line:
                    cut_at = cut_at or heard
                elif PANIC.search(line):
                    raise GuestError(f"the guest's kernel is in trouble: {line.strip()}")
            if cut_at and (not alive or time.monotonic() > cut_at + _TROUBLE_S):
                raise GuestError("the guest's kernel is in trouble: see its console.log")
            for line in results.lines():
                heard = time.monotonic()
                self.transcript.feed(line, heard - begin)
                self.news = self.transcript.news
            if self.transcript.ended:
                off_at = off_at or time.monotonic() + (
                    _OFF_S if self.case.kind != "firmware" else 0
                )
                if not alive or time.monotonic() > off_at:
                    return
            elif not alive:
                said = last_lines(self.folder / "qemu.log", 1)
                raise GuestError(
                    f"QEMU ended with status {qemu.ended} before the guest was done"
                    + (f": {said}" if said else "")
                )
            else:
                self._server_lives(server)
                now = time.monotonic()
                if now - heard > self.setting.silence:
                    raise GuestError(
                        f"the guest hangs: nothing heard for {self.setting.silence:.0f} s "
                        f"({self.transcript.news})"
                    )
                if now - begin > self.setting.timeout:
                    raise GuestError(
                        f"the guest was not done after {self.setting.timeout:.0f} s "
                        f"({self.transcript.news})"
                    )
            time.sleep(_POLL_S)

    def _server_lives(self, server: Child, may_have_ended: bool = False) -> None:
        if server.ended is None or (may_have_ended and server.ended == 0):
            return
        said = last_lines(self.folder / "server.log", 1) or "no word"
        raise GuestError(f"the device server ended with status {server.ended}: {said}")

    def _server_command(self, socket: Path) -> list[str]:
        setting = self.setting
        served = self.case.config or self.case.device
        command = [*setting.server, "--socket", str(socket), "--device", served]
        command += ["--model", setting.model, "--msix", setting.msix, "--seed", str(setting.seed)]
        command += ["--features", ",".join(self.case.features)]
        command += ["--statistics", str(self.folder / "statistics.json")]
        if self.case.steps == ("quick",):
            # The simulation is short: to compile the model for speed takes longer.
            command += ["--no-optimise"]
        if self.case.kind == "firmware":
            command += ["--disk", str(self.folder / "disk.img")]
        if self.case.config:
            return command
        return command + list(matrix.DEVICES[self.case.device].arguments)

    def _qemu_command(self, socket: Path) -> list[str]:
        size = self.setting.memory_mebibytes
        boot = '"bootindex":0,' if self.case.kind == "firmware" else ""
        device = (
            f'{{"driver":"vfio-user-pci","id":"dut","bus":"rp0",{boot}'
            f'"socket":{{"type":"unix","path":"{socket}"}},"x-msg-timeout":600000}}'
        )
        command = [
            *self.setting.qemu.command,
            *("-machine", "q35,memory-backend=memory", "-accel", "tcg", "-cpu", "max"),
            *("-object", f"memory-backend-memfd,id=memory,size={size}M,share=on"),
            *(
                "-m",
                f"{size}M",
                "-smp",
                str(self.case.processors),
                "-nodefaults",
                "-display",
                "none",
            ),
            *(() if matrix.MACHINE_RESET in self.case.steps else ("-no-reboot",)),
            *("-serial", f"file:{self.folder / 'console.log'}"),
            *("-serial", f"file:{self.folder / 'results.log'}"),
            *("-device", "pcie-root-port,id=rp0,slot=1", "-device", device),
        ]
        if self.case.kind == "firmware":
            return command
        kernel, initramfs = self.setting.images.get(self.case.kernel, self.case.programs)
        steps = ",".join(self.case.steps)
        append = f"{_APPEND} guest.device={self.case.script} guest.run={steps}"
        return [*command, "-kernel", str(kernel.image), "-initrd", str(initramfs),
                "-append", append]  # fmt: skip
