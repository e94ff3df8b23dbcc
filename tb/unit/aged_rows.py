"""Virtqueues that have been at work for long, right after the reset."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Elaboratable, Module, Mux, Signal, Value
from amaranth.lib.memory import Memory

from virtio_rtl.lib.sweep import ResetSweep

__all__ = ["aged"]


class _WritePort:
    """A write port of the memory inside; `data` is what the device under test writes."""

    def __init__(self, inner: Any, shape: Any):
        self.inner, self.addr, self.en = inner, inner.addr, inner.en
        self.data = Signal(shape)


class _AgedMemory(Elaboratable):
    """Stands for a `Memory` of rows; while its `sweep` clears them, `start` is written."""

    sweep: ResetSweep

    def __init__(self, start: dict[str, int], shape: Any, depth: int, init: Any):
        fields = {name: value for name, value in start.items() if name in shape.members}
        assert fields, "rows without anything to begin with"
        self._start = Value.cast(shape.const(fields))
        self._shape = shape
        self._inner = Memory(shape=shape, depth=depth, init=init)
        self._writes: list[_WritePort] = []

    def read_port(self, *, transparent_for: Any = ()) -> Any:
        """As of `Memory`."""
        return self._inner.read_port(transparent_for=[port.inner for port in transparent_for])

    def write_port(self) -> Any:
        """As of `Memory`."""
        self._writes.append(_WritePort(self._inner.write_port(), self._shape))
        return self._writes[-1]

    def elaborate(self, platform: Any) -> Module:
        """Put other rows in the place of those that the sweep writes."""
        m = Module()
        m.submodules.rows = self._inner
        for port in self._writes:
            written = Value.cast(port.data)
            data = Value.cast(port.inner.data)
            m.d.comb += data.eq(Mux(self.sweep.busy, self._start, written))
        return m


def aged(monkeypatch: Any, start: dict[str, int], *modules: Any) -> None:
    """Let the rows that these modules keep begin with `start` instead of 0, until the test ends.

    Each of them makes a `Memory` and then the `ResetSweep` that clears it.
    """
    made: list[_AgedMemory] = []

    def memory(*, shape: Any, depth: int, init: Any) -> _AgedMemory:
        made.append(_AgedMemory(start, shape, depth, init))
        return made[-1]

    def sweep(depth: int) -> ResetSweep:
        made[-1].sweep = ResetSweep(depth)
        return made[-1].sweep

    for module in modules:
        monkeypatch.setattr(module, "Memory", memory)
        monkeypatch.setattr(module, "ResetSweep", sweep)
