"""The PCI configuration space as data: registers, fields, capabilities. No logic lives here."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from virtio_model.spec import pci

from ..config import ConfigError, DeviceConfig
from ..device.kind import DeviceType, device_type
from ..regs import maps

__all__ = [
    "Access",
    "ConfigField",
    "ConfigSpaceMap",
    "build_config_space",
    "render_markdown",
]

MSIX_MAX_VECTORS = (maps.PBA_OFFSET - maps.MSIX.start) // pci.MSIX_ENTRY_SIZE


class Access(Enum):
    """What the host can do with a field, and what function level reset does to it."""

    RO = "read only"
    RW = "read/write"
    RW_KEPT = "read/write, kept through FLR"
    W1C = "write 1 to clear"
    W1_TRIGGER = "write 1 acts, reads 0"
    LIVE = "read only, live"


@dataclass(frozen=True)
class ConfigField:
    """Bits ``low`` to ``low + width - 1`` of the dword at byte ``offset``."""

    name: str
    offset: int
    low: int
    width: int
    access: Access = Access.RO
    reset: int = 0

    def __post_init__(self) -> None:
        if self.offset % 4 or not 0 <= self.offset < 4096:
            raise ConfigError(f"{self.name}: offset {self.offset:#x} is no dword of 4 KiB")
        if self.width < 1 or self.low < 0 or self.low + self.width > 32:
            raise ConfigError(f"{self.name}: bits do not lie in one dword")
        if not 0 <= self.reset < 1 << self.width:
            raise ConfigError(f"{self.name} = {self.reset:#x}: does not fit {self.width} bits")

    @property
    def dword(self) -> int:
        """Index of the dword in the configuration space."""
        return self.offset // 4

    @property
    def mask(self) -> int:
        """The field's bits in its dword."""
        return ((1 << self.width) - 1) << self.low


class ConfigSpaceMap:
    """All fields of a configuration space, by name and by dword.

    Bits that no field covers are reserved: they read 0 and ignore writes.
    """

    def __init__(self, fields: Sequence[ConfigField]):
        self.fields = {field.name: field for field in fields}
        if len(self.fields) != len(fields):
            raise ConfigError("two fields have the same name")
        taken: dict[int, int] = {}
        for field in fields:
            if taken.get(field.dword, 0) & field.mask:
                raise ConfigError(f"{field.name}: overlaps another field")
            taken[field.dword] = taken.get(field.dword, 0) | field.mask

    def __getitem__(self, name: str) -> ConfigField:
        return self.fields[name]

    @property
    def dwords(self) -> int:
        """Dwords up to the last one that has a field."""
        return 1 + max(field.dword for field in self.fields.values())

    def _mask(self, dword: int, *access: Access) -> int:
        return sum(f.mask for f in self.fields.values() if f.dword == dword and f.access in access)

    def reset(self, dword: int) -> int:
        """Value after reset."""
        return sum(f.reset << f.low for f in self.fields.values() if f.dword == dword)

    def writable(self, dword: int) -> int:
        """Bits that take the value that the host writes."""
        return self._mask(dword, Access.RW, Access.RW_KEPT)

    def write_1_to_clear(self, dword: int) -> int:
        """Bits that the device sets, and that the host clears by writing 1."""
        return self._mask(dword, Access.W1C)

    def kept(self, dword: int) -> int:
        """Bits that function level reset leaves alone. [PCIe 3.0 §6.6.2]"""
        return self._mask(dword, Access.RW_KEPT)


class _Layout:
    """Collects fields; ``at`` is the offset of the structure that is being described."""

    def __init__(self) -> None:
        self.fields: list[ConfigField] = []
        self.at = 0
        self.end = 0x40

    def add(
        self, name: str, offset: int, bits: str, access: Access = Access.RO, reset: int = 0
    ) -> None:
        """Add a field at ``at + offset``; ``bits`` is ``"high:low"`` or ``"bit"``."""
        high, _, low = bits.partition(":")
        lowest = int(low or high)
        self.fields.append(
            ConfigField(name, self.at + offset, lowest, int(high) - lowest + 1, access, reset)
        )

    def capability(self, prefix: str, identifier: int, length: int, *, last: bool = False) -> None:
        """Start the next capability of the list, ``length`` bytes long."""
        self.at = self.end
        self.end = (self.at + length + 3) & ~3
        self.add(f"{prefix}_id", 0, "7:0", reset=identifier)
        self.add(f"{prefix}_next", 0, "15:8", reset=0 if last else self.end)


