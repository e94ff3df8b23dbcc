"""The vfio-user server: a simulated PCI function for one client."""

from __future__ import annotations

import errno
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from guest.config_view import CONFIG_SIZE, ConfigView
from guest.connection import MAX_DATA, MAX_FDS, Connection, ConnectionLost, Message
from guest.device import AccessError, Function
from guest.guest_memory import MappedMemory
from guest.interrupts import Interrupts
from guest.protocol import (
    IRQ_COUNT,
    REGION_COUNT,
    Command,
    DeviceFlag,
    DeviceInfo,
    DmaAccess,
    DmaMap,
    DmaUnmap,
    HeaderFlag,
    Irq,
    IrqAction,
    IrqInfo,
    ProtocolError,
    Region,
    RegionAccess,
    RegionFlag,
    RegionInfo,
    SetIrqs,
    Version,
)
from virtio_model.errors import DeviceFault

_log = logging.getLogger(__name__)
_BAR_ACCESS_MAX = 8
_T = TypeVar("_T")


class Server:
    """Serves one connection until the client closes it; the `Host` of its function.

    own_msix: the guest programs the function's own MSI-X table, and an interrupt is the
    function's own message (see `ConfigView`). Where the client traps the table all the same, and
    without own_msix, each vector has an eventfd. `counts` has the messages by command, what the
    function sent, and the errors.

    Requests are carried out one after the other, as they come. Between them, while the function
    is busy, simulated time moves on; else the server sleeps.
    """

    def __init__(
        self, connection: Connection, function: Function, *, own_msix: bool = True
    ) -> None:
        self.connection = connection
        self.function = function
        self.own_msix = own_msix
        self.memory = MappedMemory()
        self.counts: Counter[str] = Counter()
        self.config = ConfigView(function, disguise=own_msix)
        self.interrupts = Interrupts(0)
        self._posted: dict[int, int] = {}
        self._overtaken: set[int] = set()
        self._handlers: dict[int, Callable[[Message], Awaitable[bytes]]] = {
            Command.VERSION: self._version,
            Command.DMA_MAP: self._dma_map,
            Command.DMA_UNMAP: self._dma_unmap,
            Command.DEVICE_GET_INFO: self._device_info,
            Command.DEVICE_GET_REGION_INFO: self._region_info,
            Command.DEVICE_GET_IRQ_INFO: self._irq_info,
            Command.DEVICE_SET_IRQS: self._set_irqs,
            Command.REGION_READ: self._region_read,
            Command.REGION_WRITE: self._region_write,
            Command.DEVICE_RESET: self._reset,
        }
        function.connect(self)

    @property
    def faults(self) -> int:
        """What the function did that reached nobody: DMA, and interrupt messages."""
        return len(self.memory.faults) + self.counts["message lost"]

    # What the function may do: guest.device.Host

    def message(self, address: int, data: bytes) -> None:
        """Send an interrupt message. Posted: waiting for the reply could wait for each other."""
        if self.own_msix:
            self.counts["message"] += 1
            body = DmaAccess(address, len(data)).encode() + data
            self._posted[self.connection.command(Command.DMA_WRITE, body)] = address
        elif not self.interrupts.signal(Irq.MSIX, self.config.vector_of(data)):
            self.counts["message lost"] += 1

    def intx(self, asserted: bool) -> None:
        """INTA of the function rises or falls."""
        self.interrupts.level(asserted)

    # The loop

    async def serve(self) -> None:
        """Serve until the client is gone. ProtocolError if it does not speak vfio-user."""
        await self.config.open()
        self.interrupts.counts[Irq.MSIX] = self.config.vectors
        try:
            while True:
                message = self.connection.receive()
                if message is not None:
                    await self._take(message)
                elif self.function.busy():
                    await self.function.step()
                else:
                    self.connection.wait(extra=self.function.wake_fds())
                    if self.function.wake_fds():
                        await self.function.step()
        except ConnectionLost as lost:
            _log.info("%s", lost)
        finally:
            self.interrupts.close()
            self.memory.close()
            self.connection.close()

    async def _take(self, message: Message) -> None:
        try:
            if message.header.is_reply:
                self._replied(message)
            else:
                await self._command(message)
        finally:
            message.close()

    def _replied(self, message: Message) -> None:
        header = message.header
        if header.id in self._overtaken:
            self._overtaken.remove(header.id)
            return
        address = self._posted.pop(header.id, None)
        if address is None:
            raise ProtocolError(f"a reply to message {header.id}, which was not sent")
        if header.flags & HeaderFlag.ERROR:
            self.memory.faults.append(
                DeviceFault("the client refused a message", addr=address, errno=header.error)
            )

    async def _command(self, message: Message) -> None:
        header, body, error = message.header, b"", 0
        try:
            self.counts[Command(header.command).name] += 1
            handler = self._handlers[header.command]
        except (ValueError, KeyError):
            error = errno.EOPNOTSUPP
        else:
            try:
                body = await handler(message)
            except ProtocolError as breach:
                _log.warning("%s", breach)
                error = errno.EINVAL
            except OSError as refused:
                error = refused.errno or errno.EIO
        if error:
            self.counts["error"] += 1
        if header.wants_reply:
            self.connection.reply(header, body, error)

    # What the client asks

    async def _version(self, message: Message) -> bytes:
        theirs = Version.decode(message.body)
        if theirs.major:
            raise ProtocolError(f"the client speaks vfio-user {theirs.major}.{theirs.minor}")
        limits = {"max_msg_fds": MAX_FDS, "max_data_xfer_size": MAX_DATA, "pgsizes": 4096}
        # A client takes no newer version than its own.
        return Version(0, theirs.minor, {**limits, "max_dma_maps": 65535}).encode()

    async def _dma_map(self, message: Message) -> bytes:
        self.memory.map(DmaMap.decode(message.body), message.fds[0] if message.fds else None)
        return b""

    async def _dma_unmap(self, message: Message) -> bytes:
        self.memory.unmap(DmaUnmap.decode(message.body))
        return message.body

    async def _device_info(self, _: Message) -> bytes:
        flags = DeviceFlag.RESET | DeviceFlag.PCI
        return DeviceInfo(DeviceInfo.FORMAT.size, flags, REGION_COUNT, IRQ_COUNT).encode()

    def _size_of(self, region: int) -> int:
        if region >= REGION_COUNT:
            raise OSError(errno.EINVAL, "no such region")
        return CONFIG_SIZE if region == Region.CONFIG else self.function.bars.get(region, 0)

    async def _region_info(self, message: Message) -> bytes:
        index = RegionInfo.decode(message.body).index
        size = self._size_of(index)
        flags = RegionFlag.READ | RegionFlag.WRITE if size else RegionFlag(0)
        return RegionInfo(RegionInfo.FORMAT.size, flags, index, 0, size, 0).encode()

    async def _irq_info(self, message: Message) -> bytes:
        return self.interrupts.info(IrqInfo.decode(message.body).index).encode()

    async def _set_irqs(self, message: Message) -> bytes:
        request = SetIrqs.decode(message.body)
        if request.index == Irq.MSIX and message.fds and self.own_msix:
            _log.warning("the client traps the MSI-X table: an eventfd for each vector instead")
            self.own_msix = False
        self.interrupts.set(request, message.fds)
        if request.index == Irq.MSIX and request.flags & IrqAction.TRIGGER and not self.own_msix:
            for vector in range(self.config.vectors):
                await self.config.listen(vector, self.interrupts.has(Irq.MSIX, vector))
        return b""

    def _access(self, message: Message) -> RegionAccess:
        access = RegionAccess.decode(message.body)
        limit = CONFIG_SIZE if access.region == Region.CONFIG else _BAR_ACCESS_MAX
        if not access.count or access.count > limit:
            raise OSError(errno.EINVAL, "an access of this length")
        if access.offset + access.count > self._size_of(access.region):
            raise OSError(errno.EINVAL, "an access beyond the region")
        return access

    async def _region_read(self, message: Message) -> bytes:
        access = self._access(message)
        try:
            if access.region == Region.CONFIG:
                self.counts["config"] += 1
                data = await self.config.read(access.offset, access.count)
            else:
                self.counts["bar read"] += 1
                data = await self.function.bar_read(access.region, access.offset, access.count)
        except AccessError as refused:
            _log.warning("%s", refused)
            self.counts["refused"] += 1
            data = b"\xff" * access.count
        return access.encode() + data

    async def _region_write(self, message: Message) -> bytes:
        access, data = self._access(message), RegionAccess.data_of(message.body)
        if len(data) != access.count:
            raise ProtocolError(f"a write of {access.count} bytes that has {len(data)}")
        try:
            if access.region == Region.CONFIG:
                self.counts["config"] += 1
                await self.config.write(access.offset, data)
            else:
                self.counts["bar write"] += 1
                await self.function.bar_write(access.region, access.offset, data)
        except AccessError as refused:
            _log.warning("%s", refused)
            self.counts["refused"] += 1
        return access.encode()

    async def _reset(self, _: Message) -> bytes:
        await self.function.reset()
        # A machine that is reset turns bus mastering off first: messages still on their way to it
        # are refused, and no fault of the device.
        self._overtaken.update(self._posted)
        self._posted.clear()
        self.interrupts.level(False)
        self.config.reveal()
        return b""


def run(coroutine: Coroutine[Any, Any, _T]) -> _T:
    """Run a coroutine that never suspends: a server whose function is plain Python."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        result: _T = stop.value
        return result
    coroutine.close()
    raise RuntimeError("the function waits for something: its server needs an event loop")
