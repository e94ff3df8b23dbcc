"""A whole system: host, link, the block device in RTL, its drivers, and the golden device."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

from lib.device_system import DeviceSystem, small_config
from lib.golden import stray_byte
from lib.streams import cycles
from virtio_model.blk_request import BlkLimits, RequestHeader
from virtio_model.device.blk import GoldenBlk
from virtio_model.driver.blk import BlkDone, BlkDriver
from virtio_model.driver.framing import WHOLE, Framing
from virtio_model.memory import GuestMemory
from virtio_model.spec import blk
from virtio_model.spec.blk import SECTOR_SIZE, BlkFeature, RequestStatus, RequestType
from virtio_model.spec.features import mask
from virtio_rtl.config import DeviceConfig
from virtio_rtl.config_blk import BlkConfig
from virtio_rtl.device.kind import device_type

__all__ = ["BlkSystem", "blk_config", "random_framing"]

_STEP = 8
"""Sectors that are filled or looked at by one request."""


def blk_config(name: str = "net-x4", **disk: Any) -> DeviceConfig:
    """A small block device, of the width and with the rings of a named configuration.

    disk: fields of `BlkConfig`; unless told, 64 sectors, two virtqueues, odd limits.
    """
    chosen: dict[str, Any] = {
        "capacity_sectors": 64,
        "num_queues": 2,
        "blk_size": 4096,
        "config_wce": True,
        "max_discard_sectors": 40,
        "max_discard_seg": 3,
        "max_write_zeroes_sectors": 21,
        "max_write_zeroes_seg": 2,
        "identity": "disk of a test",
    }
    return replace(small_config(name), device="blk", queue_pairs=1, blk=BlkConfig(**chosen | disk))


@dataclass(frozen=True)
class Flying:
    """A request that the device has not answered yet."""

    number: int
    readable: bytes
    writable: int


class BlkSystem(DeviceSystem):
    """Brings a block device up; every answer is compared with that of the golden device.

    The golden device does a request when its answer arrives. The RTL does those of all virtqueues
    in one order, which the driver cannot see: whoever uses several at a time keeps their sectors
    apart, as `part` does.

    Parameters
    ----------
    dut, config
        `VirtioDevice(config)` and its configuration.
    without
        Features of the block device that are not accepted, by name.
    more
        See `DeviceSystem`.
    """

    DEPENDENCIES = blk.DEPENDENCIES

    def __init__(
        self, dut: Any, config: DeviceConfig, *, without: Collection[str] = (), **more: Any
    ):
        kind = device_type("blk")
        self.offers = kind.features(config)
        left_out = mask(BlkFeature[name.upper()] for name in without)
        super().__init__(dut, config, type_features=self.offers & ~left_out, **more)
        self.limits = BlkLimits.of(kind.values(config), self.offers)
        self.golden = GoldenBlk(
            GuestMemory(16),
            [],
            bytearray(self.limits.capacity * SECTOR_SIZE),
            limits=self.limits,
            serial=config.blk.identity.encode(),
            strict=False,
        )
        self.driver: BlkDriver
        self.flying: list[deque[Flying]] = []
        self.asked = self.answered = 0
        self.last: BlkDone
        """The last answer."""
        self.statuses: set[RequestStatus] = set()
        """All that were seen."""
        self._forgotten: list[Flying] = []

    def make_drivers(self) -> None:
        """One driver for all virtqueues."""
        self.golden.features = self.accepted
        self._forgotten += [request for waiting in self.flying for request in waiting]
        self.flying = [deque() for _ in self.queues]
        self.driver = BlkDriver(
            self.memory, self.allocator, self.queues, self.accepted, limits=self.limits
        )

    def close(self) -> None:
        """Take back all buffers and virtqueues."""
        for queue in self.queues:
            self.driver.take_back(queue)
        super().close()

    def take_back(self, index: int) -> list[Any]:
        """Numbers of the requests that were not answered."""
        self._forgotten += self.flying[index]
        self.flying[index].clear()
        return self.driver.take_back(self.queues[index])

    def queue_replaced(self, index: int) -> None:
        """The driver goes on with the new one."""
        self.driver.queues[index] = self.queues[index]

    def part(self, index: int) -> range:
        """Sectors that belong to a virtqueue while several are in use."""
        share = self.limits.capacity // len(self.queues)
        return range(index * share, (index + 1) * share)

    async def bring_up(self, features: int | None = None, *, msix: bool = True) -> None:
        """As of `DeviceSystem`; then fills the disk, which holds what earlier tests wrote."""
        await super().bring_up(features, msix=msix)
        for sector in range(0, self.limits.capacity, _STEP):
            header = RequestHeader(RequestType.OUT, sector).encode()
            assert self.ask(0, header + random.randbytes(SECTOR_SIZE * _STEP), 1, WHOLE)
            await self.kick(0)
            await self.finish()

    # Requests

    def ask(
        self, index: int, readable: bytes, writable: int, framing: Framing | None = None
    ) -> bool:
        """Make a request available, cut at random unless told; False if there is no room."""
        queue = self.queues[index]
        framing = framing or random_framing(len(readable), writable, queue.indirect)
        slots = len(framing.readable) + len(framing.writable) + 2
        if queue.free_slots < (1 if framing.indirect else slots) or slots > queue.size:
            return False
        self.driver.send(readable, writable, index, framing=framing, cookie=self.asked)
        self.flying[index].append(Flying(self.asked, readable, writable))
        self.asked += 1
        return True

    def poll(self) -> int:
        """Take the answers of all virtqueues; how many there were. All must be as expected."""
        before = self.answered
        for index, waiting in enumerate(self.flying):
            while (done := self.driver.poll(index)) is not None:
                request = waiting.popleft()
                assert done.cookie == request.number, f"answer {done.cookie} out of turn"
                self.last = done
                wanted = self.golden.answer(request.readable, request.writable)
                if wanted:
                    text = f"request {request.readable[:16].hex()}, {request.writable} bytes"
                    assert done.status == wanted[-1], f"{text}: {done.status!r}, not {wanted[-1]}"
                    assert done.data == wanted[:-1], f"{text}: other data"
                    self.statuses.add(done.status)
                self.answered += 1
        return self.answered - before

    async def finish(self, limit: int = 40_000) -> None:
        """Wait until all is answered."""
        for _ in range(limit // 20):
            self.poll()
            if not any(self.flying):
                return
            await cycles(self.dut, 20)
        left = [len(waiting) for waiting in self.flying]
        raise AssertionError(f"not answered within {limit} cycles: {left}")

    async def do(
        self, index: int, kind: int, sector: int = 0, data: bytes = b"", room: int = 0
    ) -> BlkDone:
        """One request, begun and answered."""
        assert self.ask(index, RequestHeader(kind, sector).encode() + data, room + 1)
        await self.kick(index)
        await self.finish()
        return self.last

    async def look(self) -> bytes:
        """Read the whole disk through the first virtqueue; nothing else is under way."""
        image = b""
        for sector in range(0, self.limits.capacity, _STEP):
            header = RequestHeader(RequestType.IN, sector).encode()
            self.driver.send(header, SECTOR_SIZE * _STEP + 1, 0, framing=WHOLE)
            await self.kick(0)
            for _ in range(1000):
                if (done := self.driver.poll(0)) is not None:
                    break
                await cycles(self.dut, 20)
            else:
                raise AssertionError("a read is not answered")
            assert done.status == RequestStatus.OK
            image += done.data
        return image

    async def agree(self) -> None:
        """Compare the whole disk with the golden one, nothing being under way.

        Requests that were taken back by a reset may have been done, or a part of them: every byte
        must be one that stood there at some time. The golden device takes over what was found.
        """
        golden = self.golden
        ages = [bytes(golden.image)]
        for request in self._forgotten:
            golden.answer(request.readable, request.writable)
            ages.append(bytes(golden.image))
        self._forgotten.clear()
        found = await self.look()
        stray = stray_byte(found, ages)
        assert stray is None, f"byte {stray} of the disk is one that nobody wrote"
        golden.image[:] = found


def random_framing(readable: int, writable: int, indirect: bool) -> Framing:
    """Header, data and status apart, or all in one, or cut anywhere, or byte by byte."""
    style = random.choice(["pieces", "pieces", "whole", "random", "random", "bytes"])
    cuts: tuple[tuple[int, ...], tuple[int, ...]] = (), ()
    if style == "pieces":
        cuts = (16,), (-1,)
    elif style == "random":
        cuts = tuple(
            tuple(random.randrange(1, length) for _ in range(random.choice([0, 1, 2, 5])))
            if length > 1
            else ()
            for length in (readable, writable)
        )  # type: ignore[assignment]
    elif style == "bytes":
        cuts = tuple(range(1, 9)), (1, 2, -3, -2, -1)
    return Framing(*cuts, indirect and random.random() < 0.4, random.randrange(64))
