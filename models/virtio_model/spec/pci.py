"""Virtio over PCI: ids, capabilities, common configuration, notification [virtio 1.4 §4.1]."""

from __future__ import annotations

from enum import IntEnum, IntFlag

from virtio_model.spec.fields import Access, Field

# Ids in the configuration header [virtio 1.4 §4.1.2]
VENDOR_ID = 0x1AF4
MODERN_DEVICE_ID_BASE = 0x1040
MODERN_DEVICE_ID_MAX = 0x107F
MODERN_REVISION_MIN = 1
MODERN_SUBSYSTEM_ID_MIN = 0x40
TRANSITIONAL_REVISION = 0


class TransitionalDeviceId(IntEnum):
    """PCI device ids of transitional devices [virtio 1.4 §4.1.2]."""

    NET = 0x1000
    BLOCK = 0x1001
    BALLOON = 0x1002
    CONSOLE = 0x1003
    SCSI = 0x1004
    RNG = 0x1005
    P9 = 0x1009


def modern_device_id(device_id: int) -> int:
    """PCI device id of a non-transitional device."""
    return MODERN_DEVICE_ID_BASE + device_id


# Generic PCI, as far as a virtio driver needs it
PCI_VENDOR_ID_OFFSET = 0x00
PCI_DEVICE_ID_OFFSET = 0x02
PCI_COMMAND_OFFSET = 0x04
PCI_STATUS_OFFSET = 0x06
PCI_REVISION_OFFSET = 0x08
PCI_SUBSYSTEM_ID_OFFSET = 0x2E
PCI_CAP_POINTER_OFFSET = 0x34
PCI_STATUS_INTERRUPT = 0x08
PCI_STATUS_CAP_LIST = 0x10
PCI_CAP_ID_VENDOR = 0x09
PCI_CAP_ID_MSIX = 0x11


class CfgType(IntEnum):
    """cfg_type of a virtio capability [virtio 1.4 §4.1.4]."""

    COMMON = 1
    NOTIFY = 2
    ISR = 3
    DEVICE = 4
    PCI = 5
    SHARED_MEMORY = 8
    VENDOR = 9


CAP_SIZE = 16
NOTIFY_CAP_SIZE = 20
PCI_CFG_CAP_SIZE = 20
CAP64_SIZE = 24
CAP_BAR_MAX = 5
VENDOR_CAP_ID_OFFSET = 4

CAP: tuple[Field, ...] = (
    Field(
        "cap_vndr",
        0,
        8,
        "R",
        reset=PCI_CAP_ID_VENDOR,
        section="4.1.4",
        description="Vendor-specific capability id, 0x09.",
    ),
    Field("cap_next", 1, 8, "R", section="4.1.4", description="Next capability, 0 at the end."),
    Field(
        "cap_len",
        2,
        8,
        "R",
        section="4.1.4",
        description="Bytes of the whole capability, extra data included.",
    ),
    Field("cfg_type", 3, 8, "R", section="4.1.4", description="Which structure this locates."),
    Field("bar", 4, 8, "R", section="4.1.4", description="BAR 0 to 5; drivers skip the others."),
    Field("id", 5, 8, "R", section="4.1.4", description="Tells several of one type apart."),
    Field("padding", 6, 16, "R", reset=0, section="4.1.4"),
    Field("offset", 8, 32, "R", section="4.1.4", description="Offset within the BAR."),
    Field("length", 12, 32, "R", section="4.1.4", description="Bytes of the structure."),
)
NOTIFY_CAP: tuple[Field, ...] = (
    *CAP,
    Field(
        "notify_off_multiplier",
        16,
        32,
        "R",
        section="4.1.4.4",
        description="Unit of queue_notify_off: 0 or a power of two from 2 on, with "
        "NOTIFICATION_DATA from 4 on.",
    ),
)
CAP64: tuple[Field, ...] = (
    *CAP,
    Field("offset_hi", 16, 32, "R", section="4.1.4", description="Upper half of offset."),
    Field("length_hi", 20, 32, "R", section="4.1.4", description="Upper half of length."),
)
PCI_CFG_CAP: tuple[Field, ...] = (
    *CAP[:4],
    Field("bar", 4, 8, "RW", section="4.1.4.9", description="BAR to access."),
    *CAP[5:7],
    Field(
        "offset",
        8,
        32,
        "RW",
        section="4.1.4.9",
        description="Where in the BAR; a multiple of length.",
    ),
    Field("length", 12, 32, "RW", section="4.1.4.9", description="Access size: 1, 2 or 4."),
    Field(
        "pci_cfg_data",
        16,
        32,
        "RW",
        section="4.1.4.9",
        description="Window: accessing it accesses the BAR, side effects and all.",
    ),
)

# Common configuration [virtio 1.4 §4.1.4.3]
COMMON_CFG_SIZE = 64
COMMON_CFG_SIZE_MIN = 0x38
"""What version 1.0 had; drivers of optional features need more."""
NO_VECTOR = 0xFFFF
VECTORS_MAX = 0x800

