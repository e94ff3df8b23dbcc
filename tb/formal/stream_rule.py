"""The stream rule of any component: what is offered stays as it is until it is taken."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from amaranth.asserts import AnyConst
from amaranth.hdl import Assume, Cat, Module, Signal
from amaranth.lib.wiring import Out

from formal.harness import before, free, implies, plain, sink, source, taken

CONSTANT = "constant"
"""Any value, but the same for all time: what the driver sets before it starts the device."""

_STREAM = {"valid", "ready", "payload"}
_AXI = {"tdata", "tkeep", "tvalid", "tready", "tlast", "tuser"}
_BUS = {"request", "response"}


@dataclass(frozen=True)
class Offer:
    """A stream, whatever its signals are called."""

    payload: Any
    valid: Any
    ready: Any


@dataclass(frozen=True)
class Port:
    """A port of a component: a signal, or a stream; `out` as the component sees it."""

    name: str
    object: Any
    out: bool
    stream: bool = False


@dataclass(frozen=True)
class Bus:
    """A register bus of a component; `out`: the component begins the accesses."""

    request: Any
    response: Any
    out: bool


def ports(signature: Any, parent: Any, prefix: str = "") -> Iterator[Port | Bus]:
    """Yield all ports of an interface; for a register bus, its streams and itself."""
    for name, member in signature.members.items():
        found, path = getattr(parent, name), f"{prefix}{name}"
        if member.is_port:
            yield Port(path, found, member.flow == Out)
            continue
        several = found if member.dimensions else [found]
        for index, each in enumerate(several):
            below = f"{path}_{index}" if member.dimensions else path
            yield from _interface(member.signature, each, below)


def _interface(signature: Any, interface: Any, path: str) -> Iterator[Port | Bus]:
    names = set(signature.members)
    if names == _STREAM:
        yield Port(path, interface, signature.members["valid"].flow == Out, stream=True)
    elif names >= _AXI:
        rest = [plain(getattr(interface, name)) for name in sorted(names - {"tvalid", "tready"})]
        offer = Offer(Cat(rest), interface.tvalid, interface.tready)
        yield Port(path, offer, signature.members["tvalid"].flow == Out, stream=True)
    else:
        yield from ports(signature, interface, f"{path}.")
        if names == _BUS:
            out = signature.members["request"].flow == Out
            yield Bus(interface.request, interface.response, out)


def surround(m: Module, dut: Any, tied: dict[str, Any], patient: bool = False) -> list[Port]:
    """Let the surroundings of `dut` do anything that the stream rule allows.

    `tied`: input ports that keep a value, or that are `CONSTANT`. `patient`: who is ready to take
    something stays so until something comes. Return the output streams.
    """
    outputs = []
    left = set(tied)
    for port in ports(dut.signature, dut):
        if isinstance(port, Bus):
            _bus(m, port)
            continue
        left.discard(port.name)
        if port.stream and port.out:
            sink(m, port.object)
            outputs.append(port)
            if patient:
                waits = before(m, port.object.ready & ~port.object.valid)
                m.d.comb += Assume(implies(waits, port.object.ready))
        elif port.stream:
            source(m, port.object)
        elif not port.out:
            _drive(m, port.object, tied.get(port.name))
    if left:
        raise ValueError(f"no input port {', '.join(sorted(left))}")
    return outputs


def _drive(m: Module, target: Any, value: Any) -> None:
    bits = plain(target)
    if value is None:
        free(m, target)
    elif value is CONSTANT:
        m.d.comb += bits.eq(AnyConst(len(bits)))
    else:
        m.d.comb += bits.eq(value)


def _bus(m: Module, bus: Bus) -> None:
    """One read at a time is asked for; answers come to reads only."""
    reads = taken(bus.request) & ~bus.request.payload.write
    owed = Signal()
    with m.If(reads | taken(bus.response)):
        m.d.sync += owed.eq(reads)
    if bus.out:
        m.d.comb += Assume(implies(bus.response.valid, owed))
    else:
        asks = bus.request.valid & ~bus.request.payload.write
        m.d.comb += Assume(implies(asks, ~owed | taken(bus.response)))