def _header(layout: _Layout, kind: DeviceType) -> None:
    """Type 0 header. [PCIe 3.0 §7.5.1, §7.5.2]"""
    rw, w1c = Access.RW, Access.W1C
    layout.add("vendor_id", 0x00, "15:0", reset=kind.vendor_id)
    layout.add("device_id", 0x00, "31:16", reset=kind.pci_id)
    layout.add("memory_enable", 0x04, "1", rw)
    layout.add("bus_master_enable", 0x04, "2", rw)
    layout.add("parity_error_response", 0x04, "6", rw)
    layout.add("serr_enable", 0x04, "8", rw)
    layout.add("intx_disable", 0x04, "10", rw)
    layout.add("interrupt_status", 0x04, "19", Access.LIVE)
    layout.add("capabilities_list", 0x04, "20", reset=1)
    layout.add("master_data_parity", 0x04, "24", w1c)
    layout.add("signaled_target_abort", 0x04, "27", w1c)
    layout.add("received_target_abort", 0x04, "28", w1c)
    layout.add("received_master_abort", 0x04, "29", w1c)
    layout.add("detected_parity", 0x04, "31", w1c)
    layout.add("revision_id", 0x08, "7:0", reset=pci.MODERN_REVISION_MIN)
    layout.add("class_code", 0x08, "31:8", reset=kind.class_code)
    layout.add("cache_line_size", 0x0C, "7:0", rw)
    layout.add("bar0_type", 0x10, "3:0", reset=0b0100)  # 64-bit memory, not prefetchable
    layout.add("bar0_base", 0x10, "31:16", rw)  # 64 KiB
    layout.add("bar1_base", 0x14, "31:0", rw)
    layout.add("subsystem_vendor_id", 0x2C, "15:0", reset=kind.vendor_id)
    layout.add("subsystem_id", 0x2C, "31:16", reset=kind.pci_id)
    layout.add("capabilities_pointer", 0x34, "7:0", reset=layout.end)
    layout.add("interrupt_line", 0x3C, "7:0", rw)
    layout.add("interrupt_pin", 0x3C, "15:8", reset=1)  # INTA


def _power_management(layout: _Layout) -> None:
    """Power management, version 3: D0 and D3hot, no PME. [PCI PM 1.2 §3.2]"""
    layout.capability("power", 0x01, 8)
    layout.add("power_version", 0, "18:16", reset=3)
    layout.add("power_state", 4, "1:0", Access.RW)
    layout.add("no_soft_reset", 4, "3", reset=1)


def _msix(layout: _Layout, vectors: int) -> None:
    """MSI-X. [PCIe 3.0 §7.7] [virtio 1.4 §4.1.5.1.2]"""
    layout.capability("msix", pci.PCI_CAP_ID_MSIX, 12)
    layout.add("msix_table_size", 0, "26:16", reset=vectors - 1)
    layout.add("msix_function_mask", 0, "30", Access.RW)
    layout.add("msix_enable", 0, "31", Access.RW)
    layout.add("msix_table", 4, "31:0", reset=maps.MSIX.start)  # BAR indicator 0
    layout.add("msix_pba", 8, "31:0", reset=maps.PBA_OFFSET)


def _express(layout: _Layout, config: DeviceConfig, max_payload_code: int) -> None:
    """PCI Express capability, version 2, endpoint. [PCIe 3.0 §7.8]"""
    rw, kept, w1c = Access.RW, Access.RW_KEPT, Access.W1C
    layout.capability("express", 0x10, 0x3C)
    layout.add("express_version", 0x00, "19:16", reset=2)
    layout.add("max_payload_supported", 0x04, "2:0", reset=max_payload_code)
    layout.add("extended_tag_supported", 0x04, "5", reset=1)
    layout.add("role_based_error_reporting", 0x04, "15", reset=1)
    layout.add("flr_capable", 0x04, "28", reset=1)
    layout.add("correctable_error_enable", 0x08, "0", rw)
    layout.add("nonfatal_error_enable", 0x08, "1", rw)
    layout.add("fatal_error_enable", 0x08, "2", rw)
    layout.add("unsupported_request_enable", 0x08, "3", rw)
    layout.add("relaxed_ordering", 0x08, "4", rw, reset=1)
    layout.add("max_payload", 0x08, "7:5", kept)
    layout.add("extended_tag", 0x08, "8", rw)
    layout.add("no_snoop", 0x08, "11", rw, reset=1)
    layout.add("max_read_request", 0x08, "14:12", rw, reset=2)
    layout.add("initiate_flr", 0x08, "15", Access.W1_TRIGGER)
    layout.add("correctable_error", 0x08, "16", w1c)
    layout.add("nonfatal_error", 0x08, "17", w1c)
    layout.add("unsupported_request", 0x08, "19", w1c)
    layout.add("transactions_pending", 0x08, "21", Access.LIVE)
    layout.add("link_max_speed", 0x0C, "3:0", reset=config.generation)
    layout.add("link_max_width", 0x0C, "9:4", reset=config.lanes)
    layout.add("aspm_optionality", 0x0C, "22", reset=1)
    layout.add("aspm_control", 0x10, "1:0", kept)
    layout.add("read_boundary_128", 0x10, "3", kept)
    layout.add("common_clock", 0x10, "6", kept)
    layout.add("extended_synch", 0x10, "7", kept)
    layout.add("link_speed", 0x10, "19:16", reset=config.generation)
    layout.add("link_width", 0x10, "25:20", reset=config.lanes)
    layout.add("slot_clock", 0x10, "28", reset=1)
    # Ranges 0: the time-out is fixed when the RTL is generated, but it can be disabled.
    layout.add("completion_timeout_ranges", 0x24, "3:0")
    layout.add("completion_timeout_disable_supported", 0x24, "4", reset=1)
    layout.add("completion_timeout_disable", 0x28, "4", rw)
    layout.add("link_speeds", 0x2C, "7:1", reset=(1 << config.generation) - 1)
    layout.add("link_target_speed", 0x30, "3:0", kept, reset=config.generation)


