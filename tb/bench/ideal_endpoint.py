"""An endpoint without hardware that keeps the link full with the TLPs that a case needs."""

from __future__ import annotations

from collections import deque

import cocotb
from cocotb.triggers import Event, Timer

from bench.ideal_queue import IdealQueue, Read
from lib.pcie.endpoint import RECEIVE_CREDITS
from lib.pcie.host import memory_request
from lib.pcie.link import LinkPort
from lib.pcie.packet import COMPLETION_DATA, MEM_READ, MEM_WRITE, SUCCESS, Packet

_BACKLOG = 16  # TLPs on the wire or before it: enough to keep it busy until we look again
_LOOK_NS = 8
_LEAD = 64  # frames that one queue may be ahead of the other


class IdealEndpoint:
    """Keeps a link as full as it gets with the TLPs of one or two `IdealQueue`s.

    lanes, generation: of the link. doorbells: address of each queue's; its first doorbell starts
    a queue. tags: reads that may be in flight.

    Used descriptors go first, then reads of descriptors, then payload of the queue that is behind.
    """

    def __init__(
        self,
        queues: list[IdealQueue],
        doorbells: list[int],
        *,
        lanes: int,
        generation: int,
        max_payload: int = 256,
        tags: int = 256,
    ) -> None:
        self.queues = queues
        self.doorbells = dict(zip(doorbells, queues, strict=True))
        self.rung = 0
        self.port = LinkPort(list(RECEIVE_CREDITS), max_payload)
        self.port.max_link_speed = generation
        self.port.max_link_width = lanes
        self.port.on_packet = self._arrived
        self._tags = deque(range(tags))
        self._reads: dict[int, Read] = {}
        self._news = Event()
        cocotb.start_soon(self._run())

    def _arrived(self, packet: Packet) -> bool:
        if packet.type == COMPLETION_DATA:
            self._completed(packet)
        else:
            assert packet.type == MEM_WRITE, packet
            self.doorbells[packet.address].running = True
            self.rung += 1
        self.port.release(packet)
        self._news.set()
        return True

    def _completed(self, packet: Packet) -> None:
        assert packet.status == SUCCESS, packet
        read = self._reads[packet.tag]
        read.data += packet.data
        if packet.byte_count <= len(packet.data):
            assert 0 <= len(read.data) - read.length < 4, packet
            del self._reads[packet.tag]
            self._tags.append(packet.tag)
            read.queue.answered(read)

    async def _run(self) -> None:
        while True:
            if self.port.backlog() >= _BACKLOG:
                await Timer(_LOOK_NS, "ns")
            elif (packet := self._next()) is not None:
                self.port.submit(packet)
            else:
                self._news.clear()
                await self._news.wait()

    def _next(self) -> Packet | None:
        for queue in self.queues:
            if (packet := queue.used_write()) is not None:
                return packet
        if self._tags:
            for queue in self.queues:
                if queue.wants_fetch():
                    return self._request(queue.fetch())
        behind = min(queue.started for queue in self.queues)
        for queue in sorted(self.queues, key=lambda queue: queue.started):
            if not queue.has_payload() or queue.started > behind + _LEAD:
                continue
            if queue.kind == "receive":
                return queue.payload_write()
            if self._tags:
                return self._request(queue.payload_read())
        return None

    def _request(self, read: Read) -> Packet:
        packet = memory_request(MEM_READ, read.address, read.length)
        packet.tag = self._tags.popleft()
        self._reads[packet.tag] = read
        return packet
