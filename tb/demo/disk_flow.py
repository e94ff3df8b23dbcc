"""The demo of a block device inside the simulator: write an image, flush, read it back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cocotb

from demo.disk_config import disk_config
from demo.request_flow import IN_FLIGHT, Done, RequestDemo
from demo.request_result import Phase, Words
from lib.golden import Check
from lib.sim import params
from lib.words import counted
from virtio_model.blk_request import BlkLimits
from virtio_model.driver.blk import BlkDriver
from virtio_model.driver.framing import Framing
from virtio_model.spec import blk
from virtio_model.spec.blk import BlkFeature, RequestStatus
from virtio_rtl.config_blk import SECTOR_BYTES
from virtio_rtl.device.kind import device_type

REQUEST_BYTES = 64 << 10
"""Data of a request; the last one may be shorter."""
_TYPE_FEATURES = (BlkFeature.SIZE_MAX, BlkFeature.SEG_MAX, BlkFeature.BLK_SIZE, BlkFeature.FLUSH)
_PIECES = Framing(readable=(16,), writable=(-1,), indirect=True)
"""Header, data and status apart, in an indirect table, as Linux has them."""


class DiskDemo(RequestDemo):
    """Writes the image, flushes, reads and compares."""

    DEPENDENCIES = blk.DEPENDENCIES
    FEATURE_NAMES = {bit.value: f"VIRTIO_BLK_F_{bit.name}" for bit in BlkFeature}

    def __init__(self, dut: Any) -> None:
        options = params()
        self.image = Path(options.image).read_bytes()
        config = disk_config(options.config, len(self.image))
        super().__init__(
            dut,
            config,
            type_features=sum(1 << feature for feature in _TYPE_FEATURES),
            memory_bytes=(IN_FLIGHT + 8) * (REQUEST_BYTES + 4096),
        )
        kind = device_type("blk")
        self.limits = BlkLimits.of(kind.values(config), kind.features(config))
        self.failed: list[str] = []
        self.answered = 0
        self.read_back = bytearray(len(self.image))
        self.driver: BlkDriver

    def make_drivers(self) -> None:
        """One driver for the virtqueue."""
        self.driver = BlkDriver(
            self.memory, self.allocator, self.queues, self.accepted, limits=self.limits
        )

    async def phases(self) -> list[Phase]:
        """Write, flush, read."""
        pieces = range(0, len(self.image), REQUEST_BYTES)
        phases = [
            await self.phase("write", self.write, pieces),
            await self.phase("flush", self.flush, range(1)),
            await self.phase("read", self.read, pieces),
        ]
        Path(self.options.read_back).write_bytes(self.read_back)
        return phases

    def piece(self, at: int) -> bytes:
        """What a request from byte `at` on is about."""
        return self.image[at : at + REQUEST_BYTES]

    def write(self, at: int, now: float) -> None:
        """Write a piece of the image."""
        piece = self.piece(at)
        cookie = at, len(piece), now
        self.driver.write(at // SECTOR_BYTES, piece, framing=_PIECES, cookie=cookie)

    def read(self, at: int, now: float) -> None:
        """Read a piece."""
        length = len(self.piece(at))
        cookie = at, length, now
        sectors = length // SECTOR_BYTES
        self.driver.read(at // SECTOR_BYTES, sectors, framing=_PIECES, cookie=cookie)

    def flush(self, at: int, now: float) -> None:
        """Flush."""
        self.driver.flush(framing=_PIECES, cookie=(at, 0, now))

    def take(self, phase: str) -> Done | None:
        """Take an answer; what was read goes to its place."""
        if (done := self.driver.poll()) is None:
            return None
        at, length, sent_ns = done.cookie
        self.answered += 1
        if done.status != RequestStatus.OK:
            self.failed.append(f"{phase} of sector {at // SECTOR_BYTES}: {done.status.name}")
        elif done.data:
            self.read_back[at : at + len(done.data)] = done.data
        return Done(sent_ns, length)

    def checks(self) -> list[Check]:
        """What the driver says."""
        wrong = next(
            (
                at
                for at, (a, b) in enumerate(zip(self.image, self.read_back, strict=True))
                if a != b
            ),
            None,
        )
        answers = (self.failed or [f"{self.answered} requests, all OK"])[0]
        return [
            Check("answers", not self.failed, answers),
            Check(
                "what was read back",
                wrong is None,
                counted(len(self.image), "byte")
                if wrong is None
                else f"differs from byte {wrong:,} on",
            ),
        ]

    def words(self) -> Words:
        """How to speak of it."""
        return Words(
            data=f"{counted(len(self.image), 'byte')} of {self.options.source}",
            outcome="read back bit for bit",
            reference="the image",
            behind="The disk is external memory behind the device's AXI4 master, a beat a cycle "
            "each way.",
        )

    def settings(self) -> dict[str, str]:
        """Return the disk and the requests."""
        return {
            "image": self.options.source,
            "capacity": counted(self.limits.capacity, "sector"),
            "data of a request": f"{REQUEST_BYTES:,} bytes",
        }


@cocotb.test()
async def demo(dut: Any) -> None:
    """Run the demo as `lib.sim.params()` says."""
    await DiskDemo(dut).run()
