"""Follow every read in flight: check completions, place their data, end reads."""

from amaranth.hdl import Const, Module, Mux, Signal
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from virtio_rtl.dma.read_records import (
    ended_layout,
    flight_layout,
    piece_layout,
    strobe,
)
from virtio_rtl.dma.read_timer import EPOCH_BITS, is_expired
from virtio_rtl.types.dma import DMAError
from virtio_rtl.types.tlp import CompletionStatus, TLPType, tlp_stream

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
        No tag is in flight, whatever the memories say.
    epoch : In(3), probe : In(stream range(tags))
        From `ReadTimer`: look whether this tag's time is up.
    completions : In(tlp_stream(width))
        Never stalled, except for one cycle per probe.
    piece : Out(strobe(piece_layout(...)))
        Data for the slots, three cycles after the beat.
    ended : Out(strobe(ended_layout(tags)))
        A read has ended, four cycles after the last beat: once per launch.
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
        self.flight_record = data.StructLayout(
            {"flight": flight_layout(slot_bytes), "stamp": EPOCH_BITS}
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
                "ended": Out(strobe(ended_layout(tags))),
                "unexpected": Out(1),
                "in_flight": Out(range(tags + 1)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        lanes = self.width // 8
        lane_bits = exact_log2(lanes)

        # What was sent has one writer, what has come back has another: the generation bits tell
        # whether the second record belongs to the tag's present use.
        m.submodules.sent = sent_memory = memory.Memory(
            shape=self.flight_record, depth=self.tags, init=[]
        )
        back_layout = data.StructLayout(
            {"generation": 1, "open": 1, "remaining": 13, "poisoned": 1}
        )
        m.submodules.back = back_memory = memory.Memory(shape=back_layout, depth=self.tags, init=[])
        sent_write, sent_read = sent_memory.write_port(), sent_memory.read_port()
        back_write = back_memory.write_port()
        back_read = back_memory.read_port(transparent_for=(back_write,))
        m.d.comb += [
            sent_write.en.eq(self.launch.valid | self.clear.valid),
            sent_write.addr.eq(self.launch.payload.tag),
            sent_write.data.flight.eq(self.launch.payload.flight),
            sent_write.data.stamp.eq(self.epoch),
        ]
        with m.If(self.clear.valid):
            m.d.comb += [
                sent_write.addr.eq(self.clear.payload),
                sent_write.data.flight.generation.eq(0),
            ]

        # Arrival: a beat of a TLP, or a probe between two TLPs.
        inside = Signal()
        beat = Signal(self.completions.payload.shape())
        beat_valid, beat_first, beat_probe = Signal(), Signal(), Signal()
        take_probe = self.probe.valid & ~inside
        m.d.comb += [
            self.completions.ready.eq(~take_probe),
            self.probe.ready.eq(~inside),
        ]
        m.d.sync += [
            beat.eq(self.completions.payload),
            beat_valid.eq(self.completions.valid | take_probe),
            beat_first.eq(~inside),
            beat_probe.eq(take_probe),
        ]
        with m.If(take_probe):
            m.d.sync += [beat.header.tag.eq(self.probe.payload), beat.last.eq(1)]
        with m.Elif(self.completions.valid):
            m.d.sync += inside.eq(~self.completions.payload.last)

        # Look-up, with everything that the header alone can tell.
        header = beat.header
        opens = Signal()
        m.d.comb += [
            opens.eq(beat_valid & beat_first),
            sent_read.addr.eq(header.tag),
            sent_read.en.eq(opens),
            back_read.addr.eq(header.tag),
            back_read.en.eq(opens),
        ]
        carried = Signal(14)
        wanted = Signal(14)
        m.d.comb += [
            carried.eq(header.length_dw << 2),
            wanted.eq(header.byte_count + header.lower_address[:2]),
        ]
        piece_valid, piece_first, piece_last = Signal(), Signal(), Signal()
        piece_data = Signal(self.width)
        probe, known_type, has_data, success, aborted, poisoned = (
            Signal(name=name)
            for name in ("probe", "known_type", "has_data", "success", "aborted", "poisoned")
        )
        tag = Signal(range(self.tags))
        byte_count = Signal(13)
        remaining = Signal(13)
        completes = Signal()
        length_fits = Signal()
        backwards = Signal(exact_log2(self.slot_bytes))
        end_address = Signal(7)
        first_lane = Signal(2)
        lanes_left = Signal(13)
        dwords_left = Signal(11)
        m.d.sync += [
            piece_valid.eq(beat_valid),
            piece_first.eq(beat_first),
            piece_last.eq(beat.last),
            piece_data.eq(beat.data),
        ]
        with m.If(opens):
            m.d.sync += [
                probe.eq(beat_probe),
                known_type.eq(
                    ((header.type == TLPType.COMPLETION) | (header.type == TLPType.COMPLETION_DATA))
                    & (header.tag < self.tags)
                ),
                has_data.eq((header.type == TLPType.COMPLETION_DATA) & (header.length_dw != 0)),
                success.eq(header.status == CompletionStatus.SUCCESS),
                aborted.eq(header.status == CompletionStatus.COMPLETER_ABORT),
                poisoned.eq(header.poisoned),
                tag.eq(header.tag),
                byte_count.eq(header.byte_count),
                remaining.eq(wanted - carried),
                completes.eq(wanted <= carried),
                length_fits.eq(carried < wanted + 4),
                backwards.eq(wanted),
                end_address.eq(header.lower_address + header.byte_count),
                first_lane.eq(header.lower_address[:2]),
                lanes_left.eq(Mux(wanted <= carried, wanted, carried)),
                dwords_left.eq(header.length_dw),
            ]
        with m.Elif(beat_valid):
            m.d.sync += [
                first_lane.eq(0),
                lanes_left.eq(Mux(lanes_left < lanes, 0, lanes_left - lanes)),
                dwords_left.eq(Mux(dwords_left < lanes // 4, 0, dwords_left - lanes // 4)),
            ]

        # Verdict.
        sent, back = sent_read.data, back_read.data
        fresh = Signal()
        in_flight = Signal()
        places = Signal()
        fits = Signal()
        ends = Signal()
        writes_back = Signal()
        tainted = Signal()
        code = Signal(DMAError)
        m.d.comb += [
            fresh.eq(sent.flight.generation != back.generation),
            in_flight.eq((fresh | back.open) & ~self.preparing),
            places.eq(
                has_data
                & length_fits
                & (byte_count == Mux(fresh, sent.flight.length, back.remaining))
                & (end_address == sent.flight.end_address)
            ),
            fits.eq(places & (dwords_left != 0) & (dwords_left <= lanes // 4)),
            tainted.eq(poisoned | (back.poisoned & ~fresh)),
            writes_back.eq(piece_valid & piece_last & in_flight & known_type & ~probe),
            ends.eq(~success | ~fits | completes),
        ]
        with m.If(probe):
            m.d.comb += [
                code.eq(DMAError.TIMEOUT),
                ends.eq(1),
                writes_back.eq(piece_valid & in_flight & is_expired(self.epoch, sent.stamp)),
            ]
        with m.Elif(~success):
            m.d.comb += code.eq(
                Mux(aborted, DMAError.COMPLETER_ABORT, DMAError.UNSUPPORTED_REQUEST)
            )
        with m.Elif(~fits):
            m.d.comb += code.eq(DMAError.MALFORMED)
        with m.Elif(tainted):
            m.d.comb += code.eq(DMAError.POISONED)

        m.d.comb += [
            back_write.en.eq(writes_back | self.clear.valid),
            back_write.addr.eq(tag),
            back_write.data.generation.eq(sent.flight.generation),
            back_write.data.open.eq(~ends),
            back_write.data.remaining.eq(remaining),
            back_write.data.poisoned.eq(tainted),
        ]
        with m.If(self.clear.valid):
            m.d.comb += [
                back_write.addr.eq(self.clear.payload),
                back_write.data.eq(Const(0, back_layout.size)),
            ]

        # The end is told one cycle late: by the time that it can cause a readout, the piece has
        # gone through the rotation and is in the slot.
        ended_now = Signal(ended_layout(self.tags))
        ended_now_valid = Signal()
        unexpected_beat = piece_valid & piece_last & ~probe & ~(in_flight & known_type)
        m.d.sync += [
            ended_now_valid.eq(writes_back & ends),
            ended_now.use.tag.eq(tag),
            ended_now.use.generation.eq(sent.flight.generation),
            ended_now.code.eq(code),
            self.ended.valid.eq(ended_now_valid),
            self.ended.payload.eq(ended_now),
            self.unexpected.eq(unexpected_beat),
            self.in_flight.eq(self.in_flight + self.launch.valid - ended_now_valid),
        ]

        # Placement.
        start = Signal(exact_log2(self.slot_bytes))
        m.d.comb += start.eq(sent.flight.end_position - backwards)
        piece = self.piece.payload
        m.d.sync += [
            self.piece.valid.eq(piece_valid & in_flight & known_type & ~probe & success & places),
            piece.data.eq(piece_data),
            piece.tag.eq(tag),
        ]
        with m.If(piece_valid):
            m.d.sync += piece.row.eq(piece.row + 1)
            with m.If(piece_first):
                m.d.sync += [piece.row.eq(start[lane_bits:]), piece.shift.eq(start[:lane_bits])]
        for lane in range(lanes):
            enabled = lane < lanes_left
            if lane < 3:
                enabled = enabled & (lane >= first_lane)
            m.d.sync += piece.enable[lane].eq(enabled)
        return m
