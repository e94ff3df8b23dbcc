"""What a completion says about itself."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from virtio_rtl.dma.read_records import strobe
from virtio_rtl.types.tlp import CompletionStatus, TLPType, tlp_stream

__all__ = ["CompletionIntake", "claim_layout"]


def claim_layout(width: int, tags: int, slot_bytes: int) -> data.StructLayout:
    """One beat of a completion, with what its header alone tells; or a probe.

    All but ``first``, ``last``, ``data`` and the last three hold for all beats of the TLP.
    ``remaining`` is the number of bytes that are still to come after this piece, unless it
    ``completes`` the read; ``length_fits`` says that it brings no dword more than that.
    ``backwards`` is the distance from the end of the read back to data lane 0, modulo the slot.
    The beat's bytes for the slot are those from lane ``first_lane`` to before ``lanes_left``;
    ``dwords_left`` are those of the TLP that have not come before this beat.
    """
    return data.StructLayout(
        {
            "first": 1,
            "last": 1,
            "data": width,
            "probe": 1,
            "completion": 1,
            "has_data": 1,
            "success": 1,
            "aborted": 1,
            "poisoned": 1,
            "tag": range(tags),
            "byte_count": 13,
            "remaining": 13,
            "completes": 1,
            "length_fits": 1,
            "backwards": exact_log2(slot_bytes),
            "end_address": 7,
            "first_lane": 2,
            "lanes_left": 13,
            "dwords_left": 11,
        }
    )


class CompletionIntake(wiring.Component):
    """Take completions, and probes between them; work out all that needs no state.

    Parameters
    ----------
    width, tags, slot_bytes
        As in `ReadEngine`.

    Ports
    -----
    probe : In(stream range(tags))
        Goes between two TLPs, for one cycle.
    completions : In(tlp_stream(width))
        Stalled by a probe only.
    lookup : Out(strobe(range(tags)))
        Tag of a TLP or probe, with its first beat.
    claim : Out(strobe(claim_layout(...)))
        The beat, one cycle later.

    One beat per cycle; it cannot be stalled. ``completions`` is worked on as it comes: it may
    come through 2 levels of logic. A TLP goes to its ``last`` beat, whatever its length
    field says. ``first`` is not looked at. [PCIe 3.0 §2.2.9]
    """

    def __init__(self, width: int, tags: int, slot_bytes: int):
        self.width = width
        self.tags = tags
        super().__init__(
            {
                "probe": In(stream.Signature(range(tags))),
                "completions": In(tlp_stream(width)),
                "lookup": Out(strobe(range(tags))),
                "claim": Out(strobe(claim_layout(width, tags, slot_bytes))),
            }
        )

    def elaborate(self, platform):
        m = Module()
        lanes = self.width // 8
        dwords = self.width // 32

        inside = Signal()
        beat = Signal(self.completions.payload.shape())
        valid, first, probe = Signal(), Signal(), Signal()
        m.d.comb += [
            probe.eq(self.probe.valid & ~inside),
            self.completions.ready.eq(~probe),
            self.probe.ready.eq(~inside),
            beat.eq(self.completions.payload),
            valid.eq(self.completions.valid | probe),
            first.eq(~inside),
        ]
        with m.If(probe):
            m.d.comb += [beat.header.tag.eq(self.probe.payload), beat.last.eq(1)]
        with m.Elif(self.completions.valid):
            m.d.sync += inside.eq(~self.completions.payload.last)

        header = beat.header
        carried = Signal(14)
        wanted = Signal(14)
        is_data = header.type == TLPType.COMPLETION_DATA
        is_bare = header.type == TLPType.COMPLETION
        m.d.comb += [
            self.lookup.valid.eq(valid & first),
            self.lookup.payload.eq(header.tag),
            carried.eq(header.length_dw << 2),
            wanted.eq(header.byte_count + header.lower_address[:2]),
        ]
        claim = self.claim.payload
        m.d.sync += [
            self.claim.valid.eq(valid),
            claim.first.eq(first),
            claim.last.eq(beat.last),
            claim.data.eq(beat.data),
        ]
        with m.If(valid & first):
            m.d.sync += [
                claim.probe.eq(probe),
                claim.completion.eq((is_data | is_bare) & (header.tag < self.tags)),
                claim.has_data.eq(is_data & (header.length_dw != 0)),
                claim.success.eq(header.status == CompletionStatus.SUCCESS),
                claim.aborted.eq(header.status == CompletionStatus.COMPLETER_ABORT),
                claim.poisoned.eq(header.poisoned),
                claim.tag.eq(header.tag),
                claim.byte_count.eq(header.byte_count),
                claim.remaining.eq(wanted - carried),
                claim.completes.eq(wanted <= carried),
                claim.length_fits.eq(carried < wanted + 4),
                claim.backwards.eq(wanted),
                claim.end_address.eq(header.lower_address + header.byte_count),
                claim.first_lane.eq(header.lower_address[:2]),
                claim.lanes_left.eq(Mux(wanted <= carried, wanted, carried)),
                claim.dwords_left.eq(header.length_dw),
            ]
        with m.Elif(valid):
            m.d.sync += [
                claim.first_lane.eq(0),
                claim.lanes_left.eq(Mux(claim.lanes_left < lanes, 0, claim.lanes_left - lanes)),
                claim.dwords_left.eq(
                    Mux(claim.dwords_left < dwords, 0, claim.dwords_left - dwords)
                ),
            ]
        return m
