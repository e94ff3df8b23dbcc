"""UsedPosition: a position in a used ring, moved on."""

from __future__ import annotations

import random
from typing import Any

import cocotb
import pytest
from amaranth.hdl import Module
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from lib.layout import pack, unpack
from lib.sim import params, simulate
from lib.streams import cycles, reset, start_clock
from virtio_rtl.virtqueue.used_position import UsedPosition

BEFORE = data.StructLayout({"packed": 1, "size": 16, "index": 15, "wrapped": 1, "slots": 16})
AFTER = data.StructLayout({"next_index": 15, "next_wrapped": 1, "past_end": 1})


class Bench(wiring.Component):
    """UsedPosition between two registers."""

    def __init__(self, rings: tuple[str, ...]):
        self.rings = rings
        super().__init__({"before": In(BEFORE), "after": Out(AFTER)})

    def elaborate(self, platform: Any) -> Module:
        """Wire it."""
        m = Module()
        m.submodules.position = position = UsedPosition(self.rings)
        for name in BEFORE.members:
            m.d.sync += getattr(position, name).eq(self.before[name])
        for name in AFTER.members:
            m.d.sync += self.after[name].eq(getattr(position, name))
        return m


def question() -> dict[str, int]:
    """A position and a step, often near an end."""
    packed = int(random.choice(params().rings) == "packed")
    size = random.choice([1, 2, 3, 17, 64, 1000, 32767, 32768])
    lap = size if packed else 32768
    return {
        "packed": packed,
        "size": size,
        "index": random.choice([0, lap - 1, max(lap - 2, 0), random.randrange(lap)]),
        "wrapped": random.getrandbits(1),
        "slots": random.choice([1, size, random.randint(1, size)]) if packed else 1,
    }


def answer(before: dict[str, int]) -> dict[str, int]:
    """Packed: the slot, and a wrap counter that toggles; split: a number of 16 bits."""
    if before["packed"]:
        passed, index = divmod(before["index"] + before["slots"], before["size"])
        wrapped = before["wrapped"] ^ passed
    else:
        number = ((before["index"] | before["wrapped"] << 15) + 1) & 0xFFFF
        index, wrapped = number & 0x7FFF, number >> 15
    return {
        "next_index": index,
        "next_wrapped": wrapped,
        "past_end": int(wrapped != before["wrapped"]),
    }


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def moves_on(dut: Any) -> None:
    """Any size, any chain, at the end of a lap and elsewhere."""
    start_clock(dut)
    await reset(dut)
    asked = []
    for _ in range(10_000):
        asked.append(question())
        dut.before.value = pack(BEFORE, asked[-1])
        await cycles(dut)
        if len(asked) > 2:
            wanted = asked[-3]
            assert dict(unpack(AFTER, int(dut.after.value))) == answer(wanted), wanted


@pytest.mark.parametrize("rings", [("split", "packed"), ("split",), ("packed",)])
def test_used_position(rings: tuple[str, ...]) -> None:
    simulate(
        Bench(rings),
        module=__name__,
        name=f"used_position_{'_'.join(rings)}",
        params={"rings": rings},
    )
