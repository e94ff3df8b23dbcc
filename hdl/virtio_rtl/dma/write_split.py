"""Second room of the write engine: cut requests into TLPs."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..lib.stream import SkidBuffer
from .write_input import client_shape
from .write_mux import group_request

__all__ = ["WriteSplit", "write_tlp"]

_PAGE_DW = 1024  # no TLP crosses 4 KiB


def write_tlp(clients: int) -> data.StructLayout:
    """A memory write to be sent.

    ``dword_address`` is address / 4, ``offset`` the first byte's place in the first dword,
    ``bytes`` the number of bytes, and ``span`` = offset + bytes the bytes from the beginning of
    the first dword to the end. ``ends_group``: the last TLP of its group.
    """
    return data.StructLayout(
        {
            "dword_address": 62,
            "length_dw": 11,
            "first_be": 4,
            "last_be": 4,
            "offset": 2,
            "bytes": 13,
            "span": 13,
            "ends_group": 1,
            "client": client_shape(clients),
        }
    )


class WriteSplit(wiring.Component):
    """Cuts write requests at the maximum payload size and at 4 KiB boundaries.

    Parameters
    ----------
    clients
        Number of clients (for the index that travels along).
    payload_limit
        Largest payload in bytes, 128 to 4096, a power of two; a larger MPS is used up to this.

    Ports
    -----
    max_payload
        MPS as PCIe code. Reserved codes mean 128 bytes.
    request
        Requests of 1 to 4096 bytes.
    tlp
        One or more ``write_tlp`` per request, in order.

    The payload of a TLP begins with the dword of its first byte; a request has the fewest TLPs
    that this allows. One TLP per cycle, also when every request is one TLP; latency 4 cycles. MPS
    is obeyed two cycles before the TLP appears here, so TLPs on their way keep the old one.
    [PCIe 3.0 §2.2.2, §2.2.5, §2.2.7]
    """

    def __init__(self, clients: int, payload_limit: int):
        if payload_limit not in (128, 256, 512, 1024, 2048, 4096):
            raise ValueError(f"payload_limit = {payload_limit!r}: a power of two, 128 to 4096")
        self.clients = clients
        self.payload_limit = payload_limit
        super().__init__(
            {
                "max_payload": In(3),
                "request": In(stream.Signature(group_request(clients))),
                "tlp": Out(stream.Signature(write_tlp(clients))),
            }
        )

    def elaborate(self, platform):
        m = Module()
        client = client_shape(self.clients)
        # What is left of a request. `left` counts the dwords up to the 4 KiB boundary, 1 to 1024:
        # the address within the page, negated. `carry`: the rest lies in the next page.
        rest_shape = data.StructLayout(
            {
                "page": 52,
                "carry": 1,
                "left": 11,
                "span": 13,
                "offset": 2,
                "last": 1,
                "client": client,
            }
        )
        m.submodules.requests = requests = SkidBuffer(rest_shape)
        m.submodules.results = results = SkidBuffer(write_tlp(self.clients))

        # Into the first buffer: measure the request from the beginning of its first dword.
        new, source = requests.input.payload, self.request.payload
        m.d.comb += [
            new.page.eq(source.request.address[12:]),
            new.carry.eq(0),
            new.left.eq(_PAGE_DW - source.request.address[2:12]),
            new.span.eq(source.request.length + source.request.address[0:2]),
            new.offset.eq(source.request.address[0:2]),
            new.last.eq(source.request.last),
            new.client.eq(source.client),
            requests.input.valid.eq(self.request.valid),
            self.request.ready.eq(requests.input.ready),
        ]

        # Cut: one piece per cycle off the front of `rest`.
        rest, rest_valid = Signal(rest_shape), Signal()
        piece, piece_valid = Signal(rest_shape), Signal()  # `span` is the piece's own here
        payload_dw = Signal(range(_PAGE_DW + 1), init=32)
        with m.Switch(self.max_payload):
            for code in range(6):
                with m.Case(code):
                    m.d.sync += payload_dw.eq(min(128 << code, self.payload_limit) // 4)
            with m.Default():
                m.d.sync += payload_dw.eq(32)
        limit = Signal.like(payload_dw)
        whole = Signal()  # what is left fits into one TLP
        piece_ready = Signal()
        m.d.comb += [
            limit.eq(Mux(rest.left < payload_dw, rest.left, payload_dw)),
            whole.eq(rest.span <= Cat(Const(0, 2), limit)),
            piece_ready.eq(~piece_valid | results.input.ready),
        ]
        with m.If(piece_ready):
            m.d.sync += [
                piece_valid.eq(rest_valid),
                piece.eq(rest),
                piece.span.eq(Mux(whole, rest.span, Cat(Const(0, 2), limit))),
                piece.last.eq(rest.last & whole),
            ]
        with m.If(piece_ready & rest_valid & ~whole):
            page_ends = rest.left <= payload_dw
            m.d.sync += [
                rest.carry.eq(rest.carry | page_ends),
                rest.left.eq(Mux(page_ends, _PAGE_DW, rest.left - payload_dw)),
                rest.span.eq(rest.span - Cat(Const(0, 2), limit)),
                rest.offset.eq(0),
            ]
        with m.Elif(piece_ready | ~rest_valid):
            m.d.comb += requests.output.ready.eq(1)
            m.d.sync += [rest.eq(requests.output.payload), rest_valid.eq(requests.output.valid)]

        # Into the second buffer: address, length and byte enables of the piece.
        result = results.input.payload
        tail = Signal(4)  # enables of the last dword
        single = Signal()
        with m.Switch(piece.span[0:2]):
            for end in range(4):
                with m.Case(end):
                    m.d.comb += tail.eq((1 << (end or 4)) - 1)
        m.d.comb += [
            single.eq(piece.span <= 4),
            result.dword_address.eq(Cat((-piece.left)[:10], (piece.page + piece.carry)[:52])),
            result.length_dw.eq((piece.span + 3) >> 2),
            result.first_be.eq((0xF << piece.offset)[:4] & Mux(single, tail, 0xF)),
            result.last_be.eq(Mux(single, 0, tail)),
            result.offset.eq(piece.offset),
            result.bytes.eq(piece.span - piece.offset),
            result.span.eq(piece.span),
            result.ends_group.eq(piece.last),
            result.client.eq(piece.client),
            results.input.valid.eq(piece_valid),
        ]
        wiring.connect(m, results.output, wiring.flipped(self.tlp))
        return m
