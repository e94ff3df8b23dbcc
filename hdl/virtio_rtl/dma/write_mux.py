"""First room of the write engine: serialise the groups of several clients."""

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..types.dma import WriteRequest
from ..types.packet import packet_stream
from .write_input import WriteInput, client_shape

__all__ = ["WriteMux", "group_request"]

# Requests run at most this far ahead of the packet's beats, so that the sum has a bound.
_LEAD_BITS = 14


def group_request(clients: int) -> data.StructLayout:
    """A write request and the client that it came from."""
    return data.StructLayout({"request": WriteRequest, "client": client_shape(clients)})


class WriteMux(wiring.Component):
    """Grants the posted path to one group after the other, round robin.

    Parameters
    ----------
    width
        Data bits of a beat.
    clients
        Number of clients, at least 1.

    Ports
    -----
    request_{i}, packet_{i}
        The clients' requests and packets.
    allowed
        Bit i: client i may be granted a group.
    granted
        Strobe, bit i: a group of client i has been granted.
    request
        Requests of the granted groups, with the client's index.
    data
        The groups' bytes, ``width`` bits; every group begins on its own beat and has exactly
        ``ceil(sum of lengths / (width / 8))`` beats.
    direct_open, direct
        If ``direct_open``, a group that is one plain request (see ``measured_request``) and one
        beat is not passed on: ``direct`` strobes while they stand at ``request.payload`` and
        ``data_in``.
    data_in
        The granted client's beat.
    others_begin
        Strobe: a group has been granted that is passed on.

    A client is granted when its request and its packet's first beat are both there; from then on
    the client is trusted to deliver the rest of the group. The grant is registered: no path leads
    from one client's ``valid`` through the choice to another one's ``ready``, and those are
    registers (``WriteInput``). A group of R requests and N beats takes max(R, N) cycles and the
    next one follows without a gap; one that comes while all are idle starts one cycle later.

    A packet that is not as long as its requests say is a client's fault, and is contained: missing
    beats are made up as zeros, surplus beats are dropped. ``count`` and ``error`` are not looked
    at.
    """

    def __init__(self, width: int, clients: int):
        if clients < 1:
            raise ValueError(f"clients = {clients!r}: at least 1")
        self.width = width
        self.clients = clients
        super().__init__(
            {f"request_{i}": In(stream.Signature(WriteRequest)) for i in range(clients)}
            | {f"packet_{i}": In(packet_stream(width)) for i in range(clients)}
            | {
                "allowed": In(clients),
                "granted": Out(clients),
                "request": Out(stream.Signature(group_request(clients))),
                "data": Out(stream.Signature(width)),
                "direct_open": In(1),
                "direct": Out(1),
                "data_in": Out(width),
                "others_begin": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        inputs = []
        for i in range(self.clients):
            m.submodules[f"input_{i}"] = entry = WriteInput(self.width)
            wiring.connect(m, wiring.flipped(getattr(self, f"request_{i}")), entry.request_in)
            wiring.connect(m, wiring.flipped(getattr(self, f"packet_{i}")), entry.packet_in)
            inputs.append(entry)
        requests = [entry.request for entry in inputs]
        packets = [entry.packet for entry in inputs]

        grant = Signal(client_shape(self.clients))
        held = Signal()  # the group of `grant` has begun
        eligible = Signal(self.clients)
        coming = Signal(self.clients)
        for i in range(self.clients):
            m.d.comb += [
                eligible[i].eq(requests[i].valid & packets[i].valid & self.allowed[i]),
                coming[i].eq(inputs[i].coming & self.allowed[i]),
            ]
        # For the next cycle. Wrong at worst for a client whose last group goes now; then the
        # choice is made again.
        choice = self._choose(m, grant, coming)

        # The granted client's streams.
        starts = Signal()
        running = Signal()
        request = Signal(WriteRequest)
        request_valid, request_taken = Signal(), Signal()
        plain = Signal()
        beat_valid, beat_last, beat_taken = Signal(), Signal(), Signal()
        bits = Signal(self.width)
        m.d.comb += running.eq(held | starts)
        with m.Switch(grant):
            for i in range(self.clients):
                with m.Case(i):
                    m.d.comb += [
                        starts.eq(~held & eligible[i]),
                        self.granted[i].eq(starts),
                        request.eq(requests[i].payload.request),
                        plain.eq(requests[i].payload.plain),
                        request_valid.eq(requests[i].valid),
                        requests[i].ready.eq(request_taken),
                        bits.eq(packets[i].payload.data),
                        beat_valid.eq(packets[i].valid),
                        beat_last.eq(packets[i].payload.last),
                        packets[i].ready.eq(beat_taken),
                    ]

        # Bytes requested, less the bytes of the beats that went, less one: while it is negative
        # (by a beat's bytes at most), no further beat is wanted.
        lead = Signal(signed(_LEAD_BITS + 2), init=-1)
        wanted = Signal()
        far = Signal()  # the requests are far ahead
        covers = Signal()  # if not wanted: the request now offered makes it so
        requests_done, packet_done = Signal(), Signal()
        surplus = Signal()
        sent, request_passed = Signal(), Signal()
        lane_bits = (self.width // 8).bit_length() - 1
        deficit = ~lead[:lane_bits]
        m.d.comb += [
            wanted.eq(~lead[-1]),
            far.eq(~lead[-1] & lead[_LEAD_BITS]),
            covers.eq(request.length[lane_bits:].any() | (request.length[:lane_bits] > deficit)),
            self.request.payload.request.eq(request),
            self.request.payload.client.eq(grant),
            self.request.valid.eq(running & request_valid & ~requests_done & ~far & ~self.direct),
            request_passed.eq(self.request.valid & self.request.ready),
            self.data.payload.eq(Mux(packet_done, 0, bits)),
            self.data.valid.eq(
                running & (beat_valid | packet_done) & (wanted | (request_passed & covers))
            ),
            sent.eq(self.data.valid & self.data.ready),
            surplus.eq(held & requests_done & ~wanted & ~packet_done),
            self.direct.eq(starts & self.direct_open & plain & beat_last),
            self.data_in.eq(bits),
            self.others_begin.eq(starts & ~self.direct),
            request_taken.eq(request_passed | self.direct),
            beat_taken.eq((sent & ~packet_done) | surplus | self.direct),
        ]

        # All four sums at once: whether a request and a beat go is known late.
        length, lanes = request.length, self.width // 8
        next_lead = Signal.like(lead)
        requests_end, packet_end, ends = Signal(), Signal(), Signal()
        m.d.comb += [
            next_lead.eq(
                Mux(
                    request_passed,
                    Mux(sent, lead + length - lanes, lead + length),
                    Mux(sent, lead - lanes, lead),
                )
            ),
            requests_end.eq(requests_done | (request_passed & request.last)),
            packet_end.eq(packet_done | (beat_taken & beat_valid & beat_last)),
            ends.eq((running & requests_end & packet_end & next_lead[-1]) | self.direct),
        ]
        with m.If(ends):
            m.d.sync += [held.eq(0), lead.eq(-1), requests_done.eq(0), packet_done.eq(0)]
        with m.Elif(running):
            m.d.sync += [
                held.eq(1),
                lead.eq(next_lead),
                requests_done.eq(requests_end),
                packet_done.eq(packet_end),
            ]
        with m.If(ends | ~running):
            m.d.sync += grant.eq(choice)
        return m

    def _choose(self, m: Module, grant: Signal, eligible: Signal) -> Signal:
        """Return the next client in turn; the present one if no other is eligible."""
        choice = Signal.like(grant)
        with m.Switch(grant):
            for current in range(self.clients):
                with m.Case(current):
                    # Written from the lowest to the highest priority: the last match wins.
                    m.d.comb += choice.eq(current)
                    for step in reversed(range(1, self.clients)):
                        candidate = (current + step) % self.clients
                        with m.If(eligible[candidate]):
                            m.d.comb += choice.eq(candidate)
        return choice
