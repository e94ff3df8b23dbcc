"""Fast access to ports as plain integers.

cocotb wraps every value in an object that knows about X and Z. Verilator has two states, so these
accessors go from the simulator's strings and longs to `int` and back directly; that is several
times cheaper for wide ports. (They use the handle below cocotb's, whose version is pinned.)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_DEPOSIT = 0


def reader(handle: Any) -> Callable[[], int]:
    """Return a function that reads a port as an unsigned integer."""
    get = handle._handle.get_signal_val_binstr
    if len(handle) == 1:
        return lambda: 1 if get() == "1" else 0
    return lambda: int(get(), 2)


def writer(handle: Any) -> Callable[[int], None]:
    """Return a function that drives a port with an unsigned integer."""
    width = len(handle)
    put = handle._handle.set_signal_val_binstr
    return lambda value: put(_DEPOSIT, f"{value:0{width}b}")
