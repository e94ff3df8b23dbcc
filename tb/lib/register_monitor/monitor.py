"""The monitor: stands between a driver and its function, passes all on, and judges the driver."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from lib.register_monitor.access_rules import (
    capability_rules,
    config_rules,
    width_rules,
    window_rules,
)
from lib.register_monitor.device_types import NET, DeviceRules
from lib.register_monitor.queue_rules import notify_rules, queue_rules
from lib.register_monitor.status_rules import status_rules, suspend_rules
from lib.register_monitor.view import Access, Breach, View
from virtio_model.driver.pci_caps import PciAccess, Structure, discover
from virtio_model.driver.queue import DriverQueue
from virtio_model.spec import pci
from virtio_model.spec.fields import Field

TakeBack = Callable[[], list[Any]]


class RegisterMonitor:
    """An access to a virtio device on PCI that notes where its driver breaks a rule.

    Parameters
    ----------
    access
        The access that is watched; everything is passed on unchanged.
    device
        The device type, of `device_types`.

    Use: ``monitor = RegisterMonitor(access)``, give `monitor` to the driver in place of `access`,
    and ask `check` at the end. It learns the layout by a walk of its own over the capability list
    before the first access to a BAR. It knows the driver's side only: registers, notifications and
    the PCI_CFG window; the rings are the ring monitor's. `watch` a virtqueue as well, and it notes
    where buffers are taken back too early. Other BARs and other regions of the BAR
    (MSI-X, vendor) are not judged. [virtio 1.4 §2.1, §2.2, §3.1, §3.4, §4.1]
    """

    def __init__(self, access: PciAccess, device: DeviceRules = NET) -> None:
        self.access = access
        self.device = device
        self.breaches: list[Breach] = []
        self._view: View | None = None
        self._window = {4: 0, 8: 0, 12: 0}

    @property
    def rows(self) -> set[str]:
        """Ids of all rows that were broken."""
        return {breach.row for breach in self.breaches}

    def check(self) -> None:
        """Assert that the driver broke no rule."""
        shown = "\n".join(map(str, self.breaches[:10]))
        assert not self.breaches, f"{len(self.breaches)} breaches:\n{shown}"

    def note(self, breaches: Iterable[Breach]) -> None:
        """Note what a rule has found."""
        self.breaches += breaches

    def watch(self, index: int, queue: DriverQueue) -> None:
        """Note a breach when the driver takes the buffers of a live virtqueue back."""
        for name in ("reset", "close"):
            setattr(queue, name, self._judged(index, queue, getattr(queue, name)))

    def _judged(self, index: int, queue: DriverQueue, take_back: TakeBack) -> TakeBack:
        def judged() -> list[Any]:
            if queue.outstanding and self._view and self._view.is_live(index):
                self.breaches.append(
                    Breach("drv-init-cleanup-02", f"buffers of live virtqueue {index} taken back")
                )
            return take_back()

        return judged

    async def view(self) -> View:
        """Return what was seen; the first time, look where everything is."""
        if self._view is None:
            self._view = View(await discover(self.access, device_config=bool(self.device.fields)))
        return self._view

    # The protocol PciAccess

    async def config_read(self, offset: int, size: int) -> int:
        """Read configuration space."""
        if self._view and (at := self._data_offset(offset, size)) is not None:
            return await self._through_window(at, size, None)
        return await self.access.config_read(offset, size)

    async def config_write(self, offset: int, value: int, size: int) -> None:
        """Write configuration space."""
        view = await self.view()
        self.note(capability_rules(offset, size, view))
        at = offset - view.layout.structures[pci.CfgType.PCI].cap
        if self._data_offset(offset, size) is not None:
            await self._through_window(at - pci.CAP_SIZE, size, value)
            return
        if at in self._window:
            self._window[at] = value
        await self.access.config_write(offset, value, size)

    async def bar_read(self, bar: int, offset: int, size: int) -> int:
        """Read a BAR."""
        await self.view()
        value = await self.access.bar_read(bar, offset, size)
        self._judge(bar, offset, size, value, write=False)
        return value

    async def bar_write(self, bar: int, offset: int, value: int, size: int) -> None:
        """Write a BAR."""
        await self.view()
        self._judge(bar, offset, size, value, write=True)
        await self.access.bar_write(bar, offset, value, size)

    # Inside

    def _data_offset(self, offset: int, size: int) -> int | None:
        """Bytes from the start of pci_cfg_data to an access of it; None for other accesses."""
        assert self._view
        start = self._view.layout.structures[pci.CfgType.PCI].cap + pci.CAP_SIZE
        return offset - start if start <= offset < start + 4 else None

    async def _through_window(self, at: int, size: int, value: int | None) -> int:
        """Access a BAR through the PCI_CFG capability."""
        assert self._view
        bar, offset, length = self._window[4], self._window[8], self._window[12]
        found = list(window_rules(bar, offset, length, at, size, self._view))
        self.note(found)
        place = self._view.layout.structures[pci.CfgType.PCI].cap + pci.CAP_SIZE + at
        if value is not None:
            if not found:  # else nobody knows what it accesses
                self._judge(bar, offset, size, value, write=True)
            await self.access.config_write(place, value, size)
            return value
        got = await self.access.config_read(place, size)
        if not found:
            self._judge(bar, offset, size, got, write=False)
        return got

    def _judge(self, bar: int, offset: int, size: int, value: int, *, write: bool) -> None:
        assert self._view
        view = self._view
        for kind, where in view.layout.structures.items():
            if kind is pci.CfgType.PCI or not _inside(where, bar, offset):
                continue
            at = offset - where.offset
            access = Access(kind, at, size, write, value, _field(self.device, kind, at))
            self.note(width_rules(access))
            self.note(status_rules(access, view, self.device.dependencies))
            self.note(suspend_rules(access, view))
            self.note(queue_rules(access, view))
            self.note(notify_rules(access, view))
            self.note(config_rules(access, view, self.device))
            view.update(access)


def _inside(where: Structure, bar: int, offset: int) -> bool:
    return bar == where.bar and where.offset <= offset < where.offset + where.length


def _field(device: DeviceRules, kind: pci.CfgType, at: int) -> Field | None:
    """The field of a structure that a byte belongs to."""
    tables = {pci.CfgType.COMMON: pci.COMMON_CFG, pci.CfgType.DEVICE: device.fields}
    found = (field for field in tables.get(kind, ()) if field.offset <= at < field.end)
    return next(found, None)
