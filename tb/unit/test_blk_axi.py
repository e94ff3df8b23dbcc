"""The block device with its AXI4 backend: a bus that stalls, that fails, that is slow."""

from __future__ import annotations

import random
from typing import Any

import cocotb
import pytest
from blk_device_rig import AXI_CONSTANT, BlkRig, blk_config, header, segment
from blk_requests import CAPACITY, SMALL, random_request
from cocotb.triggers import RisingEdge
from virtqueue_helper import nothing_more, until

from lib.port import reader
from lib.sim import simulate
from lib.streams import cycles, reset
from virtio_model.spec.blk import RequestStatus, RequestType
from virtio_rtl.device.blk import BlkDevice

IN, OUT, FLUSH, WRITE_ZEROES = (
    RequestType.IN,
    RequestType.OUT,
    RequestType.FLUSH,
    RequestType.WRITE_ZEROES,
)
OK, IOERR = RequestStatus.OK, RequestStatus.IOERR


class BusMonitor:
    """Bursts as they go over the bus; checks that each is legal and that none is cut."""

    def __init__(self, rig: BlkRig):
        dut, config = rig.dut, rig.config
        self.begun = {"aw": 0, "ar": 0}
        self.ended = {"aw": 0, "ar": 0}
        self.written = 0
        self._rig = rig
        self._block = config.axi_burst_bytes
        self._lanes = rig.width // 8
        names = ("awvalid", "awready", "awaddr", "awlen", "arvalid", "arready", "araddr", "arlen",
                 "wvalid", "wready", "wlast", "wstrb", "bvalid", "bready", "rvalid", "rready",
                 "rlast", "awcache", "arcache")  # fmt: skip
        self._ports = {name: reader(getattr(dut, f"axi__{name}")) for name in names}
        cocotb.start_soon(self._run())

    @property
    def idle(self) -> bool:
        """Whether all that was begun has ended."""
        return self.begun == self.ended and self.written == self.ended["aw"]

    async def _run(self) -> None:
        ports, edge = self._ports, RisingEdge(self._rig.dut.clk)
        offered: dict[str, tuple[int, ...]] = {}
        while True:
            await edge
            for kind, held in (("aw", ("awaddr", "awlen")), ("ar", ("araddr", "arlen")),
                               ("w", ("wlast",))):  # fmt: skip
                now = tuple(ports[name]() for name in held)
                if kind in offered:
                    assert ports[f"{kind}valid"](), f"{kind}: withdrawn"
                    assert now == offered.pop(kind), f"{kind}: changed"
                if ports[f"{kind}valid"]():
                    if ports[f"{kind}ready"]():
                        self._moved(kind)
                    else:
                        offered[kind] = now
            if ports["bvalid"]() and ports["bready"]():
                self.ended["aw"] += 1
            if ports["rvalid"]():
                assert ports["rready"](), "data of a read had to wait"
                self.ended["ar"] += ports["rlast"]()

    def _moved(self, kind: str) -> None:
        ports = self._ports
        if kind == "w":
            assert ports["wstrb"]() == (1 << self._lanes) - 1
            if ports["wlast"]():
                self.written += 1
            return
        # Not bufferable (bit 0): the answer comes from the memory, or a FLUSH promises too much.
        assert ports[f"{kind}cache"]() == 0b0010, "a buffer may answer for the memory"
        first = ports[f"{kind}addr"]()
        last = first + (ports[f"{kind}len"]() + 1) * self._lanes - 1
        assert first % 512 == 0
        assert first // self._block == last // self._block, "a burst beyond its block"
        self.begun[kind] += 1


