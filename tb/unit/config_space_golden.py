"""The configuration space as the specifications have it, capability by capability.

It finds the capabilities as a host does: by walking the list.
"""

from __future__ import annotations

from collections.abc import Callable

from config_space_host import OUR_ID, Host

from lib.sim import params

__all__ = ["Golden"]

DEVICE_ID = 0x1041


class Golden:
    """Expected registers: reset value, writable bits, bits kept through FLR; and their values."""

    def __init__(self) -> None:
        p = params()
        self.reset: dict[int, int] = {}
        self.writable: dict[int, int] = {}
        self.kept: dict[int, int] = {}
        self.capabilities: dict[str, int] = {}
        self.put(0x00, DEVICE_ID << 16 | 0x1AF4)
        self.put(0x04, 0x0010_0000, 0x0546)
        self.put(0x08, 0x020000 << 8 | 1)
        self.put(0x0C, 0, 0xFF)
        self.put(0x10, 0x4, 0xFFFF_0000)
        self.put(0x14, 0, 0xFFFF_FFFF)
        self.put(0x2C, DEVICE_ID << 16 | 0x1AF4)
        self.put(0x3C, 0x0100, 0xFF)
        self.p = p
        self.value: dict[int, int] = {}

    def put(self, offset: int, value: int, writable: int = 0, kept: int = 0) -> None:
        """Describe a dword."""
        self.reset[offset], self.writable[offset], self.kept[offset] = value, writable, kept

    async def walk(self, host: Host) -> None:
        """Follow the capability list; describe what it must contain."""
        pointer = await host.read(0x34)
        self.put(0x34, pointer)
        while pointer:
            first = await host.read(pointer)
            name, describe = self.kind(first)
            assert name not in self.capabilities
            assert pointer % 4 == 0
            assert 0x40 <= pointer < 0x100
            self.capabilities[name] = pointer
            describe(pointer, first & 0xFF00)
            pointer = first >> 8 & 0xFF
        assert sorted(self.capabilities) == [
            "common", "device", "express", "isr", "msix", "notify", "power", "window",
        ]  # fmt: skip
        self.value = dict(self.reset)

    def kind(self, first: int) -> tuple[str, Callable[[int, int], None]]:
        """Return name and description of the capability that starts with ``first``."""
        p = self.p
        if first & 0xFF == 0x09:
            name, offset, length = {
                1: ("common", 0x0000, 0x40),
                2: ("notify", 0x3000, 8 * p.queue_pairs),
                3: ("isr", 0x1000, 1),
                4: ("device", 0x2000, 12),
                5: ("window", 0, 0),
            }[first >> 24]
            size = 20 if name in ("notify", "window") else 16

            def virtio(at: int, pointer: int) -> None:
                rw = 0xFFFF_FFFF if name == "window" else 0
                self.put(at, (first >> 24) << 24 | size << 16 | pointer | 0x09)
                self.put(at + 4, 0, rw & 0xFF)
                self.put(at + 8, offset, rw)
                self.put(at + 12, length, rw)
                if size == 20:
                    self.put(at + 16, 0 if rw else 4, rw)

            return name, virtio

        def power(at: int, pointer: int) -> None:
            self.put(at, 3 << 16 | pointer | 0x01)
            self.put(at + 4, 1 << 3, 3)

        def msix(at: int, pointer: int) -> None:
            self.put(at, (p.msix_vectors - 1) << 16 | pointer | 0x11, 0xC000_0000)
            self.put(at + 4, 0x8000)
            self.put(at + 8, 0xC000)

        def express(at: int, pointer: int) -> None:
            link = p.lanes << 4 | p.generation
            self.put(at, 2 << 16 | pointer | 0x10)
            self.put(at + 0x04, 1 << 28 | 1 << 15 | 1 << 5 | p.max_payload_code)
            self.put(at + 0x08, 0x2810, 0x79FF, 0x00E0)
            self.put(at + 0x0C, 1 << 22 | link)
            self.put(at + 0x10, 1 << 28 | link << 16, 0x00CB, 0x00CB)
            for offset in (0x14, 0x18, 0x1C, 0x20, 0x34, 0x38):
                self.put(at + offset, 0)
            self.put(at + 0x24, 1 << 4)
            self.put(at + 0x28, 0, 1 << 4)
            self.put(at + 0x2C, ((1 << p.generation) - 1) << 1)
            self.put(at + 0x30, p.generation, 0xF, 0xF)

        return {0x01: ("power", power), 0x11: ("msix", msix), 0x10: ("express", express)}[
            first & 0xFF
        ]

    def at(self, name: str, offset: int) -> int:
        """Offset of a register of a capability."""
        return self.capabilities[name] + offset

    def write(self, offset: int, value: int, byte_enable: int) -> None:
        """Write as the host does."""
        mask = sum(0xFF << 8 * n for n in range(4) if byte_enable >> n & 1)
        mask &= self.writable.get(offset, 0)
        if offset == self.at("power", 4) and value & 3 in (1, 2):
            mask &= ~3
        if mask:
            self.value[offset] = self.value[offset] & ~mask | value & mask

    def flr(self) -> None:
        """Reset as function level reset does."""
        for offset, kept in self.kept.items():
            self.value[offset] = self.reset[offset] & ~kept | self.value[offset] & kept

    def control(self, requester_id: int = OUR_ID) -> dict[str, int]:
        """Return what the function must show to the device."""
        command, devctl = self.value[0x04], self.value[self.at("express", 8)]
        msix = self.value[self.at("msix", 0)]
        awake = self.value[self.at("power", 4)] & 3 == 0
        return {
            "requester_id": requester_id,
            "memory_enable": command >> 1 & awake,
            "bus_master_enable": command >> 2 & awake,
            "intx_disable": command >> 10 & 1,
            "max_payload": min(devctl >> 5 & 7, self.p.max_payload_code),
            "max_read_request": min(devctl >> 12 & 7, 5),
            "read_boundary_128": self.value[self.at("express", 0x10)] >> 3 & 1,
            "extended_tag": devctl >> 8 & 1,
            "relaxed_ordering": devctl >> 4 & 1,
            "no_snoop": devctl >> 11 & 1,
            "msix_enable": msix >> 31,
            "msix_function_mask": msix >> 30 & 1,
        }

    def check_outputs(self, host: Host) -> None:
        """Compare everything the device sees."""
        assert host.control() == self.control()
        assert int(host.dut.bar_base.value) == (
            self.value[0x14] << 32 | self.value[0x10] & 0xFFFF_0000
        )
        assert int(host.dut.completion_timeout_disable.value) == (
            self.value[self.at("express", 0x28)] >> 4 & 1
        )
