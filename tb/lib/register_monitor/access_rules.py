"""Rules of accesses as such: width, device configuration, capabilities [virtio 1.4 §4.1.3]."""

from __future__ import annotations

from collections.abc import Iterator

from lib.register_monitor.device_types import DeviceRules
from lib.register_monitor.view import Access, Breach, View
from virtio_model.spec import pci
from virtio_model.spec.status import DeviceStatus

_WINDOW = {4: 1, 8: 4, 12: 4, 16: 4}
"""Fields of the PCI_CFG capability that are the driver's to write, with their sizes."""


def width_rules(access: Access) -> Iterator[Breach]:
    """Judge width and alignment of an access to a configuration structure."""
    if access.field is None:
        return
    size = access.field.size
    natural = {8: 4}.get(size, size if size in (1, 2, 4) else 1)
    if access.size != natural or access.offset % natural:
        text = f"{access.name}: {access.size} bytes at {access.offset:#x}"
        yield Breach("drv-pci-layout-01", text)


def config_rules(access: Access, view: View, device: DeviceRules) -> Iterator[Breach]:
    """Judge an access to the device configuration."""
    if access.kind is not pci.CfgType.DEVICE:
        return
    before = not view.status & DeviceStatus.FEATURES_OK
    row = device.settled.get(access.name, "")
    if access.write:
        if device.write_row:
            yield Breach(device.write_row, f"{access.name} is not for a driver to write")
        if before:
            yield Breach("drv-init-seq-03", f"{access.name} written during negotiation")
    elif before and row:
        yield Breach(row, f"{access.name} read during negotiation")
    brought = device.optional.get(access.name, ())
    if brought and not any(view.all_offered >> feature & 1 for feature in brought):
        names = " or ".join(str(getattr(feature, "name", feature)) for feature in brought)
        yield Breach("drv-basic-config-03", f"{access.name} accessed, {names} is not offered")


def capability_rules(offset: int, size: int, view: View) -> Iterator[Breach]:
    """Judge a write to configuration space."""
    for kind, where in view.layout.structures.items():
        length = {
            pci.CfgType.NOTIFY: pci.NOTIFY_CAP_SIZE,
            pci.CfgType.PCI: pci.PCI_CFG_CAP_SIZE,
        }.get(kind, pci.CAP_SIZE)
        at = offset - where.cap
        if not -size < at < length:
            continue
        field = 16 if at >= 16 else at
        if (
            kind is not pci.CfgType.PCI
            or field not in _WINDOW
            or at + size > field + _WINDOW[field]
        ):
            yield Breach("drv-pci-cap-09", f"{size} bytes written at {kind.name} + {at}")


def window_rules(
    bar: int, offset: int, length: int, at: int, size: int, view: View
) -> Iterator[Breach]:
    """Judge an access to pci_cfg_data, `at` bytes behind its start."""
    where = f"window of {length} bytes at {offset:#x}"
    if length not in (1, 2, 4) or at or size != length:
        yield Breach("drv-pci-cfgaccess-02", f"{where}: {size} bytes at {at}")
    if length and offset % length:
        yield Breach("drv-pci-cfgaccess-01", where)
    if not any(
        kind is not pci.CfgType.PCI
        and place.bar == bar
        and place.offset <= offset
        and offset + length <= place.offset + place.length
        for kind, place in view.layout.structures.items()
    ):
        yield Breach("drv-pci-cfgaccess-03", f"{where} of BAR {bar} is in no structure")
