"""The DMA read engine."""

from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from virtio_rtl.dma.read_chunk_buffer import ChunkBuffer
from virtio_rtl.dma.read_deliver import ReadDeliver
from virtio_rtl.dma.read_issue import ReadIssue
from virtio_rtl.dma.read_records import LOW_TAGS, read_error, slot_rows
from virtio_rtl.dma.read_slots import ReadSlots
from virtio_rtl.dma.read_split import ReadSplit
from virtio_rtl.dma.read_timer import ReadTimer
from virtio_rtl.dma.read_tracker import ReadTracker
from virtio_rtl.dma.tags import TagPool
from virtio_rtl.types.dma import DMAError, ReadRequest
from virtio_rtl.types.packet import packet_stream
from virtio_rtl.types.pcie import FunctionControl
from virtio_rtl.types.tlp import tlp_stream

__all__ = ["ReadEngine"]


class ReadEngine(wiring.Component):
    """Read host memory for several clients, and pack what they asked for into packets.

    A client sends requests; the bytes of consecutive requests up to one with ``last`` come back,
    without gaps, as one packet.

    Parameters
    ----------
    width
        Data bits of the TLP streams and of the packets: 64, 128, 256 or 512.
    tags
        Reads in flight, a power of two from 8 to 256.
    slot_bytes
        Reassembly memory of a tag and largest single read, a power of two from 128 to 4096 bytes.
    clients
        Number of clients, at least 1.
    timeout_cycles
        Completion time-out in clock cycles, at least 16 per tag. A read is given up 1.0 to 1.5
        times this after it was sent.
    fifo_beats
        Output FIFO of a client, in beats; at least one tag's rows, by default the power of two
        that keeps reads of ``slot_bytes`` streaming.
    reserved_tags
        Tags that each client can always get, whatever the others do; by default half of the tags
        that there are without extended tags are reserved, the rest is shared.

    Ports
    -----
    control : In(FunctionControl)
        MRRS, Extended Tag Field Enable, Bus Master Enable and the requester ID are obeyed per
        TLP, and may change at any time.
    request_0 ... : In(stream ReadRequest)
        ``function`` is not looked at; length 0 is not allowed.
    packet_0 ... : Out(packet_stream(width))
        In the order of the client's requests.
    error : Out(stream {client, code})
        One for each failed group, with the code of its first failed read in the order of bytes;
        lost if the one before was not taken yet.
    tlp : Out(tlp_stream(width))
        MEM_READ.
    completions : In(tlp_stream(width))
        Never stalled but for one cycle per tag in a quarter of the time-out.
    timeout_disable : In(1)
        Completion Timeout Disable: reads wait for ever. [PCIe 3.0 §7.8.16]
    stop : In(1)
        No new request is taken, and no further TLP is offered.
    idle : Out(1)
        No tag is in flight and no TLP is offered; with ``stop`` it stays so.
    unexpected : Out(1)
        A completion for no read in flight was dropped, one cycle for each.

    Latency and throughput
    ----------------------
    One TLP per cycle, also for a single client. One completion beat per cycle. One row of a tag per
    cycle, without a bubble between tags or clients; a tag's rows are counted in the packet, so
    that one which starts or ends inside a row costs that row. From a request to its TLP 2 cycles,
    from the last completion beat to the packet 4 cycles: ``packet_*.payload`` is three levels of
    logic behind memory outputs, ``valid`` one behind registers.

    Order and errors
    ----------------
    Completions of different reads come in any order; those of one read in the order of addresses,
    in pieces of any number of dwords. A client that does not take its packets stops no other one.
    A failed read still delivers its length, with undefined bytes and ``error`` on the packet's last
    beat, in fact on all beats from the first failed read on. After a time-out or a malformed
    completion the tag stays out of use for another time-out, through a reset, too; what comes for
    it is dropped.

    [PCIe 3.0 §2.2.7, §2.2.9, §2.3.1.1, §2.3.2, §2.8]

    Limitations: one function; the requester ID and traffic class of completions are not compared
    (the hard IP does that; a PHY that does not must filter in its shim); after reset, ``tags``
    cycles pass before the first read.
    """

    def __init__(
        self,
        width: int,
        tags: int,
        slot_bytes: int,
        clients: int,
        timeout_cycles: int,
        fifo_beats: int | None = None,
        reserved_tags: int | None = None,
    ):
        if width not in (64, 128, 256, 512):
            raise ValueError(f"width = {width!r}: 64, 128, 256 or 512")
        if slot_bytes not in (128, 256, 512, 1024, 2048, 4096):
            raise ValueError(f"slot_bytes = {slot_bytes!r}: a power of two from 128 to 4096")
        if clients < 1:
            raise ValueError(f"clients = {clients!r}: at least 1")
        rows = slot_rows(width, slot_bytes)
        self.width = width
        self.slot_bytes = slot_bytes
        self.clients = clients
        geometry = (width, tags, slot_bytes)
        if fifo_beats is None:
            fifo_beats = 1 << (2 * rows + 8).bit_length()
        if reserved_tags is None:
            reserved_tags = max(1, min(tags, LOW_TAGS) // (2 * clients))
        # Built here, so that each of them refuses what it cannot be built with.
        self.pool = TagPool(tags)
        self.timer = ReadTimer(tags, timeout_cycles)
        self.issue = ReadIssue(*geometry, clients, reserved_tags)
        self.tracker = ReadTracker(*geometry)
        self.slots = ReadSlots(*geometry)
        self.deliver = ReadDeliver(*geometry, clients, fifo_beats)
        super().__init__(
            {f"request_{i}": In(stream.Signature(ReadRequest)) for i in range(clients)}
            | {f"packet_{i}": Out(packet_stream(width)) for i in range(clients)}
            | {
                "control": In(FunctionControl),
                "error": Out(stream.Signature(read_error(clients))),
                "tlp": Out(tlp_stream(width)),
                "completions": In(tlp_stream(width)),
                "timeout_disable": In(1),
                "stop": In(1),
                "idle": Out(1),
                "unexpected": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.timer = timer = self.timer
        m.submodules.pool = pool = self.pool
        m.submodules.issue = issue = self.issue
        m.submodules.tracker = tracker = self.tracker
        m.submodules.slots = slots = self.slots
        m.submodules.deliver = deliver = self.deliver

        for index in range(self.clients):
            split = ReadSplit(self.width, self.slot_bytes)
            buffer = ChunkBuffer(self.width)
            m.submodules[f"split_{index}"] = split
            m.submodules[f"chunk_buffer_{index}"] = buffer
            m.d.comb += [
                split.max_read_request.eq(self.control.max_read_request),
                split.stop.eq(self.stop),
            ]
            connect(m, flipped(getattr(self, f"request_{index}")), split.request)
            connect(m, split.chunk, buffer.input)
            connect(m, buffer.output, getattr(issue, f"chunk_{index}"))
            connect(
                m, getattr(deliver, f"packet_{index}"), flipped(getattr(self, f"packet_{index}"))
            )

        connect(m, pool.free, issue.free)
        connect(m, pool.clear, tracker.clear)
        connect(m, timer.probe, tracker.probe)
        m.d.comb += timer.hold.eq(self.timeout_disable)
        connect(m, tracker.piece, slots.piece)
        connect(m, tracker.ended, deliver.ended)
        m.d.comb += deliver.coming.eq(tracker.coming)
        connect(m, issue.launch, deliver.launch)
        connect(m, issue.tlp, flipped(self.tlp))
        connect(m, flipped(self.completions), tracker.completions)
        connect(m, deliver.error, flipped(self.error))
        launch, released, ended = issue.launch.payload, deliver.released.payload, tracker.ended
        m.d.comb += [
            issue.control.eq(self.control),
            issue.enable.eq(~self.stop & ~pool.preparing),
            issue.released.valid.eq(deliver.released.valid),
            issue.released.payload.eq(released.client),
            pool.extended_tag.eq(self.control.extended_tag),
            pool.epoch.eq(timer.epoch),
            pool.release.valid.eq(deliver.released.valid),
            pool.release.payload.eq(released.use),
            pool.quarantine.valid.eq(
                ended.valid
                & (
                    (ended.payload.code == DMAError.TIMEOUT)
                    | (ended.payload.code == DMAError.MALFORMED)
                )
            ),
            pool.quarantine.payload.eq(ended.payload.use),
            tracker.launch.valid.eq(issue.launch.valid),
            tracker.launch.payload.tag.eq(launch.share.use.tag),
            tracker.launch.payload.flight.eq(launch.flight),
            tracker.preparing.eq(pool.preparing),
            tracker.epoch.eq(timer.epoch),
            slots.read_tag.eq(deliver.read_tag),
            slots.read_row.eq(deliver.read_row),
            deliver.read_data.eq(slots.read_data),
            self.unexpected.eq(tracker.unexpected),
            self.idle.eq((tracker.in_flight == 0) & ~self.tlp.valid),
        ]
        return m