async def attached(dut: Any, *, stall: float = 0.0, bus: float = 0.0) -> tuple[BlkRig, BusMonitor]:
    """The rig with a disk of random bytes."""
    rig = BlkRig(dut, stall=stall)
    monitor = BusMonitor(rig)
    rig.stall_axi(bus)
    await reset(dut)
    assert rig.memory
    rig.memory.content[:] = random.randbytes(len(rig.memory.content))
    rig.golden.image[:] = rig.memory.content
    return rig, monitor


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def a_bus_that_stalls(dut: Any) -> None:
    """Random requests with every channel pausing; the disk and all replies are the golden ones."""
    rig, monitor = await attached(dut, stall=0.1, bus=0.4)
    for _ in range(100):
        rig.submit(*random_request(), error=random.random() < 0.03)
    await rig.check()
    assert monitor.idle


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def errors_of_the_bus(dut: Any) -> None:
    """A request that touches a bad sector: IOERR, zeros for what could not be read; no other."""
    rig, _ = await attached(dut, stall=0.1, bus=0.2)
    assert rig.memory
    image = rig.golden.image
    rig.memory.bad = set(random.sample(range(CAPACITY), 6))

    def status(first: int, sectors: int) -> int:
        assert rig.memory
        return IOERR if rig.memory.bad & set(range(first, first + sectors)) else OK

    def written(first: int, body: bytes) -> None:
        assert rig.memory
        for at in range(len(body) // 512):
            if first + at not in rig.memory.bad:
                image[512 * (first + at) : 512 * (first + at + 1)] = body[512 * at : 512 * (at + 1)]

    failures = 0
    for _ in range(90):
        sectors = random.randint(1, 5)
        first = random.randint(0, CAPACITY - sectors)
        code = status(first, sectors)
        match random.randrange(5):
            case 0 | 1:
                data = b"".join(
                    bytes(512) if at in rig.memory.bad else bytes(image[512 * at : 512 * at + 512])
                    for at in range(first, first + sectors)
                )
                rig.expect(header(IN, first), 512 * sectors + 1, data + bytes([code]))
            case 2 | 3:
                body = random.randbytes(512 * sectors)
                written(first, body)
                rig.expect(header(OUT, first) + body, 1, bytes([code]))
            case 4:
                other = random.randrange(CAPACITY)
                runs = [(first, sectors), (other, 1), (CAPACITY - 1, 1)]
                random.shuffle(runs)
                code = max(status(*run) for run in runs)
                for at, count in runs:
                    written(at, bytes(512 * count))
                body = b"".join(segment(*run) for run in runs)
                rig.expect(header(WRITE_ZEROES) + body, 1, bytes([code]))
        failures += code == IOERR
    assert failures > 10
    await rig.check()


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def many_under_way(dut: Any) -> None:
    """With a bus that answers late, many reads and writes are under way at once."""
    rig, monitor = await attached(dut)
    hold = {"on": True}

    def while_held() -> Any:
        while True:
            yield hold["on"]

    rig.axi.read_if.r_channel.set_pause_generator(while_held())
    rig.axi.read_if.ar_channel.queue_occupancy_limit = 64
    for at in range(12):
        rig.submit(header(IN, at), 513)
    await cycles(dut, 300)
    # As many as there is room for, with one more burst of the longest kind.
    lanes = rig.width // 8
    assert monitor.begun["ar"] == min(12, (512 - 1024 // lanes) // (512 // lanes) + 1)
    hold["on"] = False
    await rig.check()

    hold["on"] = True
    rig.axi.write_if.b_channel.set_pause_generator(while_held())
    rig.axi.write_if.b_channel.queue_occupancy_limit = 64
    for at in range(12):
        rig.submit(header(OUT, at) + random.randbytes(512))
    await cycles(dut, 12 * 4096 // rig.width * 2 + 200)
    assert monitor.written == 12
    hold["on"] = False
    await rig.check()


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def nothing_is_told_before_the_bus_has_answered(dut: Any) -> None:
    """Neither a write, whatever room it has for an answer, nor the FLUSH behind it; and a read of
    these sectors does not pass it.
    """
    rig, monitor = await attached(dut)
    hold = {"on": True}

    def while_held() -> Any:
        while True:
            yield hold["on"]

    rig.axi.write_if.b_channel.set_pause_generator(while_held())
    for kind in (FLUSH, IN) * 4:
        hold["on"] = True
        before, reads = monitor.written, monitor.begun["ar"]
        rig.submit(header(OUT, 4) + random.randbytes(1024), random.choice([1, 300]))
        rig.submit(header(kind, 5 if kind == IN else 0), 513 if kind == IN else 1)
        await until(dut, lambda before=before: monitor.written > before)  # type: ignore[misc]
        await nothing_more(dut, rig.writable, wait=200)
        assert monitor.begun["ar"] == reads
        hold["on"] = False
        await rig.check()
    rig.submit(header(IN, 5), 513)
    rig.submit(header(IN, 30), 513)
    await rig.check()


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def reset_with_bursts_under_way(dut: Any) -> None:
    """Bursts are finished, their answers go nowhere, and the device then does as it should."""
    rig, monitor = await attached(dut, stall=0.05, bus=0.5)
    assert rig.memory
    lively = 0
    for _ in range(15):
        for _ in range(10):
            rig.submit(*random_request())
        await cycles(dut, random.randint(20, 60 + 20_000 // rig.width * 4))
        lively += not monitor.idle
        await rig.reset_engine(random.choice([1, 1, 2, 7]))
        # New requests come before the bus has finished with the old ones.
        memory, rig.memory = rig.memory, None
        await rig.read_back()
        rig.memory = memory
        for _ in range(5):
            rig.submit(*random_request())
        await rig.check()
        assert monitor.idle
    assert lively > 5


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def reads_behind_a_reset_see_the_writes_before_it(dut: Any) -> None:
    """A write that is still on the bus at a reset is not passed by a read after that."""
    rig, monitor = await attached(dut, stall=0.1)
    assert rig.memory
    for channel, under_way in ((rig.axi.write_if.w_channel, lambda: monitor.begun["aw"]),
                               (rig.axi.write_if.b_channel, lambda: monitor.written)):  # fmt: skip
        hold = {"on": True}

        def while_held(hold: dict[str, bool] = hold) -> Any:
            while True:
                yield hold["on"]

        channel.set_pause_generator(while_held())
        before, reads = under_way(), monitor.begun["ar"]
        body = random.randbytes(512)
        rig.submit(header(OUT, 7) + body)
        await until(dut, lambda b=before, u=under_way: u() > b)  # type: ignore[misc]
        await rig.reset_engine()
        rig.expect(header(IN, 7), 513, body + bytes([OK]))
        await cycles(dut, 300)
        assert monitor.begun["ar"] == reads
        hold["on"] = False
        await rig.check()
        channel.clear_pause_generator()


@pytest.mark.parametrize("width", [64, 512])
def test_blk_axi(width: int) -> None:
    """The same models as in test_blk_device.py."""
    config = SMALL | {"backend": "axi4", "axi_base": 0x4_0000, "num_queues": 3}
    simulate(
        BlkDevice(blk_config(width, **config)), module=__name__, name=f"blk_axi_{width}",
        params={"width": width, "blk": config}, waive=AXI_CONSTANT,
    )  # fmt: skip
