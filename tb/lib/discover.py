"""Find the test functions in a file without importing it."""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from pathlib import Path

_Function = ast.FunctionDef | ast.AsyncFunctionDef

_COCOTB = {"cocotb.test", "cocotb.parametrize"}


@dataclass(frozen=True)
class FileTests:
    """The tests of one file, by the name that a plan uses after `::`."""

    pytest: set[str] = field(default_factory=set)
    cocotb: set[str] = field(default_factory=set)
    launchers: set[str] = field(default_factory=set)
    """pytest functions that only start the simulator for the cocotb tests of their file."""

    @property
    def all(self) -> set[str]:
        """Return every name that a plan may use."""
        return self.pytest | self.cocotb

    @property
    def owed(self) -> set[str]:
        """Return the names that a plan must use."""
        return self.all - self.launchers


def find_tests(path: Path) -> FileTests:
    """Return the tests of a Python file: `test_*`, `Test*::test_*`, `@cocotb.test`, `@proof`."""
    tree = ast.parse(path.read_text(), filename=str(path))
    functions = {node.name: node for node in tree.body if isinstance(node, _Function)}
    cocotb = {n for n, node in functions.items() if _decorators(node) & _COCOTB}
    proofs = {n for n, node in functions.items() if "proof" in _decorators(node)}
    tests = proofs | {name for name in functions if name.startswith("test_") and name not in cocotb}
    launchers = {name for name in tests if cocotb and _starts_simulator(name, functions)}
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name.startswith("Test"):
            methods = (item.name for item in node.body if isinstance(item, _Function))
            tests |= {f"{node.name}::{name}" for name in methods if name.startswith("test_")}
    return FileTests(tests, cocotb, launchers)


def _decorators(node: _Function) -> set[str]:
    """Return what a function is decorated with."""
    names = set()
    for decorator in node.decorator_list:
        target = decorator.func if isinstance(decorator, ast.Call) else decorator
        names.add(ast.unparse(target))
    return names


def _starts_simulator(name: str, functions: dict[str, _Function]) -> bool:
    """Tell whether a function calls `simulate`, itself or through others of its file."""
    seen: set[str] = set()
    todo = [name]
    while todo:
        current = todo.pop()
        seen.add(current)
        called = {
            node.func.id
            for node in ast.walk(functions[current])
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        }
        if "simulate" in called:
            return True
        todo.extend(called & functions.keys() - seen)
    return False
