"""Guest memory with the windows that a device may touch, and an allocator over it."""

from __future__ import annotations

import bisect
from collections.abc import Callable
from dataclasses import dataclass

from virtio_model.errors import DeviceFault

AccessHook = Callable[[int, bytes], None]

_GRANULE_BITS = 12


@dataclass(frozen=True, eq=False)
class Window:
    """A stretch of guest memory that the device may read, write, or both."""

    addr: int
    length: int
    readable: bool
    writable: bool

    @property
    def end(self) -> int:
        return self.addr + self.length


class GuestMemory:
    """Byte-addressed guest memory.

    The driver side uses `read` and `write`; the device side uses `device_read` and
    `device_write`, which are confined to granted windows. With `raise_faults` off a fault is
    only recorded in `faults`; the read then returns all ones and the write is dropped, as on a
    bus where nobody answers. That is for testbenches where the access happens in a bus model
    that must go on.
    """

    def __init__(self, size: int, base: int = 0, *, raise_faults: bool = True) -> None:
        self.base = base
        self.size = size
        self.raise_faults = raise_faults
        self.faults: list[DeviceFault] = []
        self.read_hooks: list[AccessHook] = []
        self.write_hooks: list[AccessHook] = []
        self._data = bytearray(size)
        # Windows by 4 KiB granule: a busy ring has hundreds of windows, and every device
        # access has to find its own.
        self._granules: dict[int, list[Window]] = {}

    @property
    def end(self) -> int:
        """First address behind the memory."""
        return self.base + self.size

    def _offset(self, addr: int, length: int) -> int:
        if length < 0 or addr < self.base or addr + length > self.end:
            raise IndexError(f"{length} bytes at {addr:#x} are outside guest memory")
        return addr - self.base

    def read(self, addr: int, length: int) -> bytes:
        """Driver-side read."""
        offset = self._offset(addr, length)
        return bytes(self._data[offset : offset + length])

    def write(self, addr: int, data: bytes) -> None:
        """Driver-side write."""
        offset = self._offset(addr, len(data))
        self._data[offset : offset + len(data)] = data

    def read_uint(self, addr: int, size: int) -> int:
        return int.from_bytes(self.read(addr, size), "little")

    def write_uint(self, addr: int, value: int, size: int) -> None:
        self.write(addr, value.to_bytes(size, "little"))

    def read_u16(self, addr: int) -> int:
        return self.read_uint(addr, 2)

    def read_u32(self, addr: int) -> int:
        return self.read_uint(addr, 4)

    def read_u64(self, addr: int) -> int:
        return self.read_uint(addr, 8)

    def write_u16(self, addr: int, value: int) -> None:
        self.write_uint(addr, value, 2)

    def write_u32(self, addr: int, value: int) -> None:
        self.write_uint(addr, value, 4)

    def write_u64(self, addr: int, value: int) -> None:
        self.write_uint(addr, value, 8)

    def grant(
        self, addr: int, length: int, writable: bool = False, readable: bool = True
    ) -> Window:
        """Let the device touch a window. Windows may overlap; each is revoked by itself."""
        self._offset(addr, length)
        window = Window(addr, length, readable, writable)
        for granule in self._granules_of(addr, length):
            self._granules.setdefault(granule, []).append(window)
        return window

    def revoke(self, window: Window) -> None:
        """Take a window back."""
        for granule in self._granules_of(window.addr, window.length):
            windows = self._granules[granule]
            windows.remove(window)
            if not windows:
                del self._granules[granule]

    @staticmethod
    def _granules_of(addr: int, length: int) -> range:
        if length == 0:
            return range(0)
        return range(addr >> _GRANULE_BITS, ((addr + length - 1) >> _GRANULE_BITS) + 1)

    def device_may(self, addr: int, length: int, writing: bool) -> bool:
        """Whether granted windows cover the whole access.

        Several windows may cover it together: a device is free to join neighbouring elements
        in one bus access.
        """
        at, end = addr, addr + length
        while at < end:
            reach = at
            for window in self._granules.get(at >> _GRANULE_BITS, ()):
                allowed = window.writable if writing else window.readable
                if allowed and window.addr <= at < window.end:
                    reach = max(reach, window.end)
            if reach == at:
                return False
            at = reach
        return True

    def _fault(self, what: str, addr: int, length: int) -> None:
        fault = DeviceFault(f"device {what} outside its windows", addr=addr, length=length)
        self.faults.append(fault)
        if self.raise_faults:
            raise fault

    def device_read(self, addr: int, length: int) -> bytes:
        """Read by the device (DMA)."""
        if not self.device_may(addr, length, writing=False):
            self._fault("read", addr, length)
            return b"\xff" * length
        data = self.read(addr, length) if length else b""
        for hook in self.read_hooks:
            hook(addr, data)
        return data

    def device_write(self, addr: int, data: bytes) -> None:
        """Write by the device (DMA)."""
        if not self.device_may(addr, len(data), writing=True):
            self._fault("write", addr, len(data))
            return
        if data:
            self.write(addr, data)
        for hook in self.write_hooks:
            hook(addr, data)


class Allocator:
    """First-fit allocator over a stretch of guest memory.

    Address 0 is never handed out: a null address in a ring is then always a mistake.
    """

    def __init__(
        self, memory: GuestMemory, start: int | None = None, end: int | None = None
    ) -> None:
        first = memory.base if start is None else start
        last = memory.end if end is None else end
        self._free: list[tuple[int, int]] = [(max(first, 1), last)]
        self._sizes: dict[int, int] = {}

    def alloc(self, size: int, align: int = 16, skew: int = 0) -> int:
        """Address of `size` fresh bytes, `skew` bytes behind a multiple of `align`."""
        if size <= 0:
            raise ValueError("an allocation has at least one byte")
        for index, (start, end) in enumerate(self._free):
            addr = start + (skew - start) % align
            if addr + size <= end:
                pieces = [(start, addr), (addr + size, end)]
                self._free[index : index + 1] = [piece for piece in pieces if piece[0] < piece[1]]
                self._sizes[addr] = size
                return addr
        raise MemoryError(f"no room for {size} bytes aligned to {align}")

    def free(self, addr: int) -> None:
        """Give an allocation back."""
        size = self._sizes.pop(addr)
        start, end = addr, addr + size
        index = bisect.bisect_left(self._free, (start, end))
        if index < len(self._free) and self._free[index][0] == end:
            end = self._free.pop(index)[1]
        if index > 0 and self._free[index - 1][1] == start:
            index -= 1
            start = self._free.pop(index)[0]
        self._free.insert(index, (start, end))

    @property
    def outstanding(self) -> int:
        """Bytes handed out and not given back: a test's leak check."""
        return sum(self._sizes.values())
