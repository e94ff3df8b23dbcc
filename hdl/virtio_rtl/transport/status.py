"""Device status register and the life of a reset."""

from amaranth.hdl import Const, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from virtio_model.spec.status import RESET, DeviceStatus

__all__ = ["StatusRegister"]

_DRIVER_BITS = DeviceStatus.ACKNOWLEDGE | DeviceStatus.DRIVER | DeviceStatus.FAILED


def _position(bit: DeviceStatus) -> int:
    return bit.bit_length() - 1


class StatusRegister(wiring.Component):
    """``device_status``: bits are only added; 0 asks for a reset. [virtio 1.4 §2.1, §2.4, §3.4]

    Parameters
    ----------
    suspend
        Whether the device can be suspended; if not, SUSPEND is an unassigned bit.

    Ports
    -----
    write: In(1), write_data: In(8)
        The driver's write; not to come while ``reset_request``. FEATURES_OK is taken while
        ``acceptable``, DRIVER_OK once FEATURES_OK is set; DEVICE_NEEDS_RESET and unassigned bits
        are not the driver's to set, and SUSPEND only asks for it.
    acceptable: In(1)
        The accepted features can be served.
    device_error: In(1)
        Strobe: only a reset can cure this; sets DEVICE_NEEDS_RESET.
    reset_done: In(1)
        Strobe: what ``reset_request`` asked for is done.
    function_reset: In(1)
        Strobe: back to reset values at once; the device has been drained.
    suspend_allowed: In(1)
        VIRTIO_F_SUSPEND is negotiated.
    suspend_done: In(1)
        Strobe: what ``suspend_request`` asked for is done.
    status: Out(8)
        The register.
    features_ok: Out(1)
        Features are settled.
    driver_ok: Out(1)
        The device may run: DRIVER_OK is set and no reset is under way. Not while suspended.
    reset_request: Out(1)
        Level, from the write of 0 to the cycle of ``reset_done`` (or ``function_reset``): stop,
        wait for what is in flight, drop what came back.
    hold: Out(1)
        A reset is under way of a device that did not run: keep the register bus waiting.
    clear: Out(1)
        Strobe in the cycle of ``reset_done`` or ``function_reset``: return to reset values.
    suspend_request: Out(1)
        Level, from a write of SUSPEND to a running device to the cycle of ``suspend_done``: bring
        it to rest. Falls also if a reset is asked for.
    suspended: Out(1)
        SUSPEND is set, and DRIVER_OK therefore not. A write of DRIVER_OK swaps them again.
    notify: Out(1)
        Strobe: DEVICE_NEEDS_RESET was set with DRIVER_OK set; tell the driver. If the device is
        suspended, when it is resumed.
    notify_next: Out(1)
        ``notify`` may come in the next cycle.

    A running device keeps showing its old status until the reset is done. A device that was not
    running has no DMA to wait for, so the bus may wait instead, and status never reads 0 too
    early even if it was 0 before.
    """

    def __init__(self, *, suspend: bool = False):
        self.suspend = suspend
        super().__init__(
            {
                "write": In(1),
                "write_data": In(8),
                "acceptable": In(1),
                "device_error": In(1),
                "reset_done": In(1),
                "function_reset": In(1),
                "suspend_allowed": In(1),
                "suspend_done": In(1),
                "status": Out(8),
                "features_ok": Out(1),
                "driver_ok": Out(1),
                "reset_request": Out(1),
                "hold": Out(1),
                "clear": Out(1),
                "suspend_request": Out(1),
                "suspended": Out(1),
                "notify": Out(1),
                "notify_next": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        driver_ok = self.status[_position(DeviceStatus.DRIVER_OK)]
        features_ok = self.status[_position(DeviceStatus.FEATURES_OK)]
        needs_reset = self.status[_position(DeviceStatus.DEVICE_NEEDS_RESET)]
        resetting = Signal()
        raised = Signal()
        told_later = Signal()

        with m.If(self.write):
            with m.If(self.write_data == RESET):
                m.d.sync += resetting.eq(1)
            with m.Else():
                allowed = Const(_DRIVER_BITS, 8)
                m.d.sync += self.status.eq(self.status | (self.write_data & allowed))
                with m.If(self.write_data[_position(DeviceStatus.FEATURES_OK)] & self.acceptable):
                    m.d.sync += features_ok.eq(1)
                with m.If(self.write_data[_position(DeviceStatus.DRIVER_OK)] & features_ok):
                    m.d.sync += driver_ok.eq(1)
        m.d.sync += raised.eq(told_later)
        if self.suspend:
            self._suspend(m, features_ok, driver_ok, resetting)
            # Who is suspended is not told; who no longer runs, by a reset, has nothing to hear.
            m.d.comb += told_later.eq(raised & self.suspended)
        with m.If(self.device_error):
            m.d.sync += [needs_reset.eq(1), raised.eq(~needs_reset | told_later)]
        m.d.comb += self.clear.eq((resetting & self.reset_done) | self.function_reset)
        with m.If(self.clear):
            m.d.sync += [self.status.eq(RESET), resetting.eq(0), raised.eq(0)]

        m.d.comb += [
            self.features_ok.eq(features_ok),
            self.driver_ok.eq(driver_ok & ~resetting),
            self.reset_request.eq(resetting),
            self.hold.eq(resetting & ~driver_ok),
            # One cycle behind the bit, so that DRIVER_OK written in the same cycle counts.
            self.notify.eq(raised & self.driver_ok),
            self.notify_next.eq(raised),
        ]
        return m

    def _suspend(self, m: Module, features_ok: Signal, driver_ok: Signal, resetting: Signal):
        """SUSPEND, and DRIVER_OK as far as it has to do with it."""
        suspended = self.status[_position(DeviceStatus.SUSPEND)]
        suspending = Signal()
        wants_suspend = self.write_data[_position(DeviceStatus.SUSPEND)]
        wants_run = self.write_data[_position(DeviceStatus.DRIVER_OK)]
        with m.If(self.write & wants_suspend & self.suspend_allowed & driver_ok):
            m.d.sync += suspending.eq(1)
        with m.If(self.write & wants_run & suspended):
            m.d.sync += suspended.eq(0)  # DRIVER_OK is set as ever
        with m.If(self.suspend_done & self.suspend_request):
            m.d.sync += [suspending.eq(0), suspended.eq(1), driver_ok.eq(0)]
        with m.If(self.clear):
            m.d.sync += suspending.eq(0)
        m.d.comb += [
            self.suspend_request.eq(suspending & ~resetting),
            self.suspended.eq(suspended),
        ]