def _virtio(layout: _Layout, num_queues: int, device_config_length: int) -> None:
    """The virtio vendor capabilities; without device configuration none for it.

    [virtio 1.4 §4.1.4]
    """
    kind = pci.CfgType
    notify_length = maps.NOTIFY_OFF_MULTIPLIER * num_queues
    structures = [
        (kind.COMMON, pci.CAP_SIZE, maps.COMMON_CONFIG.start, pci.COMMON_CFG_SIZE),
        (kind.NOTIFY, pci.NOTIFY_CAP_SIZE, maps.NOTIFY.start, notify_length),
        (kind.ISR, pci.CAP_SIZE, maps.ISR.start, pci.ISR_SIZE),
        (kind.DEVICE, pci.CAP_SIZE, maps.DEVICE_CONFIG.start, device_config_length),
        (kind.PCI, pci.PCI_CFG_CAP_SIZE, 0, 0),
    ]
    for config_type, length, offset, size in structures:
        if config_type == kind.DEVICE and not size:
            continue
        window = config_type == kind.PCI
        name = "window" if window else f"{config_type.name.lower()}_config"
        access = Access.RW if window else Access.RO
        layout.capability(name, pci.PCI_CAP_ID_VENDOR, length, last=window)
        layout.add(f"{name}_cap_len", 0, "23:16", reset=length)
        layout.add(f"{name}_cfg_type", 0, "31:24", reset=config_type)
        layout.add(f"{name}_bar", 4, "7:0", access)
        layout.add(f"{name}_offset", 8, "31:0", access, reset=offset)
        layout.add(f"{name}_length", 12, "31:0", access, reset=size)
        if config_type == kind.NOTIFY:
            layout.add("notify_off_multiplier", 16, "31:0", reset=maps.NOTIFY_OFF_MULTIPLIER)
        elif window:
            layout.add("window_data", 16, "31:0", access)


def build_config_space(config: DeviceConfig, *, max_payload_code: int = 1) -> ConfigSpaceMap:
    """Lay out the configuration space of one function.

    ``max_payload_code``: largest payload supported, 128 << code bytes: 1 or 2.
    """
    if max_payload_code not in (1, 2):
        raise ConfigError(f"max_payload_code = {max_payload_code!r}: 1 (256) or 2 (512 bytes)")
    kind = device_type(config.device)
    if not 2 <= config.msix_vectors <= MSIX_MAX_VECTORS:
        raise ConfigError(
            f"msix_vectors = {config.msix_vectors!r}: 2 to {MSIX_MAX_VECTORS}, the room in BAR 0"
        )
    layout = _Layout()
    _header(layout, kind)
    _power_management(layout)
    _msix(layout, config.msix_vectors)
    _express(layout, config, max_payload_code)
    _virtio(layout, config.num_queues, kind.config_bytes)
    if layout.end > 0x100:
        raise ConfigError("the capability list does not fit the first 256 bytes")
    return ConfigSpaceMap(layout.fields)


def render_markdown(space: ConfigSpaceMap) -> str:
    """Render the fields as a Markdown table."""
    lines = ["| offset | bits | field | access | reset |", "|---|---|---|---|---|"]
    for field in sorted(space.fields.values(), key=lambda f: (f.offset, f.low)):
        high = field.low + field.width - 1
        bits = f"{high}:{field.low}" if field.width > 1 else f"{high}"
        lines.append(
            f"| 0x{field.offset:03x} | {bits} | {field.name} | {field.access.value}"
            f" | 0x{field.reset:x} |"
        )
    return "\n".join(lines) + "\n"
