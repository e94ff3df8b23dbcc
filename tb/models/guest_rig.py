"""A vfio-user server and a client in place of QEMU, connected by a socket pair."""

from __future__ import annotations

import mmap
import os
import select
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from guest.client import Client
from guest.connection import Connection, Message
from guest.device import Function, Host
from guest.guest_memory import MappedMemory
from guest.protocol import Command, DmaFlag, DmaMap, Irq, IrqAction, Region, SetIrqs
from guest.server import Server, run
from virtio_model.driver.make import make_queue
from virtio_model.driver.pci import VirtioPciDriver
from virtio_model.driver.queue import DriverQueue
from virtio_model.memory import Allocator
from virtio_model.spec import features as feat
from virtio_model.spec import pci
from virtio_model.spec.features import Feature

BASE = 1 << 32
"""Bus address of the guest's memory."""
SIZE = 1 << 20
VECTOR_ADDRESS = 0xFEE0_1000
_VECTOR_DATA = 0x40
BASICS = feat.mask([Feature.ACCESS_PLATFORM])


@dataclass
class Rig:
    """Both ends; the server runs in a thread of its own and owns its function."""

    server: Server
    client: Client
    peer: socket.socket
    errors: list[Exception] = field(default_factory=list)
    eventfds: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.memory = MappedMemory()
        self.allocator = Allocator(self.memory, BASE, BASE + SIZE)
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def _serve(self) -> None:
        try:
            run(self.server.serve())
        except Exception as error:
            self.errors.append(error)

    def start(self) -> None:
        """Let the server run."""
        self._thread.start()

    def end(self) -> None:
        """Wait for the server's end."""
        self._thread.join(20)
        assert not self._thread.is_alive(), "the server does not end"

    def attach(self) -> None:
        """What QEMU does until a guest runs: version, memory, reset."""
        self.client.start(BASE)
        self.memory.map(DmaMap(0, DmaFlag.READ | DmaFlag.WRITE, 0, BASE, SIZE), self.client.fd)

    def next_message(self) -> Message:
        """Wait for any message of the server."""
        while (message := self.client.connection.receive()) is None:
            assert self.client.connection.wait(20), "no message"
        return message

    def listen(self, vectors: int) -> None:
        """Take interrupts by one eventfd for each vector."""
        self.eventfds = [os.eventfd(0, os.EFD_NONBLOCK) for _ in range(vectors)]
        request = SetIrqs(20, IrqAction.DATA_EVENTFD | IrqAction.TRIGGER, Irq.MSIX, 0, vectors)
        self.client.call(Command.DEVICE_SET_IRQS, request.encode(), tuple(self.eventfds))

    def signalled(self, vector: int) -> int:
        """Wait for an eventfd; how often it was signalled."""
        assert select.select([self.eventfds[vector]], [], [], 20)[0], "no interrupt"
        return os.eventfd_read(self.eventfds[vector])

    def listen_intx(self) -> None:
        """Take INTx by an eventfd."""
        self.eventfds = [os.eventfd(0, os.EFD_NONBLOCK)]
        how = IrqAction.DATA_EVENTFD | IrqAction.TRIGGER
        self._set_intx(how, tuple(self.eventfds))

    def unmask_intx(self) -> None:
        """Acknowledge INTx."""
        self._set_intx(IrqAction.DATA_NONE | IrqAction.UNMASK)

    def _set_intx(self, how: int, fds: tuple[int, ...] = ()) -> None:
        body = SetIrqs(20, how, Irq.INTX, 0, 1).encode()
        self.client.call(Command.DEVICE_SET_IRQS, body, fds)

    def find_capability(self, kind: int) -> int:
        """Where in configuration space a capability is."""
        at = self.client.read(Region.CONFIG, pci.PCI_CAP_POINTER_OFFSET, 1)[0]
        while self.client.read(Region.CONFIG, at, 1)[0] != kind:
            at = self.client.read(Region.CONFIG, at + 1, 1)[0]
            assert at, "no such capability"
        return at

    def bring_up(
        self,
        wanted: int,
        sizes: list[int],
        *,
        dependencies: feat.Dependencies = feat.DEPENDENCIES,
        device_config: bool = True,
    ) -> Up:
        """Attach a driver and hand it queues, each with a vector of its own."""
        driver = VirtioPciDriver(
            self.client, dependencies=dependencies, device_config=device_config
        )
        run(driver.discover())
        run(driver.start(wanted | BASICS))
        if not self.eventfds:
            for vector in range(len(sizes) + 1):
                run(driver.set_vector(vector, VECTOR_ADDRESS, _VECTOR_DATA + vector))
        run(driver.msix.enable())
        run(driver.set_config_vector(0))
        queues: list[DriverQueue] = []
        for index, size in enumerate(sizes):
            queue = make_queue(self.memory, self.allocator, size, driver.features)
            run(driver.setup_queue(index, queue, index + 1))
            queues.append(queue)
        run(driver.driver_ok())
        return Up(driver, queues)

    def vector(self) -> int:
        """Wait for an interrupt, whichever way it comes; its vector."""
        if self.eventfds:
            ready = select.select(self.eventfds, [], [], 20)[0]
            assert ready, "no interrupt"
            os.eventfd_read(ready[0])
            return self.eventfds.index(ready[0])
        self.client.wait_message()
        address, data = self.client.messages.pop(0)
        assert address == VECTOR_ADDRESS
        return int.from_bytes(data, "little") - _VECTOR_DATA


