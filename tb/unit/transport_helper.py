"""A model of the common configuration, and what the tests of the transport share."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import cocotb
from cocotb.triggers import RisingEdge
from test_transport_queue_table import Golden

from virtio_rtl.config import DeviceConfig

VERSION_1, RING_PACKED, EVENT_IDX, IN_ORDER = 1 << 32, 1 << 34, 1 << 29, 1 << 35
MAC, STATUS, MTU, CTRL_VQ, MQ, CSUM = 1 << 5, 1 << 16, 1 << 3, 1 << 17, 1 << 22, 1 << 0
HOST_TSO4, HOST_TSO6, HOST_ECN = 1 << 11, 1 << 12, 1 << 13
HOST_USO, HOST_UDP_TUNNEL_GSO = 1 << 56, 1 << 67
NOTIFICATION_DATA, NOTIF_CONFIG_DATA, RING_RESET, SUSPEND = 1 << 38, 1 << 39, 1 << 40, 1 << 43
BASE = VERSION_1 | RING_PACKED
"""What a driver accepts that wants packed virtqueues, and nothing else."""

_PLAIN = (
    BASE | MAC | STATUS | MTU | CTRL_VQ | MQ | CSUM
    | HOST_TSO4 | HOST_TSO6 | HOST_ECN | HOST_USO | HOST_UDP_TUNNEL_GSO
)  # fmt: skip
_RING = EVENT_IDX | IN_ORDER | NOTIFICATION_DATA | NOTIF_CONFIG_DATA | RING_RESET | SUSPEND
KINDS = {"whole": (_PLAIN | _RING, VERSION_1), "plain": (_PLAIN, BASE)}
"""Offered and required features: of a device with all, and of one with as little as can be."""

ACKNOWLEDGE, DRIVER, DRIVER_OK, FEATURES_OK, NEEDS_RESET, FAILED = 1, 2, 4, 8, 64, 128
SUSPENDED = 16
NO_VECTOR = 0xFFFF


def config(pairs: int = 1, vectors: int = 4, **more: Any) -> DeviceConfig:
    """Return a device configuration for a test."""
    return DeviceConfig(name="test", queue_pairs=pairs, msix_vectors=vectors, **more)


def acceptable(accepted: int, kind: str) -> bool:
    """Whether the device can serve a feature set, written out by hand for KINDS."""
    offered, required = KINDS[kind]
    has = {name: bool(accepted & bit) for name, bit in {
        "csum": CSUM, "tso4": HOST_TSO4, "tso6": HOST_TSO6, "ecn": HOST_ECN, "uso": HOST_USO,
        "tunnel": HOST_UDP_TUNNEL_GSO, "ctrl": CTRL_VQ, "mq": MQ,
    }.items()}  # fmt: skip
    return (
        not accepted & ~offered
        and accepted & required == required
        and (has["csum"] or not (has["tso4"] or has["tso6"] or has["uso"]))
        and (has["tso4"] or has["tso6"] or not has["ecn"])
        and (has["ctrl"] or not has["mq"])
        and (not has["tunnel"] or (has["tso4"] and has["tso6"] and has["uso"]))
    )


class CommonModel:
    """The common configuration structure as bytes."""

    def __init__(self, device: DeviceConfig, kind: str) -> None:
        self.device, self.kind = device, kind
        self.offered, self.required = KINDS[kind]
        self.queues = Golden(
            device.num_queues, device.queue_size_max, device.msix_vectors,
            ring_reset=bool(self.offered & RING_RESET),
            notif_config_data=bool(self.offered & NOTIF_CONFIG_DATA),
        )  # fmt: skip
        self.generation = 0
        self.clear()

    def clear(self) -> None:
        """Reset values; the generation goes on."""
        self.registers = {0x00: 0, 0x08: 0, 0x10: NO_VECTOR, 0x16: 0}
        self.words = [0, 0, 0, 0]
        self.beyond = False
        self.status = 0
        self.suspending = False
        self.queues.clear()

    @property
    def accepted(self) -> int:
        """The driver's features as one number."""
        return sum(word << 32 * index for index, word in enumerate(self.words))

    def negotiated(self, feature: int) -> bool:
        """Whether a feature was accepted for good, or has to be."""
        settled = self.status & FEATURES_OK and self.accepted & feature
        return bool(settled or self.required & feature)

    def suspend(self) -> None:
        """The device has come to rest."""
        self.suspending = False
        self.status = self.status & ~DRIVER_OK | SUSPENDED

    def read(self, offset: int) -> int:
        """Return a dword."""
        regs = self.registers
        if offset in (0x00, 0x08):
            return regs[offset]
        if offset == 0x04:
            return self.offered >> 32 * regs[0x00] & 0xFFFF_FFFF if regs[0x00] < 8 else 0
        if offset == 0x0C:
            return self.words[regs[0x08]] if regs[0x08] < 4 else 0
        if offset == 0x10:
            return regs[0x10] | self.device.num_queues << 16
        if offset == 0x14:
            return self.status | self.generation << 8 | regs[0x16] << 16
        return self.queues.read(regs[0x16], offset) if offset < 0x40 else 0

    def write(self, offset: int, data: int, enables: int) -> str | None:
        """Write a dword; return "reset" if that asks for one, "enabled" if it enables a queue.

        "queue_reset" and "suspend" if it asks for that.
        """
        if offset >= 0x40 or (self.status & SUSPENDED and offset != 0x14):
            return None
        regs = self.registers
        mask = sum(0xFF << 8 * byte for byte in range(4) if enables >> byte & 1)
        mixed = self.read(offset) & ~mask | data & mask
        if offset in (0x00, 0x08):
            regs[offset] = mixed
        elif offset == 0x0C and not self.status & FEATURES_OK:
            if regs[0x08] < 4:
                self.words[regs[0x08]] = mixed
            elif enables:
                self.beyond = bool(mixed)
        elif offset == 0x10 and enables & 3:
            vector = mixed & 0xFFFF
            regs[0x10] = vector if vector < self.device.msix_vectors else NO_VECTOR
        elif offset == 0x14:
            if not self.status & SUSPENDED:
                regs[0x16] = mixed >> 16
            if enables & 1:
                return self.write_status(data & 0xFF)
        elif offset >= 0x18:
            return self.queues.write(
                regs[0x16], offset, data, enables,
                any_size=self.negotiated(RING_PACKED), reset_allowed=self.negotiated(RING_RESET),
            )  # fmt: skip
        return None

    def write_status(self, value: int) -> str | None:
        """The driver's write of device_status."""
        if value == 0:
            return "reset"
        running = self.status & DRIVER_OK
        asks = value & SUSPENDED and running and self.negotiated(SUSPEND) and not self.suspending
        if value & DRIVER_OK and self.status & FEATURES_OK:
            self.status = self.status & ~SUSPENDED | DRIVER_OK
        if value & FEATURES_OK and acceptable(self.accepted, self.kind) and not self.beyond:
            self.status |= FEATURES_OK
        self.status |= value & (ACKNOWLEDGE | DRIVER | FAILED)
        self.suspending |= bool(asks)
        return "suspend" if asks else None


