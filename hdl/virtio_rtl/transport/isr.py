"""ISR status: the one byte that a driver without MSI-X reads."""

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from virtio_model.spec.pci import Isr
from virtio_rtl.regs.maps import ISR
from virtio_rtl.regs.target import RegisterTarget
from virtio_rtl.types.regbus import RegisterBus

__all__ = ["ISRStatus"]

_REGION_BITS = (ISR.end - ISR.start - 1).bit_length()


class ISRStatus(wiring.Component):
    """ISR status and INTx level. [virtio 1.4 §4.1.4.5, §4.1.5.3, §4.1.5.4]

    Ports
    -----
    bus: In(RegisterBus)
    queue_event, config_event: In(1)
        Strobes: set bit 0, bit 1.
    clear: In(1)
        Strobe: device reset.
    msix_enable, intx_disable: In(1)
        What the host has set.
    intx: Out(1)
        Level of the interrupt pin, active high: any bit, unless MSI-X or INTx Disable.
    interrupt_status: Out(1)
        Interrupt Status of the PCI Status register: any bit while MSI-X is disabled.

    A read with byte 0 enabled clears the byte; an event in the same cycle stays for the next
    read. Bits are set in the cycle after their strobe. One write per
    cycle, a read every second cycle.
    """

    bus: In(RegisterBus())
    queue_event: In(1)
    config_event: In(1)
    clear: In(1)
    msix_enable: In(1)
    intx_disable: In(1)
    intx: Out(1)
    interrupt_status: Out(1)

    def elaborate(self, platform):
        m = Module()
        m.submodules.target = target = RegisterTarget()
        wiring.connect(m, wiring.flipped(self.bus), target.bus)
        bits = Signal(2)
        at_status = target.request.address[2:_REGION_BITS] == 0
        with m.If(at_status):
            m.d.comb += target.read_data.eq(bits)
        taken = target.read & at_status & target.request.byte_enable[0]
        with m.If(taken):
            m.d.sync += bits.eq(0)
        for bit, event in ((Isr.QUEUE, self.queue_event), (Isr.CONFIG, self.config_event)):
            with m.If(event):
                m.d.sync += bits[bit.bit_length() - 1].eq(1)
        with m.If(self.clear):
            m.d.sync += bits.eq(0)
        m.d.comb += [
            self.interrupt_status.eq(bits.any() & ~self.msix_enable),
            self.intx.eq(self.interrupt_status & ~self.intx_disable),
        ]
        return m
