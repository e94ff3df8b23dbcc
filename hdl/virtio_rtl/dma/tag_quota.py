"""How many tags a client may hold."""

from amaranth.hdl import Module, Mux, Shape, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from virtio_rtl.dma.read_records import LOW_TAGS, strobe

__all__ = ["TagQuota"]


class TagQuota(wiring.Component):
    """Keep some tags for every client, so that a client that stands still stops nobody else.

    Parameters
    ----------
    tags
        Number of tags.
    clients
        Number of clients.
    reserved
        Tags that each client can always get; the rest is shared.

    Ports
    -----
    extended_tag : In(1)
        When 0, there are only 32 tags to share.
    grant : In(clients)
        This client, one of those that are eligible, gets a tag.
    release : In(strobe(range(clients)))
        This client gives a tag back.
    eligible : Out(clients)
        Clients that may get a tag.

    One grant and one release per cycle; ``eligible`` is up to date in the next cycle, and is one
    level of logic behind registers: what it depends on is compared before ``grant`` is known. Tags
    in quarantine are nobody's, so that while there are some, a reserved tag may have to be waited
    for.
    """

    def __init__(self, tags: int, clients: int, reserved: int):
        if not (reserved >= 1 and reserved * clients <= min(tags, LOW_TAGS)):
            raise ValueError(f"reserved = {reserved!r}: at least 1, and enough for every client")
        self.tags = tags
        self.clients = clients
        self.reserved = reserved
        super().__init__(
            {
                "extended_tag": In(1),
                "grant": In(clients),
                "release": In(strobe(Shape.cast(range(max(clients, 2))))),
                "eligible": Out(clients),
            }
        )

    def elaborate(self, platform):
        m = Module()
        more = Signal(self.clients)
        less = Signal(self.clients)
        below = Signal(self.clients, init=-1)
        release = self.release
        for index in range(self.clients):
            held = Signal(range(self.tags + 1), name=f"held_{index}")
            granted = self.grant[index]
            released = release.valid & (release.payload == index)
            m.d.comb += [
                more[index].eq(granted & ~released & ~below[index]),
                less[index].eq(released & ~granted & (held > self.reserved)),
            ]
            with m.If(granted ^ released):
                m.d.sync += [
                    held.eq(held + Mux(released, -1, 1)),
                    below[index].eq(Mux(released, held <= self.reserved, held < self.reserved - 1)),
                ]

        shared_used = Signal(range(self.tags + 1))
        shared_limit = Signal(range(self.tags + 1))
        shared_left = Signal()
        owned_by_all = self.clients * self.reserved
        m.d.sync += [
            shared_limit.eq(
                Mux(self.extended_tag, self.tags, min(self.tags, LOW_TAGS)) - owned_by_all
            ),
            shared_left.eq(shared_used < shared_limit),
        ]
        with m.If(more.any() ^ less.any()):
            m.d.sync += [
                shared_used.eq(shared_used + Mux(less.any(), -1, 1)),
                shared_left.eq(
                    Mux(less.any(), shared_used <= shared_limit, shared_used + 1 < shared_limit)
                ),
            ]
        m.d.comb += self.eligible.eq(below | shared_left.replicate(self.clients))
        return m
