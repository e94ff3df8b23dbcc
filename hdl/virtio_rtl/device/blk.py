"""The block device. [virtio 1.4 §5.2]"""

from amaranth.hdl import Module, ResetInserter, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from virtio_model.spec import blk as spec
from virtio_model.spec.blk import BlkFeature
from virtio_model.spec.features import mask

from ..config import DeviceConfig
from ..lib.stream import SkidBuffer, StreamFIFO
from ..regs.maps import Counter
from ..types.axi4 import AXI4
from ..types.packet import packet_beat
from ..types.virtqueue import Reply, Request
from .blk_axi import BlkAxi
from .blk_check import BlkCheck
from .blk_dispatch import BlkDispatch
from .blk_header import BlkHeader
from .blk_memory import BlkMemory
from .blk_respond import BlkRespond
from .blk_segments import BlkSegments
from .blk_write import BlkWrite
from .door import request_door
from .kind import DeviceType, register

__all__ = ["BLK", "BlkDevice"]

_WRITES = 16
"""Writes that may be done before their turn to be answered has come."""

_COUNTERS = (
    Counter("blk_failed", "requests answered IOERR"),
    Counter("blk_unsupported", "requests answered UNSUPP"),
)


def _features(config: DeviceConfig) -> int:
    """Features of the block device that are offered. [virtio 1.4 §5.2.3]"""
    blk = config.blk
    offered = {
        BlkFeature.SIZE_MAX: True,
        BlkFeature.SEG_MAX: True,
        BlkFeature.RO: blk.read_only,
        BlkFeature.BLK_SIZE: True,
        BlkFeature.FLUSH: blk.flush,
        BlkFeature.TOPOLOGY: True,
        BlkFeature.CONFIG_WCE: blk.config_wce,
        BlkFeature.MQ: blk.num_queues > 1,
        BlkFeature.DISCARD: blk.discard,
        BlkFeature.WRITE_ZEROES: blk.write_zeroes,
    }
    return mask(feature for feature, there in offered.items() if there)


def _config_values(config: DeviceConfig) -> dict[str, int]:
    """Fields of the device configuration; those that are missing are 0. [virtio 1.4 §5.2.4]"""
    blk = config.blk
    values = {
        "capacity": blk.capacity_sectors,
        "size_max": blk.size_max,
        "seg_max": blk.seg_max,
        "blk_size": blk.blk_size,
        "physical_block_exp": blk.physical_block_exp,
        "alignment_offset": blk.alignment_offset,
        "min_io_size": blk.min_io_size,
        "opt_io_size": blk.opt_io_size,
        "num_queues": blk.num_queues if blk.num_queues > 1 else 0,
    }
    if blk.discard:
        values |= {
            "max_discard_sectors": blk.max_discard_sectors,
            "max_discard_seg": blk.max_discard_seg,
            "discard_sector_alignment": blk.discard_sector_alignment,
        }
    if blk.write_zeroes:
        values |= {
            "max_write_zeroes_sectors": blk.max_write_zeroes_sectors,
            "max_write_zeroes_seg": blk.max_write_zeroes_seg,
        }
    return values


def _outside(config: DeviceConfig) -> dict:
    """Ports of the whole device: the bus to external memory."""
    if config.blk.backend == "memory":
        return {}
    return {"axi": Out(AXI4(config.width, config.blk.axi_address_bits))}