_COMMON = "4.1.4.3"


def _common(
    name: str,
    offset: int,
    bits: int,
    access: Access,
    reset: int | None,
    description: str,
    banked: bool = False,
) -> Field:
    return Field(name, offset, bits, access, banked, reset, _COMMON, description)


COMMON_CFG: tuple[Field, ...] = (
    _common("device_feature_select", 0x00, 32, "RW", 0, "Word shown by device_feature."),
    _common(
        "device_feature",
        0x04,
        32,
        "R",
        None,
        "Offered features of the selected word; 0 for "
        "words without features, any select value is legal.",
    ),
    _common("driver_feature_select", 0x08, 32, "RW", 0, "Word shown by driver_feature."),
    _common("driver_feature", 0x0C, 32, "RW", 0, "Accepted features of the selected word."),
    _common(
        "config_msix_vector",
        0x10,
        16,
        "RW",
        NO_VECTOR,
        "Vector of configuration changes; an impossible one reads back as NO_VECTOR.",
    ),
    _common("num_queues", 0x12, 16, "R", None, "Virtqueues, administration queues excluded."),
    _common("device_status", 0x14, 8, "RW", 0, "Device status; writing 0 resets."),
    _common(
        "config_generation",
        0x15,
        8,
        "R",
        None,
        "Differs once a changed configuration value has been read.",
    ),
    _common("queue_select", 0x16, 16, "RW", 0, "Queue that the banked fields show."),
    _common(
        "queue_size",
        0x18,
        16,
        "RW",
        None,
        "Maximum after reset, then what was written; 0 where no such queue exists.",
        True,
    ),
    _common(
        "queue_msix_vector",
        0x1A,
        16,
        "RW",
        NO_VECTOR,
        "Vector of used buffers; an impossible one reads back as NO_VECTOR.",
        True,
    ),
    _common(
        "queue_enable",
        0x1C,
        16,
        "RW",
        0,
        "The driver writes 1 only; device reset and queue reset clear it.",
        True,
    ),
    _common("queue_notify_off", 0x1E, 16, "R", None, "In units of notify_off_multiplier.", True),
    _common("queue_desc", 0x20, 64, "RW", 0, "Descriptor area; two independent halves.", True),
    _common("queue_driver", 0x28, 64, "RW", 0, "Driver area; two independent halves.", True),
    _common("queue_device", 0x30, 64, "RW", 0, "Device area; two independent halves.", True),
    _common(
        "queue_notif_config_data",
        0x38,
        16,
        "R",
        None,
        "What a kick carries, with NOTIF_CONFIG_DATA.",
        True,
    ),
    _common(
        "queue_reset",
        0x3A,
        16,
        "RW",
        0,
        "With RING_RESET: write 1 to start, reads 1 while busy.",
        True,
    ),
    _common(
        "admin_queue_index",
        0x3C,
        16,
        "R",
        None,
        "With ADMIN_VQ: first administration queue, not below num_queues.",
    ),
    _common("admin_queue_num", 0x3E, 16, "R", None, "With ADMIN_VQ: administration queues."),
)


class Isr(IntFlag):
    """ISR status; a read clears it and deasserts INTx [virtio 1.4 §4.1.4.5]."""

    QUEUE = 1
    CONFIG = 2


ISR_SIZE = 1

# Notification [virtio 1.4 §4.1.4.4, §4.1.5.2]
NOTIFY_SIZE = 2
NOTIFY_SIZE_WITH_DATA = 4


def notify_offset(cap_offset: int, queue_notify_off: int, multiplier: int) -> int:
    """Where in the notify BAR the kicks of a queue go."""
    return cap_offset + queue_notify_off * multiplier


def notify_value(queue: int, data: int | None = None) -> int:
    """Value of a kick; with NOTIFICATION_DATA, `data` is {next_wrap, next_off}.

    `queue` is the queue index, or queue_notif_config_data with NOTIF_CONFIG_DATA.
    """
    return queue if data is None else queue | data << 16


# MSI-X [PCI 6.8.2]
MSIX_CONTROL_OFFSET = 2
MSIX_CONTROL_SIZE_MASK = 0x07FF
MSIX_CONTROL_MASK_ALL = 0x4000
MSIX_CONTROL_ENABLE = 0x8000
MSIX_TABLE_OFFSET = 4
MSIX_PBA_OFFSET = 8
MSIX_BIR_MASK = 0x7
MSIX_ENTRY_SIZE = 16
MSIX_VECTOR_MASKED = 1

MSIX_ENTRY: tuple[Field, ...] = (
    Field("message_address", 0, 32, "RW", reset=0, section="PCI 6.8.2"),
    Field("message_upper_address", 4, 32, "RW", reset=0, section="PCI 6.8.2"),
    Field("message_data", 8, 32, "RW", reset=0, section="PCI 6.8.2"),
    Field(
        "vector_control",
        12,
        32,
        "RW",
        reset=MSIX_VECTOR_MASKED,
        section="PCI 6.8.2",
        description="Bit 0 masks the vector.",
    ),
)
