"""How a virtqueue lies in memory, for the bulk drivers: descriptors in, used buffers out."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from virtio_model.memory import Allocator, GuestMemory
from virtio_model.rings.packed import (
    DESC_SIZE,
    EVENT_SIZE,
    DescFlags,
    EventFlags,
    EventSuppression,
    avail_bits,
    used_bits,
)
from virtio_model.spec import split

__all__ = ["DESCRIPTOR", "LAYOUTS", "PackedLayout", "Ring", "RingLayout", "SplitLayout", "Used"]

Ring = Literal["packed", "split"]

DESCRIPTOR = np.dtype([("addr", "<u8"), ("len", "<u4"), ("id", "<u2"), ("flags", "<u2")])
"""As packed descriptors lie in memory; flags without AVAIL and USED."""

_SPLIT_DESCRIPTOR = np.dtype([("addr", "<u8"), ("len", "<u4"), ("flags", "<u2"), ("next", "<u2")])
_ELEMENT = np.dtype([("id", "<u4"), ("len", "<u4")])
_POSITION_BITS = int(DescFlags.AVAIL | DescFlags.USED)
_ALIGN = 64


class Used(NamedTuple):
    """Buffers that came back, one row each; flags of packed descriptors but those of place."""

    id: NDArray[Any]
    len: NDArray[Any]
    flags: NDArray[Any] | None


class RingLayout(Protocol):
    """Areas, and how buffers go in and come out.

    Slots and buffers count for ever. used_addr, used_bytes: where used buffers are written.
    areas: purpose of the bytes -> start and end.
    """

    desc_addr: int
    driver_addr: int
    device_addr: int
    used_addr: int
    used_bytes: int
    areas: dict[str, tuple[int, int]]

    def __init__(
        self, memory: GuestMemory, allocator: Allocator, size: int, *, interrupts: bool
    ) -> None: ...

    def needs_kick(self) -> bool:
        """Tell whether the device wants to be notified."""

    def write(self, number: int, slot: int, descriptors: NDArray[Any]) -> None:
        """Put descriptors at `slot` and behind; the first one begins buffer `number`.

        They do not pass the end of the ring, unless they are one chain.
        """

    def publish(self, available: int) -> None:
        """Make all buffers before `available` available."""

    def used(self, number: int, slot: int, limit: int) -> Used:
        """Return up to `limit` buffers used from `number` on, at `slot`, within the ring's end."""

    def ids(self, slot: int, chosen: NDArray[Any]) -> NDArray[Any]:
        """Return ids to expect for buffers at `slot` and behind, for which `chosen` was written."""

    def completed(self, addr: int, data: bytes) -> int:
        """Return how many buffers a write of the device to the used area returns."""

    def slot_read(self, addr: int) -> int:
        """Return the slot, modulo the ring's size, of a descriptor's address."""


class PackedLayout:
    """A packed virtqueue [virtio 1.4 §2.8]."""

    def __init__(
        self, memory: GuestMemory, allocator: Allocator, size: int, *, interrupts: bool
    ) -> None:
        self.memory = memory
        self.size = size
        self.desc_addr = allocator.alloc(DESC_SIZE * size, _ALIGN)
        self.driver_addr = allocator.alloc(EVENT_SIZE, _ALIGN)
        self.device_addr = allocator.alloc(EVENT_SIZE, _ALIGN)
        memory.grant(self.desc_addr, DESC_SIZE * size, writable=True)
        memory.grant(self.driver_addr, EVENT_SIZE)
        memory.grant(self.device_addr, EVENT_SIZE, writable=True, readable=False)
        memory.write(self.desc_addr, bytes(DESC_SIZE * size))
        wanted = EventFlags.ENABLE if interrupts else EventFlags.DISABLE
        memory.write(self.driver_addr, EventSuppression(flags=wanted).encode())
        memory.write(self.device_addr, bytes(EVENT_SIZE))
        self.used_addr, self.used_bytes = self.desc_addr, DESC_SIZE * size
        self.areas = {
            "descriptors": (self.desc_addr, self.desc_addr + DESC_SIZE * size),
            "events": (self.driver_addr, self.driver_addr + EVENT_SIZE),
            "suppression": (self.device_addr, self.device_addr + EVENT_SIZE),
        }

    def needs_kick(self) -> bool:
        """Tell whether the device wants to be notified."""
        event = EventSuppression.decode(self.memory.read(self.device_addr, EVENT_SIZE))
        return event.flags != EventFlags.DISABLE

    def write(self, number: int, slot: int, descriptors: NDArray[Any]) -> None:
        """Put descriptors in ring order; they are available at once."""
        count = len(descriptors)
        until_end = self.size - slot % self.size
        for first, part in ((0, min(count, until_end)), (until_end, count - until_end)):
            if part <= 0:
                continue
            index, wrap = self._place(slot + first)
            piece = descriptors[first : first + part].copy()
            piece["flags"] |= avail_bits(wrap)
            self.memory.write(self.desc_addr + DESC_SIZE * index, piece.tobytes())

    def publish(self, available: int) -> None:
        """Nothing to do: the flags have said it."""

    def used(self, number: int, slot: int, limit: int) -> Used:
        """Read descriptors until one is not used."""
        index, wrap = self._place(slot)
        raw = self.memory.read(self.desc_addr + DESC_SIZE * index, DESC_SIZE * limit)
        found = np.frombuffer(raw, DESCRIPTOR)
        waiting = found["flags"] & _POSITION_BITS != used_bits(wrap)
        found = found[: int(waiting.argmax()) if waiting.any() else limit]
        return Used(found["id"], found["len"], found["flags"] & (0xFFFF ^ _POSITION_BITS))

    def ids(self, slot: int, chosen: NDArray[Any]) -> NDArray[Any]:
        """Return the ids that were written."""
        return chosen

    def completed(self, addr: int, data: bytes) -> int:
        """Every descriptor is a buffer."""
        return len(data) // DESC_SIZE

    def slot_read(self, addr: int) -> int:
        """Return the place in the ring."""
        return (addr - self.desc_addr) // DESC_SIZE

    def _place(self, slot: int) -> tuple[int, int]:
        lap, index = divmod(slot, self.size)
        return index, lap & 1 ^ 1


