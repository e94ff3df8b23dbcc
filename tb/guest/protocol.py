"""The messages of vfio-user, version 0: layouts only, no I/O.

The protocol is QEMU's docs/interop/vfio-user.rst. The client is QEMU, the server is the device.
All numbers are little-endian. `decode` of a body that is too short is a `ProtocolError`.
"""

from __future__ import annotations

import json
import struct
from dataclasses import astuple, dataclass
from enum import IntEnum, IntFlag
from typing import Any, ClassVar, Self


class ProtocolError(Exception):
    """The other side sent what is not vfio-user."""


class Command(IntEnum):
    """What a message asks for; the client asks all but DMA_READ and DMA_WRITE."""

    VERSION = 1
    DMA_MAP = 2
    DMA_UNMAP = 3
    DEVICE_GET_INFO = 4
    DEVICE_GET_REGION_INFO = 5
    DEVICE_GET_REGION_IO_FDS = 6
    DEVICE_GET_IRQ_INFO = 7
    DEVICE_SET_IRQS = 8
    REGION_READ = 9
    REGION_WRITE = 10
    DMA_READ = 11
    DMA_WRITE = 12
    DEVICE_RESET = 13
    DIRTY_PAGES = 14
    REGION_WRITE_MULTI = 15


class HeaderFlag(IntFlag):
    """Flags of a header."""

    REPLY = 1
    NO_REPLY = 1 << 4
    ERROR = 1 << 5


HEADER_TYPE_MASK = 0xF
"""The part of a header's flags that is 0 in a command and 1 in a reply."""


class Region(IntEnum):
    """Region indexes of a PCI device."""

    BAR0 = 0
    BAR5 = 5
    ROM = 6
    CONFIG = 7
    VGA = 8


REGION_COUNT = 9


class RegionFlag(IntFlag):
    """Flags of a region."""

    READ = 1
    WRITE = 2
    MMAP = 4


class Irq(IntEnum):
    """Interrupt indexes of a PCI device."""

    INTX = 0
    MSI = 1
    MSIX = 2
    ERROR = 3
    REQUEST = 4


IRQ_COUNT = 5


class IrqFlag(IntFlag):
    """Flags of an interrupt index."""

    EVENTFD = 1
    MASKABLE = 2
    AUTOMASKED = 4


class IrqAction(IntFlag):
    """Flags of SET_IRQS: kind of data, and what to do."""

    DATA_NONE = 1
    DATA_BOOL = 2
    DATA_EVENTFD = 4
    MASK = 8
    UNMASK = 16
    TRIGGER = 32


class DeviceFlag(IntFlag):
    """Flags of a device."""

    RESET = 1
    PCI = 2


class DmaFlag(IntFlag):
    """Flags of DMA_MAP: what the device may do."""

    READ = 1
    WRITE = 2


class UnmapFlag(IntFlag):
    """Flags of DMA_UNMAP."""

    DIRTY_PAGES = 1
    ALL = 2


@dataclass(frozen=True)
class Header:
    """What every message begins with. `size` counts the header."""

    id: int
    command: int
    size: int
    flags: int = 0
    error: int = 0

    FORMAT: ClassVar[struct.Struct] = struct.Struct("<HHIII")
    SIZE: ClassVar[int] = 16

    def encode(self) -> bytes:
        return self.FORMAT.pack(self.id, self.command, self.size, self.flags, self.error)

    @classmethod
    def decode(cls, data: bytes) -> Header:
        return cls(*cls.FORMAT.unpack(data))

    @property
    def is_reply(self) -> bool:
        return self.flags & HEADER_TYPE_MASK == HeaderFlag.REPLY

    @property
    def wants_reply(self) -> bool:
        return not self.is_reply and not self.flags & HeaderFlag.NO_REPLY


@dataclass(frozen=True)
class _Body:
    """A body of numbers; `data` behind them, if the message has some."""

    FORMAT: ClassVar[struct.Struct]

    @classmethod
    def decode(cls, body: bytes) -> Self:
        if len(body) < cls.FORMAT.size:
            raise ProtocolError(f"{cls.__name__} of {len(body)} bytes is too short")
        return cls(*cls.FORMAT.unpack_from(body))

    def encode(self) -> bytes:
        return self.FORMAT.pack(*astuple(self))

    @classmethod
    def data_of(cls, body: bytes) -> bytes:
        """What stands behind the numbers."""
        return body[cls.FORMAT.size :]


@dataclass(frozen=True)
class DmaMap(_Body):
    """Guest memory for the device: `size` bytes at bus address `address`, from a descriptor."""

    argsz: int
    flags: int
    offset: int
    address: int
    size: int

    FORMAT = struct.Struct("<IIQQQ")


@dataclass(frozen=True)
class DmaUnmap(_Body):
    """Guest memory that the device must no longer touch."""

    argsz: int
    flags: int
    address: int
    size: int

    FORMAT = struct.Struct("<IIQQ")


@dataclass(frozen=True)
class DeviceInfo(_Body):
    """What kind of device this is."""

    argsz: int
    flags: int
    regions: int
    irqs: int

    FORMAT = struct.Struct("<IIII")


@dataclass(frozen=True)
class RegionInfo(_Body):
    """One region: a BAR, the ROM or configuration space."""

    argsz: int
    flags: int
    index: int
    cap_offset: int
    size: int
    offset: int

    FORMAT = struct.Struct("<IIIIQQ")


@dataclass(frozen=True)
class IrqInfo(_Body):
    """One interrupt index and how many interrupts it has."""

    argsz: int
    flags: int
    index: int
    count: int

    FORMAT = struct.Struct("<IIII")


@dataclass(frozen=True)
class SetIrqs(_Body):
    """How interrupts `start` to `start + count - 1` of an index are signalled."""

    argsz: int
    flags: int
    index: int
    start: int
    count: int

    FORMAT = struct.Struct("<IIIII")


@dataclass(frozen=True)
class RegionAccess(_Body):
    """A read or write of a region; the data of a write, or of a read's reply, follows."""

    offset: int
    region: int
    count: int

    FORMAT = struct.Struct("<QII")


@dataclass(frozen=True)
class DmaAccess(_Body):
    """A read or write of guest memory by message; the data of a write follows."""

    address: int
    count: int

    FORMAT = struct.Struct("<QQ")


@dataclass(frozen=True)
class Version:
    """Version and capabilities; both sides send one."""

    major: int
    minor: int
    capabilities: dict[str, Any]

    FORMAT: ClassVar[struct.Struct] = struct.Struct("<HH")

    @classmethod
    def decode(cls, body: bytes) -> Version:
        if len(body) < cls.FORMAT.size:
            raise ProtocolError("VERSION is too short")
        major, minor = cls.FORMAT.unpack_from(body)
        text = body[cls.FORMAT.size :].split(b"\0")[0]
        try:
            found = json.loads(text) if text else {}
        except ValueError as error:
            raise ProtocolError(f"the capabilities in VERSION are no JSON: {error}") from error
        if not isinstance(found, dict) or not isinstance(found.get("capabilities", {}), dict):
            raise ProtocolError("the capabilities in VERSION are no JSON object")
        return cls(major, minor, found.get("capabilities", {}))

    def encode(self) -> bytes:
        text = json.dumps({"capabilities": self.capabilities}).encode()
        return self.FORMAT.pack(self.major, self.minor) + text + b"\0"
