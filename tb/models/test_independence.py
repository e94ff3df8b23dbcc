"""The models stand alone: whoever uses them needs Python and nothing else."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

import virtio_model

ROOT = Path(virtio_model.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=[str(path.relative_to(ROOT)) for path in FILES])
def test_imports_only_the_standard_library(path: Path) -> None:
    """No Amaranth, no cocotb, nothing else that has to be installed."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            found.add((node.module or "").split(".")[0])
    assert found <= sys.stdlib_module_names | {"virtio_model"}
