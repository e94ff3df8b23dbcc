"""The golden PCI function: a virtio device in plain Python behind `guest.device.Function`."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from guest.device import AccessError, Host
from guest.golden_common import CommonConfig
from guest.golden_config import (
    BAR,
    BAR_SIZE,
    DEVICE,
    ISR,
    MSIX_PBA,
    MSIX_TABLE,
    NOTIFY,
    NOTIFY_MULTIPLIER,
    ConfigSpace,
)
from guest.golden_msix import MsixTable
from guest.golden_types import GoldenType, UnwatchedMemory
from guest.options import RING_FEATURES
from virtio_model.device.make import GoldenQueue, make_device_queue
from virtio_model.errors import DriverBreach
from virtio_model.spec import features as feat
from virtio_model.spec import pci
from virtio_model.spec.features import Feature
from virtio_model.spec.status import DeviceStatus

_log = logging.getLogger(__name__)
_KNOWN = feat.mask(RING_FEATURES)
_ALWAYS = feat.mask([Feature.VERSION_1, Feature.ACCESS_PLATFORM])
_BATCH = 64
"""Buffers between two looks at the socket."""


class GoldenFunction:
    """One function with the transport's structures in BAR 0 and a golden device type behind them.

    device: what the queues are for. offered: ring features to offer, of `options.RING_FEATURES`.
    Work is done in `step`, some buffers at a time; a kick only says where. A rule that the driver
    breaks ends in DEVICE_NEEDS_RESET and is kept in `breaches`.
    """

    def __init__(self, device: GoldenType, *, offered: int = _KNOWN, queue_size: int = 256) -> None:
        if offered & ~_KNOWN:
            raise ValueError(f"the golden rings do not know the features {offered & ~_KNOWN:#x}")
        vectors = device.queue_count + 1
        self.bars = {BAR: BAR_SIZE}
        self.device = device
        self.breaches: list[DriverBreach] = []
        self.buffers = 0
        self.kicks = 0
        self.interrupts = 0
        self._host: Host
        self._config = ConfigSpace(
            device_id=device.device_id,
            class_code=device.class_code,
            vectors=vectors,
            queues=device.queue_count,
            config_size=len(device.config),
        )
        self._msix = MsixTable(vectors, self._message)
        self._common = CommonConfig(
            self,
            offered=offered | device.features | _ALWAYS,
            queues=device.queue_count,
            queue_size=queue_size,
            vectors=vectors,
        )
        self._isr = 0
        self._queues: list[GoldenQueue | None] = [None] * device.queue_count
        self._work: dict[int, None] = {}

    # guest.device.Function

    def connect(self, host: Host) -> None:
        self._host = host
        self._memory = UnwatchedMemory(host.memory)

    def busy(self) -> bool:
        return bool(self._work)

    def wake_fds(self) -> Sequence[int]:
        return ()

    async def reset(self) -> None:
        self._reset()
        self._config.reset()
        self._msix.reset()

    async def step(self) -> None:
        """Serve one queue that was kicked; the rest later, queue by queue in turn."""
        if not self._work:
            return
        index = next(iter(self._work))
        del self._work[index]
        queue = self._queues[index]
        if queue is None or not self._common.status & DeviceStatus.DRIVER_OK:
            return
        try:
            done = self.device.process(index, _BATCH)
            if done < _BATCH:
                queue.enable_notifications()
                # A buffer that came before the driver could see that may have come unannounced.
                done += (late := self.device.process(index, _BATCH - done))
                if late:
                    self._work[index] = None
            else:
                self._work[index] = None
            self.buffers += done
            self._interrupt()
        except DriverBreach as breach:
            self._needs_reset(breach)

    async def config_read(self, offset: int, length: int) -> bytes:
        data = self._config.window + pci.CAP_SIZE
        if offset == data:
            bar, at, size = self._config.window_target()
            return (await self.bar_read(bar, at, min(size, length))).ljust(length, b"\0")
        self._config.show_interrupt(bool(self._isr))
        return self._config.read(offset, length)

    async def config_write(self, offset: int, data: bytes) -> None:
        if offset == self._config.window + pci.CAP_SIZE:
            bar, at, size = self._config.window_target()
            await self.bar_write(bar, at, data[:size])
            return
        if self._config.write(offset, data):
            await self.reset()
        self._msix.set_control(self._config.msix_control)
        self._drive_intx()

    async def bar_read(self, bar: int, offset: int, length: int) -> bytes:
        self._check(bar, offset, length)
        if offset >= MSIX_PBA:
            return self._msix.read_pending(offset - MSIX_PBA, length)
        if offset >= MSIX_TABLE:
            return self._msix.read_table(offset - MSIX_TABLE, length)
        if offset >= NOTIFY:
            return bytes(length)
        if offset >= DEVICE:
            return bytes(self.device.config[offset - DEVICE :][:length]).ljust(length, b"\0")
        if offset >= ISR:
            return self._read_isr(offset - ISR).ljust(length, b"\0")
        return self._common.read(offset, length)

    async def bar_write(self, bar: int, offset: int, data: bytes) -> None:
        self._check(bar, offset, len(data))
        if offset >= MSIX_PBA:
            return
        if offset >= MSIX_TABLE:
            self._msix.write_table(offset - MSIX_TABLE, data)
        elif offset >= NOTIFY:
            self._notified((offset - NOTIFY) // NOTIFY_MULTIPLIER, data)
        elif offset >= DEVICE:
            self.device.write_config(offset - DEVICE, data)
        elif offset < ISR:
            self._common.write(offset, data)

    def _check(self, bar: int, offset: int, length: int) -> None:
        if bar != BAR or not length or offset + length > BAR_SIZE:
            raise AccessError(f"{length} bytes at {offset:#x} of BAR {bar} are nowhere")

    # What the driver writes: guest.golden_common.Owner

    def status_written(self, value: int) -> None:
        common = self._common
        if value == 0:
            self._reset()
            return
        old = common.status
        common.status |= value & ~int(DeviceStatus.DEVICE_NEEDS_RESET | DeviceStatus.SUSPEND)
        new = common.status & ~old
        if new & DeviceStatus.FEATURES_OK and not self._acceptable(common.accepted):
            common.status &= ~int(DeviceStatus.FEATURES_OK)
        if new & DeviceStatus.DRIVER_OK:
            self.device.start(self._memory, common.accepted, self._queues)
            self._work = dict.fromkeys(range(len(self._queues)))

    def _acceptable(self, accepted: int) -> bool:
        return (
            not accepted & ~self._common.offered
            and feat.has(accepted, Feature.VERSION_1)
            and not feat.unmet(accepted, self.device.dependencies)
        )

    def queue_enabled(self, index: int) -> None:
        registers = self._common.queues[index]
        try:
            self._queues[index] = make_device_queue(self._memory, registers, self._common.accepted)
        except (DriverBreach, ValueError, IndexError) as error:
            self._needs_reset(DriverBreach(str(error), queue=index))
            return
        if self._common.status & DeviceStatus.DRIVER_OK:
            self.device.start(self._memory, self._common.accepted, self._queues)
            self._work[index] = None

    def queue_reset(self, index: int) -> None:
        # Between two steps the device holds no buffer, so this is done at once.
        self._queues[index] = None
        self._common.reset_queue(index)

    def _notified(self, index: int, data: bytes) -> None:
        self.kicks += 1
        if int.from_bytes(data[:2], "little") != index:
            self._needs_reset(DriverBreach("a kick at another virtqueue's place", queue=index))
        elif index < len(self._queues):
            self._work[index] = None

    def _reset(self) -> None:
        self._common.reset()
        self._queues[:] = [None] * len(self._queues)
        self._work.clear()
        self._msix.forget()
        self._isr = 0
        self._drive_intx()

    # Interrupts

    def _interrupt(self) -> None:
        """Tell the driver about used buffers; a queue's work may use another one's buffers."""
        for queue, registers in zip(self._queues, self._common.queues, strict=True):
            if queue is not None and queue.should_interrupt():
                self._fire(registers.msix_vector, pci.Isr.QUEUE)

    def _needs_reset(self, breach: DriverBreach) -> None:
        _log.warning("the driver broke a rule: %s", breach)
        self.breaches.append(breach)
        self._common.status |= DeviceStatus.DEVICE_NEEDS_RESET
        self._work.clear()
        if self._common.status & DeviceStatus.DRIVER_OK:
            self._fire(self._common.config_vector, pci.Isr.CONFIG)

    def _fire(self, vector: int, cause: pci.Isr) -> None:
        if self._msix.enabled:
            if vector != pci.NO_VECTOR:
                self._msix.fire(vector)
        else:
            self._isr |= cause
            self.interrupts += 1
            self._drive_intx()

    def _message(self, address: int, data: bytes) -> None:
        self.interrupts += 1
        self._host.message(address, data)

    def _read_isr(self, offset: int) -> bytes:
        if offset:
            return b""
        value, self._isr = self._isr, 0
        self._drive_intx()
        return bytes([value])

    def _drive_intx(self) -> None:
        off = self._msix.enabled or self._config.intx_disabled
        self._host.intx(bool(self._isr) and not off)
