"""What the modules of the device types offer, by name: `rtl_NAME.py`, `golden_NAME.py`."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from types import MappingProxyType
from typing import Any

from guest.matrix import DEVICES


class ByType(Mapping[str, Any]):
    """The `attribute` of the module `guest.PREFIX_NAME`, by the name of a device type.

    A module is imported when it is first asked for. A type that has no such module, or whose module
    has no such attribute, is not there. `others` are there besides.
    """

    def __init__(
        self, prefix: str, attribute: str, others: Mapping[str, Any] = MappingProxyType({})
    ) -> None:
        self._others = others
        self._prefix = prefix
        self._attribute = attribute

    def __getitem__(self, name: str) -> Any:
        if name in self._others:
            return self._others[name]
        module = f"guest.{self._prefix}_{name}"
        if name not in DEVICES or find_spec(module) is None:
            raise KeyError(name)
        try:
            return getattr(importlib.import_module(module), self._attribute)
        except AttributeError as error:
            raise KeyError(name) from error

    def __iter__(self) -> Iterator[str]:
        return (name for name in (*DEVICES, *self._others) if name in self)

    def __len__(self) -> int:
        return len(list(iter(self)))
