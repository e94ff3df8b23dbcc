"""A register-file virtio-pci function for the tests of the driver: no rings, no data."""

from __future__ import annotations

from virtio_model.spec import features as feat
from virtio_model.spec import net, pci
from virtio_model.spec.features import Feature
from virtio_model.spec.fields import Field
from virtio_model.spec.status import DeviceStatus

NOTIFY, ISR, DEVICE = 0x1000, 0x2000, 0x3000
MSIX_TABLE, MSIX_PBA = 0x4000, 0x5000
MULTIPLIER = 4
OFFERED = feat.mask(
    [
        Feature.VERSION_1,
        Feature.RING_PACKED,
        Feature.RING_RESET,
        Feature.INDIRECT_DESC,
        net.NetFeature.MAC,
        net.NetFeature.STATUS,
    ]
)


class FakePci:
    """Behaves until a test changes an attribute, overrides a method or writes `pinned`.

    `kept` are registers that a queue reset leaves alone; without `moves` the device neither
    suspends nor resumes, and with `half` shows SUSPEND and DRIVER_OK together. With `config_size` 0
    there is no device configuration.
    """

    def __init__(self, device_id: int = net.DEVICE_ID, config_size: int = net.CONFIG_SIZE) -> None:
        self.device_id = device_id
        self.config_size = config_size
        self.offered = OFFERED
        self.accepted = 0
        self.max_sizes = {0: 256, 1: 100}
        self.vectors = 4
        self.reset_reads = 3
        self.refuse = False
        self.notified: list[tuple[int, int, int]] = []
        self.changes: list[int] = []
        self.pinned: dict[str, int] = {}
        self.kept: list[str] = []
        self.moves = True
        self.half = False
        self.config = bytearray(256)
        self.bar = bytearray(0x6000)
        self.queue_regs: dict[tuple[int, str], int] = {}
        self.regs: dict[str, int] = {}
        self._resetting = 0
        self.window_cap = 0
        self._build_config()
        self._reset()

    # Configuration space

    def _build_config(self) -> None:
        self._put(pci.PCI_VENDOR_ID_OFFSET, pci.VENDOR_ID, 2)
        self._put(pci.PCI_DEVICE_ID_OFFSET, pci.modern_device_id(self.device_id), 2)
        self._put(pci.PCI_STATUS_OFFSET, pci.PCI_STATUS_CAP_LIST, 2)
        self._last = pci.PCI_CAP_POINTER_OFFSET
        self._at = 0x40
        self.caps: dict[pci.CfgType, int] = {}
        for kind, offset, length in (
            (pci.CfgType.COMMON, 0, pci.COMMON_CFG_SIZE),
            (pci.CfgType.NOTIFY, NOTIFY, 64),
            (pci.CfgType.ISR, ISR, 1),
            (pci.CfgType.DEVICE, DEVICE, self.config_size),
        ):
            if kind == pci.CfgType.DEVICE and not length:
                continue
            extra = MULTIPLIER.to_bytes(4, "little") if kind == pci.CfgType.NOTIFY else b""
            self.add_cap(kind, 0, offset, length, extra)
        self.window_cap = self.add_cap(pci.CfgType.PCI, 0, 0, 0, bytes(4))
        at = self._link(pci.PCI_CAP_ID_MSIX, 12)
        self._put(at + pci.MSIX_CONTROL_OFFSET, self.vectors - 1, 2)
        self._put(at + pci.MSIX_TABLE_OFFSET, MSIX_TABLE, 4)
        self._put(at + pci.MSIX_PBA_OFFSET, MSIX_PBA, 4)

    def add_cap(self, kind: int, bar: int, offset: int, length: int, extra: bytes = b"") -> int:
        """Append a virtio capability to the list."""
        size = pci.CAP_SIZE + len(extra)
        at = self._link(pci.PCI_CAP_ID_VENDOR, size)
        self.config[at + 2 : at + 5] = bytes([size, kind, bar])
        self._put(at + 8, offset, 4)
        self._put(at + 12, length, 4)
        self.config[at + 16 : at + size] = extra
        if kind in pci.CfgType.__members__.values():
            self.caps[pci.CfgType(kind)] = at
        return at

    def _link(self, cap_id: int, size: int) -> int:
        at = self._at
        self.config[self._last] = at
        self.config[at] = cap_id
        self._last, self._at = at + 1, at + (size + 3) // 4 * 4
        return at

    def _put(self, offset: int, value: int, size: int) -> None:
        self.config[offset : offset + size] = value.to_bytes(size, "little")

    def _window(self) -> tuple[int, int]:
        offset = int.from_bytes(self.config[self.window_cap + 8 : self.window_cap + 12], "little")
        return self.config[self.window_cap + 4], offset

    async def config_read(self, offset: int, size: int) -> int:
        if offset == self.window_cap + 16:
            return await self.bar_read(*self._window(), size)
        return int.from_bytes(self.config[offset : offset + size], "little")

    async def config_write(self, offset: int, value: int, size: int) -> None:
        if offset == self.window_cap + 16:
            await self.bar_write(*self._window(), value, size)
        else:
            self._put(offset, value, size)

    # BAR 0

    async def bar_read(self, bar: int, offset: int, size: int) -> int:
        assert bar == 0
        assert offset % size == 0
        if offset < pci.COMMON_CFG_SIZE:
            field, shift = self._common_field(offset, size)
            return self.read_field(field) >> shift & (1 << 8 * size) - 1
        value = int.from_bytes(self.bar[offset : offset + size], "little")
        if offset == ISR:
            self.bar[ISR] = 0
        if offset >= DEVICE and self.changes:
            self.regs["config_generation"] = self.changes.pop(0)
        return value

    async def bar_write(self, bar: int, offset: int, value: int, size: int) -> None:
        assert bar == 0
        assert offset % size == 0
        if offset < pci.COMMON_CFG_SIZE:
            field, shift = self._common_field(offset, size)
            keep = self.read_field(field) & ~((1 << 8 * size) - 1 << shift)
            self.write_field(field, keep | value << shift)
        elif NOTIFY <= offset < ISR:
            self.notified.append((offset, value, size))
        else:
            self.bar[offset : offset + size] = value.to_bytes(size, "little")

    @staticmethod
    def _common_field(offset: int, size: int) -> tuple[Field, int]:
        for field in pci.COMMON_CFG:
            if field.offset <= offset < field.end:
                assert size == min(field.size, 4), "not the natural width"
                return field, 8 * (offset - field.offset)
        raise AssertionError(hex(offset))

    # Common configuration

    def _reset(self) -> None:
        self.regs = {f.name: f.reset or 0 for f in pci.COMMON_CFG if not f.banked}
        self.regs["num_queues"] = len(self.max_sizes)
        self.queue_regs = {}
        for queue, size in self.max_sizes.items():
            self._reset_queue(queue, size)
        self.accepted = 0

    def _reset_queue(self, queue: int, size: int) -> None:
        for field in pci.COMMON_CFG:
            if field.banked:
                self.queue_regs[queue, field.name] = field.reset or 0
        self.queue_regs[queue, "queue_size"] = size
        self.queue_regs[queue, "queue_notify_off"] = queue
        self.queue_regs[queue, "queue_notif_config_data"] = 0x50 + queue

    def read_field(self, field: Field) -> int:
        """What a read of a whole field shows."""
        name = field.name
        if name in self.pinned:
            return self.pinned[name]
        if name == "device_feature":
            return feat.word(self.offered, self.regs["device_feature_select"])
        if name == "driver_feature":
            return feat.word(self.accepted, self.regs["driver_feature_select"])
        if name == "device_status" and self._resetting:
            self._resetting -= 1
            return int(DeviceStatus.DRIVER)
        if field.banked:
            return self.queue_regs.get((self.regs["queue_select"], name), 0)
        return self.regs[name]

    def write_field(self, field: Field, value: int) -> None:
        """What a write of a whole field does."""
        name = field.name
        assert field.access == "RW", f"write to read-only {name}"
        if name == "device_status":
            self._write_status(value)
        elif name == "driver_feature":
            shift = 32 * self.regs["driver_feature_select"]
            self.accepted = self.accepted & ~(0xFFFF_FFFF << shift) | value << shift
        elif name.endswith("msix_vector") and value >= self.vectors:
            self._store(field, pci.NO_VECTOR)
        elif name == "queue_reset":
            queue = self.regs["queue_select"]
            kept = {name: self.queue_regs[queue, name] for name in self.kept}
            self._reset_queue(queue, self.max_sizes[queue])
            for name, value in kept.items():
                self.queue_regs[queue, name] = value
        else:
            self._store(field, value)

    def _store(self, field: Field, value: int) -> None:
        if not field.banked:
            self.regs[field.name] = value
        elif self.regs["queue_select"] in self.max_sizes:
            self.queue_regs[self.regs["queue_select"], field.name] = value

    def _write_status(self, value: int) -> None:
        if value == 0:
            self._reset()
            self._resetting = self.reset_reads
            return
        if feat.has(self.accepted, Feature.SUSPEND):
            value = self._suspend_or_resume(value)
        if self.refuse:
            value &= ~DeviceStatus.FEATURES_OK
        self.regs["device_status"] = value

    def _suspend_or_resume(self, value: int) -> int:
        """A suspended device shows SUSPEND, a running one DRIVER_OK; stuck unless it `moves`."""
        before = self.regs["device_status"]
        suspend, ok = DeviceStatus.SUSPEND, DeviceStatus.DRIVER_OK
        if not self.moves:
            return before
        if self.half:
            return value
        if before & ok and value & suspend:
            return value & ~ok
        return value & ~suspend if value & ok else value
