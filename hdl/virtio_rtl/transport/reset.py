"""Reset is a drain, not a wire."""

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["ResetControl"]


class ResetControl(wiring.Component):
    """Stops new work, waits for what is in flight, clears the engine, then answers.

    Both ways to reset end here: the driver writes 0 to the device status
    [virtio 1.4 §2.4, §4.1.4.3.1], or the host initiates a function level reset
    [PCIe 3.0 §6.6.2].

    Parameters
    ----------
    settle
        Cycles that the engine needs after its reset to clear state in memories.

    Ports
    -----
    device_request : 1, level until ``device_done``
    function_request : 1, level until ``function_done``
    idle : 1
        No read in flight, no TLP half sent.
    busy : 1
        Somebody is still clearing memories.
    stop : 1
        No new request, no new TLP.
    engine_reset : 1
        Synchronous reset of the virtqueue engine, the DMA engines and the device's inside.
    device_done, function_done : 1
        Strobes: the reset that was asked for when the engine was reset is complete.
    """

    def __init__(self, settle: int):
        self.settle = settle
        super().__init__(
            {
                "device_request": In(1),
                "function_request": In(1),
                "idle": In(1),
                "busy": In(1),
                "stop": Out(1),
                "engine_reset": Out(1),
                "device_done": Out(1),
                "function_done": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        quiet = Signal(range(16))
        wait = Signal(range(self.settle + 1))
        device = Signal()
        function = Signal()
        with m.FSM(name="reset_control"):
            with m.State("RUN"):
                m.d.sync += quiet.eq(0)
                with m.If(self.device_request | self.function_request):
                    m.next = "DRAIN"
            with m.State("DRAIN"):
                m.d.comb += self.stop.eq(1)
                # Idle must have lasted: what passed a register on its way out is then gone.
                with m.If(~self.idle):
                    m.d.sync += quiet.eq(0)
                with m.Else():
                    m.d.sync += quiet.eq(quiet + 1)
                with m.If(self.idle & (quiet == 15)):
                    m.next = "RESET"
            with m.State("RESET"):
                m.d.comb += [self.stop.eq(1), self.engine_reset.eq(1)]
                m.d.sync += [
                    wait.eq(0),
                    device.eq(self.device_request),
                    function.eq(self.function_request),
                ]
                m.next = "SETTLE"
            with m.State("SETTLE"):
                m.d.comb += self.stop.eq(1)
                m.d.sync += wait.eq(wait + 1)
                with m.If(wait == self.settle):
                    m.next = "WAIT"
            with m.State("WAIT"):
                m.d.comb += self.stop.eq(1)
                with m.If(~self.busy):
                    m.next = "DONE"
            with m.State("DONE"):
                m.d.comb += [
                    self.stop.eq(1),
                    self.device_done.eq(device),
                    self.function_done.eq(function),
                ]
                m.next = "PAUSE"
            with m.State("PAUSE"):
                # The requests fall in the cycle after they were answered.
                m.d.comb += self.stop.eq(1)
                m.next = "RUN"
        return m
