"""The demo of an entropy device inside the simulator: requests for bytes, small and large."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import cocotb

from demo.entropy_config import entropy_config
from demo.request_flow import Done, RequestDemo
from demo.request_result import Phase, Words
from lib.golden import Check
from lib.golden.compare import same
from lib.sim import params
from lib.words import counted
from virtio_model.device.entropy import GoldenEntropy, SeededBytes
from virtio_model.device.make import make_device_queue
from virtio_model.driver.entropy import EntropyDriver, RandomBytes
from virtio_model.driver.make import make_queue
from virtio_model.memory import Allocator, GuestMemory
from virtio_model.spec import entropy

SMALL, LARGE = 64, 4096
"""Bytes of a request: as Linux asks for itself, and a page."""
PHASE_BYTES = 24 << 10
MIXED = 6000
"""One of the mixed requests: more than the device gives for one."""


def mixed_sizes(total: int) -> list[int]:
    """Return `MIXED` and sizes up to `LARGE` of all magnitudes, `total` bytes together."""
    sizes = [min(total, MIXED)]
    while (left := total - sum(sizes)) > 0:
        sizes.append(min(left, round(LARGE ** random.random())))
    return sizes


class EntropyDemo(RequestDemo):
    """Asks for bytes and compares every buffer with that of the golden device."""

    DEPENDENCIES = entropy.DEPENDENCIES
    DEVICE_CONFIG = False

    def __init__(self, dut: Any) -> None:
        super().__init__(dut, entropy_config(params().config))
        self.asked: list[int] = []
        self.got: list[RandomBytes] = []
        self.driver: EntropyDriver

    def make_drivers(self) -> None:
        """One driver."""
        self.driver = EntropyDriver(self.memory, self.allocator, self.queues[0])

    async def phases(self) -> list[Phase]:
        """Small requests, those of all sizes, large ones."""
        phases = [
            await self.phase(f"{SMALL} bytes", self.ask, [SMALL] * (PHASE_BYTES // SMALL)),
            await self.phase("mixed", self.ask, mixed_sizes(PHASE_BYTES)),
            await self.phase(f"{LARGE:,} bytes", self.ask, [LARGE] * (PHASE_BYTES // LARGE)),
        ]
        Path(self.options.received).write_bytes(b"".join(got.data for got in self.got))
        return phases

    def ask(self, length: int, now: float) -> None:
        """Ask for bytes."""
        self.driver.request(length, cookie=now)
        self.asked.append(length)

    def take(self, phase: str) -> Done | None:
        """Take an answer."""
        if (got := self.driver.poll()) is None:
            return None
        self.got.append(got)
        return Done(got.cookie, len(got.data))

    # Result

    def golden(self) -> list[RandomBytes]:
        """The same requests on the golden device."""
        memory = GuestMemory(1 << 17)
        allocator = Allocator(memory)
        queue = make_queue(memory, allocator, self.queues[0].size, self.accepted)
        driver = EntropyDriver(memory, allocator, queue)
        source = self.config.entropy
        device = GoldenEntropy(
            memory,
            make_device_queue(memory, queue, self.accepted),
            SeededBytes(source.seed, self.config.width // 8),
            source.largest_reply,
        )
        answers = []
        for length in self.asked:
            driver.request(length)
            device.process()
            if answer := driver.poll():
                answers.append(answer)
        return answers

    def checks(self) -> list[Check]:
        """What arrived, and what there is of each buffer behind it."""
        ours, golden = self.got, self.golden()
        data = [each.data for each in ours], [each.data for each in golden]
        rest = [each.rest for each in ours], [each.rest for each in golden]
        return [
            same("bytes", *data, "answer"),
            same("rest of the buffers", *rest, "buffer"),
        ]

    def words(self) -> Words:
        """How to speak of it."""
        size = sum(len(got.data) for got in self.got)
        return Words(
            data=f"{counted(size, 'byte')} in {counted(len(self.got), 'answer')}",
            outcome="the golden model gives the same, bit for bit",
            reference="the golden model",
            behind="The source is the generator for simulation, which is not random and gives a "
            "beat a cycle; a source in hardware is slower.",
        )

    def settings(self) -> dict[str, str]:
        """Return the source and the requests."""
        source = self.config.entropy
        short = sum(bool(got.rest) for got in self.got)
        return {
            "source": f"{source.source}, from {source.seed:#x}, not random",
            "largest reply": counted(source.largest_reply, "byte"),
            "requests": f"{len(self.asked)}, {short} of them for more than the largest reply",
        }


@cocotb.test()
async def demo(dut: Any) -> None:
    """Run the demo as `lib.sim.params()` says."""
    await EntropyDemo(dut).run()
