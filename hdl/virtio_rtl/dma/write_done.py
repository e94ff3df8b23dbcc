"""The write engine's bookkeeping of finished groups."""

from amaranth.hdl import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from .write_mux import client_shape

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
            free = Signal(range(self.depth + 1), init=self.depth, name=f"free_{i}")
            next_free = Signal(range(self.depth + 1), name=f"next_free_{i}")
            allowed = Signal(init=1, name=f"allowed_{i}")
            taken = done.valid & done.ready
            ends = self.finished & (self.finished_client == i)
            m.d.comb += [
                done.valid.eq(tokens != 0),
                self.allowed[i].eq(allowed),
                next_free.eq(free + taken - self.granted[i]),
            ]
            m.d.sync += [
                tokens.eq(tokens + ends - taken),
                free.eq(next_free),
                allowed.eq(next_free != 0),
            ]
        return m