@dataclass
class Up:
    """A driver that is running, and its queues."""

    driver: VirtioPciDriver
    queues: list[DriverQueue]


@contextmanager
def served(function: Function, *, own_msix: bool = True, fails: bool = False) -> Iterator[Rig]:
    """A running server and its client; at the end the client leaves, and the server follows.

    fails: the server ends with an error, which the caller looks at.
    """
    ours, theirs = socket.socketpair()
    server = Server(Connection(ours), function, own_msix=own_msix)
    rig = Rig(server, Client(Connection(theirs), SIZE, limit_s=20), theirs)
    rig.start()
    try:
        yield rig
    finally:
        rig.client.close()
        rig.end()
        rig.client.memory.close()
        rig.memory.close()
        for fd in rig.eventfds:
            os.close(fd)
    assert fails or not rig.errors, rig.errors


class PlainFunction:
    """A function of registers: BAR 0 is memory, a write to `work` is so many steps of work."""

    WORK = 0x100
    MSIX_TABLE = 0x800

    def __init__(self, vectors: int = 2) -> None:
        self.bars = {0: mmap.PAGESIZE, 2: 1 << 16}
        self.config = bytearray(4096)
        self.config[0x06] = 0x10
        self.config[0x10] = 0x4
        self.config[0x18:0x1C] = b"\x0c\x00\xee\xff"
        self.config[0x34] = 0x40
        self.config[0x40:0x4C] = bytes([0x11, 0, vectors - 1, 0, 0, 8, 0, 0, 0, 12, 0, 0])
        self.bar = bytearray(mmap.PAGESIZE)
        self.left = 0
        self.steps = 0
        self.resets = 0
        self.written: list[tuple[int, bytes]] = []
        self.host: Host

    def connect(self, host: Host) -> None:
        self.host = host

    async def config_read(self, offset: int, length: int) -> bytes:
        return bytes(self.config[offset : offset + length])

    async def config_write(self, offset: int, data: bytes) -> None:
        self.written.append((offset, data))
        self.config[offset : offset + len(data)] = data

    async def bar_read(self, bar: int, offset: int, length: int) -> bytes:
        return bytes(self.bar[offset : offset + length])

    async def bar_write(self, bar: int, offset: int, data: bytes) -> None:
        if offset == self.WORK:
            self.left = data[0]
        self.bar[offset : offset + len(data)] = data

    async def reset(self) -> None:
        self.resets += 1

    def busy(self) -> bool:
        return self.left > 0

    async def step(self) -> None:
        assert self.left, "a step, and nothing to do"
        self.left -= 1
        self.steps += 1

    def wake_fds(self) -> tuple[int, ...]:
        return ()