class ResetAnswer:
    """Answers reset_request with reset_done after a while; `delay` is a function."""

    def __init__(self, dut: Any, delay: Callable[[], int]) -> None:
        self.dut, self.delay, self.count = dut, delay, 0
        dut.reset_done.value = 0
        self._task = cocotb.start_soon(self._run())

    async def _run(self) -> None:
        edge = RisingEdge(self.dut.clk)
        while True:
            await edge
            if int(self.dut.reset_request.value):
                for _ in range(self.delay()):
                    await edge
                self.dut.reset_done.value = 1
                await edge
                self.dut.reset_done.value = 0
                self.count += 1
                await edge


def random_features(kind: str) -> int:
    """Return a feature set: often acceptable, else nearly so."""
    offered, required = KINDS[kind]
    bits = [1 << n for n in range(128) if offered >> n & 1]
    features = required | sum(bit for bit in bits if random.random() < 0.5 and not bit & required)
    if random.random() < 0.4:
        features ^= 1 << random.randrange(128)
    return features


async def strobe(dut: Any, name: str) -> None:
    """Set an input for one cycle."""
    getattr(dut, name).value = 1
    await RisingEdge(dut.clk)
    getattr(dut, name).value = 0


async def negotiate(bus: Any, features: int, status: int = 15) -> None:
    """Bring a device from reset to a status, as a driver does."""
    await bus.write(0x14, ACKNOWLEDGE, 1)
    await bus.write(0x14, ACKNOWLEDGE | DRIVER, 1)
    for word in range(4):
        await bus.write(0x08, word)
        await bus.write(0x0C, features >> 32 * word & 0xFFFF_FFFF)
    await bus.write(0x14, ACKNOWLEDGE | DRIVER | FEATURES_OK, 1)
    if status & DRIVER_OK:
        await bus.write(0x14, status, 1)
    assert await bus.read(0x14, 1) == status
