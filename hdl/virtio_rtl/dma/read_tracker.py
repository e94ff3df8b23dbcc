"""Follow every read in flight: check completions, place their data, end reads."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped
from amaranth.utils import exact_log2

from virtio_rtl.dma.completion_intake import CompletionIntake
from virtio_rtl.dma.read_records import ended_layout, flight_layout, piece_layout, strobe
from virtio_rtl.dma.read_timer import EPOCH_BITS, is_expired
from virtio_rtl.types.dma import DMAError
from virtio_rtl.types.tlp import tlp_stream

__all__ = ["ReadTracker"]


class ReadTracker(wiring.Component):
    """Check completions against the reads in flight, and say where their data belong.

    Parameters
    ----------
    width, tags, slot_bytes
        As in `ReadEngine`.

    Ports
    -----
    launch : In(strobe({tag, flight}))
        A read is sent.
    clear : In(strobe(range(tags)))
        Forget this tag; never together with ``launch``.
    preparing : In(1)
        Tags are being cleared: what is looked up meanwhile is for no read in flight.
    epoch : In(3), probe : In(stream range(tags))
        From `ReadTimer`: look whether this tag's time is up.
    completions : In(tlp_stream(width))
        Never stalled, except for one cycle per probe.
    piece : Out(strobe(piece_layout(...)))
        Data for the slots, two cycles after the beat.
    coming : Out(range(tags))
        The tag that ``ended`` names in the next cycle, if it is valid then.
    ended : Out(strobe(ended_layout(tags)))
        A read has ended, two cycles after the last beat, together with its last piece: once per
        launch.
    unexpected : Out(1)
        A completion was dropped: one cycle for each.
    in_flight : Out(range(tags + 1))
        Reads that were launched and have not ended.

    One beat per cycle. Completions of one read have to come in the order of addresses, in pieces of
    any size; pieces of different reads come in any order. [PCIe 3.0 §2.3.1.1]

    A read ends with the piece that brings its last byte, with a completion status other than
    success, with a piece that does not fit (its byte count, lower address, length or number of
    beats is wrong: MALFORMED) or when its time is up. A poisoned piece is remembered, and the read
    goes on to its end, since more pieces follow. The first byte that a piece may bring is the one
    after the previous piece's last, so that nothing is ever written twice or outside of the slot.

    The requester ID and the traffic class of a completion are not compared.
    """

    def __init__(self, width: int, tags: int, slot_bytes: int):
        self.width = width
        self.tags = tags
        self.slot_bytes = slot_bytes
        self.sent_shape = data.StructLayout(
            {"flight": flight_layout(slot_bytes), "stamp": EPOCH_BITS}
        )
        self.returned_shape = data.StructLayout(
            {"generation": 1, "open": 1, "remaining": 13, "poisoned": 1}
        )
        super().__init__(
            {
                "launch": In(
                    strobe(
                        data.StructLayout({"tag": range(tags), "flight": flight_layout(slot_bytes)})
                    )
                ),
                "clear": In(strobe(range(tags))),
                "preparing": In(1),
                "epoch": In(EPOCH_BITS),
                "probe": In(stream.Signature(range(tags))),
                "completions": In(tlp_stream(width)),
                "piece": Out(strobe(piece_layout(width, tags, slot_bytes))),
                "coming": Out(range(tags)),
                "ended": Out(strobe(ended_layout(tags))),
                "unexpected": Out(1),
                "in_flight": Out(range(tags + 1)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.intake = intake = CompletionIntake(self.width, self.tags, self.slot_bytes)
        connect(m, flipped(self.probe), intake.probe)
        connect(m, flipped(self.completions), intake.completions)
        claim_valid, claim = intake.claim.valid, intake.claim.payload

        # What was sent has one writer, what has returned has another: the generation bits tell
        # whether the second record belongs to the tag's present use.
        m.submodules.sent = sent_memory = memory.Memory(
            shape=self.sent_shape, depth=self.tags, init=[]
        )
        m.submodules.returned = returned_memory = memory.Memory(
            shape=self.returned_shape, depth=self.tags, init=[]
        )
        sent_write, sent_read = sent_memory.write_port(), sent_memory.read_port()
        returned_write = returned_memory.write_port()
        returned_read = returned_memory.read_port(transparent_for=(returned_write,))
        sent, returned = sent_read.data, returned_read.data
        m.d.comb += [
            sent_write.en.eq(self.launch.valid | self.clear.valid),
            sent_write.addr.eq(self.launch.payload.tag),
            sent_write.data.flight.eq(self.launch.payload.flight),
            sent_write.data.stamp.eq(self.epoch),
            sent_read.addr.eq(intake.lookup.payload),
            sent_read.en.eq(intake.lookup.valid),
            returned_read.addr.eq(intake.lookup.payload),
            returned_read.en.eq(intake.lookup.valid),
        ]
        with m.If(self.clear.valid):
            m.d.comb += [
                sent_write.addr.eq(self.clear.payload),
                sent_write.data.flight.generation.eq(0),
            ]

        fresh = Signal()
        in_flight = Signal()
        # What was looked up while tags were being cleared is judged later, and the two records may
        # be from before and after: a TLP or probe counts as of its lookup.
        void = Signal()
        with m.If(intake.lookup.valid):
            m.d.sync += void.eq(self.preparing)
        placeable = Signal()
        fits = Signal()
        tainted = Signal()
        m.d.comb += [
            fresh.eq(sent.flight.generation != returned.generation),
            in_flight.eq((fresh | returned.open) & ~void),
            placeable.eq(
                claim.success
                & claim.has_data
                & claim.length_fits
                & (claim.byte_count == Mux(fresh, sent.flight.length, returned.remaining))
                & (claim.end_address == sent.flight.end_address)
            ),
            # The last beat is the right one if it holds the last dword.
            fits.eq(placeable & (claim.dwords_left != 0) & (claim.dwords_left <= self.width // 32)),
            tainted.eq(claim.poisoned | (returned.poisoned & ~fresh)),
        ]
        hit = Signal()
        m.d.comb += hit.eq(claim_valid & in_flight & claim.completion & ~claim.probe)

        ends = Signal()
        changes = Signal()
        code = Signal(DMAError)
        m.d.comb += [ends.eq(~fits | claim.completes), changes.eq(hit & claim.last)]
        with m.If(claim.probe):
            m.d.comb += [
                code.eq(DMAError.TIMEOUT),
                ends.eq(1),
                changes.eq(claim_valid & in_flight & is_expired(self.epoch, sent.stamp)),
            ]
        with m.Elif(~claim.success):
            m.d.comb += code.eq(
                Mux(claim.aborted, DMAError.COMPLETER_ABORT, DMAError.UNSUPPORTED_REQUEST)
            )
        with m.Elif(~fits):
            m.d.comb += code.eq(DMAError.MALFORMED)
        with m.Elif(tainted):
            m.d.comb += code.eq(DMAError.POISONED)

        m.d.comb += [
            returned_write.en.eq(changes | self.clear.valid),
            returned_write.addr.eq(claim.tag),
            returned_write.data.generation.eq(sent.flight.generation),
            returned_write.data.open.eq(~ends),
            returned_write.data.remaining.eq(claim.remaining),
            returned_write.data.poisoned.eq(tainted),
        ]
        with m.If(self.clear.valid):
            m.d.comb += [
                returned_write.addr.eq(self.clear.payload),
                returned_write.data.eq(Const(0, self.returned_shape.size)),
            ]

        m.d.comb += self.coming.eq(claim.tag)
        m.d.sync += [
            self.ended.valid.eq(changes & ends),
            self.ended.payload.use.tag.eq(claim.tag),
            self.ended.payload.use.generation.eq(sent.flight.generation),
            self.ended.payload.code.eq(code),
            self.unexpected.eq(
                claim_valid & claim.last & ~claim.probe & ~(in_flight & claim.completion)
            ),
            self.in_flight.eq(self.in_flight + self.launch.valid - self.ended.valid),
        ]
        self._place(m, claim_valid, claim, hit & placeable, sent.flight.end_position)
        return m

    def _place(self, m, claim_valid, claim, valid, end_position):
        """Where in the slot, and which lanes."""
        lanes = self.width // 8
        start = Signal(exact_log2(self.slot_bytes))
        piece = self.piece.payload
        m.d.comb += start.eq(end_position - claim.backwards)
        m.d.sync += [
            self.piece.valid.eq(valid),
            piece.data.eq(claim.data),
            piece.tag.eq(claim.tag),
        ]
        with m.If(claim_valid):
            m.d.sync += piece.row.eq(piece.row + 1)
            with m.If(claim.first):
                m.d.sync += Cat(piece.shift, piece.row).eq(start)
        for lane in range(lanes):
            enabled = lane < claim.lanes_left
            if lane < 3:
                enabled = enabled & (lane >= claim.first_lane)
            m.d.sync += piece.enable[lane].eq(enabled)
