"""Rules of virtqueue registers and of notifications [virtio 1.4 §2.6, §4.1.4.3, §4.1.5]."""

from __future__ import annotations

from collections.abc import Iterator

from lib.register_monitor.view import ADDRESSES, Access, Breach, View
from virtio_model.spec import pci
from virtio_model.spec.features import Feature
from virtio_model.spec.status import DeviceStatus

_ALIGN = {True: (16, 4, 4), False: (16, 2, 4)}
"""Of descriptor, driver and device area, for packed and split."""
_SETUP = ("queue_size", *ADDRESSES)


def queue_rules(access: Access, view: View) -> Iterator[Breach]:
    """Judge a write to the registers of the selected virtqueue, or to a vector register."""
    if access.kind is not pci.CfgType.COMMON or not access.write or access.field is None:
        return
    name, value, queue = access.name, access.value, view.queue
    if access.field.access == "R":
        yield Breach("drv-pci-common-cfg-01", f"{name} is not for a driver to write")
    if name.endswith("msix_vector"):
        yield from _vector(name, value, view)
    if not name.startswith("queue_") or name == "queue_select":
        return
    if queue.resetting and name != "queue_reset":
        text = f"{name} written before queue_reset reads 0"
        yield Breach("drv-pci-common-cfg-07", text)
        yield Breach("drv-basic-vqreset-01", text)
    if name in _SETUP and queue.enabled and not queue.resetting:
        yield Breach("drv-pci-common-cfg-04", f"{name} written while the virtqueue is enabled")
    if name == "queue_size":
        yield from _size(value, view)
    elif name == "queue_enable" and value == 0:
        yield Breach("drv-pci-common-cfg-06", "0 written to queue_enable")
    elif name == "queue_enable":
        yield from _enable(view)


def _vector(name: str, value: int, view: View) -> Iterator[Breach]:
    vectors = view.layout.msix.vectors if view.layout.msix else 0
    if value != pci.NO_VECTOR and value >= vectors:
        yield Breach("drv-pci-msix-04", f"{name} {value} is not in the table of {vectors}")


def _size(value: int, view: View) -> Iterator[Breach]:
    if view.has(Feature.RING_PACKED):
        if value == 0:
            yield Breach("drv-pci-common-cfg-02", "queue_size 0")
    elif value.bit_count() != 1:
        yield Breach("drv-pci-common-cfg-03", f"queue_size {value} is no power of two")


def _enable(view: View) -> Iterator[Breach]:
    queue, packed = view.queue, view.has(Feature.RING_PACKED)
    missing = [name for name in ADDRESSES if not queue.programmed(name)]
    if missing:
        yield Breach("drv-pci-common-cfg-04", f"enabled before {', '.join(missing)}")
        if view.has(Feature.RING_RESET):
            yield Breach("drv-basic-vqreenable-01", f"enabled before {', '.join(missing)}")
    for name, unit in zip(ADDRESSES, _ALIGN[packed], strict=True):
        if queue.values.get(name, 0) % unit:
            row = "drv-packed-align-01" if packed else "drv-split-align-01"
            yield Breach(row, f"{name} {queue.values[name]:#x} is no multiple of {unit}")
    if f"{view.selects['queue_select']}: queue_msix_vector" in view.unread_vectors:
        yield Breach("drv-pci-msix-05", "enabled before queue_msix_vector was read back")


def notify_rules(access: Access, view: View) -> Iterator[Breach]:
    """Judge a kick."""
    if access.kind is not pci.CfgType.NOTIFY or not access.write:
        return
    if not view.suspending and not view.status & DeviceStatus.DRIVER_OK:
        yield Breach("drv-init-seq-07", "kick before DRIVER_OK")
    data = view.has(Feature.NOTIFICATION_DATA)
    config = view.has(Feature.NOTIF_CONFIG_DATA)
    if access.size != (4 if data else 2):
        row = "drv-pci-kick-02" if data else "drv-pci-kick-01"
        yield Breach(row, f"kick of {access.size} bytes")
    expected = {
        queue.values.get("queue_notif_config_data") if config else index
        for index, queue in view.queues.items()
        if queue.enabled and _place(view, index) == access.offset
    }
    if access.value & 0xFFFF not in expected:
        row = {
            (False, False): "drv-pci-kick-03",
            (True, False): "drv-pci-kick-04",
            (False, True): "drv-pci-kick-05",
            (True, True): "drv-pci-kick-06",
        }[data, config]
        wanted = ", ".join(str(value) for value in sorted(v for v in expected if v is not None))
        text = f"kick {access.value & 0xFFFF} at {access.offset:#x}, where [{wanted}] belongs"
        yield Breach(row, text)


def _place(view: View, index: int) -> int:
    """Offset of a virtqueue's kicks in the notification structure."""
    offset = view.queues[index].values.get("queue_notify_off", 0)
    return pci.notify_offset(0, offset, view.layout.notify_off_multiplier)
