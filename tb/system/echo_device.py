"""A device type with a vendor's own id: it answers with the bytes of the request, XOR a key."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from virtio_model.spec.fields import Field
from virtio_rtl.device.kind import DeviceType, register
from virtio_rtl.lib.stream import StreamFIFO
from virtio_rtl.types.packet import packet_beat, packet_stream
from virtio_rtl.types.virtqueue import Reply, Request

KEY = Field("key", 0, 8, "RW")


class Echo(wiring.Component):
    """As many bytes as the request has and the answer may have; one beat a cycle."""

    def __init__(self, config):
        self.width = config.width
        super().__init__({
            "request": In(stream.Signature(Request)),
            "readable": In(packet_stream(config.width)),
            "reply": Out(stream.Signature(Reply)),
            "writable": Out(packet_stream(config.width)),
            "settings": In(data.StructLayout({"key": 8})),
        })  # fmt: skip

    def elaborate(self, platform):
        m = Module()
        m.submodules.replies = replies = StreamFIFO(Reply, 16)
        m.submodules.lengths = lengths = StreamFIFO(Reply, 16)  # of requests with readable bytes
        m.submodules.output = output = StreamFIFO(packet_beat(self.width), 2)
        wiring.connect(m, replies.output, wiring.flipped(self.reply))
        wiring.connect(m, output.output, wiring.flipped(self.writable))
        request, beat = self.request.payload, self.readable.payload
        shorter = Mux(request.readable < request.writable, request.readable, request.writable)
        both = replies.input.ready & lengths.input.ready
        passed = Signal(26)  # bytes of the packet in earlier beats
        rest = Signal(26)  # bytes of the answer that are not sent
        moved = Signal()
        m.d.comb += [
            self.request.ready.eq(both),
            replies.input.payload.length.eq(shorter),
            replies.input.valid.eq(self.request.valid & both),
            lengths.input.payload.length.eq(shorter),
            lengths.input.valid.eq(self.request.valid & both & (request.readable != 0)),
            rest.eq(lengths.output.payload.length - passed),
            output.input.payload.data.eq(beat.data ^ Cat([self.settings.key] * (self.width // 8))),
            output.input.payload.last.eq(rest <= beat.count),
            output.input.payload.count.eq(Mux(rest <= beat.count, rest, beat.count)),
            output.input.payload.error.eq(beat.error),
            self.readable.ready.eq(lengths.output.valid & output.input.ready),
            moved.eq(self.readable.valid & self.readable.ready),
            output.input.valid.eq(moved & (rest != 0)),
            lengths.output.ready.eq(moved & beat.last),
        ]
        with m.If(moved):
            sent = passed + Mux(rest <= beat.count, rest, beat.count)
            m.d.sync += passed.eq(Mux(beat.last, 0, sent))
        return m


ECHO = register(
    DeviceType(
        name="echo", device_id=0x3F, class_code=0xFF0000, vendor_id=0x1234, pci_device_id=0x00EC,
        build=Echo, queues=lambda config: 2, config_fields=(KEY,), config_writable=("key",),
    )
)  # fmt: skip
