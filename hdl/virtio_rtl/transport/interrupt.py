"""Interrupt selection: events become MSI-X vectors or ISR bits."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from virtio_model.spec import pci
from virtio_rtl.lib.stream import StreamFIFO
from virtio_rtl.transport.queue_table import VectorLookup
from virtio_rtl.types.virtqueue import InterruptRequest

__all__ = ["InterruptRouter"]

_DEPTH = 4


class InterruptRouter(wiring.Component):
    """Chooses how the driver hears of an event. [virtio 1.4 §4.1.5.1.2, §4.1.5.3, §4.1.5.4]

    ======== ============================ =================================================
    MSI-X    used buffers                 configuration change
    ======== ============================ =================================================
    disabled ISR bit 0                    ISR bit 1
    enabled  vector of the virtqueue      ISR bit 1, then the configuration vector
    ======== ============================ =================================================

    With MSI-X enabled and NO_VECTOR mapped no message is sent.

    Ports
    -----
    request: In(stream InterruptRequest)
    vector: Out(stream unsigned(11))
        Vectors to signal.
    vector_lookup: Out(VectorLookup)
        To the ``QueueTable``.
    config_vector: In(16)
    msix_enable: In(1)
    enable: In(1)
        Not set: requests are taken and dropped (the device does not run, or resets).
    queue_event, config_event: Out(1)
        Strobes to ``ISRStatus``.
    idle: Out(1)
        Nothing is inside.

    One request per cycle; order is kept; a vector stands at the output two cycles after its
    request. Settings count as they are one cycle after the request was taken.
    """

    request: In(stream.Signature(InterruptRequest))
    vector: Out(stream.Signature(11))
    vector_lookup: Out(VectorLookup())
    config_vector: In(16)
    msix_enable: In(1)
    enable: In(1)
    queue_event: Out(1)
    config_event: Out(1)
    idle: Out(1)

    def elaborate(self, platform):
        m = Module()
        m.submodules.vectors = vectors = StreamFIFO(11, _DEPTH)
        wiring.connect(m, vectors.output, wiring.flipped(self.vector))
        looking = Signal(InterruptRequest)
        looking_valid = Signal()
        mapped = Mux(looking.config, self.config_vector, self.vector_lookup.vector)
        deciding = looking_valid & self.enable
        m.d.comb += [
            # Room for the one that is looked up and for this one, beside the two that may wait.
            self.request.ready.eq(vectors.level < _DEPTH - 1),
            self.vector_lookup.queue.eq(self.request.payload.queue),
            vectors.input.payload.eq(mapped),
            vectors.input.valid.eq(deciding & self.msix_enable & (mapped != pci.NO_VECTOR)),
            self.queue_event.eq(deciding & ~looking.config & ~self.msix_enable),
            self.config_event.eq(deciding & looking.config),
            self.idle.eq(~looking_valid & ~self.vector.valid),
        ]
        m.d.sync += [
            looking.eq(self.request.payload),
            looking_valid.eq(self.request.valid & self.request.ready),
        ]
        return m