class SplitLayout:
    """A split virtqueue whose descriptors are taken in turn [virtio 1.4 §2.7].

    So do drivers that put freed descriptors at the end of their list. Slot n is descriptor
    n + 5 modulo the ring's size, so that a head's number is not its place in the available ring.
    """

    _SHIFT = 5

    def __init__(
        self, memory: GuestMemory, allocator: Allocator, size: int, *, interrupts: bool
    ) -> None:
        self.memory = memory
        self.size = size
        avail, used = split.avail_size(size), split.used_size(size)
        self.desc_addr = allocator.alloc(DESC_SIZE * size, _ALIGN)
        self.driver_addr = allocator.alloc(avail, _ALIGN)
        self.device_addr = allocator.alloc(used, _ALIGN)
        memory.grant(self.desc_addr, DESC_SIZE * size)
        memory.grant(self.driver_addr, avail)
        memory.grant(self.device_addr, used, writable=True, readable=False)
        for addr, length in (
            (self.desc_addr, DESC_SIZE * size), (self.driver_addr, avail), (self.device_addr, used)
        ):  # fmt: skip
            memory.write(addr, bytes(length))
        flags = 0 if interrupts else split.AVAIL_NO_INTERRUPT
        memory.write(self.driver_addr, flags.to_bytes(2, "little"))
        self.used_addr, self.used_bytes = self.device_addr, used
        self.areas = {
            "descriptors": (self.desc_addr, self.desc_addr + DESC_SIZE * size),
            "index": (self.driver_addr, self.driver_addr + split.RING_OFFSET),
            "entries": (self.driver_addr + split.RING_OFFSET, self.driver_addr + avail),
            "suppression": (self.device_addr, self.device_addr + 2),
            "used": (self.device_addr + 2, self.device_addr + used),
        }
        self._heads: list[tuple[int, int]] = []
        self._returned = 0

    def needs_kick(self) -> bool:
        """Tell whether the device wants to be notified."""
        return not self.memory.read(self.device_addr, 1)[0] & split.USED_NO_NOTIFY

    def write(self, number: int, slot: int, descriptors: NDArray[Any]) -> None:
        """Put descriptors into the table, and their heads into the available ring."""
        count = len(descriptors)
        index = (slot + self._SHIFT + np.arange(count)) % self.size
        table = np.zeros(count, _SPLIT_DESCRIPTOR)
        for name in ("addr", "len", "flags"):
            table[name] = descriptors[name]
        chained = descriptors["flags"] & int(DescFlags.NEXT) != 0
        table["next"] = np.where(chained, (index + 1) % self.size, 0xFFFF)
        for part in np.split(np.arange(count), np.flatnonzero(np.diff(index) != 1) + 1):
            at = self.desc_addr + DESC_SIZE * int(index[part[0]])
            self.memory.write(at, table[part].tobytes())
        heads = index[np.concatenate(([True], ~chained[:-1]))].astype("<u2")
        places = (number + np.arange(len(heads))) % self.size
        for part in np.split(np.arange(len(heads)), np.flatnonzero(np.diff(places) != 1) + 1):
            at = self.driver_addr + split.RING_OFFSET + 2 * int(places[part[0]])
            self.memory.write(at, heads[part].tobytes())

    def publish(self, available: int) -> None:
        """Write avail.idx."""
        self.memory.write(self.driver_addr + 2, (available & 0xFFFF).to_bytes(2, "little"))

    def used(self, number: int, slot: int, limit: int) -> Used:
        """Read used elements up to used.idx."""
        index = int.from_bytes(self.memory.read(self.device_addr + 2, 2), "little")
        count = min(limit, (index - number) & 0xFFFF, self.size - number % self.size)
        at = self.device_addr + split.RING_OFFSET + 8 * (number % self.size)
        found = np.frombuffer(self.memory.read(at, 8 * count), _ELEMENT)
        return Used(found["id"], found["len"], None)

    def ids(self, slot: int, chosen: NDArray[Any]) -> NDArray[Any]:
        """Return the heads."""
        return (slot + self._SHIFT + np.arange(len(chosen))) % self.size

    def completed(self, addr: int, data: bytes) -> int:
        """Only used.idx counts."""
        place = self.device_addr + 2 - addr
        if not 0 <= place < len(data):
            return 0
        index = int.from_bytes(data[place : place + 2], "little")
        count = (index - self._returned) & 0xFFFF
        self._returned = index
        return count

    def slot_read(self, addr: int) -> int:
        """Return the place in the table, as a slot."""
        return ((addr - self.desc_addr) // DESC_SIZE - self._SHIFT) % self.size


LAYOUTS: dict[Ring, type[RingLayout]] = {"packed": PackedLayout, "split": SplitLayout}
