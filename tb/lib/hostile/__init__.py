"""A hostile driver: seeded runs of broken rings and stray accesses, and what must hold in each.

`draw_plan(seed)` makes the whole run, as data that can be printed; a run of `make_hostile_run`
carries plans out on a system of `make_hostile_system` with four virtqueues, with a device reset
between them. The first two are the hostile driver's, the others its well-behaved neighbour's.
"""

from lib.hostile.config import hostile_config, make_hostile_system
from lib.hostile.plan import Plan, draw_plan
from lib.hostile.run import HostileRun, Outcome
from lib.hostile.run_types import make_hostile_run

__all__ = [
    "HostileRun",
    "Outcome",
    "Plan",
    "draw_plan",
    "hostile_config",
    "make_hostile_run",
    "make_hostile_system",
]
