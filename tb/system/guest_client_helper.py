"""A guest without QEMU: a client in a thread, with a net driver, and the RTL behind a server."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from cocotb.utils import get_sim_time

from guest.client import Client
from guest.connection import Connection
from guest.options import ServeOptions
from guest.rtl_config import TYPES
from guest.rtl_function import RtlFunction
from guest.rtl_net import NetPorts
from guest.server import Server, run
from lib.net_features import wanted_features
from lib.net_system import small_config
from lib.sim import params
from virtio_model.driver.make import make_queue
from virtio_model.driver.net import NetDriver
from virtio_model.driver.pci import VirtioPciDriver
from virtio_model.memory import Allocator, GuestMemory
from virtio_model.spec import net
from virtio_rtl.config import DeviceConfig

GUEST_MAC = bytes.fromhex("020000000001")
GUEST_ADDRESS = bytes((10, 0, 0, 1))
MESSAGE_ADDRESS = 0xFEE0_1000
RX, TX = 0, 1


class SharedMemory(GuestMemory):
    """The driver's view of a client's memory."""

    def __init__(self, client: Client) -> None:
        super().__init__(len(client.memory))
        self._data = client.memory


class SleepingConnection(Connection):
    """Notes the simulated time at which each sleep began and ended; `asleep` is set meanwhile."""

    def __init__(self, peer: socket.socket) -> None:
        super().__init__(peer)
        self.sleeps: list[tuple[float, float]] = []
        self.asleep = threading.Event()

    def wait(self, *arguments: Any, **options: Any) -> bool:
        before = get_sim_time("ns")
        self.asleep.set()
        result = super().wait(*arguments, **options)
        self.asleep.clear()
        self.sleeps.append((before, get_sim_time("ns")))
        return result


class Guest:
    """A net driver that works through a client. Its methods block; run it in a thread."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.memory = SharedMemory(client)
        self.allocator = Allocator(self.memory)
        self.pci = VirtioPciDriver(client, dependencies=net.DEPENDENCIES)
        self.net: NetDriver

    def bring_up(self, ring: str = "packed", *, table: bool = True) -> None:
        """Enable the function as an OS does, negotiate, set up MSI-X and both queues.

        table: program the MSI-X table; else its accesses end in the client.
        """
        run(self._bring_up(ring, table))

    async def _bring_up(self, ring: str, table: bool) -> None:
        await self.client.config_write(4, 6, 2)
        await self.pci.discover()
        features = await self.pci.start(wanted_features(ring))
        await self.pci.msix.enable()
        queues = []
        for index in (RX, TX):
            if table:
                await self.pci.set_vector(1 + index, MESSAGE_ADDRESS, 0x4000 + index)
            queue = make_queue(self.memory, self.allocator, 64, features)
            await self.pci.setup_queue(index, queue, vector=1 + index)
            queues.append(queue)
        self.net = NetDriver(self.memory, self.allocator, *queues, features=features)
        await self.pci.driver_ok()

    def leave(self) -> None:
        """Reset the device, as a driver does that leaves in good order."""
        run(self.pci.reset())

    def kick(self, index: int) -> None:
        """Notify the device if it wants that."""
        run(self.pci.kick(index))

    def until(self, done: Callable[[], bool]) -> None:
        """Wait for interrupts until something is true."""
        while not done():
            self.client.wait_message(len(self.client.messages) + 1)


class Session:
    """One guest's life: `serve` returns when the guest is gone, and raises what it raised."""

    def __init__(self, function: RtlFunction, *, own_msix: bool = True) -> None:
        ours, theirs = socket.socketpair()
        self.connection = SleepingConnection(ours)
        self.server = Server(self.connection, function, own_msix=own_msix)
        self.client = Client(Connection(theirs))
        self.guest = Guest(self.client)
        self._error: BaseException | None = None

    def _run(self, scenario: Callable[[Guest], None]) -> None:
        try:
            scenario(self.guest)
        except BaseException as error:
            self._error = error
        finally:
            self.client.close()

    async def serve(self, scenario: Callable[[Guest], None]) -> None:
        """Run a guest in a thread, and serve it until it is gone."""
        thread = threading.Thread(target=self._run, args=(scenario,), daemon=True)
        thread.start()
        try:
            await self.server.serve()
        finally:
            thread.join()
        if self._error is not None:
            raise self._error


def chosen_config(name: str) -> DeviceConfig:
    """Return a named configuration made small; "guest" is one of `make guest`, with more reads."""
    if name == "guest":
        return replace(TYPES["net"](ServeOptions(Path(), "net", 0)), read_tags=32)
    return small_config(name)


async def device(dut: Any) -> RtlFunction:
    """Bring up the function under test, with a peer on its wire."""
    stall = params().stall
    config = chosen_config(params().config)
    function = RtlFunction(dut, config, ports=NetPorts(dut, config, stall=stall), stall=stall)
    await function.bring_up()
    return function
