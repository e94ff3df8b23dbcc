"""What the register monitor has seen so far, as a driver may know it."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from virtio_model.driver.pci_caps import PciLayout
from virtio_model.spec import features as feat
from virtio_model.spec import pci
from virtio_model.spec.fields import Field
from virtio_model.spec.status import DeviceStatus

ADDRESSES = ("queue_desc", "queue_driver", "queue_device")
"""Fields that a driver has to program before it enables a virtqueue."""


@dataclass(frozen=True)
class Breach:
    """One broken rule."""

    row: str
    """Id of the requirement row."""
    text: str

    def __str__(self) -> str:
        return f"[{self.row}] {self.text}"


@dataclass(frozen=True)
class Access:
    """An access to a virtio structure: `size` bytes at `offset` in it."""

    kind: pci.CfgType
    offset: int
    size: int
    write: bool
    value: int
    field: Field | None
    """The field that it begins in, of the common or of the device configuration."""

    @property
    def name(self) -> str:
        """Name of the field."""
        return "" if self.field is None else self.field.name

    @property
    def shift(self) -> int:
        """Bits of the field below the access."""
        return 0 if self.field is None else 8 * (self.offset - self.field.offset)


@dataclass
class QueueView:
    """A virtqueue as the driver has programmed it since the last reset of it."""

    values: dict[str, int] = field(default_factory=dict)
    written: set[tuple[str, int]] = field(default_factory=set)
    """Field and byte offset in it of each write."""
    enabled: bool = False
    resetting: bool = False

    def programmed(self, name: str) -> bool:
        """Tell whether both halves of an address were written."""
        return {(name, 0), (name, 4)} <= self.written


@dataclass
class View:
    """Registers as the driver has last written or read them."""

    layout: PciLayout
    status: DeviceStatus = field(default_factory=lambda: DeviceStatus(0))
    resetting: bool = False
    """0 was written to the status and has not been read yet."""
    features_ok_read: bool = False
    """FEATURES_OK was read back set."""
    suspending: bool = False
    """SUSPEND was written, and the device has not yet resumed."""
    suspend_read: bool = False
    """The device has shown SUSPEND without DRIVER_OK."""
    resuming: bool = False
    selects: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    offered: dict[int, int] = field(default_factory=dict)
    accepted: dict[int, int] = field(default_factory=dict)
    queues: dict[int, QueueView] = field(default_factory=lambda: defaultdict(QueueView))
    unread_vectors: set[str] = field(default_factory=set)
    """Vector registers that were written and not read back."""

    @property
    def queue(self) -> QueueView:
        """The selected virtqueue."""
        return self.queues[self.selects["queue_select"]]

    @property
    def features(self) -> int:
        """All accepted features."""
        return sum(bits << 32 * word for word, bits in self.accepted.items())

    @property
    def all_offered(self) -> int:
        """All features that the driver has read."""
        return sum(bits << 32 * word for word, bits in self.offered.items() if word < 1024)

    def has(self, feature: int) -> bool:
        """Tell whether a feature was accepted."""
        return feat.has(self.features, feature)

    def is_live(self, index: int) -> bool:
        """Tell whether the device may still use a virtqueue, as far as the driver knows."""
        running = self.status & DeviceStatus.DRIVER_OK or self.resetting or self.suspending
        return self.queues[index].enabled and bool(running)

    def vector_name(self, name: str) -> str:
        """Name a vector register, with its virtqueue."""
        return f"{self.selects['queue_select']}: {name}" if name.startswith("queue") else name

    def forget(self) -> None:
        """Everything but the offer is back at its reset value."""
        fresh = View(self.layout, offered=self.offered)
        self.__dict__.update(fresh.__dict__)

    def update(self, access: Access) -> None:
        """Remember an access to the common configuration."""
        if access.kind is not pci.CfgType.COMMON or access.field is None:
            return
        if access.write:
            self._written(access)
        else:
            self._read(access)

    def _written(self, access: Access) -> None:
        name, value, queue = access.name, access.value, self.queue
        if name == "device_status":
            self._status_written(DeviceStatus(value))
        elif name.endswith("_select"):
            self.selects[name] = value
        elif name == "driver_feature":
            self.accepted[self.selects["driver_feature_select"]] = value
        elif name.endswith("msix_vector"):
            self.unread_vectors.add(self.vector_name(name))
        elif name == "queue_enable":
            queue.enabled |= bool(value)
        elif name == "queue_reset":
            queue.resetting = True
        if name.startswith("queue_") and name != "queue_select":
            mask = (1 << 8 * access.size) - 1 << access.shift
            queue.values[name] = queue.values.get(name, 0) & ~mask | value << access.shift
            queue.written.add((name, access.shift // 8))

    def _status_written(self, value: DeviceStatus) -> None:
        if value == 0:
            self.resetting = True
        if value & DeviceStatus.SUSPEND and not self.suspending:
            self.suspending = True
            self.suspend_read = False
        elif value & DeviceStatus.DRIVER_OK and self.suspend_read:
            self.resuming = True
        self.status = value

    def _read(self, access: Access) -> None:
        name, value, queue = access.name, access.value, self.queue
        if name == "device_status":
            self._status_read(DeviceStatus(value))
        elif name == "device_feature":
            self.offered[self.selects["device_feature_select"]] = value
        elif name.endswith("msix_vector"):
            self.unread_vectors.discard(self.vector_name(name))
        elif name == "queue_reset" and queue.resetting and value == 0:
            self.queues[self.selects["queue_select"]] = QueueView()
        elif name in ("queue_notify_off", "queue_notif_config_data"):
            queue.values[name] = value

    def _status_read(self, value: DeviceStatus) -> None:
        if self.resetting:
            if value == 0:
                self.forget()
            return
        self.status = value
        self.features_ok_read |= bool(value & DeviceStatus.FEATURES_OK)
        shown = value & (DeviceStatus.SUSPEND | DeviceStatus.DRIVER_OK)
        if self.suspending and shown == DeviceStatus.SUSPEND:
            self.suspend_read = True
        elif self.resuming and shown == DeviceStatus.DRIVER_OK:
            self.suspending = self.suspend_read = self.resuming = False
