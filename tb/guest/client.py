"""A vfio-user client in place of QEMU: what a test drives a server with."""

from __future__ import annotations

import mmap
import os
import time

from guest.connection import Connection, ConnectionLost, Message
from guest.protocol import (
    Command,
    DmaAccess,
    DmaFlag,
    DmaMap,
    HeaderFlag,
    Region,
    RegionAccess,
    Version,
)


class Refused(Exception):
    """The server has answered with an error; `errno` is its number."""

    def __init__(self, command: Command, errno: int) -> None:
        super().__init__(f"{command.name}: errno {errno}")
        self.errno = errno


class Client:
    """The guest's side of a connection, with `memory_bytes` of guest memory in a memfd.

    All waits block the calling thread, for `limit_s` at most. Messages of the device's own MSI-X
    table arrive as DMA_WRITE; they are acknowledged while something else is waited for, and kept
    in `messages` as (address, data). The methods of `virtio_model.driver.pci_caps.PciAccess` are
    coroutines that never suspend, so that a `VirtioPciDriver` can work through the server.
    """

    def __init__(
        self, connection: Connection, memory_bytes: int = 1 << 20, limit_s: float = 60.0
    ) -> None:
        self.connection = connection
        self.limit_s = limit_s
        self.messages: list[tuple[int, bytes]] = []
        self.fd = os.memfd_create("guest")
        os.ftruncate(self.fd, memory_bytes)
        self.memory = mmap.mmap(self.fd, memory_bytes)

    def close(self) -> None:
        """Leave."""
        self.connection.close()
        os.close(self.fd)

    # Messages

    def _next(self, deadline: float) -> Message:
        while (message := self.connection.receive()) is None:
            left = deadline - time.monotonic()
            if left < 0:
                raise ConnectionLost(f"no message from the server within {self.limit_s} s")
            self.connection.wait(left)
        return message

    def _take(self, message: Message) -> None:
        """Take a command of the server."""
        assert message.header.command == Command.DMA_WRITE, message
        access = DmaAccess.decode(message.body)
        self.messages.append((access.address, DmaAccess.data_of(message.body)))
        if message.header.wants_reply:
            self.connection.reply(message.header, access.encode())

    def call(self, command: Command, body: bytes = b"", fds: tuple[int, ...] = ()) -> bytes:
        """Send a command and wait for its reply."""
        deadline = time.monotonic() + self.limit_s
        number = self.connection.command(command, body, fds)
        while True:
            message = self._next(deadline)
            if not message.header.is_reply:
                self._take(message)
                continue
            assert (message.header.id, message.header.command) == (number, command)
            if message.header.flags & HeaderFlag.ERROR:
                raise Refused(command, message.header.error)
            return message.body

    def wait_message(self, count: int = 1) -> None:
        """Wait until so many interrupt messages have come in all."""
        deadline = time.monotonic() + self.limit_s
        while len(self.messages) < count:
            self._take(self._next(deadline))

    # What a client does first

    def start(self, address: int = 0) -> None:
        """Agree on the version, map the guest's memory at a bus address, reset the device."""
        self.call(Command.VERSION, Version(0, 0, {}).encode())
        self.map(address)
        self.call(Command.DEVICE_RESET)

    def map(self, address: int) -> None:
        """Map all of the guest's memory at a bus address."""
        flags = DmaFlag.READ | DmaFlag.WRITE
        body = DmaMap(DmaMap.FORMAT.size, flags, 0, address, len(self.memory)).encode()
        self.call(Command.DMA_MAP, body, (self.fd,))

    # Regions

    def read(self, region: int, offset: int, size: int) -> bytes:
        """Read a region."""
        body = self.call(Command.REGION_READ, RegionAccess(offset, region, size).encode())
        return RegionAccess.data_of(body)

    def write(self, region: int, offset: int, data: bytes) -> None:
        """Write a region."""
        self.call(Command.REGION_WRITE, RegionAccess(offset, region, len(data)).encode() + data)

    async def config_read(self, offset: int, size: int) -> int:
        """Read configuration space."""
        return int.from_bytes(self.read(Region.CONFIG, offset, size), "little")

    async def config_write(self, offset: int, value: int, size: int) -> None:
        """Write configuration space."""
        self.write(Region.CONFIG, offset, value.to_bytes(size, "little"))

    async def bar_read(self, bar: int, offset: int, size: int) -> int:
        """Read a BAR."""
        return int.from_bytes(self.read(bar, offset, size), "little")

    async def bar_write(self, bar: int, offset: int, value: int, size: int) -> None:
        """Write a BAR."""
        self.write(bar, offset, value.to_bytes(size, "little"))
