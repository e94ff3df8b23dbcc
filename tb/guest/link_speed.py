"""`python -m guest.link_speed`: TLPs a second of the simulated link, against plain cocotbext-pcie.

Both carry the same TLPs in one run. Device: writes of 256 bytes to the host's memory and reads of
512 bytes from it, 32 reads in flight. Host: dwords written to the device's BAR and read back, one
at a time. Processor time, so that what else the machine does counts little; the best round of each.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Annotated

import typer
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from lib.paths import BUILD
from lib.sim import simulate

MAX_COUNT = 800
"""More, and the TLP counts, which are sequence numbers of 12 bits, wrap."""

app = typer.Typer(add_completion=False)


class Idle(wiring.Component):
    """Something to simulate: both links are Python."""

    def __init__(self) -> None:
        super().__init__({"i": In(1), "o": Out(1)})

    def elaborate(self, platform: object) -> Module:
        """Wire it."""
        m = Module()
        m.d.sync += self.o.eq(self.i)
        return m


@dataclass(frozen=True)
class Speed:
    """One kind of traffic: TLPs, and TLPs a second over each link."""

    traffic: str
    tlps: int
    plain: float
    fast: float

    @property
    def ratio(self) -> float:
        """How many times faster `lib.pcie` is."""
        return self.fast / self.plain


def measure(count: int = 400, rounds: int = 3) -> list[Speed]:
    """Run the traffic over both links; ValueError if they did not carry the same TLPs."""
    if not 0 < count <= MAX_COUNT:
        raise ValueError(f"count {count}: 1 to {MAX_COUNT}")
    result = BUILD / "guest" / "link_speed.json"
    result.parent.mkdir(parents=True, exist_ok=True)
    given = {"count": count, "rounds": rounds, "result": str(result)}
    simulate(Idle(), module="guest.link_flow", name="link_speed", params=given)
    rows = json.loads(result.read_text())
    speeds = []
    for traffic in ("device", "host"):
        tlps = {row[f"{traffic}_tlps"] for name in rows for row in rows[name]}
        if len(tlps) != 1:
            raise ValueError(f"{traffic}: the links carried different TLPs: {rows}")
        (number,) = tlps
        plain, fast = (number / min(row[traffic] for row in rows[n]) for n in ("plain", "fast"))
        speeds.append(Speed(traffic, number, plain, fast))
    return speeds


def table(speeds: list[Speed]) -> Table:
    """Return the figures for people."""
    made = Table(box=SIMPLE_HEAD, title="TLPs a second of processor time")
    for name in ("traffic", "TLPs", "cocotbext-pcie", "lib.pcie", "times"):
        made.add_column(name, justify="left" if name == "traffic" else "right")
    for each in speeds:
        figures = (f"{each.tlps:,}", f"{each.plain:,.0f}", f"{each.fast:,.0f}")
        made.add_row(each.traffic, *figures, f"{each.ratio:.1f}")
    return made


@app.command()
def main(
    count: Annotated[int, typer.Option(help="Requests of each kind.", min=1, max=MAX_COUNT)] = 400,
    rounds: Annotated[int, typer.Option(help="Rounds; the best counts.", min=1)] = 3,
) -> None:
    """Compare the two."""
    Console().print(table(measure(count, rounds)))


if __name__ == "__main__":
    app()
