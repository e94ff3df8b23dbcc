"""A clean buffer in each hostile virtqueue, before anything bad happens: the device works."""

from __future__ import annotations

from lib.blk_system import BlkSystem
from lib.device_system import DeviceSystem
from lib.hostile.actions import Incoming, Write
from lib.hostile.plan import Plan
from lib.hostile.rings import WRITE
from lib.net_system import NetSystem
from virtio_model.rings.packed import PackedDescriptor
from virtio_model.rings.split import SplitDescriptor, UsedElement, used_entry_offset
from virtio_model.spec.blk import ID_BYTES, RequestStatus
from virtio_model.spec.net import HEADER_SIZE

__all__ = ["BlkOpening", "NetOpening", "Opening"]


class Opening:
    """What a plan's opening must lead to; a device type's is a subclass."""

    def __init__(self, system: DeviceSystem, plan: Plan) -> None:
        self.memory = system.memory
        self.plan = plan

    def used(self, way: int) -> tuple[int, int] | None:
        """Id and length of the virtqueue's first used buffer, if it is there."""
        place, memory = self.plan.places[way], self.memory
        if not place.packed:
            if memory.read_u16(place.device + 2) == 0:
                return None
            entry = UsedElement.decode(memory.read(place.device + used_entry_offset(0, 1), 8))
            return entry.id, entry.len
        slot = PackedDescriptor.decode(memory.read(place.desc, 16))
        return (slot.id, slot.len) if slot.flags & 0x8080 == 0x8080 else None

    def done(self) -> bool:
        """Whether both buffers were used."""
        return all(self.used(way) for way in range(2))

    @property
    def state(self) -> str:
        """How far it came."""
        return f"used (id, length): {[self.used(way) for way in range(2)]}"

    def buffer(self, way: int) -> list[tuple[int, int, bool]]:
        """(address, bytes, whether writable) of the elements of a virtqueue's buffer."""
        place = self.plan.places[way]
        kind = PackedDescriptor if place.packed else SplitDescriptor
        found = [
            kind.decode(one.data)
            for one in self.plan.opening
            if isinstance(one, Write) and place.desc <= one.address < place.driver
        ]
        if place.packed:
            found.reverse()  # the head was written last
        return [(one.addr, one.len, bool(one.flags & WRITE)) for one in found]

    def compare(self) -> list[str]:
        """What is wrong with it."""
        raise NotImplementedError


class NetOpening(Opening):
    """A frame in each direction."""

    def __init__(self, system: NetSystem, plan: Plan) -> None:
        super().__init__(system, plan)
        self._sink = system.sink
        self._frames = [one.length for one in plan.opening if isinstance(one, Incoming)]

    def done(self) -> bool:
        return super().done() and 0 in self._sink.dests

    def compare(self) -> list[str]:
        found = []
        frame = self._sink.frames[self._sink.dests.index(0)]
        sent = b"".join(self.memory.read(at, length) for at, length, _ in self.buffer(1))
        if frame != sent[HEADER_SIZE:]:
            found.append("opening: another frame was sent")
        got = self.used(0)
        if got != (0, HEADER_SIZE + self._frames[0]):
            found.append(f"opening: receive buffer used as {got}")
        if (sent_as := self.used(1)) is None or sent_as[0] != 0:
            found.append(f"opening: transmit buffer used as {sent_as}")
        return found


class BlkOpening(Opening):
    """The id of the disk from each virtqueue; an error where there was only room for that."""

    def __init__(self, system: BlkSystem, plan: Plan) -> None:
        super().__init__(system, plan)
        self._identity = system.config.blk.identity.encode().ljust(ID_BYTES, b"\0")

    def compare(self) -> list[str]:
        found = []
        for way in range(2):
            buffer = self.buffer(way)
            answer = b"".join(self.memory.read(at, length) for at, length, room in buffer if room)
            wanted = self._identity + bytes([RequestStatus.OK])
            if all(room for _, _, room in buffer):
                wanted = bytes(ID_BYTES) + bytes([RequestStatus.IOERR])
            if answer != wanted:
                found.append(f"opening: virtqueue {way} answered {answer.hex()}")
            if (got := self.used(way)) != (0, len(wanted)):
                found.append(f"opening: virtqueue {way} used its buffer as {got}")
        return found
