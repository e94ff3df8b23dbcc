"""How Verilator and its make are called."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from lib.verilate import environment


def test_make_finds_a_python(tmp_path, monkeypatch):
    """Verilator's makefiles call `python`; a fresh Debian has `python3` only."""
    (tmp_path / "python3").symlink_to(sys.executable)
    monkeypatch.setenv("PATH", str(tmp_path))
    found = shutil.which("python", path=environment()["PATH"])
    assert found
    assert Path(found).parent == Path(sys.executable).parent


def test_programs_of_the_machine_come_first(tmp_path, monkeypatch):
    """What else our own programs' directory holds hides nothing of the user's."""
    python = tmp_path / "python"
    python.symlink_to(sys.executable)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert shutil.which("python", path=environment()["PATH"]) == str(python)
