"""The register bus: dword accesses with byte enables, inside one BAR."""

from amaranth.hdl import unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["RegisterBus", "RegisterRequest"]


class RegisterRequest(data.Struct):
    """One dword access. ``address`` is the byte offset in the BAR, its low two bits are 0.

    A write changes the bytes whose enable is set. A read returns all four bytes; the enables of
    a read say which bytes the host asked for, so that only those have side effects (ISR).
    """

    address: 20
    write: 1
    data: 32
    byte_enable: 4


class RegisterBus(wiring.Signature):
    """Requests one way, read data the other, seen from the initiator.

    Every read is answered by exactly one response, in order; a write is done when accepted and
    has no response. A target may stall either stream. An initiator keeps at most one read
    outstanding.
    """

    def __init__(self) -> None:
        super().__init__(
            {
                "request": Out(stream.Signature(RegisterRequest)),
                "response": In(stream.Signature(unsigned(32))),
            }
        )
