"""Device types: what the whole device has to know about each, and the registry of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any

from virtio_model.spec import pci
from virtio_model.spec.features import Dependencies
from virtio_model.spec.fields import Field, by_name

if TYPE_CHECKING:  # they need the registry when they are imported
    from ..config import DeviceConfig
    from ..regs.maps import Counter

__all__ = ["DeviceType", "device_names", "device_type", "register"]

_BUILT_IN = ("blk", "entropy", "net")
"""Modules of this package; each is imported, and registers its type, when it is asked for."""

_types: dict[str, DeviceType] = {}


@dataclass(frozen=True)
class DeviceType:
    """A device type: all that `VirtioDevice` needs in order to build it.

    Parameters
    ----------
    name
        As in ``DeviceConfig.device``; an identifier.
    device_id
        Virtio device id. [virtio 1.4 §5]
    class_code
        PCI class code, 24 bits.
    build
        Makes the device, a ``wiring.Component``, from the configuration. Its ports are those of
        ``paths``, those of ``outside``, and as far as it wants them:
        ``open: In(1)``, the driver is ready; ``engine_reset: In(1)``, a reset clears all between
        host and device; ``accepted: In(64)``, the accepted features 63 to 0, or 0 before
        FEATURES_OK; ``resetting: In(1)``, a virtqueue is being reset, and ``suspending: In(1)``,
        the device is to be suspended, both of which wait for the requests inside;
        ``error: Out(1)``, a strobe that asks for a reset; ``settings: In``,
        ``live: Out`` and ``events: Out``, structs of the fields of ``config_writable`` and
        ``config_live`` and of a strobe per counter.
    paths
        ``"requests"``: each buffer is a request with readable bytes and an answer. Ports
        ``request: In(stream of Request)``, ``readable: In(packet_stream(width))``,
        ``reply: Out(stream of Reply)``, ``writable: Out(packet_stream(width))``.
        ``"pairs"``: even virtqueues receive, odd ones transmit, packet by packet. Ports
        ``readable: In(packet_stream(width, pair_bits))``, ``wanted: Out(stream of
        WritableRequest)``, ``writable: Out(packet_stream(width))``.
    packet_bytes
        With ``"pairs"``: the shortest packet towards the driver, and the longest either way, in
        bytes.
    queues
        Number of virtqueues, 1 to 1024.
    features
        Features of the type that are offered: bits 0 to 23 and 50 to 127. Those of rings and
        transport come from the configuration.
    dependencies
        What features of the type need, as in ``virtio_model.spec``.
    config_fields
        Device configuration, little-endian; none for a device without.
    config_values
        Values of the fields; 0 for those that are missing. A writable field starts with its
        value.
    config_live
        Fields that the device changes by itself, and how many bits of each there are.
    config_writable
        Fields that the driver may write, of 8, 16 or 32 bits.
    config_features
        The feature that a live or writable field belongs to. Unless it was accepted, the driver
        is not told of changes, and what it writes is dropped.
    counters
        Event counters of the device.
    outside
        Members of the component, beside its door, that become ports of the whole device under the
        same names.
    own_reset
        The component deals with ``engine_reset`` by itself; else all of it is reset then.
    vendor_id, pci_device_id
        PCI ids; unless told those of a modern virtio device. [virtio 1.4 §4.1.2]
    """

    name: str
    device_id: int
    class_code: int
    build: Callable[[DeviceConfig], Any]
    paths: str = "requests"
    packet_bytes: Callable[[DeviceConfig], tuple[int, int]] | None = None
    queues: Callable[[DeviceConfig], int] = lambda config: 1
    features: Callable[[DeviceConfig], int] = lambda config: 0
    dependencies: Dependencies = field(default_factory=dict)
    config_fields: tuple[Field, ...] = ()
    config_values: Callable[[DeviceConfig], Mapping[str, int]] = lambda config: {}
    config_live: Mapping[str, int] = field(default_factory=dict)
    config_writable: tuple[str, ...] = ()
    config_features: Mapping[str, int] = field(default_factory=dict)
    counters: tuple[Counter, ...] = ()
    outside: Callable[[DeviceConfig], Mapping[str, Any]] = lambda config: {}
    own_reset: bool = False
    vendor_id: int = pci.VENDOR_ID
    pci_device_id: int | None = None

    def __post_init__(self) -> None:
        def require(condition: bool, what: str) -> None:
            if not condition:
                raise ValueError(f"device type {self.name!r}: {what}")

        require(self.name.isidentifier(), "the name is no identifier")
        require(1 <= self.device_id < 1 << 16, f"device_id = {self.device_id}")
        require(0 <= self.class_code < 1 << 24, f"class_code = {self.class_code:#x}")
        require(0 < self.vendor_id < 0xFFFF, f"vendor_id = {self.vendor_id:#x}")
        require(0 <= self.pci_id < 1 << 16, f"pci_device_id = {self.pci_id:#x}")
        require(self.paths in ("requests", "pairs"), f"paths = {self.paths!r}")
        require(
            (self.packet_bytes is not None) == (self.paths == "pairs"),
            "packet_bytes goes with paths = 'pairs'",
        )
        fields = by_name(self.config_fields)
        require(len(fields) == len(self.config_fields), "two fields have the same name")
        for name in (*self.config_live, *self.config_writable, *self.config_features):
            require(name in fields, f"{name} is not in config_fields")
        for name in self.config_writable:
            require(name not in self.config_live, f"{name} is live, and writable")
            dword = fields[name].offset // 4
            require((fields[name].end - 1) // 4 == dword, f"{name} is not inside one dword")
        for name, bits in self.config_live.items():
            require(1 <= bits <= fields[name].bits, f"{name} has {fields[name].bits} bits")
        require(self.config_bytes <= 0x1000, "config_fields are longer than 4 KiB")

    @property
    def pci_id(self) -> int:
        """PCI device id."""
        if self.pci_device_id is not None:
            return self.pci_device_id
        return pci.modern_device_id(self.device_id)

    @property
    def config_bytes(self) -> int:
        """Length of the device configuration structure, in bytes."""
        return max((item.end for item in self.config_fields), default=0)

    def values(self, config: DeviceConfig) -> dict[str, int]:
        """Values of the fields of the device configuration, by name."""
        values = dict(self.config_values(config))
        fields = by_name(self.config_fields)
        for name, value in values.items():
            if name not in fields or not 0 <= value < 1 << fields[name].bits:
                raise ValueError(f"device type {self.name!r}: config_values: {name} = {value!r}")
        return values


def register(kind: DeviceType) -> DeviceType:
    """Make a device type known, so that a ``DeviceConfig`` may name it."""
    if _types.setdefault(kind.name, kind) is not kind:
        raise ValueError(f"device type {kind.name!r}: registered already")
    return kind


def device_names() -> tuple[str, ...]:
    """Names of all device types."""
    return tuple(sorted({*_BUILT_IN, *_types}))


def device_type(name: str) -> DeviceType:
    """The device type of that name; ``KeyError`` if there is none."""
    if name in _BUILT_IN:
        import_module(f".{name}", __package__)
    return _types[name]
