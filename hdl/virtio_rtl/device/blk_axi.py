"""Block device: the disk behind an AXI4 master."""

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..config_blk import BlkConfig
from ..types.axi4 import AXI4
from .blk_axi_read import BlkAxiRead
from .blk_axi_write import BlkAxiWrite
from .blk_types import backend_ports

__all__ = ["BlkAxi"]

_INCREMENTING = 1
_NOT_BUFFERABLE = 0b0010
"""Normal memory, neither cacheable nor bufferable: a write is answered by the memory itself.

A buffer on the way that answers in its place may lose the write, and a FLUSH, which only waits for
the answers, would have promised too much. [virtio 1.4 §5.2.6.2]
"""


class BlkAxi(wiring.Component):
    """A disk in external memory. See ``BlkAxiRead`` and ``BlkAxiWrite``.

    All bursts have ID 0, so answers come in order; they increment by full beats and lie inside an
    aligned block of ``config.axi_burst_bytes``. SLVERR and DECERR are errors of the request. No
    buffer on the way may answer for the memory (AxCACHE), so what is answered is written for good.

    Parameters
    ----------
    width
        Bits of a beat, and of the bus.
    config
        The block device's configuration.
    tokens
        Writes that may be done before ``written`` is taken.

    Ports
    -----
    write, written, write_done, read, read_data, read_done
        As those of ``BlkMemory``.
    axi : ``AXI4(width, axi_address_bits)``
    engine_reset : 1
        Everything is forgotten but what is under way on the bus, which is finished; new reads and
        writes wait for writes among that.
    """

    def __init__(self, width: int, config: BlkConfig, *, tokens: int = 16):
        self.width = width
        self.config = config
        self.tokens = tokens
        super().__init__(
            backend_ports(width, config)
            | {"axi": Out(AXI4(width, config.axi_address_bits)), "engine_reset": In(1)}
        )

    def elaborate(self, platform):
        m = Module()
        axi = self.axi
        m.submodules.writer = writer = BlkAxiWrite(self.width, self.config, tokens=self.tokens)
        m.submodules.reader = reader = BlkAxiRead(self.width, self.config)
        wiring.connect(m, wiring.flipped(self.write), writer.write)
        wiring.connect(m, writer.written, wiring.flipped(self.written))
        wiring.connect(m, wiring.flipped(self.read), reader.read)
        wiring.connect(m, reader.read_data, wiring.flipped(self.read_data))
        m.d.comb += [
            self.write_done.eq(writer.write_done),
            self.read_done.eq(reader.read_done),
            writer.engine_reset.eq(self.engine_reset),
            reader.engine_reset.eq(self.engine_reset),
            # Nobody knows any more which sectors the writes from before a reset are for.
            reader.hold.eq(writer.draining),
        ]
        for kind, room in (("aw", writer), ("ar", reader)):
            m.d.comb += [
                getattr(axi, f"{kind}addr").eq(room.address.payload.address),
                getattr(axi, f"{kind}len").eq(room.address.payload.length),
                getattr(axi, f"{kind}size").eq((self.width // 8 - 1).bit_length()),
                getattr(axi, f"{kind}burst").eq(_INCREMENTING),
                getattr(axi, f"{kind}cache").eq(_NOT_BUFFERABLE),
                getattr(axi, f"{kind}valid").eq(room.address.valid),
                room.address.ready.eq(getattr(axi, f"{kind}ready")),
            ]
        m.d.comb += [
            axi.wdata.eq(writer.data.payload.data),
            axi.wstrb.eq(~0),
            axi.wlast.eq(writer.data.payload.last),
            axi.wvalid.eq(writer.data.valid),
            writer.data.ready.eq(axi.wready),
            writer.answer.payload.eq(axi.bresp[1]),
            writer.answer.valid.eq(axi.bvalid),
            axi.bready.eq(writer.answer.ready),
            reader.data.payload.data.eq(axi.rdata),
            reader.data.payload.last.eq(axi.rlast),
            reader.data.payload.failed.eq(axi.rresp[1]),
            reader.data.valid.eq(axi.rvalid),
            axi.rready.eq(reader.data.ready),
        ]
        return m
