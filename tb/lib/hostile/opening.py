"""A clean buffer in each hostile virtqueue, before anything bad happens: the device works."""

from __future__ import annotations

from lib.hostile.actions import Incoming, Write
from lib.hostile.plan import Plan
from lib.net_system import NetSystem
from virtio_model.rings.packed import PackedDescriptor
from virtio_model.rings.split import UsedElement, used_entry_offset
from virtio_model.spec.net import HEADER_SIZE

__all__ = ["Opening"]


class Opening:
    """What a plan's opening must lead to."""

    def __init__(self, system: NetSystem, plan: Plan) -> None:
        self._system = system
        self._plan = plan
        self._frames = [one.length for one in plan.opening if isinstance(one, Incoming)]

    def _used(self, way: int) -> tuple[int, int] | None:
        """Id and length of the virtqueue's first used buffer, if it is there."""
        place, memory = self._plan.places[way], self._system.memory
        if not place.packed:
            if memory.read_u16(place.device + 2) == 0:
                return None
            entry = UsedElement.decode(memory.read(place.device + used_entry_offset(0, 1), 8))
            return entry.id, entry.len
        slot = PackedDescriptor.decode(memory.read(place.desc, 16))
        return (slot.id, slot.len) if slot.flags & 0x8080 == 0x8080 else None

    def done(self) -> bool:
        """Whether both buffers were used, and the frame has left."""
        return all(self._used(way) for way in range(2)) and 0 in self._system.sink.dests

    @property
    def state(self) -> str:
        """How far it came."""
        return f"used (id, length): {[self._used(way) for way in range(2)]}"

    def _buffer(self, way: int) -> list[PackedDescriptor]:
        """The elements of a virtqueue's buffer; both formats have address and length alike."""
        place = self._plan.places[way]
        found = [
            PackedDescriptor.decode(one.data)
            for one in self._plan.opening
            if isinstance(one, Write) and place.desc <= one.address < place.driver
        ]
        if place.packed:
            found.reverse()  # the head was written last
        return found

    def compare(self) -> list[str]:
        """What is wrong with it."""
        memory, sink = self._system.memory, self._system.sink
        found = []
        frame = sink.frames[sink.dests.index(0)]
        sent = b"".join(memory.read(one.addr, one.len) for one in self._buffer(1))
        if frame != sent[HEADER_SIZE:]:
            found.append("opening: another frame was sent")
        got = self._used(0)
        if got != (0, HEADER_SIZE + self._frames[0]):
            found.append(f"opening: receive buffer used as {got}")
        if (sent_as := self._used(1)) is None or sent_as[0] != 0:
            found.append(f"opening: transmit buffer used as {sent_as}")
        return found
