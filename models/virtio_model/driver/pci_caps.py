"""Finding the virtio structures of a PCI function [virtio 1.4 §4.1.4]."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from virtio_model.errors import DriverComplaint
from virtio_model.spec import pci


class PciAccess(Protocol):
    """Access to one PCI function. Values are little-endian ints of `size` bytes: 1, 2 or 4."""

    async def config_read(self, offset: int, size: int) -> int: ...

    async def config_write(self, offset: int, value: int, size: int) -> None: ...

    async def bar_read(self, bar: int, offset: int, size: int) -> int: ...

    async def bar_write(self, bar: int, offset: int, value: int, size: int) -> None: ...


@dataclass(frozen=True)
class Structure:
    """Where one virtio structure lives."""

    bar: int
    offset: int
    length: int
    cap: int
    """Offset of its capability in configuration space."""


@dataclass(frozen=True)
class MsixCapability:
    """The MSI-X capability."""

    cap: int
    vectors: int
    table_bar: int
    table_offset: int
    pba_bar: int
    pba_offset: int


@dataclass
class PciLayout:
    """All that a walk over the capability list found."""

    structures: dict[pci.CfgType, Structure] = field(default_factory=dict)
    notify_off_multiplier: int = 0
    msix: MsixCapability | None = None
    shared_memory: dict[int, Structure] = field(default_factory=dict)


_MIN_CAP_LEN = {
    pci.CfgType.NOTIFY: pci.NOTIFY_CAP_SIZE,
    pci.CfgType.PCI: pci.PCI_CFG_CAP_SIZE,
    pci.CfgType.SHARED_MEMORY: pci.CAP64_SIZE,
}
_MIN_LENGTH = {
    pci.CfgType.COMMON: pci.COMMON_CFG_SIZE_MIN,
    pci.CfgType.NOTIFY: pci.NOTIFY_SIZE,
    pci.CfgType.ISR: pci.ISR_SIZE,
}
_ALIGN = {pci.CfgType.COMMON: 4, pci.CfgType.NOTIFY: 2, pci.CfgType.DEVICE: 4}
_LIST_MAX = 48
"""No more capabilities fit into the 192 bytes behind the header."""


async def discover(access: PciAccess, *, device_config: bool) -> PciLayout:
    """Walk the capability list. `device_config`: the device type has a configuration space."""
    status = await access.config_read(pci.PCI_STATUS_OFFSET, 2)
    if not status & pci.PCI_STATUS_CAP_LIST:
        raise DriverComplaint("the PCI status says that there is no capability list")
    layout = PciLayout()
    cap = await access.config_read(pci.PCI_CAP_POINTER_OFFSET, 1)
    seen: list[int] = []
    while cap:
        if cap in seen or len(seen) >= _LIST_MAX:
            raise DriverComplaint("the capability list has a loop", at=cap)
        if cap < 0x40 or cap % 4:
            raise DriverComplaint("bad capability pointer", at=cap)
        seen.append(cap)
        kind = await access.config_read(cap, 1)
        if kind == pci.PCI_CAP_ID_VENDOR:
            await _virtio(access, cap, layout)
        elif kind == pci.PCI_CAP_ID_MSIX:
            layout.msix = await _msix(access, cap)
        cap = await access.config_read(cap + 1, 1)
    required = [pci.CfgType.COMMON, pci.CfgType.NOTIFY, pci.CfgType.ISR, pci.CfgType.PCI]
    if device_config:
        required.append(pci.CfgType.DEVICE)
    if missing := [kind.name for kind in required if kind not in layout.structures]:
        raise DriverComplaint(f"missing virtio capabilities: {', '.join(missing)}")
    return layout


async def _virtio(access: PciAccess, cap: int, layout: PciLayout) -> None:
    length = await access.config_read(cap + 2, 1)
    number = await access.config_read(cap + 3, 1)
    if number not in pci.CfgType.__members__.values():
        # Reserved types are for the future: skip them.
        return
    kind = pci.CfgType(number)
    if kind == pci.CfgType.VENDOR:
        if length % 4:
            raise DriverComplaint("vendor data capability is no multiple of 4", cap_len=length)
        if await access.config_read(cap + pci.VENDOR_CAP_ID_OFFSET, 2) == pci.VENDOR_ID:
            raise DriverComplaint("vendor data capability uses virtio's own vendor id", at=cap)
        return
    if length < _MIN_CAP_LEN.get(kind, pci.CAP_SIZE):
        raise DriverComplaint(f"cap_len of {kind.name} too short", cap_len=length, at=cap)
    bar = await access.config_read(cap + 4, 1)
    found = Structure(
        bar, await access.config_read(cap + 8, 4), await access.config_read(cap + 12, 4), cap
    )
    if kind == pci.CfgType.PCI:
        # Its bar, offset and length are the driver's to write, so they say nothing.
        layout.structures.setdefault(kind, found)
        return
    if bar > pci.CAP_BAR_MAX:
        return
    if kind == pci.CfgType.SHARED_MEMORY:
        region = Structure(
            bar,
            found.offset | await access.config_read(cap + 16, 4) << 32,
            found.length | await access.config_read(cap + 20, 4) << 32,
            cap,
        )
        layout.shared_memory[await access.config_read(cap + 5, 1)] = region
        return
    if found.offset % _ALIGN.get(kind, 1):
        raise DriverComplaint(f"offset of {kind.name} is misaligned", offset=found.offset)
    if found.length < _MIN_LENGTH.get(kind, 0):
        raise DriverComplaint(f"length of {kind.name} too short", length=found.length)
    # The first of a type is the one that the device prefers.
    if kind not in layout.structures:
        layout.structures[kind] = found
        if kind == pci.CfgType.NOTIFY:
            layout.notify_off_multiplier = await access.config_read(cap + pci.CAP_SIZE, 4)


async def _msix(access: PciAccess, cap: int) -> MsixCapability:
    control = await access.config_read(cap + pci.MSIX_CONTROL_OFFSET, 2)
    table = await access.config_read(cap + pci.MSIX_TABLE_OFFSET, 4)
    pba = await access.config_read(cap + pci.MSIX_PBA_OFFSET, 4)
    return MsixCapability(
        cap,
        (control & pci.MSIX_CONTROL_SIZE_MASK) + 1,
        table & pci.MSIX_BIR_MASK,
        table & ~pci.MSIX_BIR_MASK,
        pba & pci.MSIX_BIR_MASK,
        pba & ~pci.MSIX_BIR_MASK,
    )
