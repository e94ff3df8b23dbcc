"""What modules ask of their surroundings beyond the stream rule, for `prove_streams`."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Assume, Cat, Module, Signal

from formal.harness import before, implies, plain, taken


def claimed_first(m: Module, dut: Any) -> None:
    """`ReadOutlet`: beats come only for room that was claimed, and no more is claimed than is."""
    due = Signal(range(dut.depth + 2))
    claims = dut.claimed.valid.replicate(len(dut.claimed.payload)) & dut.claimed.payload
    m.d.sync += due.eq(due + claims - dut.beat.valid)
    m.d.comb += [Assume(claims <= dut.room), Assume(implies(dut.beat.valid, due))]


def offered_when_free(m: Module, dut: Any) -> None:
    """`MSIXMessage`: nothing is offered before the last one is taken; `msix_keeps` shows it."""
    m.d.comb += Assume(implies(dut.offer, dut.free))


def one_way_at_a_time(m: Module, dut: Any) -> None:
    """`WriteDirect`: groups are loaded while it is open, the others go through the aligner."""
    others = Signal(range(dut.most_groups + 1))
    m.d.sync += others.eq(others + dut.other_begins - dut.aligned_finished)
    m.d.comb += [
        Assume(implies(dut.load, dut.open & ~dut.other_begins)),
        Assume(implies(dut.other_begins, others != dut.most_groups)),
        Assume(implies(dut.aligned.valid, others)),
        Assume(implies(dut.aligned_finished, taken(dut.aligned))),
    ]


def one_packet_at_a_time(m: Module, dut: Any) -> None:
    """`FetchSource`: a packet is dropped in its middle, and repaired only before the next one."""
    begun = Signal()
    beats = taken(dut.packet) | taken(dut.repair_packet)
    ends = taken(dut.output) & dut.output.payload.last
    was_dropped = before(m, dut.dropping) & ~dut.dropping
    with m.If(beats):
        m.d.sync += begun.eq(1)
    with m.Elif(ends | was_dropped):
        m.d.sync += begun.eq(0)
    m.d.comb += [
        Assume(implies(dut.drop, taken(dut.output) & ~dut.output.payload.last)),
        Assume(implies(dut.repair, ~begun & ~beats)),
    ]


def one_question_at_a_time(m: Module, dut: Any) -> None:
    """`SplitAsk`: what is asked for keeps still until `done`."""
    strobes = dut.index | dut.heads | dut.chain
    busy = Signal()
    m.d.sync += busy.eq(strobes | (busy & ~dut.done))
    held = Cat(dut.driver_area, dut.slot, plain(dut.read_as))
    was_busy = before(m, busy & ~dut.done)
    m.d.comb += [
        Assume(implies(strobes, dut.done)),
        Assume(~(dut.heads & dut.chain)),
        Assume(implies(busy, held == before(m, held))),
        Assume(implies(was_busy, dut.count == before(m, dut.count))),
    ]


def decided_when_done(m: Module, dut: Any) -> None:
    """`SplitNotify`: nothing is decided before the last decision is on its way."""
    m.d.comb += Assume(implies(dut.decide, dut.done))


def answers_to_reads(m: Module, dut: Any) -> None:
    """`JumpReads`: the read engine answers each read with a packet of one descriptor."""
    beats = 128 // dut.width
    due, beat = Signal(), Signal(range(max(beats, 2)))
    passes = taken(dut.read_packet)
    with m.If(taken(dut.read_request)):
        m.d.sync += due.eq(1)
    with m.Elif(passes & dut.read_packet.payload.last):
        m.d.sync += due.eq(0)
    with m.If(passes):
        m.d.sync += beat.eq(beat + 1)
    m.d.comb += [
        Assume(implies(dut.read_packet.valid, due)),
        Assume(dut.read_packet.payload.last == (beat == beats - 1)),
    ]


def store_holds(m: Module, dut: Any) -> None:
    """`WalkRing`: the store answers a cycle later, and the same as long as it is asked the same."""
    asked = before(m, Cat(dut.read_queue, dut.read_pointer))
    same = asked == before(m, asked)
    shown = plain(dut.descriptor)
    m.d.comb += Assume(implies(same, shown == before(m, shown)))


def record_with_last_segment(m: Module, dut: Any) -> None:
    """`RequestSplit`: `Gather` takes a buffer's last segment only together with its record."""
    ends = taken(dut.readable_segment) & dut.readable_segment.payload.last
    m.d.comb += Assume(implies(ends, dut.readable_buffer.ready))


def packets_of_requests(m: Module, dut: Any) -> None:
    """`Gather`: the read engine answers requests, a packet for each group, and not before."""
    first = Signal(init=1)
    begun, whole = Signal(8), Signal(8)  # groups asked for, of which no packet has ended
    ends = taken(dut.packet) & dut.packet.payload.last
    asks = taken(dut.request)
    with m.If(asks):
        m.d.sync += first.eq(dut.request.payload.last)
    m.d.sync += [
        begun.eq(begun + (asks & first) - ends),
        whole.eq(whole + (asks & dut.request.payload.last) - ends),
    ]
    m.d.comb += [
        Assume(implies(dut.packet.valid, begun.any())),
        Assume(implies(dut.packet.valid & dut.packet.payload.last, whole.any())),
    ]
