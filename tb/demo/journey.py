"""Time a lone packet hop by hop: strobes of the device, and its TLPs at the root port."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from cocotb.triggers import RisingEdge, Timer

from demo.hop_timer import TIME_BITS
from demo.host import MESSAGE_ADDRESS, RX, Host
from demo.loopback import STROBES
from demo.result import Crossing, Hop, Journey
from lib.port import reader
from virtio_model.driver.net import NetDriver

LONE_FRAME = 60
"""Bytes of a lone packet: a 64-byte frame without its FCS."""

_TAIL_US = 2

# What the hop timer's strobes mean, in the words of docs/architecture.md.
_TRANSMIT_HOPS = {
    "doorbell": "doorbell TLP decoded",
    "scheduled": "virtqueue scheduled",
    "fetch_issued": "descriptor read issued",
    "fetch_received": "descriptor received",
    "walked": "chain walked",
    "payload_requested": "payload read issued",
    "payload_delivered": "payload delivered",
    "frame_out": "frame out of the port",
}
_RECEIVE_HOPS = {
    "walked": "buffer taken, chain walked",
    "payload_requested": "payload write issued",
    "payload_delivered": "payload accepted for writing",
}
_USED_HOPS = {
    "completed": "buffer completed",
    "used_written": "used descriptor written",
    "event_requested": "event suppression read issued",
    "event_received": "event suppression received",
    "interrupt": "interrupt message built",
}
_SPLIT_HOPS = {
    "fetch_issued": "entry received, descriptor read issued",
    "used_written": "used element written",
}
"""Where split rings are different; a ring entry is known after two reads, of idx and of itself."""

_WORDS = {
    False: ("transmit", "driver writes the doorbell", _TRANSMIT_HOPS | _USED_HOPS),
    True: ("receive", "last beat into the port", _RECEIVE_HOPS | _USED_HOPS),
}


async def time_journey(
    host: Host,
    net: NetDriver,
    queue: int,
    ring: str,
    start: Callable[[], Awaitable[None]],
    until: Callable[[Callable[[], bool], str], Awaitable[None]],
) -> Journey:
    """Start a packet with `start`, wait with `until` for its interrupt, read the hop timer.

    The clock starts with the doorbell, or for the receive queue when the frame has entered.
    """
    dut, period_ns, receive = host.dut, 1000 / host.config.clock_mhz, queue == RX
    title, first, hops = _WORDS[receive]
    if ring == "split":
        hops = {name: _SPLIT_HOPS.get(name, words) for name, words in hops.items()}
    edge, interrupts = RisingEdge(dut.clk), host.root.interrupts.received
    for each in (net.rx, net.tx):
        each.disable_interrupts()
    (net.rx if receive else net.tx).enable_interrupts()
    await edge
    dut.arm.value = 0
    await edge
    zero_ns, zero_cycle = host.now_ns(), reader(dut.now)()
    watch = host.root.monitor.watch(lambda packet, way: True)
    before = len(interrupts)
    await start()
    await until(lambda: len(interrupts) > before, f"interrupt of the {title} queue")
    interrupt = interrupts[-1]
    await Timer(_TAIL_US, "us")
    host.root.monitor.watches.remove(watch)
    assert interrupt.address == MESSAGE_ADDRESS, interrupt
    assert interrupt.data == queue, interrupt
    moment = _moments(dut, zero_cycle, period_ns)
    await edge
    dut.arm.value = 1
    start_ns = moment("frame_in") if receive else 0.0
    found = [Hop(words, moment(name)) for name, words in hops.items()]
    # A short frame's buffer is completed before the frame is out of the port, a long one's after.
    found.sort(key=lambda hop: hop.at_ns)
    # Else the hop timer has noted something else that the device was about.
    alone = found[0].at_ns >= start_ns if receive else found[0].name == hops["doorbell"]
    assert alone, f"{found[0].name} before the lone packet"
    found.append(Hop("interrupt at the root port", interrupt.time_ns - zero_ns))
    return Journey(
        title,
        LONE_FRAME,
        [Hop(first, 0.0), *(Hop(hop.name, hop.at_ns - start_ns) for hop in found)],
        [
            Crossing(
                sighting.time_ns - zero_ns - start_ns,
                sighting.direction,
                str(sighting.packet.category),
                sighting.packet.wire_size,
            )
            for sighting in watch.seen
            if sighting.time_ns <= interrupt.time_ns
        ],
    )


def _moments(dut: Any, zero_cycle: int, period_ns: float) -> Callable[[str], float]:
    """Read the hop timer; return a function from a strobe's name to its time in ns."""
    times, seen = reader(dut.times)(), reader(dut.seen)()
    mask = (1 << TIME_BITS) - 1

    def moment(name: str) -> float:
        place = STROBES.index(name)
        assert seen >> place & 1, f"no strobe {name}"
        return ((times >> TIME_BITS * place & mask) - zero_cycle & mask) * period_ns

    return moment
