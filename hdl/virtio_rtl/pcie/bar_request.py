"""What a request to the BAR is worth, and what its completion must say."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import enum, wiring
from amaranth.lib.wiring import In, Out

from ..types.tlp import TLPHeader, TLPType

__all__ = ["READ_DWORDS_MAX", "CompletionFields", "RequestCheck", "Verdict"]

READ_DWORDS_MAX = 32
"""Longest memory read that the BAR answers: one completion of 128 bytes, the smallest MPS."""


class Verdict(enum.Enum, shape=3):
    """What becomes of a request."""

    WRITE = 0
    READ = 1
    ABORT = 2
    REJECT = 3
    DROP = 4
    DROP_POISONED = 5


class RequestCheck(wiring.Component):
    """Judge a request by its header. [PCIe 3.0 §2.3.1, §2.7.2.2, §6.2.3.2.3]

    Parameters
    ----------
    bar_bytes
        Size of the BAR, a power of two.

    Ports
    -----
    header : in, ``TLPHeader``
    memory_enable : in, 1 bit
    bar_base : in, 64 bits; bits inside the BAR are ignored
    verdict : out, ``Verdict``
        ``REJECT``: answer Unsupported Request; ``ABORT``: answer Completer Abort; ``DROP``: a
        posted request that nobody here supports. Of several errors in one request the
        unsupported address outranks the abort and the poison.

    Combinational. A request that starts inside the BAR and ends outside is unsupported.
    """

    def __init__(self, bar_bytes: int):
        self.bar_bytes = bar_bytes
        super().__init__(
            {
                "header": In(TLPHeader),
                "memory_enable": In(1),
                "bar_base": In(64),
                "verdict": Out(Verdict),
            }
        )

    def elaborate(self, platform):
        m = Module()
        header = self.header
        offset_bits = self.bar_bytes.bit_length() - 1
        end_dword = Signal(range(self.bar_bytes // 4 + 2048))
        hit = Signal()
        m.d.comb += [
            end_dword.eq(header.address[2:offset_bits] + header.length_dw),
            hit.eq(
                self.memory_enable
                & (header.address[offset_bits:] == self.bar_base[offset_bits:])
                & (end_dword <= self.bar_bytes // 4)
                & header.length_dw.any()
            ),
        ]
        with m.Switch(header.type):
            with m.Case(TLPType.MEM_WRITE):
                with m.If(~hit):
                    m.d.comb += self.verdict.eq(Verdict.DROP)
                with m.Elif(header.poisoned):
                    m.d.comb += self.verdict.eq(Verdict.DROP_POISONED)
                with m.Else():
                    m.d.comb += self.verdict.eq(Verdict.WRITE)
            with m.Case(TLPType.MEM_READ):
                with m.If(~hit):
                    m.d.comb += self.verdict.eq(Verdict.REJECT)
                with m.Elif(header.length_dw > READ_DWORDS_MAX):
                    m.d.comb += self.verdict.eq(Verdict.ABORT)
                with m.Else():
                    m.d.comb += self.verdict.eq(Verdict.READ)
            with m.Case(
                TLPType.IO_READ,
                TLPType.IO_WRITE,
                TLPType.CONFIG_READ0,
                TLPType.CONFIG_WRITE0,
                TLPType.CONFIG_READ1,
                TLPType.CONFIG_WRITE1,
                TLPType.OTHER_NONPOSTED,
            ):
                m.d.comb += self.verdict.eq(Verdict.REJECT)
            with m.Default():
                m.d.comb += self.verdict.eq(Verdict.DROP)
        return m


class CompletionFields(wiring.Component):
    """Byte count and lower address of a request's first completion. [PCIe 3.0 §2.2.9, §2.3.1.1]

    Ports
    -----
    memory_read : in, 1 bit
        Else both fields have the fixed values of all other requests, 4 and 0.
    address : in, 5 bits: bits 6 to 2 of the request's address
    length_dw : in, 11 bits, 1 to 1024
    first_be, last_be : in, 4 bits each; ``last_be`` counts from two dwords on
    byte_count : out, 13 bits
        From the first to the last enabled byte, both included; 1 if there is none.
    lower_address : out, 7 bits: of the first enabled byte

    The outputs are registered: one cycle behind the inputs.
    """

    memory_read: In(1)
    address: In(5)
    length_dw: In(11)
    first_be: In(4)
    last_be: In(4)
    byte_count: Out(13)
    lower_address: Out(7)

    def elaborate(self, platform):
        m = Module()
        single = Signal()
        final_be = Signal(4)
        before = Signal(2)  # bytes of the first dword ahead of its first enabled byte
        after = Signal(2)  # bytes of the last dword behind its last enabled byte
        m.d.comb += [
            single.eq(self.length_dw == 1),
            final_be.eq(Mux(single, self.first_be, self.last_be)),
        ]
        with m.Switch(self.first_be):
            with m.Case("--10"):
                m.d.comb += before.eq(1)
            with m.Case("-100"):
                m.d.comb += before.eq(2)
            with m.Case("1000"):
                m.d.comb += before.eq(3)
        with m.Switch(final_be):
            with m.Case("01--"):
                m.d.comb += after.eq(1)
            with m.Case("001-"):
                m.d.comb += after.eq(2)
            with m.Case("0001"):
                m.d.comb += after.eq(3)
        with m.If(~self.memory_read):
            m.d.sync += [self.byte_count.eq(4), self.lower_address.eq(0)]
        with m.Else():
            m.d.sync += self.lower_address.eq(Cat(before, self.address))
            with m.If(single & ~self.first_be.any()):
                m.d.sync += self.byte_count.eq(1)
            with m.Else():
                m.d.sync += self.byte_count.eq((self.length_dw << 2) - (before + after))
        return m
