"""The block driver of a run, journalled, and its run once more on the golden block device."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

from lib.golden.compare import Check, same, same_memory
from lib.golden.driver import Journal
from lib.golden.twin import AsBatched, GoldenSide
from lib.golden.used import UsedTap
from virtio_model.blk_request import BlkLimits
from virtio_model.device.blk import GoldenBlk
from virtio_model.driver.blk import BlkDone, BlkDriver
from virtio_model.driver.framing import Framing
from virtio_model.memory import GuestMemory
from virtio_model.spec.blk import SECTOR_SIZE

__all__ = ["DiskDriver", "DiskTwin", "compare_disk", "stray_byte"]


def stray_byte(found: bytes, ages: Sequence[bytes]) -> int | None:
    """The first byte of `found` that stood there in none of the `ages`; None if there is none.

    A request that a reset cut off may have been done wholly, partly or not at all.
    """
    for at in range(0, len(found), SECTOR_SIZE):
        sector = slice(at, at + SECTOR_SIZE)
        known = {age[sector] for age in ages}
        if found[sector] in known:
            continue
        for byte, choices in enumerate(zip(found[sector], *known, strict=True)):
            if choices[0] not in choices[1:]:
                return at + byte
    return None


class DiskDriver:
    """The block driver of all virtqueues; what it does is noted in a journal."""

    def __init__(self, blk: BlkDriver, journal: Journal) -> None:
        self.blk = blk
        self._actions = journal.actions
        count = len(blk.queues)
        self.answers: list[list[BlkDone]] = [[] for _ in range(count)]
        self.flying = [0] * count
        """Requests of each virtqueue that were not answered yet."""
        self.asked = 0
        self.used = [[UsedTap(blk.memory, queue)] for queue in blk.queues]
        """By virtqueue: used entries of each of its lives, which end with a reset."""

    def close(self) -> None:
        """Stop listening."""
        for taps in self.used:
            taps[-1].close()

    def _note(self, action: str, queue: int, *arguments: Any) -> None:
        self._actions.append((action, queue, arguments))

    def send(self, queue: int, readable: bytes, writable: int, framing: Framing) -> None:
        """Make a request available."""
        self.blk.send(readable, writable, queue, framing=framing, cookie=self.asked)
        self._note("send", queue, readable, writable, framing)
        self.asked += 1
        self.flying[queue] += 1

    def poll(self, queue: int) -> int:
        """Take the answers of a virtqueue; how many there were."""
        before = len(self.answers[queue])
        while (done := self.blk.poll(queue)) is not None:
            self.answers[queue].append(done)
        count = len(self.answers[queue]) - before
        if count:
            self._note("poll", queue, count)
            self.flying[queue] -= count
        return count

    def take_back(self, queue: int) -> None:
        """After a reset, what was not answered; the device may have written any part of it."""
        memory = self.blk.memory
        taken = self.blk.withdraw(self.blk.queues[queue])
        rooms = [segment for request in taken for segment in request.room]
        self._note("take_back", queue, [(at, memory.read(at, length)) for at, length in rooms])
        self.flying[queue] = 0
        self.used[queue][-1].close()
        self.used[queue].append(UsedTap(memory, self.blk.queues[queue]))

    def read_back(self, queue: int, sector: int) -> bool:
        """Poll for the read from this sector on, the only request there, after a reset.

        Whatever it found holds from now on. False if it was not answered yet.
        """
        done = self.blk.poll(queue)
        if done is None:
            return False
        self._note("found", queue, sector, done.data)
        self._note("poll", queue, 1)
        self.answers[queue].append(done)
        self.flying[queue] -= 1
        return True


class DiskTwin(GoldenSide):
    """The golden block device, see `GoldenSide`; the disk holds zeros.

    limits, serial: as for `GoldenBlk`. Requests of different virtqueues must be for different
    sectors, for the order in which a device does them cannot be seen.
    """

    def __init__(
        self,
        memory: GuestMemory,
        sizes: Sequence[int],
        features: int,
        policy: Any,
        seed: int,
        *,
        limits: BlkLimits,
        serial: bytes,
    ) -> None:
        super().__init__(memory, sizes, features, policy, seed)
        blk = BlkDriver(self.memory, self.allocator, self.queues, features, limits=limits)
        self.driver = DiskDriver(blk, Journal())
        self.stray: list[str] = []
        """Bytes that nobody wrote, found after resets."""
        self._limits, self._serial = limits, serial

    def replay(self, journal: Journal, rtl: DiskDriver) -> None:
        """Do what the driver did; let the golden device do what the RTL should have done."""
        lives = [iter(taps) for taps in rtl.used]

        def next_life(index: int) -> AsBatched:
            return self.device_queue(index, next(lives[index]).entries)

        devices = [next_life(index) for index in range(len(self.queues))]
        image = bytearray(self._limits.capacity * SECTOR_SIZE)
        golden = GoldenBlk(
            self.memory,
            devices,
            image,
            self.features,
            limits=self._limits,
            serial=self._serial,
            strict=False,
        )
        waiting: list[deque[tuple[bytes, int]]] = [deque() for _ in self.queues]
        ages: list[list[bytes]] = [[] for _ in self.queues]
        for action, number, arguments in journal.actions:
            match action:
                case "send":
                    self.driver.send(number, *arguments)
                    waiting[number].append(arguments[:2])
                case "poll":
                    golden.process(number, arguments[0])
                    self.driver.poll(number)
                    for _ in range(arguments[0]):
                        waiting[number].popleft()
                case "take_back":
                    ages[number] = [bytes(image)]
                    for request in waiting[number]:
                        golden.answer(*request)
                        ages[number].append(bytes(image))
                    waiting[number].clear()
                    self.driver.take_back(number)
                    for at, data in arguments[0]:
                        self.memory.write(at, data)
                    devices[number] = next_life(number)
                case "found":
                    self._take_over(image, ages[number], *arguments)

    def _take_over(self, image: bytearray, ages: Sequence[bytes], sector: int, data: bytes) -> None:
        place = slice(sector * SECTOR_SIZE, sector * SECTOR_SIZE + len(data))
        at = stray_byte(data, [age[place] for age in ages])
        if at is not None:
            self.stray.append(f"sector {sector + at // SECTOR_SIZE}, byte {at % SECTOR_SIZE}")
        image[place] = data


def compare_disk(memory: GuestMemory, rtl: DiskDriver, twin: DiskTwin) -> list[Check]:
    """Compare a finished run with the golden one's."""
    stray = "; ".join(twin.stray[:3])
    checks = [Check("disk after a reset", not stray, stray or "no byte that nobody wrote")]
    for queue, answers in enumerate(rtl.answers):
        name = f"virtqueue {queue}: "
        checks.append(same(f"{name}answers", answers, twin.driver.answers[queue], "answer"))
        mine, theirs = (
            [entry for tap in side.used[queue] for entry in tap.entries]
            for side in (rtl, twin.driver)
        )
        checks.append(same(f"{name}used entries", mine, theirs, "entry"))
    checks.append(same_memory(memory, twin))
    return checks
