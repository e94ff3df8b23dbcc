"""Received frames above the MTU are marked, so that nobody delivers them."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..types.packet import packet_stream

__all__ = ["ETHERNET_HEADER_BYTES", "VLAN_TAG_BYTES", "MTULimit"]

ETHERNET_HEADER_BYTES = 14
"""Two addresses and the EtherType."""

VLAN_TAG_BYTES = 4

_TYPE_AT = 12
_TAG_TYPES = (b"\x81\x00", b"\x88\xa8")
"""Tag protocol identifiers of 802.1Q and 802.1ad, as they stand in a frame."""


class MTULimit(wiring.Component):
    """Mark frames that carry more than ``mtu`` bytes. [virtio 1.4 §5.1.4.1]

    A frame may be ``mtu + 14`` bytes long, and ``mtu + 18`` if bytes 12 and 13 are the identifier
    of a VLAN tag. Of two tags only the outer one is allowed for.

    Parameters
    ----------
    width
        Bits of a beat: 64, 128, 256 or 512.
    mtu
        Longest payload of a frame in bytes, at least 68.
    dest_bits
        Bits of the frames' ``dest``, or 0.

    Ports
    -----
    input : packet_stream(width, dest_bits), Ethernet frames without FCS
    output : packet_stream(width, dest_bits)
        The same beats; ``error`` is also set on the last beat of a frame above the limit.
    dropped : 1
        Strobe, with the last beat: the frame is above the limit.

    Combinational from input to output, one beat a cycle.
    """

    def __init__(self, width: int, mtu: int, dest_bits: int = 0):
        if width not in (64, 128, 256, 512):
            raise ValueError(f"width = {width!r}: 64, 128, 256 or 512")
        if mtu < 68:
            raise ValueError(f"mtu = {mtu!r}: at least 68")
        self.width = width
        self.mtu = mtu
        super().__init__(
            {
                "input": In(packet_stream(width, dest_bits)),
                "output": Out(packet_stream(width, dest_bits)),
                "dropped": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        lanes = self.width // 8
        beat = self.input.payload
        moved = self.output.valid & self.output.ready

        # All that is known before the last beat is in registers, so that the last beat costs one
        # comparison of its count. That beat is never the one with the tag: 68 bytes follow.
        untagged = self.mtu + ETHERNET_HEADER_BYTES
        limits = {"untagged": untagged, "tagged": untagged + VLAN_TAG_BYTES}
        # Number of the beat; it may wrap, since what is past both limits stays past them.
        index = Signal(range(limits["tagged"] // lanes + 2))
        too_long = {}
        for name, limit in limits.items():
            # The longest frame allowed ends in beat `final`, which then has `rest` bytes.
            final, rest = (limit - 1) // lanes, (limit - 1) % lanes + 1
            in_final = Signal(name=f"{name}_in_final")
            past_final = Signal(name=f"{name}_past_final")
            with m.If(moved):
                m.d.sync += [
                    in_final.eq(~beat.last & (index == final - 1)),
                    past_final.eq(~beat.last & (in_final | past_final)),
                ]
            too_long[name] = past_final | (in_final & (beat.count > rest))

        tagged = Signal()
        type_beat, type_lane = divmod(_TYPE_AT, lanes)
        type_bytes = beat.data[8 * type_lane : 8 * (type_lane + 2)]
        is_tag = Cat(type_bytes == int.from_bytes(value, "little") for value in _TAG_TYPES).any()
        with m.If(moved):
            m.d.sync += index.eq(Mux(beat.last, 0, index + 1))
            with m.If(index == type_beat):
                m.d.sync += tagged.eq(is_tag)

        above = Signal()
        m.d.comb += [
            above.eq(beat.last & Mux(tagged, too_long["tagged"], too_long["untagged"])),
            self.output.payload.eq(beat),
            self.output.payload.error.eq(beat.error | above),
            self.output.valid.eq(self.input.valid),
            self.input.ready.eq(self.output.ready),
            self.dropped.eq(moved & above),
        ]
        return m
