"""Listening to guest memory: what the driver writes, what the device reads and writes."""

from __future__ import annotations

from typing import Protocol

from virtio_model.memory import GuestMemory

__all__ = ["Listener", "MemoryTap"]


class Listener(Protocol):
    """Hears of every access, after it was done."""

    def driver_write(self, address: int, old: bytes, new: bytes) -> None: ...

    def device_read(self, address: int, data: bytes) -> None: ...

    def device_write(self, address: int, data: bytes, done: bool) -> None: ...


class MemoryTap:
    """Puts a listener between a `GuestMemory` and its users; `close` takes it out again.

    It hears of the device's refused accesses too: `done` is False for a write that did not
    happen. The hooks of `GuestMemory` itself tell neither those nor the driver's writes.
    """

    def __init__(self, memory: GuestMemory, listener: Listener) -> None:
        self.memory = memory
        inside_device = False
        write, device_write, device_read = memory.write, memory.device_write, memory.device_read

        def tapped_write(address: int, data: bytes) -> None:
            if inside_device:
                write(address, data)
                return
            old = memory.read(address, len(data))
            write(address, data)
            listener.driver_write(address, old, bytes(data))

        def tapped_device_write(address: int, data: bytes) -> None:
            nonlocal inside_device
            done = memory.device_may(address, len(data), writing=True)
            inside_device = True
            try:
                device_write(address, data)
            finally:
                inside_device = False
                listener.device_write(address, bytes(data), done)

        def tapped_device_read(address: int, length: int) -> bytes:
            try:
                data = device_read(address, length)
            except Exception:
                listener.device_read(address, b"\xff" * length)
                raise
            listener.device_read(address, data)
            return data

        # Instance attributes hide the class's methods until they are deleted.
        setattr(memory, "write", tapped_write)  # noqa: B010
        setattr(memory, "device_write", tapped_device_write)  # noqa: B010
        setattr(memory, "device_read", tapped_device_read)  # noqa: B010

    def close(self) -> None:
        """Stop listening."""
        for name in ("write", "device_write", "device_read"):
            self.memory.__dict__.pop(name, None)
