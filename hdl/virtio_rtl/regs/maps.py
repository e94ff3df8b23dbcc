"""The register maps of BAR 0, as data: regions, and the fields in them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from virtio_model.spec import pci
from virtio_model.spec.fields import Field
from virtio_rtl.config import DeviceConfig
from virtio_rtl.device.kind import device_type

__all__ = [
    "BAR_BYTES",
    "COMMON_CONFIG",
    "COUNTERS",
    "DEVICE_CONFIG",
    "ISR",
    "MSIX",
    "NOTIFY",
    "NOTIFY_OFF_MULTIPLIER",
    "NOTIF_CONFIG_DATA",
    "PBA_OFFSET",
    "Counter",
    "Region",
    "RegisterMap",
    "counter_fields",
    "register_maps",
]

BAR_BYTES = 0x10000
NOTIFY_OFF_MULTIPLIER = 4
PBA_OFFSET = 0xC000
NOTIF_CONFIG_DATA = 0x8000
"""With NOTIF_CONFIG_DATA a driver names a virtqueue by this value plus its index. No index reaches
so far: a driver that goes on writing the index rings no virtqueue, and the low bits are the index
as it is. [virtio 1.4 §4.1.4.3, §4.1.5.2]"""


@dataclass(frozen=True)
class Region:
    """Bytes ``start`` to ``end`` - 1 of the BAR; both are multiples of 4."""

    name: str
    start: int
    end: int


COMMON_CONFIG = Region("common_config", 0x0000, 0x1000)
ISR = Region("isr", 0x1000, 0x2000)
DEVICE_CONFIG = Region("device_config", 0x2000, 0x3000)
NOTIFY = Region("notify", 0x3000, 0x4000)
COUNTERS = Region("counters", 0x4000, 0x5000)
MSIX = Region("msix", 0x8000, 0x10000)


@dataclass(frozen=True)
class Counter:
    """A 32-bit event counter: ``name`` is its strobe and its register."""

    name: str
    description: str


@dataclass(frozen=True)
class RegisterMap:
    """Fields at ``base`` in the BAR, repeated ``count`` times every ``stride`` bytes."""

    name: str
    base: int
    fields: tuple[Field, ...]
    description: str
    count: int = 1
    stride: int = 0


def counter_fields(counters: Iterable[Counter]) -> tuple[Field, ...]:
    """One 32-bit read-only field per counter, in order."""
    return tuple(
        Field(counter.name, 4 * index, 32, "R", reset=0, description=counter.description)
        for index, counter in enumerate(counters)
    )


_ISR_FIELDS = (
    Field("isr_status", 0, 8, "R", reset=0, section="4.1.4.5",
          description="Bit 0: a virtqueue, bit 1: the configuration. A read clears it."),
)  # fmt: skip
_NOTIFY_FIELDS = (
    Field("queue_notify", 0, 32, "W", section="4.1.4.4",
          description="A virtqueue that has new buffers, in the low half: its index, or with "
          "NOTIF_CONFIG_DATA its queue_notif_config_data. In the high half, with "
          "NOTIFICATION_DATA: next_off and next_wrap. 16-bit writes without NOTIFICATION_DATA."),
)  # fmt: skip
_PBA_FIELDS = (
    Field("pending", 0, 64, "R", reset=0, section="PCI 6.8.2",
          description="Pending bits of 64 vectors."),
)  # fmt: skip


def register_maps(config: DeviceConfig, counters: Sequence[Counter] = ()) -> list[RegisterMap]:
    """All register maps of a device, by address."""
    kind = device_type(config.device)
    # What this configuration fixes takes the place of "a property of the device".
    fixed = {"queue_size": config.queue_size_max, "num_queues": config.num_queues}
    common = tuple(
        replace(field, reset=fixed.get(field.name, field.reset)) for field in pci.COMMON_CFG
    )
    maps = [
        RegisterMap(
            "common_config", COMMON_CONFIG.start, common, "Common configuration structure."
        ),
        RegisterMap("isr", ISR.start, _ISR_FIELDS, "ISR status."),
    ]
    if kind.config_fields:
        maps.append(
            RegisterMap(
                f"{kind.name}_config",
                DEVICE_CONFIG.start,
                kind.config_fields,
                f"Device configuration of {kind.name}.",
            )
        )
    maps.append(
        RegisterMap(
            "notify",
            NOTIFY.start,
            _NOTIFY_FIELDS,
            "Notification, one address a virtqueue.",
            config.num_queues,
            NOTIFY_OFF_MULTIPLIER,
        )
    )
    if counters:
        maps.append(
            RegisterMap(
                "counters",
                COUNTERS.start,
                counter_fields(counters),
                "Event counters; they stop at their maximum.",
            )
        )
    return [
        *maps,
        RegisterMap(
            "msix_table",
            MSIX.start,
            pci.MSIX_ENTRY,
            "MSI-X table, one entry a vector.",
            config.msix_vectors,
            pci.MSIX_ENTRY_SIZE,
        ),
        RegisterMap(
            "msix_pba",
            PBA_OFFSET,
            _PBA_FIELDS,
            "MSI-X pending bit array.",
            -(-config.msix_vectors // 64),
            8,
        ),
    ]
