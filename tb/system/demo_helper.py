"""The demo's command line, in this process or as `make demo` runs it; programs of e2fsprogs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from demo import disk_image
from demo.cli import app
from lib.paths import PYTHON_ROOTS

_OPTIONS = ("DEVICE", "PCAP", "IMAGE", "CONFIG", "RING")
NO_TOOLS = "mkfs.ext4 or e2fsck is missing: the package e2fsprogs has both"


def ask(*args: str, **env: str) -> Any:
    """Run the command line in this process."""
    return CliRunner().invoke(app, list(args), env=dict.fromkeys(_OPTIONS) | env)


def refused(result: Any) -> str:
    """Return the one line on stderr of a run that ended with status 2."""
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith("error: ")
    return str(result.stderr)


def demonstrate(output: Path, **env: str) -> str:
    """Run the demo with seed 5 in a process of its own, which must end well; what it printed."""
    roots = os.pathsep.join(map(str, PYTHON_ROOTS))
    done = subprocess.run(
        [sys.executable, "-m", "demo", "--output", str(output), "--seed", "5"],
        env={**os.environ, "PYTHONPATH": roots, **dict.fromkeys(_OPTIONS, ""), **env},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def has_e2fsprogs() -> bool:
    """Whether an ext4 file system can be made and checked."""
    return all(disk_image.tool(name) for name in ("mkfs.ext4", "e2fsck"))


def fake_tool(folder: Path, monkeypatch: Any, text: str) -> None:
    """Put a program in the place of those of e2fsprogs."""
    program = folder / "program"
    program.write_text(f"#!/bin/sh\n{text}\n")
    program.chmod(0o755)
    monkeypatch.setattr(disk_image, "tool", lambda name: str(program))
