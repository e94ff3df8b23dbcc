"""A host that sends configuration requests to the configuration space and checks completions."""

from __future__ import annotations

import random
from typing import Any

from lib.sim import params
from lib.streams import StreamSink, StreamSource, cycles, unpack
from virtio_rtl.types.pcie import FunctionControl
from virtio_rtl.types.regbus import RegisterRequest
from virtio_rtl.types.tlp import CompletionStatus, TLPType, tlp_beat

__all__ = ["OUR_ID", "STROBES", "Host"]

OUR_ID = 0x0500
STROBES = (
    "received_master_abort",
    "received_target_abort",
    "signaled_target_abort",
    "detected_parity",
    "master_data_parity",
    "unsupported_request",
    "nonfatal_error",
    "correctable_error",
)
LEVELS = ("interrupt_status", "transactions_pending", "flr_done")


class Host:
    """Sends configuration requests and checks everything about the completion but its data."""

    def __init__(self, dut: Any, stall: float = 0.0, bus_stall: float | None = None) -> None:
        self.dut = dut
        layout = tlp_beat(params().width)
        self.width = params().width
        self.source = StreamSource(dut, "requests", layout, stall=stall)
        self.sink = StreamSink(dut, "completion", layout, stall=stall)
        self.bus_requests = StreamSink(
            dut, "bus__request", RegisterRequest, stall=stall if bus_stall is None else bus_stall
        )
        self.bus_responses = StreamSource(dut, "bus__response", stall=stall)
        for name in (*STROBES, *LEVELS):
            getattr(dut, name).value = 0

    def header(self, write: bool, offset: int, byte_enable: int, **fields: Any) -> dict[str, Any]:
        """Return the header of a request; what does not matter is random."""
        return {
            "type": TLPType.CONFIG_WRITE0 if write else TLPType.CONFIG_READ0,
            "traffic_class": random.getrandbits(3),
            "no_snoop": random.getrandbits(1),
            "relaxed_ordering": random.getrandbits(1),
            "length_dw": 1,
            "first_be": byte_enable,
            "requester_id": random.getrandbits(16),
            "tag": random.getrandbits(10),
            "address": offset | random.getrandbits(20) << 12,
            "completer_id": OUR_ID,
        } | fields

    def start(self, header: dict[str, Any], value: int, beats: int = 1) -> None:
        """Queue a request."""
        for index in range(beats):
            self.source.queue(
                [
                    {
                        "data": value | random.getrandbits(self.width - 32) << 32,
                        "header": header,
                        "first": index == 0,
                        "last": index == beats - 1,
                    }
                ]
            )

    async def finish(self, request: dict[str, Any]) -> tuple[CompletionStatus, int | None]:
        """Wait for the completion, check its header, return status and data."""
        beat = await self.sink.receive()
        header = beat.header
        with_data = (
            request["type"] == TLPType.CONFIG_READ0 and header.status == CompletionStatus.SUCCESS
        )
        assert beat.first
        assert beat.last
        assert header == {
            "type": TLPType.COMPLETION_DATA if with_data else TLPType.COMPLETION,
            "traffic_class": request["traffic_class"],
            "no_snoop": request["no_snoop"],
            "relaxed_ordering": request["relaxed_ordering"],
            "poisoned": 0,
            "length_dw": int(with_data),
            "first_be": 0,
            "last_be": 0,
            "requester_id": request["requester_id"],
            "tag": request["tag"],
            "address": 0,
            "completer_id": request["completer_id"],
            "status": header.status,
            "byte_count": 4,
            "lower_address": 0,
            "bar": 0,
        }
        return header.status, beat.data & 0xFFFF_FFFF if with_data else None

    async def request(
        self, write: bool, offset: int, value: int = 0, byte_enable: int = 15, **fields: Any
    ) -> tuple[CompletionStatus, int | None]:
        """Send one request and return its completion's status and data."""
        beats = fields.pop("beats", 1)
        header = self.header(write, offset, byte_enable, **fields)
        self.start(header, value, beats)
        return await self.finish(header)

    async def read(self, offset: int, byte_enable: int = 15) -> int:
        """Read a dword."""
        status, data = await self.request(False, offset, byte_enable=byte_enable)
        assert status == CompletionStatus.SUCCESS
        assert data is not None
        return data

    async def write(self, offset: int, value: int, byte_enable: int = 15) -> None:
        """Write bytes of a dword."""
        status, _ = await self.request(True, offset, value, byte_enable)
        assert status == CompletionStatus.SUCCESS

    async def strobe(self, name: str) -> None:
        """Pulse an input for one cycle."""
        getattr(self.dut, name).value = 1
        await cycles(self.dut)
        getattr(self.dut, name).value = 0

    def control(self) -> Any:
        """Return what the function shows to the device."""
        return unpack(FunctionControl, int(self.dut.control.value))
