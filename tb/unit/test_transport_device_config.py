"""Device configuration: of the network device, and of a type with fields of every sort."""

from __future__ import annotations

import random
from typing import Any

import cocotb
import pytest
from cocotb.triggers import RisingEdge
from register_helper import RegisterInitiator, store
from sample_type import SAMPLE

from lib.sim import params, simulate
from lib.streams import cycles, reset, start_clock
from virtio_rtl.config import DeviceConfig
from virtio_rtl.transport.device_config import DeviceConfigRegion

BASE = 0x2000
NET = {
    "image": "021122334455 0000 0000 dc05",
    "live": {"status": (6, 1, 1 << 16)},
    "writable": {},
}
"""Written by hand: the bytes; live fields with offset, bits and feature; writable ones."""
OTHER = {
    "image": "112233445566 0000 cdab 5a 00 00000000 0000 0000 67452301",
    "live": {"state": (6, 1, 1 << 5), "level": (12, 32, 0)},
    "writable": {"mode": (10, 1, 1 << 9), "share": (18, 2, 0), "wish": (20, 4, 0)},
}
ANY = (1 << 128) - 1


class Rig:
    """The region, and what it should contain."""

    def __init__(self, dut: Any, stall: float = 0.0) -> None:
        start_clock(dut)
        self.dut = dut
        self.expected = OTHER if params().device == "sample" else NET
        self.first = bytes.fromhex(self.expected["image"]).ljust(64, b"\0")
        self.bytes = bytearray(self.first)
        self.live = dict.fromkeys(self.expected["live"], 0)
        dut.live.value = dut.freeze.value = dut.clear.value = 0
        dut.accepted.value = ANY
        self.bus = RegisterInitiator(dut, stall=stall)

    def put(self, **values: int) -> None:
        """Change live fields, as the device does."""
        self.live |= values
        word = at = 0
        for name, (_, bits, _) in self.expected["live"].items():
            word |= self.live[name] << at
            at += bits
        self.dut.live.value = word

    def change(self) -> int:
        """Change some live field; the feature without which nobody is told."""
        name, (_, bits, feature) = random.choice(list(self.expected["live"].items()))
        self.put(**{name: self.live[name] ^ random.randint(1, (1 << bits) - 1)})
        return feature

    def show(self) -> None:
        """Live fields show what they are."""
        for name, (offset, bits, _) in self.expected["live"].items():
            size = 4 if bits == 32 else 2
            self.bytes[offset : offset + size] = self.live[name].to_bytes(size, "little")

    def writable_at(self, accepted: int) -> set[int]:
        """Offsets of bytes that the driver may write."""
        return {
            offset + byte
            for offset, size, feature in self.expected["writable"].values()
            if not feature or accepted & feature
            for byte in range(size)
        }

    async def write(self, accepted: int = ANY, *, counts: bool = True) -> None:
        """Write a dword somewhere, with any enables."""
        request = {
            "address": BASE + 4 * random.randrange(16), "write": 1,
            "data": random.getrandbits(32), "byte_enable": random.getrandbits(4),
        }  # fmt: skip
        written: dict[int, int] = {}
        store(written, request)
        allowed = self.writable_at(accepted)
        if counts:
            for address, byte in written.items():
                if address - BASE in allowed:
                    self.bytes[address - BASE] = byte
        await self.bus.raw(**request)

    async def check(self) -> None:
        """Read everything."""
        for size in (1, 2, 4):
            for offset in range(0, 64, size):
                expected = int.from_bytes(self.bytes[offset : offset + size], "little")
                assert await self.bus.read(BASE + offset, size) == expected, offset
        if self.expected["writable"]:
            value = b"".join(
                self.bytes[offset : offset + size]
                for offset, size, _ in self.expected["writable"].values()
            )
            assert int(self.dut.settings.value) == int.from_bytes(value, "little")


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def every_byte_is_right(dut: Any) -> None:
    """All offsets and sizes, after changes of the device and writes: only writable fields take
    them, those of a feature only with it, and a reset brings the first values back.
    """
    rig = Rig(dut, stall=0.2)
    await reset(dut)
    for accepted in (ANY, ANY & ~(1 << 9), 0, ANY):
        dut.accepted.value = accepted
        await rig.check()
        for _ in range(40):
            await rig.write(accepted)
        rig.change()
        await cycles(dut, 2)
        rig.show()
        await rig.check()
    await rig.bus.request.idle()
    dut.clear.value = 1
    await cycles(dut, 1)
    dut.clear.value = 0
    rig.bytes[:] = rig.first
    rig.show()
    await cycles(dut, 1)
    await rig.check()


