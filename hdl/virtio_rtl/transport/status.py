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
    """``device_status``: bits are only added; 0 asks for a reset. [virtio 1.4 §2.1, §2.4]

    Ports
    -----
    write: In(1), write_data: In(8)
        The driver's write; not to come while ``reset_request``. FEATURES_OK is taken while
        ``acceptable``, DRIVER_OK once FEATURES_OK is set; DEVICE_NEEDS_RESET, SUSPEND and
        unassigned bits are not the driver's to set.
    acceptable: In(1)
        The accepted features can be served.
    device_error: In(1)
        Strobe: only a reset can cure this; sets DEVICE_NEEDS_RESET.
    reset_done: In(1)
        Strobe: what ``reset_request`` asked for is done.
    function_reset: In(1)
        Strobe: back to reset values at once; the device has been drained.
    status: Out(8)
        The register.
    features_ok: Out(1)
        Features are settled.
    driver_ok: Out(1)
        The device may run: DRIVER_OK is set and no reset is under way.
    reset_request: Out(1)
        Level, from the write of 0 to the cycle of ``reset_done`` (or ``function_reset``): stop,
        wait for what is in flight, drop what came back.
    hold: Out(1)
        A reset is under way of a device that did not run: keep the register bus waiting.
    clear: Out(1)
        Strobe in the cycle of ``reset_done`` or ``function_reset``: return to reset values.
    notify: Out(1)
        Strobe: DEVICE_NEEDS_RESET was set with DRIVER_OK set; tell the driver.

    A running device keeps showing its old status until the reset is done. A device that was not
    running has no DMA to wait for, so the bus may wait instead, and status never reads 0 too
    early even if it was 0 before.
    """

    write: In(1)
    write_data: In(8)
    acceptable: In(1)
    device_error: In(1)
    reset_done: In(1)
    function_reset: In(1)
    status: Out(8)
    features_ok: Out(1)
    driver_ok: Out(1)
    reset_request: Out(1)
    hold: Out(1)
    clear: Out(1)
    notify: Out(1)

    def elaborate(self, platform):
        m = Module()
        driver_ok = self.status[_position(DeviceStatus.DRIVER_OK)]
        features_ok = self.status[_position(DeviceStatus.FEATURES_OK)]
        needs_reset = self.status[_position(DeviceStatus.DEVICE_NEEDS_RESET)]
        resetting = Signal()
        raised = Signal()

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
        m.d.sync += raised.eq(0)
        with m.If(self.device_error):
            m.d.sync += [needs_reset.eq(1), raised.eq(~needs_reset)]
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
        ]
        return m
