"""The interface between the vfio-user server and whatever simulates a PCI function.

The server owns the clock. It calls one method of the function at a time and awaits it: in a
simulation time advances inside these calls and nowhere else, in plain Python they never suspend.
The server runs wherever a coroutine does: `await Server(...).serve()` in a cocotb test, or
`guest.server.run` without any event loop.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from virtio_model.memory import GuestMemory


class Host(Protocol):
    """What a function may do to its host, at any time and without waiting.

    `memory`: the function's DMA, by `device_read` and `device_write`. Where the guest has nothing,
    the access is recorded in `memory.faults`, a read gives all ones and a write is dropped; a bus
    model asks `memory.device_may` first and answers "unsupported request".
    """

    @property
    def memory(self) -> GuestMemory: ...

    def message(self, address: int, data: bytes) -> None:
        """Write to an address that is no memory: an MSI-X message, 4 bytes to 0xFEExxxxx."""

    def intx(self, asserted: bool) -> None:
        """Assert or deassert the legacy interrupt INTA."""


class Function(Protocol):
    """One simulated PCI function, as the server drives it.

    `bars`: bytes of each BAR that exists (a 64-bit one under its lower index). Offsets are within
    configuration space (4096 bytes) or a BAR; data is little-endian bytes, 1 to 8 of them for a
    BAR. The function keeps the BAR addresses of its own bus, over a reset by the guest too: the
    server hides them from the guest, whose own are nobody's business here.
    """

    @property
    def bars(self) -> Mapping[int, int]: ...

    def connect(self, host: Host) -> None:
        """Take the host; called once, before anything else."""

    async def config_read(self, offset: int, length: int) -> bytes: ...

    async def config_write(self, offset: int, data: bytes) -> None: ...

    async def bar_read(self, bar: int, offset: int, length: int) -> bytes: ...

    async def bar_write(self, bar: int, offset: int, data: bytes) -> None:
        """Write; posted, so this may return before the write has arrived.

        What the write sets going (a doorbell: reads of rings, buffers) is not waited for here.
        """

    async def reset(self) -> None:
        """Function level reset."""

    def busy(self) -> bool:
        """Whether anything is in flight: the function's work, reads, interrupts, frames.

        While it is, the server calls `step` and only looks at the socket in between. While it is
        not, the server sleeps and simulated time stands still.
        """

    async def step(self) -> None:
        """Let a little simulated time pass: short against a guest's patience, some 100 ns."""

    def wake_fds(self) -> Sequence[int]:
        """File descriptors that end the server's sleep, such as a network peer's.

        When it wakes, the server calls `step` once: there the function looks at them.
        """


class AccessError(Exception):
    """A function did not answer an access, or with an error; the guest reads all ones."""


__all__ = ["AccessError", "Function", "Host"]
