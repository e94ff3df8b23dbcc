"""Just enough of Amaranth for mypy: enumerations and structures; all else is Any."""

from typing import Any

def __getattr__(name: str) -> Any: ...
