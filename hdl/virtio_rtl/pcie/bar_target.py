"""Memory requests to the BAR become register accesses; read data become completions."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from ..types.pcie import FunctionControl
from ..types.regbus import RegisterBus
from ..types.tlp import CompletionStatus, TLPType, tlp_stream
from .bar_request import READ_DWORDS_MAX, CompletionFields, RequestCheck, Verdict

__all__ = ["BarTarget"]


class _Request(data.Struct):
    """What is kept of the request's header for its completion."""

    verdict: Verdict
    memory_read: 1
    traffic_class: 3
    no_snoop: 1
    relaxed_ordering: 1
    length_dw: 11
    first_be: 4
    last_be: 4
    requester_id: 16
    tag: 10
    address: 5
    completer_id: 16


class BarTarget(wiring.Component):
    """Carry out memory requests inside the BAR on the register bus. [PCIe 3.0 §2.2.5, §2.3.1]

    Parameters
    ----------
    width
        Data bits of the TLP streams: 64, 128, 256 or 512.
    bar_bytes
        Size of the BAR, a power of two from 4 KiB to 1 MiB.

    Ports
    -----
    requests : in, ``tlp_stream(width)``
        From ``RxDemux``. All requests but configuration type 0.
    completion : out, ``tlp_stream(width)``
        Offered only when complete: no bubble inside a TLP.
    bus : ``RegisterBus``, initiator
        ``address`` is the byte offset in the BAR.
    control : in, ``FunctionControl``
        ``memory_enable``; ``requester_id`` is the completer id. Sampled at each request's first
        beat, like ``bar_base``.
    bar_base : in, 64 bits
        The BAR as programmed; the bits inside the BAR are ignored.
    unsupported, dropped, poisoned, aborted : out, 1 bit each
        High for one cycle per request that was refused as unsupported (``dropped`` beside it if
        it was posted), per poisoned write that was dropped, per read refused as too long.

    Writes of 1 to 1024 dwords become dword writes with the byte enables of the request, lowest
    address first, one a cycle, also across TLPs. Latency one cycle from beat to ``bus.request``.

    Reads of 1 to 32 dwords become dword reads, one at a time, and one completion. A dword with no
    byte enabled makes no access, neither written nor read; it reads as 0. A longer read is
    answered with Completer Abort. Memory requests outside the BAR or with ``memory_enable`` 0, and
    all other requests, are answered with Unsupported Request, or dropped if they are posted.

    Requests are carried out in order, one at a time: writes behind a read wait until its
    completion was taken. Nothing is checked against MPS, which is never below the 128 bytes that
    a completion can have. A write whose beats end early writes what came; beats past its length
    are discarded. Limitation: a target that never answers a read holds up everything behind it.
    """

    def __init__(self, width: int, bar_bytes: int = 65536):
        if bar_bytes.bit_count() != 1 or not 4096 <= bar_bytes <= 1 << 20:
            raise ValueError(f"bar_bytes = {bar_bytes!r}: a power of two from 4 KiB to 1 MiB")
        self.width = width
        self.bar_bytes = bar_bytes
        super().__init__(
            {
                "requests": In(tlp_stream(width)),
                "completion": Out(tlp_stream(width)),
                "bus": Out(RegisterBus()),
                "control": In(FunctionControl),
                "bar_base": In(64),
                "unsupported": Out(1),
                "dropped": Out(1),
                "poisoned": Out(1),
                "aborted": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        lanes = self.width // 32
        offset_bits = self.bar_bytes.bit_length() - 1
        m.submodules.check = check = RequestCheck(self.bar_bytes)
        m.submodules.fields = fields = CompletionFields()
        m.submodules.read_data = read_data = Memory(
            shape=self.width, depth=READ_DWORDS_MAX // lanes, init=[]
        )
        store = read_data.write_port(granularity=32)
        load = read_data.read_port(domain="comb")

        access = self.bus.request
        requests = self.requests
        incoming = requests.payload.header
        request = Signal(_Request)
        offset = Signal(offset_bits - 2)  # of the dword at hand, in the BAR
        index = Signal(range(READ_DWORDS_MAX))  # of the dword at hand, in the request, modulo
        remaining = Signal(11)  # dwords of the request, the one at hand included
        final = Signal()  # the dword at hand is the request's last
        byte_enable = Signal(4)  # of the dword at hand
        enabled = Signal()  # any of them
        permitted = Signal()  # the verdict is to write
        payload = Signal(self.width)  # what is left of the beat, the dword at hand in lane 0
        beat_last = Signal()  # the beat at hand is the TLP's last
        row = Signal(range(READ_DWORDS_MAX // lanes))  # beat of the completion

        m.d.comb += [
            check.header.eq(incoming),
            check.memory_enable.eq(self.control.memory_enable),
            check.bar_base.eq(self.bar_base),
            access.payload.address.eq(offset << 2),
            access.payload.byte_enable.eq(byte_enable),
            access.payload.data.eq(payload[:32]),
        ]
        next_dword = [
            offset.eq(offset + 1),
            index.eq(index + 1),
            remaining.eq(remaining - 1),
            final.eq(remaining == 2),
            byte_enable.eq(Mux(remaining == 2, request.last_be, 0xF)),
            enabled.eq((remaining != 2) | request.last_be.any()),
            payload.eq(payload >> 32),
        ]
        next_beat = [payload.eq(requests.payload.data), beat_last.eq(requests.payload.last)]

        store_dword = Signal()
        m.d.comb += [
            store.addr.eq(index >> exact_log2(lanes)),
            store.data.eq(self.bus.response.payload.replicate(lanes)),
            store.en.eq(store_dword << index[: exact_log2(lanes)]),
            load.addr.eq(row),
        ]
        started = Signal()
        judged = Signal()  # a request's verdict is new
        verdict = request.verdict
        m.d.sync += judged.eq(started)
        m.d.comb += [
            self.unsupported.eq(judged & ((verdict == Verdict.REJECT) | (verdict == Verdict.DROP))),
            self.dropped.eq(judged & (verdict == Verdict.DROP)),
            self.poisoned.eq(judged & (verdict == Verdict.DROP_POISONED)),
            self.aborted.eq(judged & (verdict == Verdict.ABORT)),
        ]

        copied = ["traffic_class", "no_snoop", "relaxed_ordering", "requester_id", "tag"]
        copied += ["length_dw", "first_be", "last_be"]

        def accept():
            """Take the first beat of a request, if there is one."""
            m.d.comb += requests.ready.eq(1)
            m.next = "ACCEPT"
            with m.If(requests.valid & requests.payload.first):
                m.d.comb += started.eq(1)
                m.d.sync += [
                    request.verdict.eq(check.verdict),
                    request.memory_read.eq(incoming.type == TLPType.MEM_READ),
                    *(request[name].eq(incoming[name]) for name in copied),
                    request.address.eq(incoming.address[2:7]),
                    request.completer_id.eq(self.control.requester_id),
                    offset.eq(incoming.address[2:offset_bits]),
                    index.eq(0),
                    remaining.eq(incoming.length_dw),
                    final.eq(incoming.length_dw == 1),
                    byte_enable.eq(incoming.first_be),
                    enabled.eq(incoming.first_be.any()),
                    permitted.eq(check.verdict == Verdict.WRITE),
                    *next_beat,
                ]
                # By type alone: the verdict takes its time and is first looked at a cycle later.
                with m.If(incoming.type == TLPType.MEM_WRITE):
                    m.next = "WRITE"
                with m.Elif(requests.payload.last):
                    m.next = "ANSWER"
                with m.Else():
                    m.next = "DISCARD"

        with m.FSM(name="state"):
            with m.State("ACCEPT"):
                accept()

            with m.State("WRITE"):
                effective = permitted & enabled
                lane_last = index % lanes == lanes - 1
                m.d.comb += [
                    access.valid.eq(effective),
                    access.payload.write.eq(1),
                ]
                with m.If(access.ready | ~effective):
                    m.d.sync += next_dword
                    with m.If(beat_last & (final | lane_last | ~permitted)):
                        accept()
                    with m.Elif(final | ~permitted):
                        m.next = "DISCARD"
                    with m.Elif(lane_last):
                        m.d.comb += requests.ready.eq(1)
                        m.d.sync += next_beat
                        with m.If(~requests.valid):
                            m.next = "NEXT_BEAT"

            with m.State("NEXT_BEAT"):
                m.d.comb += requests.ready.eq(1)
                m.d.sync += next_beat
                with m.If(requests.valid):
                    m.next = "WRITE"

            with m.State("DISCARD"):
                m.d.comb += requests.ready.eq(1)
                with m.If(requests.valid & requests.payload.last):
                    m.next = "ANSWER"

            with m.State("ANSWER"):
                m.next = "ACCEPT"
                with m.If(verdict == Verdict.READ):
                    m.next = "READ"
                with m.If((verdict == Verdict.ABORT) | (verdict == Verdict.REJECT)):
                    m.next = "COMPLETE"

            with m.State("READ"):
                m.d.comb += access.valid.eq(enabled)
                with m.If(~enabled):
                    m.d.comb += [store_dword.eq(1), store.data.eq(0)]
                    m.d.sync += next_dword
                    with m.If(final):
                        m.next = "COMPLETE"
                with m.Elif(access.ready):
                    m.next = "RESPONSE"

            with m.State("RESPONSE"):
                m.d.comb += [
                    self.bus.response.ready.eq(1),
                    store_dword.eq(self.bus.response.valid),
                ]
                with m.If(self.bus.response.valid):
                    m.d.sync += next_dword
                    m.next = "READ"
                    with m.If(final):
                        m.next = "COMPLETE"

            with m.State("COMPLETE"):
                m.d.comb += self.completion.valid.eq(1)
                with m.If(self.completion.ready):
                    m.d.sync += row.eq(row + 1)
                    with m.If(self.completion.payload.last):
                        m.d.sync += row.eq(0)
                        m.next = "ACCEPT"

        # A completion is not offered before the second cycle after its request.
        last_row = Signal.like(row)
        m.d.sync += last_row.eq((request.length_dw - 1) >> exact_log2(lanes))
        m.d.comb += [
            fields.memory_read.eq(request.memory_read),
            fields.address.eq(request.address),
            fields.length_dw.eq(request.length_dw),
            fields.first_be.eq(request.first_be),
            fields.last_be.eq(request.last_be),
        ]
        completion = self.completion.payload
        answer = completion.header
        m.d.comb += [
            completion.data.eq(load.data),
            completion.first.eq(row == 0),
            completion.last.eq(1),
            answer.type.eq(TLPType.COMPLETION),
            answer.traffic_class.eq(request.traffic_class),
            answer.no_snoop.eq(request.no_snoop),
            answer.relaxed_ordering.eq(request.relaxed_ordering),
            answer.requester_id.eq(request.requester_id),
            answer.tag.eq(request.tag),
            answer.completer_id.eq(request.completer_id),
            answer.byte_count.eq(fields.byte_count),
            answer.lower_address.eq(fields.lower_address),
        ]
        with m.Switch(verdict):
            with m.Case(Verdict.READ):
                m.d.comb += [
                    answer.type.eq(TLPType.COMPLETION_DATA),
                    answer.status.eq(CompletionStatus.SUCCESS),
                    answer.length_dw.eq(request.length_dw),
                    completion.last.eq(row == last_row),
                ]
            with m.Case(Verdict.ABORT):
                m.d.comb += answer.status.eq(CompletionStatus.COMPLETER_ABORT)
            with m.Default():
                m.d.comb += answer.status.eq(CompletionStatus.UNSUPPORTED_REQUEST)
        return m