@cocotb.test(timeout_time=500, timeout_unit="us")
async def changes_and_reads_strobe(dut: Any) -> None:
    """One `changed` per change, `notify` if the driver wants it, `config_read` per read."""
    rig = Rig(dut)
    await reset(dut)
    seen = {"changed": 0, "notify": 0, "config_read": 0}

    async def watch() -> None:
        while True:
            await RisingEdge(dut.clk)
            for name in seen:
                seen[name] += int(getattr(dut, name).value)

    cocotb.start_soon(watch())
    expected = {"changed": 0, "notify": 0, "config_read": 0}
    for _ in range(150):
        accepted = random.choice([0, ANY])
        dut.accepted.value = accepted
        if random.getrandbits(1):
            feature = rig.change()
            expected["changed"] += 1
            expected["notify"] += not feature or bool(accepted & feature)
        await cycles(dut, 2)
        for _ in range(random.randrange(3)):
            await rig.bus.read(BASE + 4)
            expected["config_read"] += 1
        before = bytes(rig.bytes)
        await rig.write(accepted)
        expected["changed"] += before != rig.bytes
        await cycles(dut, 2)
    assert seen == expected


@cocotb.test(timeout_time=100, timeout_unit="us")
async def changed_is_early_enough(dut: Any) -> None:
    """No read shows a new value before its `changed`."""
    rig = Rig(dut)
    await reset(dut)
    for wait in range(6):
        old = await rig.bus.read(BASE + 6, 2)
        rig.bus.request.queue([{"address": BASE + 4, "byte_enable": 12}])
        await cycles(dut, wait)
        rig.put(**{next(iter(rig.live)): 1 - old})
        changed_at = read_at = None
        for cycle in range(10):
            await RisingEdge(dut.clk)
            if int(dut.changed.value):
                changed_at = cycle
            if int(dut.config_read.value):
                read_at = cycle
        value = (await rig.bus.response.receive()) >> 16
        assert changed_at is not None
        if value != old:
            assert read_at is not None
            assert read_at > changed_at


@cocotb.test(timeout_time=500, timeout_unit="us")
async def nothing_changes_while_frozen(dut: Any) -> None:
    """A change meanwhile shows when the freeze ends, with one `changed` and `notify`; writes are
    dropped.
    """
    rig = Rig(dut)
    await reset(dut)
    shown = dict(rig.live)
    for _ in range(20):
        dut.freeze.value = 1
        for _ in range(random.randint(1, 9)):
            await RisingEdge(dut.clk)
            rig.change()
            assert int(dut.changed.value) == int(dut.notify.value) == 0
        for _ in range(8):
            await rig.write(counts=False)
        await rig.bus.request.idle()
        await rig.check()
        told = rig.live != shown
        dut.freeze.value = 0
        await cycles(dut, 1)
        assert int(dut.changed.value) == int(dut.notify.value) == told
        await cycles(dut, 1)
        assert int(dut.changed.value) == int(dut.notify.value) == 0
        shown = dict(rig.live)
        rig.show()
        await rig.check()


@pytest.mark.parametrize("device", ["net", SAMPLE.name])
def test_device_config(device: str) -> None:
    """The structure in simulation."""
    config = DeviceConfig(name="test", device=device, mac="02:11:22:33:44:55", mtu=1500)
    simulate(
        DeviceConfigRegion(config), module=__name__, name=f"device_config_{device}",
        params={"device": device},
    )  # fmt: skip
