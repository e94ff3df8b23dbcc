"""Joins the TLP streams of the RTL to a simulated PCIe link.

The RTL sees what a hard IP would show it: every TLP that arrives, in order, as beats; transmit
credits; and a link that takes no more than its rate. Timing of the ports is as in `lib.streams`.
"""

from __future__ import annotations

import random
from collections import deque
from typing import Any

import cocotb
from cocotb.triggers import Event, RisingEdge, Timer, ValueChange
from cocotbext.pcie.core.tlp import MsgType

from lib.layout import codec
from lib.pcie.link import LinkPort
from lib.pcie.packet import MESSAGE, Packet
from lib.pcie.tlp_codec import BeatCodec
from lib.port import reader, writer
from virtio_rtl.types.tlp import FlowControlLimits

RECEIVE_CREDITS = (64, 1024, 64, 64, 0, 0)
"""[PH, PD, NPH, NPD, CPLH, CPLD]; an endpoint's completion credits are infinite."""


class EndpointError(AssertionError):
    """The RTL broke a rule of its TLP streams, or sent without credits."""


class RtlEndpoint:
    """PCIe endpoint whose transaction layer is the device under test.

    Parameters
    ----------
    dut
        Needs `rx_tlp`, `tx_tlp` (streams of `tlp_beat(width)`); `flow_control` and
        `intx` are used if they are there.
    width
        Data bits of the streams.
    lanes, generation
        The link, 1 to 16 lanes, generation 1 to 5.
    rx_stall, tx_stall
        Chance per cycle not to offer, or not to take, a beat.
    tx_depth
        TLPs between the RTL and the wire. Small, so that the RTL feels a full link.
    noise
        Fill unused lanes and headers with random bits.
    check_credits
        Fail if the RTL sends without the credits that `flow_control` granted.
    receive_credits
        What the endpoint advertises; given back when the RTL has taken the TLP's last beat.

    `rx_peak` is the longest queue of TLPs that waited for the RTL; the counters `received` and
    `sent` count TLPs through the RTL's ports. Make it before reset: it drives the ports.
    """

    def __init__(
        self,
        dut: Any,
        width: int,
        *,
        lanes: int = 8,
        generation: int = 3,
        max_payload: int = 256,
        rx_stall: float = 0.0,
        tx_stall: float = 0.0,
        tx_depth: int = 8,
        noise: bool = False,
        check_credits: bool = True,
        receive_credits: tuple[int, ...] = RECEIVE_CREDITS,
        seed: int | None = None,
    ) -> None:
        self._random = random.Random(random.getrandbits(32) if seed is None else seed)
        self.codec = BeatCodec(width, self._random if noise else None)
        self.rx_stall = rx_stall
        self.tx_stall = tx_stall
        self.tx_depth = tx_depth
        self.check_credits = check_credits and getattr(dut, "flow_control", None) is not None
        self.received = 0
        self.sent = 0
        self.rx_peak = 0
        self.port = LinkPort(list(receive_credits), max_payload)
        self.port.max_link_speed = generation
        self.port.max_link_width = lanes
        self.port.on_packet = self._arrived
        self.port.on_credit = self._credited
        self._dut = dut
        self._edge = RisingEdge(dut.clk)
        self._rx_queue: deque[Packet] = deque()
        self._rx_news = Event()
        self._credit_news = Event()
        self._limits: dict[str, int] = {}
        self._own_posted = 0  # header credits that INTx messages took
        self._consumed = [0, 0, 0, 0, 0]
        for name, bits in (("rx_tlp", self.codec.bits), ("tx_tlp", self.codec.bits)):
            if len(getattr(dut, f"{name}__payload")) != bits:
                raise ValueError(f"{name}: not a TLP stream of {width} bits")
        writer(dut.rx_tlp__valid)(0)
        writer(dut.tx_tlp__ready)(0)
        cocotb.start_soon(self._run_rx())
        cocotb.start_soon(self._run_tx())
        if getattr(dut, "flow_control", None) is not None:
            writer(dut.flow_control)(0)
            cocotb.start_soon(self._run_credits())
        if getattr(dut, "intx", None) is not None:
            cocotb.start_soon(self._run_intx())

    def connect(self, port: Any) -> None:
        """Connect to the other end of the link."""
        self.port.connect(port)

    # From the link to the RTL

    def _arrived(self, packet: Packet) -> bool:
        self._rx_queue.append(packet)
        self.rx_peak = max(self.rx_peak, len(self._rx_queue))
        self._rx_news.set()
        return True

    async def _run_rx(self) -> None:
        ready = reader(self._dut.rx_tlp__ready)
        set_valid = writer(self._dut.rx_tlp__valid)
        set_payload = writer(self._dut.rx_tlp__payload)
        edge, queue, chance = self._edge, self._rx_queue, self._random.random
        encode = self.codec.encode
        noise = self._random.getrandbits
        valid = False
        while True:
            if not queue:
                if valid:
                    set_valid(0)
                    set_payload(noise(self.codec.bits))
                    valid = False
                self._rx_news.clear()
                await self._rx_news.wait()
                await edge
            packet = queue[0]
            for beat in encode(packet):
                if self.rx_stall and chance() < self.rx_stall:
                    set_valid(0)
                    set_payload(noise(self.codec.bits))
                    await edge
                    while chance() < self.rx_stall:
                        await edge
                    valid = False
                set_payload(beat)
                if not valid:
                    set_valid(1)
                    valid = True
                await edge
                while not ready():
                    await edge
            queue.popleft()
            self.received += 1
            self.port.release(packet)

    # From the RTL to the link

    async def _run_tx(self) -> None:
        valid = reader(self._dut.tx_tlp__valid)
        payload = reader(self._dut.tx_tlp__payload)
        set_ready = writer(self._dut.tx_tlp__ready)
        edge, rises = self._edge, RisingEdge(self._dut.tx_tlp__valid)
        port, chance, is_last = self.port, self._random.random, self.codec.is_last
        beats: list[int] = []
        ready = False
        held: int | None = None
        while True:
            await edge
            if valid():
                beat = payload()
                if held is not None and beat != held and not self._in_reset():
                    raise EndpointError(f"tx_tlp: payload {held:#x} became {beat:#x}")
                held = None
                if ready:
                    beats.append(beat)
                    if is_last(beat):
                        self._take(beats)
                        beats = []
                else:
                    held = beat
            elif held is not None:
                if not self._in_reset():
                    raise EndpointError("tx_tlp: valid fell before ready")
                held = None
            wanted = port.backlog() < self.tx_depth and port.up
            if wanted and self.tx_stall and chance() < self.tx_stall:
                wanted = False
            if wanted is not ready:
                ready = wanted
                set_ready(int(ready))
            if ready and not self.tx_stall and not valid():
                await rises

    def _take(self, beats: list[int]) -> None:
        packet = self.codec.decode(beats)
        self.sent += 1
        if self.check_credits:
            self._charge(packet)
        self.port.submit(packet)

    def _in_reset(self) -> bool:
        return bool(int(self._dut.rst.value)) if hasattr(self._dut, "rst") else False

    # Credits

    def _credited(self) -> None:
        self._limits = self.limits()
        self._credit_news.set()

    def limits(self) -> dict[str, int]:
        """Return what `flow_control` shows: cumulative limits for what the RTL itself sends."""
        state = self.port.fc_state[0]
        if not self.port.up:
            return {}
        return {
            "posted_header": state.ph.tx_credit_limit - self._own_posted & 0xFF,
            "posted_data": state.pd.tx_credit_limit & 0xFFF,
            "nonposted_header": state.nph.tx_credit_limit & 0xFF,
            "completion_header": state.cplh.tx_credit_limit & 0xFF,
            "completion_data": state.cpld.tx_credit_limit & 0xFFF,
            "posted_infinite": int(state.ph.tx_is_infinite() and state.pd.tx_is_infinite()),
            "nonposted_infinite": int(state.nph.tx_is_infinite()),
            "completion_infinite": int(state.cplh.tx_is_infinite() and state.cpld.tx_is_infinite()),
        }

    async def _run_credits(self) -> None:
        put, pack = writer(self._dut.flow_control), codec(FlowControlLimits).pack
        while not self.port.up:
            await Timer(10, "ns")
        self._credited()
        while True:
            await self._edge
            put(pack(self.limits()))
            self._credit_news.clear()
            await self._credit_news.wait()

    def _charge(self, packet: Packet) -> None:
        """Count the credits of what the RTL sends, and hold them against the limits."""
        limits, used = self._limits, self._consumed
        kind = packet.fc_type.value  # 0 posted, 1 nonposted, 2 completion
        infinite = ("posted_infinite", "nonposted_infinite", "completion_infinite")[kind]
        for index, name, need, bits in (
            ((0, "posted_header", 1, 8), (1, "posted_data", packet.data_credits, 12)),
            ((2, "nonposted_header", 1, 8),),
            ((3, "completion_header", 1, 8), (4, "completion_data", packet.data_credits, 12)),
        )[kind]:
            used[index] += need
            if not limits[infinite] and (limits[name] - used[index]) % (1 << bits) >> bits - 1:
                raise EndpointError(f"sent without credit ({name}): {packet!r}")

    # INTx

    async def _run_intx(self) -> None:
        wire, change = self._dut.intx, ValueChange(self._dut.intx)
        level = 0
        while True:
            now = int(wire.value)
            if now != level and self.port.up:
                level = now
                code = int(MsgType.ASSERT_INTA if level else MsgType.DEASSERT_INTA)
                self._own_posted += 1
                self._credited()
                self.port.submit(Packet(MESSAGE, first_be=code & 0xF, last_be=code >> 4))
            await change
