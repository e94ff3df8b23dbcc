"""What the virtqueue engine asks of others: memory reads, memory writes and virtqueue settings."""

from amaranth.hdl import unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from ..config import DeviceConfig
from ..types.dma import ReadRequest, WriteRequest
from ..types.packet import packet_stream
from ..types.virtqueue import QueueLookup

__all__ = ["LOOKUPS", "WRITE_CLIENTS", "Clients", "client_ports", "read_clients"]

WRITE_CLIENTS = ("payload", "used", "suppression")
"""Clients of the write engine, by number."""

LOOKUPS = {
    "pairs": ("issue", "receive", "walk_receive", "walk_transmit", "used", "used_write", "event"),
    "requests": ("issue", "receive", "walk", "used", "used_write", "event"),
}
"""Readers of the queue table, by number, for each kind of paths."""

_TABLES = {"pairs": ("receive_tables", "transmit_tables"), "requests": ("tables",)}


def read_clients(config: DeviceConfig, paths: str) -> tuple[str, ...]:
    """Clients of the read engine, by number; ``paths``: "pairs" or "requests".

    "ring": available rings of split virtqueues, or packed descriptors that are read again.
    """
    clients = ["descriptors", "ring", "payload", "events"]
    if config.indirect:
        clients += _TABLES[paths]
        if "split" in config.rings:
            clients.append("jumps")
    return tuple(clients)


def client_ports(config: DeviceConfig, paths: str) -> dict:
    """The engine's ports ``lookup_{i}``, ``read_*_{i}`` and ``write_*_{i}``."""
    members = {}
    for i in range(len(LOOKUPS[paths])):
        members[f"lookup_{i}"] = Out(QueueLookup())
    for i in range(len(read_clients(config, paths))):
        members[f"read_request_{i}"] = Out(stream.Signature(ReadRequest))
        members[f"read_packet_{i}"] = In(packet_stream(config.width))
    for i in range(len(WRITE_CLIENTS)):
        members[f"write_request_{i}"] = Out(stream.Signature(WriteRequest))
        members[f"write_packet_{i}"] = Out(packet_stream(config.width))
        members[f"write_done_{i}"] = In(stream.Signature(unsigned(1)))
    return members


class Clients:
    """Connects an engine's stages to its `client_ports`, by name.

    Parameters
    ----------
    m
        The engine's module.
    engine
        The component with the ports; its ``config`` and ``paths`` say which.
    """

    def __init__(self, m, engine):
        self.m = m
        self.engine = engine
        self._readers = read_clients(engine.config, engine.paths)

    def _join(self, port, number, theirs):
        ours = getattr(self.engine, f"{port}_{number}")
        wiring.connect(self.m, wiring.flipped(ours), theirs)

    def read(self, name, request, packet):
        """A stage that reads memory."""
        number = self._readers.index(name)
        self._join("read_request", number, request)
        self._join("read_packet", number, packet)

    def write(self, name, request, packet, done):
        """A stage that writes memory."""
        number = WRITE_CLIENTS.index(name)
        self._join("write_request", number, request)
        self._join("write_packet", number, packet)
        self._join("write_done", number, done)

    def lookup(self, name, port):
        """A stage that looks at the settings of virtqueues."""
        self._join("lookup", LOOKUPS[self.engine.paths].index(name), port)
