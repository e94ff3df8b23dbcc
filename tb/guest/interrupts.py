"""How interrupts reach the client by eventfd: SET_IRQS of vfio-user."""

from __future__ import annotations

import errno
import os

from guest.protocol import Irq, IrqAction, IrqFlag, IrqInfo, SetIrqs

_ONE = (1).to_bytes(8, "little")


class Interrupts:
    """The eventfds that the client gave, by interrupt index and vector.

    INTx is a level: it is signalled when it rises and, as the client's virtual processor
    acknowledges it by UNMASK, again while it is still high.
    """

    def __init__(self, vectors: int) -> None:
        self.counts = {Irq.INTX: 1, Irq.MSIX: vectors}
        self.signalled = 0
        self._fds: dict[tuple[int, int], int] = {}
        self._level = False
        self._masked = False

    def info(self, index: int) -> IrqInfo:
        """What GET_IRQ_INFO answers."""
        if index not in Irq.__members__.values():
            raise OSError(errno.EINVAL, "no such interrupts")
        flags = IrqFlag.EVENTFD
        if index == Irq.INTX:
            flags |= IrqFlag.MASKABLE | IrqFlag.AUTOMASKED
        return IrqInfo(IrqInfo.FORMAT.size, flags, index, self.counts.get(Irq(index), 0))

    def set(self, request: SetIrqs, fds: list[int]) -> None:
        """Carry SET_IRQS out; descriptors that are kept are taken out of `fds`.

        OSError where the interrupts do not exist or the request makes no sense.
        """
        count = self.counts.get(Irq(request.index), 0) if request.index < len(Irq) else 0
        if request.start + request.count > count:
            raise OSError(errno.EINVAL, "no such interrupts")
        vectors = range(request.start, request.start + request.count)
        if request.flags & IrqAction.TRIGGER:
            if request.flags & IrqAction.DATA_EVENTFD:
                self._replace(request.index, vectors, fds)
            elif request.flags & IrqAction.DATA_NONE:
                self._loop_back(request.index, vectors)
            else:
                raise OSError(errno.EOPNOTSUPP, "data of SET_IRQS")
        elif request.index == Irq.INTX and request.flags & IrqAction.DATA_NONE:
            self._masked = bool(request.flags & IrqAction.MASK)
            self._signal_level()

    def _replace(self, index: int, vectors: range, fds: list[int]) -> None:
        if fds and len(fds) != len(vectors):
            raise OSError(errno.EINVAL, "descriptors for some of the interrupts")
        for vector in vectors:
            self._drop(index, vector)
            if fds:
                self._fds[index, vector] = fds.pop(0)
        if index == Irq.INTX:
            self._masked = False
            self._signal_level()

    def _loop_back(self, index: int, vectors: range) -> None:
        if vectors:
            for vector in vectors:
                self.signal(index, vector)
        else:
            for key in [key for key in self._fds if key[0] == index]:
                self._drop(*key)

    def _drop(self, index: int, vector: int) -> None:
        if (fd := self._fds.pop((index, vector), None)) is not None:
            os.close(fd)

    def has(self, index: int, vector: int) -> bool:
        """Whether the client listens to an interrupt by eventfd."""
        return (index, vector) in self._fds

    def signal(self, index: int, vector: int) -> bool:
        """Signal one interrupt; False if nobody listens."""
        if (fd := self._fds.get((index, vector))) is None:
            return False
        os.write(fd, _ONE)
        self.signalled += 1
        return True

    def level(self, asserted: bool) -> None:
        """INTx of the function rises or falls."""
        rises, self._level = asserted and not self._level, asserted
        if rises:
            self._signal_level()

    def _signal_level(self) -> None:
        if self._level and not self._masked:
            # Automasked: silent until the client says UNMASK.
            self._masked = self.signal(Irq.INTX, 0)

    def close(self) -> None:
        """Close all eventfds."""
        for index, vector in list(self._fds):
            self._drop(index, vector)
