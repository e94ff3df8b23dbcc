"""Processes that never outlive the program: servers and QEMU, each a process group of its own."""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import os
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType

from guest.errors import GuestError

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True)

_running: set[Child] = set()
_closing = threading.Event()
_lock = threading.Lock()


class Child:
    """A process whose output goes to a file.

    It is killed with its whole group by `stop`, at the end of the program, by SIGTERM or SIGHUP to
    the program (`stop_on_signals`), and by the kernel if the thread that started it ends, so also
    if the program is killed.
    """

    def __init__(
        self, command: Sequence[str], output: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        parent = os.getpid()

        def die_with_parent() -> None:
            _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:
                os._exit(1)

        if _closing.is_set():
            raise GuestError("stopped")
        with output.open("wb") as log:
            self.process = subprocess.Popen(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(environment or {})},
                start_new_session=True,
                preexec_fn=die_with_parent,
            )
        self.output = output
        with _lock:
            _running.add(self)

    @property
    def ended(self) -> int | None:
        """The exit status; None while it runs."""
        return self.process.poll()

    def stop(self, patience: float = 0.0) -> None:
        """Ask the process to end (SIGTERM), kill its group after `patience` seconds."""
        if patience and self.ended is None:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(patience)
        # Members of the group may live on after its leader.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        with _lock:
            _running.discard(self)


def stop_all() -> None:
    """Kill what still runs, and start nothing any more."""
    _closing.set()
    for child in list(_running):
        child.stop()


def stop_on_signals() -> None:
    """Let SIGTERM and SIGHUP end the program the way Ctrl-C does."""

    def end(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end)


atexit.register(stop_all)
