"""The ring monitor in a whole system: it finds out everything from what crosses the link."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cocotb.utils import get_sim_time

from lib.pcie.dma import enabled_range
from lib.pcie.monitor import DOWN
from lib.pcie.packet import COMPLETION_DATA, MEM_READ, MEM_WRITE, Packet
from lib.register_monitor.view import Access, View
from lib.ring_monitor.link_registers import FunctionRegisters
from lib.ring_monitor.monitor import RingMonitor
from virtio_model.spec import pci
from virtio_model.spec.features import Feature
from virtio_model.spec.status import DeviceStatus
from virtio_rtl.types.tlp import TLPType

if TYPE_CHECKING:
    from lib.device_system import DeviceSystem

__all__ = ["attach"]

INTERRUPT_LIMIT_NS = 20_000.0
"""A used buffer notification waits for a read of the driver's wishes and for the posted path."""

KICK_FLIGHT_NS = 2000.0
"""A doorbell waits for the link, behind others and for credits."""

_INITIATE_FLR = 0x8000
_CONFIG_WRITE = TLPType.CONFIG_WRITE0.value


def attach(
    system: DeviceSystem,
    *,
    interrupt_limit: float | None = INTERRUPT_LIMIT_NS,
    kick_flight: float = KICK_FLIGHT_NS,
) -> RingMonitor:
    """A ring monitor for `system`, from before its `bring_up` on; times are in ns.

    It takes virtqueues, features, doorbells, resets and suspend from the TLPs to BAR 0, as they
    arrive at the device, and interrupts from the host. Ask ``monitor.finish().check()`` at the
    end, with the device quiet.
    """
    registers = FunctionRegisters()
    monitor = RingMonitor(
        system.memory,
        lambda: get_sim_time("ns"),
        interrupt_limit=interrupt_limit,
        kick_flight=kick_flight,
        quiet=registers.is_quiet,
    )
    _LinkListener(system, monitor, registers)
    return monitor


class _LinkListener:
    """Tells a ring monitor what the TLPs say."""

    def __init__(
        self, system: DeviceSystem, monitor: RingMonitor, registers: FunctionRegisters
    ) -> None:
        self.system = system
        self.monitor = monitor
        self.registers = registers
        self.view: View | None = None
        self._reads: dict[int, tuple[int, int]] = {}
        # A watch that records nothing: each packet is dealt with as it passes.
        system.host.monitor.watch(self._packet)
        system.host.interrupts.callbacks.append(self._interrupt)

    def _interrupt(self, interrupt: Any) -> None:
        vector = self.registers.vector_of(interrupt.address, interrupt.data)
        if vector is not None:
            self.monitor.interrupt(vector)

    def _packet(self, packet: Packet, direction: str) -> bool:
        kind = packet.type
        if direction == DOWN:
            if kind == _CONFIG_WRITE:
                self._config_write(packet)
            elif kind in (MEM_READ, MEM_WRITE) and self._know():
                self._request(packet)
        elif kind == COMPLETION_DATA and packet.tag in self._reads:
            offset, size = self._reads.pop(packet.tag)
            start = packet.lower_address & 3
            value = int.from_bytes(packet.data[start : start + size], "little")
            self._bar_access(offset, size, value, write=False)
        return False

    def _know(self) -> bool:
        """Whether the driver has found the function's structures."""
        driver = getattr(self.system, "pci", None)
        if driver is None or driver.layout.msix is None:
            return False
        if self.view is None or self.view.layout is not driver.layout:
            self.view = View(driver.layout)
            self.registers.layout = driver.layout
        return True

    def _config_write(self, packet: Packet) -> None:
        start, end = enabled_range(packet)
        value = int.from_bytes(packet.data[start & 3 : (start & 3) + end - start], "little")
        offset = start & 0xFFF
        self.registers.config_write(offset, value)
        if offset == self.system.device_control_at and value & _INITIATE_FLR:
            self.monitor.ask_reset()
            self.registers.reset()
            self.view = None

    def _request(self, packet: Packet) -> None:
        start, end = enabled_range(packet)
        offset = start - self.system.access.bar_address(0, 0)
        if packet.type == MEM_READ:
            self._reads[packet.tag] = offset, end - start
            return
        before = start - packet.address
        value = int.from_bytes(packet.data[before : before + end - start], "little")
        self.registers.bar_write(offset, value)
        self._bar_access(offset, end - start, value, write=True)

    def _bar_access(self, offset: int, size: int, value: int, *, write: bool) -> None:
        assert self.view
        for kind, where in self.view.layout.structures.items():
            at = offset - where.offset
            if kind is pci.CfgType.PCI or not 0 <= at < where.length:
                continue
            if kind is pci.CfgType.NOTIFY and write:
                self._kick(size, value)
            elif kind is pci.CfgType.COMMON:
                field = next((f for f in pci.COMMON_CFG if f.offset <= at < f.end), None)
                access = Access(kind, at, size, write, value, field)
                (self._common_write if write else self._common_read)(access, self.view)

    def _kick(self, size: int, value: int) -> None:
        assert self.view
        index = value & 0xFFFF
        if self.view.has(Feature.NOTIF_CONFIG_DATA):
            named = {
                queue.values.get("queue_notif_config_data"): at
                for at, queue in self.view.queues.items()
            }
            index = named.get(index, index)
        data = value >> 16 if size == pci.NOTIFY_SIZE_WITH_DATA else None
        self.monitor.kick(index, data)

    def _common_write(self, access: Access, view: View) -> None:
        suspending = view.suspending
        view.update(access)
        monitor, index, values = self.monitor, view.selects["queue_select"], view.queue.values
        if access.name == "device_status":
            if access.value == 0:
                monitor.ask_reset()
            elif view.suspending and not suspending:
                monitor.life.ask_suspend()
            elif access.value & DeviceStatus.DRIVER_OK and (view.resuming or not view.suspending):
                monitor.driver_ok()
            elif access.value & DeviceStatus.FEATURES_OK:
                monitor.negotiated(view.features)
        elif access.name == "config_msix_vector":
            monitor.interrupts.config_vector = access.value
        elif access.name == "queue_msix_vector":
            monitor.interrupts.map(index, access.value)
        elif access.name == "queue_reset" and access.value == 1:
            monitor.ask_queue_reset(index)
        elif access.name == "queue_enable" and access.value == 1:
            self._enable(index, values)

    def _enable(self, index: int, values: dict[str, int]) -> None:
        """A virtqueue was enabled; without a size and three addresses it is none."""
        size, desc, driver, device = (
            values.get(f"queue_{name}", 0) for name in ("size", "desc", "driver", "device")
        )
        if size and desc and driver and device:
            vector = values.get("queue_msix_vector", pci.NO_VECTOR)
            self.monitor.enable_queue(index, size, desc, driver, device, vector)

    def _common_read(self, access: Access, view: View) -> None:
        reset = access.name == "queue_reset" and access.value == 0 and view.queue.resetting
        if access.name == "queue_size":
            view.queue.values.setdefault("queue_size", access.value)
        view.update(access)
        if reset:
            self.monitor.queue_reset_done(view.selects["queue_select"])
        elif access.name == "device_status":
            status = DeviceStatus(access.value)
            if status == 0:
                self.monitor.reset_done()
            elif status & (DeviceStatus.SUSPEND | DeviceStatus.DRIVER_OK) == DeviceStatus.SUSPEND:
                self.monitor.life.suspended()