class BlkDevice(wiring.Component):
    """Block device: requests take effect, and are answered, in their order; many are in flight.

    Every reply fills all writable bytes of its request: data from the first byte on, zeros where
    there are none, and the status as the last byte, whatever the driver has cut the buffer into.

    IN, OUT, FLUSH, GET_ID, DISCARD, WRITE_ZEROES. What comes in the wrong direction is ignored, and
    GET_ID gives as much of the identity as there is room for. A request without a writable byte is
    not done. DISCARD writes zeros, as WRITE_ZEROES does. A request of several segments is done as a
    whole or, if one of them is refused, not at all: UNSUPP if any has an unknown flag, else IOERR.

    Nothing is done for a request whose readable bytes could not be read, with one exception: of an
    OUT that is longer than the device can hold (256 beats of data), the beginning may have been
    written. There is no volatile cache: a write is answered when the memory has it, so a FLUSH has
    nothing to do but to wait for its turn.

    Parameters
    ----------
    config
        The configuration; ``config.blk`` and ``config.width`` count.

    Ports
    -----
    request : stream of ``Request``; readable : packet_stream(width); reply : stream of ``Reply``;
    writable : packet_stream(width)
        The door to the virtqueue engine. A reply is given at once, for its length is known.
    accepted : 64
        Feature bits that the driver accepted.
    engine_reset : 1
        Requests inside are forgotten. The disk stays as it is; writes of which not all data are
        here stay undone from there on.
    settings : {writeback}
        What the driver wrote; without effect, for nothing is cached.
    events : {blk_failed, blk_unsupported}
        Strobes: a request was answered IOERR, UNSUPP.
    axi : ``AXI4(width, axi_address_bits)``
        With the AXI4 backend only. Bursts are finished over an ``engine_reset``, and new ones
        begin behind them.

    One beat a cycle each way, reads and writes side by side; a request costs no cycle of its own
    but for the beat of its header and that of its status, as long as it is not shorter than three
    cycles. Reads and writes that touch the same sectors wait for each other.
    Not offered: geometry, lifetime, secure erase, zones. [virtio 1.4 §5.2]
    """

    def __init__(self, config: DeviceConfig):
        self.config = config
        width = config.width
        super().__init__(
            request_door(width)
            | {
                "accepted": In(64),
                "engine_reset": In(1),
                "settings": In(data.StructLayout({"writeback": 8})),
                "events": Out(data.StructLayout({counter.name: 1 for counter in _COUNTERS})),
            }
            | _outside(config)
        )

    def elaborate(self, platform):
        m = Module()
        width, blk = self.config.width, self.config.blk
        resettable = ResetInserter(self.engine_reset)
        replies = StreamFIFO(Reply, 4)
        requests = SkidBuffer(Request)
        header = BlkHeader(width)
        segments = BlkSegments(width, blk)
        check = BlkCheck(blk)
        dispatch = BlkDispatch(width, blk, tokens=_WRITES)
        write = BlkWrite(width, blk)
        respond = BlkRespond(width, blk.identity.encode())
        writable = SkidBuffer(packet_beat(width))
        m.submodules.replies = resettable(replies)
        m.submodules.requests = resettable(requests)
        m.submodules.header = resettable(header)
        m.submodules.segments = resettable(segments)
        m.submodules.check = resettable(check)
        m.submodules.dispatch = resettable(dispatch)
        m.submodules.write = resettable(write)
        m.submodules.respond = resettable(respond)
        m.submodules.writable = resettable(writable)

        # Every request goes two ways: its reply, and the bytes.
        wiring.connect(m, wiring.flipped(self.request), requests.input)
        wiring.connect(m, replies.output, wiring.flipped(self.reply))
        told = Signal()
        tells = Signal()
        m.d.comb += [
            tells.eq(requests.output.valid & ~told & replies.input.ready),
            replies.input.payload.length.eq(requests.output.payload.writable),
            replies.input.valid.eq(requests.output.valid & ~told),
            header.request.payload.eq(requests.output.payload),
            header.request.valid.eq(requests.output.valid & told),
            requests.output.ready.eq(header.request.ready & told),
        ]
        with m.If(self.engine_reset | (requests.output.valid & requests.output.ready)):
            m.d.sync += told.eq(0)
        with m.Elif(tells):
            m.d.sync += told.eq(1)

        wiring.connect(m, wiring.flipped(self.readable), header.readable)
        wiring.connect(m, header.command, check.command)
        wiring.connect(m, header.segments, segments.input)
        wiring.connect(m, header.data, write.data)
        wiring.connect(m, segments.verdict, check.verdict)
        wiring.connect(m, segments.output, dispatch.segment)
        wiring.connect(m, check.plan, dispatch.plan)
        wiring.connect(m, dispatch.write, write.job)
        wiring.connect(m, dispatch.response, respond.response)
        wiring.connect(m, respond.writable, writable.input)
        wiring.connect(m, writable.output, wiring.flipped(self.writable))

        if blk.backend == "memory":
            backend = BlkMemory(width, blk, tokens=_WRITES)
            m.submodules.backend = resettable(backend)
        else:
            backend = BlkAxi(width, blk, tokens=_WRITES)
            m.submodules.backend = backend
            m.d.comb += backend.engine_reset.eq(self.engine_reset)
            wiring.connect(m, backend.axi, wiring.flipped(self.axi))
        wiring.connect(m, dispatch.read, backend.read)
        wiring.connect(m, write.output, backend.write)
        wiring.connect(m, backend.read_data, respond.read_data)
        wiring.connect(m, backend.written, respond.written)
        m.d.comb += [
            check.accepted.eq(self.accepted),
            dispatch.read_done.eq(backend.read_done),
            dispatch.write_done.eq(backend.write_done),
            dispatch.written.eq(backend.written.valid & backend.written.ready),
            self.events.blk_failed.eq(respond.failed),
            self.events.blk_unsupported.eq(respond.unsupported),
        ]
        return m


BLK = register(
    DeviceType(
        name="blk",
        device_id=spec.DEVICE_ID,
        class_code=0x018000,  # mass storage controller, other
        build=BlkDevice,
        queues=lambda config: config.blk.num_queues,
        features=_features,
        dependencies=spec.DEPENDENCIES,
        # Up to where features are offered.
        config_fields=tuple(f for f in spec.CONFIG if f.end <= 0x3C),
        config_values=_config_values,
        config_writable=("writeback",),
        config_features={"writeback": BlkFeature.CONFIG_WCE},
        counters=_COUNTERS,
        outside=_outside,
        own_reset=True,
    )
)
"""Disks of 512-byte sectors. [virtio 1.4 §5.2]"""
