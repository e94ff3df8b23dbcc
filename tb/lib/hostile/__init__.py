"""A hostile driver: seeded runs of broken rings and stray accesses, and what must hold in each.

`draw_plan(seed)` makes the whole run, as data that can be printed; `HostileRun` carries plans out
on a `NetSystem` with two queue pairs, with a device reset between them. The first pair is the
hostile one, the second its well-behaved neighbour.
"""

from lib.hostile.config import hostile_config, make_hostile_system
from lib.hostile.plan import Plan, draw_plan
from lib.hostile.run import HostileRun, Outcome

__all__ = [
    "HostileRun",
    "Outcome",
    "Plan",
    "draw_plan",
    "hostile_config",
    "make_hostile_system",
]
