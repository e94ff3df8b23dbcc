"""The write engine's bookkeeping of finished groups."""

from amaranth.hdl import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from .write_input import client_shape

__all__ = ["WriteDone"]


class WriteDone(wiring.Component):
    """Hands every client one token per finished group, and bounds the groups it may have open.

    Parameters
    ----------
    clients
        Number of clients, at least 1.
    depth
        Groups that a client may have between their grant and the taking of their token.

    Ports
    -----
    granted
        Strobe, bit i: a group of client i begins.
    finished, finished_client
        Strobe and index: a group of that client has left.
    allowed
        Bit i: client i may begin another group.
    done_{i}
        Tokens of client i; the 1-bit payload is always 0.

    A token carries nothing, so the queue of tokens is a counter. A token is offered one cycle
    after ``finished``; one grant, one end and one token per client are possible in every cycle.
    ``allowed`` and ``valid`` are registers, looked up one step ahead; a token that is taken makes
    room for a group two cycles later.
    """

    def __init__(self, clients: int, depth: int):
        if depth < 1:
            raise ValueError(f"depth = {depth!r}: at least 1")
        self.clients = clients
        self.depth = depth
        super().__init__(
            {
                "granted": In(clients),
                "finished": In(1),
                "finished_client": In(client_shape(clients)),
                "allowed": Out(clients),
            }
            | {f"done_{i}": Out(stream.Signature(1)) for i in range(clients)}
        )

    def elaborate(self, platform):
        m = Module()
        for i in range(self.clients):
            done = getattr(self, f"done_{i}")
            tokens = Signal(range(self.depth + 1), name=f"tokens_{i}")
            offered = Signal(name=f"offered_{i}")  # tokens != 0
            ends = Signal(name=f"ends_{i}")
            taken = Signal(name=f"taken_{i}")
            m.d.comb += [
                ends.eq(self.finished & (self.finished_client == i)),
                taken.eq(offered & done.ready),
                done.valid.eq(offered),
            ]
            m.d.sync += [
                tokens.eq(tokens + ends - taken),
                offered.eq(ends | (offered & ~(taken & (tokens == 1)))),
            ]

            free = Signal(range(self.depth + 1), init=self.depth, name=f"free_{i}")
            allowed = Signal(init=1, name=f"allowed_{i}")  # free != 0
            returned = Signal(name=f"returned_{i}")
            granted = self.granted[i]
            m.d.sync += [
                returned.eq(taken),
                free.eq(free + returned - granted),
                allowed.eq(returned | (allowed & ~(granted & (free == 1)))),
            ]
            m.d.comb += self.allowed[i].eq(allowed)
        return m
