"""Common configuration of the golden function [virtio 1.4 §4.1.4.3]: registers, no behaviour."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from virtio_model.spec import features as feat
from virtio_model.spec import pci
from virtio_model.spec.fields import Field
from virtio_model.spec.status import DeviceStatus

_FIELDS = {at: field for field in pci.COMMON_CFG for at in range(field.offset, field.end)}
_WORD = 0xFFFF_FFFF


class Owner(Protocol):
    """Who acts on what a driver writes."""

    def status_written(self, value: int) -> None: ...

    def queue_enabled(self, index: int) -> None: ...

    def queue_reset(self, index: int) -> None: ...


@dataclass
class QueueRegisters:
    """What the driver has said about one virtqueue, and where it lies."""

    size: int
    msix_vector: int = pci.NO_VECTOR
    enable: int = 0
    desc_addr: int = 0
    driver_addr: int = 0
    device_addr: int = 0


_BANKED = {
    "queue_size": "size",
    "queue_msix_vector": "msix_vector",
    "queue_enable": "enable",
    "queue_desc": "desc_addr",
    "queue_driver": "driver_addr",
    "queue_device": "device_addr",
}


class CommonConfig:
    """The registers. Accesses may have any width; bytes of several fields are taken apart."""

    def __init__(
        self, owner: Owner, *, offered: int, queues: int, queue_size: int, vectors: int
    ) -> None:
        self._owner = owner
        self.offered = offered
        self._queue_size = queue_size
        self._count = queues
        self._vectors = vectors
        self.reset()

    def reset(self) -> None:
        """All registers as after power-on."""
        self.status = 0
        self.accepted = 0
        self.generation = 0
        self.config_vector = pci.NO_VECTOR
        self.queues = [QueueRegisters(self._queue_size) for _ in range(self._count)]
        self._select = {"device_feature_select": 0, "driver_feature_select": 0, "queue_select": 0}

    def reset_queue(self, index: int) -> None:
        """One virtqueue's registers as after power-on."""
        self.queues[index] = QueueRegisters(self._queue_size)

    @property
    def _queue(self) -> QueueRegisters | None:
        index = self._select["queue_select"]
        return self.queues[index] if index < self._count else None

    def read(self, offset: int, length: int) -> bytes:
        data = bytearray()
        while len(data) < length:
            at = offset + len(data)
            field = _FIELDS.get(at)
            if field is None:
                data.append(0)
            else:
                data += self._get(field).to_bytes(field.size, "little")[at - field.offset :]
        return bytes(data[:length])

    def write(self, offset: int, data: bytes) -> None:
        while data:
            field = _FIELDS.get(offset)
            if field is None:
                offset, data = offset + 1, data[1:]
                continue
            piece = data[: field.end - offset]
            old = bytearray(self._get(field).to_bytes(field.size, "little"))
            start = offset - field.offset
            old[start : start + len(piece)] = piece
            if field.access == "RW":
                self._set(field, int.from_bytes(old, "little"))
            offset, data = offset + len(piece), data[len(piece) :]

    def _get(self, field: Field) -> int:
        name = field.name
        if name in self._select:
            return self._select[name]
        if name == "device_feature":
            return feat.word(self.offered, self._select["device_feature_select"])
        if name == "driver_feature":
            return feat.word(self.accepted, self._select["driver_feature_select"])
        if name in _BANKED:
            return int(getattr(self._queue, _BANKED[name])) if self._queue else 0
        if name in ("queue_notify_off", "queue_notif_config_data"):
            return self._select["queue_select"] if self._queue else 0
        return {
            "config_msix_vector": self.config_vector,
            "num_queues": self._count,
            "device_status": self.status,
            "config_generation": self.generation,
        }.get(name, 0)

    def _set(self, field: Field, value: int) -> None:
        name = field.name
        if name in self._select:
            self._select[name] = value
        elif name == "driver_feature":
            self._accept(value)
        elif name == "config_msix_vector":
            self.config_vector = self._vector(value)
        elif name == "device_status":
            self._owner.status_written(value)
        elif self._queue:
            self._set_queue(self._queue, name, value)

    def _accept(self, value: int) -> None:
        select = self._select["driver_feature_select"]
        if self.status & DeviceStatus.FEATURES_OK or 32 * select >= feat.FEATURE_BITS_END:
            return
        shift = 32 * select
        self.accepted = self.accepted & ~(_WORD << shift) | value << shift

    def _vector(self, value: int) -> int:
        return value if value < self._vectors else pci.NO_VECTOR

    def _set_queue(self, queue: QueueRegisters, name: str, value: int) -> None:
        index = self._select["queue_select"]
        if name == "queue_msix_vector":
            queue.msix_vector = self._vector(value)
        elif name == "queue_reset":
            if value == 1 and feat.has(self.accepted, feat.Feature.RING_RESET):
                self._owner.queue_reset(index)
        elif name == "queue_enable":
            if value == 1 and not queue.enable:
                queue.enable = 1
                self._owner.queue_enabled(index)
        elif name in _BANKED and not queue.enable:
            setattr(queue, _BANKED[name], value)
