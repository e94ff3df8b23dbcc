"""Buffers that a golden device holds, and a watch on the memory that goes with them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from virtio_model.device.chain import Chain
from virtio_model.errors import DriverBreach
from virtio_model.memory import GuestMemory


class Watch:
    """What stood in some stretches of guest memory when the device took a buffer.

    A driver leaves alone what it has made available [virtio 1.4 §2.7.13.3, §2.8.5, §3.3]. The
    watch looks past the bus: it is the test that looks, not the device.
    """

    def __init__(self, memory: GuestMemory, stretches: Sequence[tuple[int, int]]) -> None:
        self._memory = memory
        self._seen = {
            addr: memory.read(addr, length)
            for addr, length in stretches
            if memory.base <= addr and addr + length <= memory.end
        }

    def forget(self, addresses: Iterable[int]) -> None:
        """Look no longer at stretches that start at these addresses."""
        for addr in addresses:
            self._seen.pop(addr, None)

    def check(self) -> None:
        """Complain about changes."""
        for addr, data in self._seen.items():
            if self._memory.read(addr, len(data)) != data:
                raise DriverBreach("the driver changed what the device holds", addr=addr)


@dataclass
class Held:
    """A buffer taken and not yet used; `where` are its places in the ring or table."""

    chain: Chain
    where: list[int]
    watch: Watch


@dataclass
class HeldBuffers:
    """The held buffers, oldest first."""

    in_order: bool
    entries: list[Held] = field(default_factory=list)

    def add(self, held: Held) -> None:
        self.entries.append(held)

    def places(self) -> set[int]:
        """All places of all held buffers."""
        return {place for held in self.entries for place in held.where}

    def slots(self) -> int:
        return sum(held.chain.slots for held in self.entries)

    def take(self, chains: Sequence[Chain], length: int) -> list[Held]:
        """Let buffers go that are to be marked used by one entry.

        Misuse by the caller is a ValueError: buffers that are not held; with IN_ORDER buffers
        that are not the oldest; without it more than one; more bytes than fit.
        """
        found = [held for held in self.entries if any(held.chain is chain for chain in chains)]
        if not chains or len(found) != len(chains):
            raise ValueError("only buffers that are held can be completed")
        if self.in_order and found != self.entries[: len(found)]:
            raise ValueError("IN_ORDER: buffers are completed in the order of fetching")
        if len(chains) > 1 and not self.in_order:
            raise ValueError("one used entry for several buffers needs VIRTIO_F_IN_ORDER")
        if found[-1].chain is not chains[-1]:
            raise ValueError("a batch is given in the order of fetching")
        if length > chains[-1].writable_length:
            raise ValueError(f"{length} bytes do not fit into this buffer")
        self.entries = [held for held in self.entries if held not in found]
        return found
