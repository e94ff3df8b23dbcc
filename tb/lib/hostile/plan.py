"""A hostile run as data: what is negotiated, and what the driver does then."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from lib.hostile.actions import Action, Incoming, Kick, Wait
from lib.hostile.arena import Place, place
from lib.hostile.breaches import common_breaches
from lib.hostile.breaches_packed import packed_breaches
from lib.hostile.breaches_split import split_breaches
from lib.hostile.intrusions import intrusion, stray_kick
from lib.hostile.rings import PackedWriter, RingWriter, SplitWriter
from lib.hostile.scenes import BlkScene, NetScene, Scene
from virtio_rtl.regs.maps import NOTIF_CONFIG_DATA

__all__ = ["FEATURES", "Plan", "draw_plan"]

FEATURES = (
    "indirect_desc", "event_idx", "in_order", "notification_data", "notif_config_data",
    "ring_reset", "suspend",
)  # fmt: skip
QUEUES = 4
_SCENES: dict[str, type[Scene]] = {"net": NetScene, "blk": BlkScene}


@dataclass(frozen=True)
class Plan:
    """One run, from reset to reset.

    Parameters
    ----------
    seed, device
        `draw_plan(seed, device=device)` makes this plan again.
    ring, features
        As for `lib.ring_features.ring_features`; the neighbour uses them as well.
    sizes
        Of the hostile virtqueues.
    neighbour_sizes
        Those of the neighbour.
    intruder
        Registers and configuration space are attacked as well. That concerns all virtqueues, so
        nothing is expected of the neighbour then.
    sample
        When the host looks at memory, as `MemoryTarget.sample`.
    pieces
        Completions end at each boundary.
    opening
        A clean buffer in each hostile virtqueue, to see that the device works.
    actions
        What comes then.
    """

    seed: int
    device: str
    ring: str
    features: tuple[str, ...]
    sizes: tuple[int, int]
    neighbour_sizes: tuple[int, int]
    intruder: bool
    sample: str
    pieces: bool
    opening: tuple[Action, ...]
    actions: tuple[Action, ...]

    @property
    def places(self) -> list[Place]:
        """The rings of the hostile virtqueues."""
        return [place(index, self.ring == "packed", size) for index, size in enumerate(self.sizes)]

    def show(self) -> str:
        """All of it, an action a line."""
        head = replace(self, opening=(), actions=())
        return "\n  ".join([repr(head), *map(repr, self.opening), "--", *map(repr, self.actions)])


class _Driver:
    """Writes and kicks one hostile virtqueue while a plan is made."""

    def __init__(self, draw: random.Random, places: list[Place], index: int, plan: Plan) -> None:
        where = places[index]
        self.writer: RingWriter = PackedWriter(where) if where.packed else SplitWriter(where)
        self.scene = _SCENES[plan.device](draw, self.writer, places)
        self._features = plan.features
        breaches = common_breaches("indirect_desc" in plan.features)
        self.breaches = breaches + (packed_breaches() if where.packed else split_breaches())

    def kick(self) -> Kick:
        """As negotiated."""
        index = self.writer.place.index
        value = index | (NOTIF_CONFIG_DATA if "notif_config_data" in self._features else 0)
        if "notification_data" not in self._features:
            return Kick(index, value, 2)
        return Kick(index, value | self.writer.position << 16, 4)


def draw_plan(
    seed: int, *, device: str = "net", ring: str | None = None, intruder: bool | None = None
) -> Plan:
    """The run of a seed on a device type; it is the same whenever it is drawn.

    ring, intruder: instead of what would be drawn; the rest is another run then.
    """
    draw = random.Random(f"hostile {seed}")
    form = draw.choice(("split", "packed"))
    form = ring or form
    attack = draw.random() < 0.3
    attack = attack if intruder is None else intruder
    powers = (1, 2, 4, 8, 16, 32, 64)
    sizes = [draw.choice(powers), draw.choice(powers)]
    if form == "packed":
        sizes = [draw.choice((size, draw.randint(1, 64))) for size in sizes]
    plan = Plan(
        seed=seed,
        device=device,
        ring=form,
        features=tuple(name for name in FEATURES if draw.random() < 0.6),
        sizes=(sizes[0], sizes[1]),
        neighbour_sizes=(draw.choice((8, 16, 64)), draw.choice((2, 8, 64))),
        intruder=attack,
        sample=draw.choice(("answer", "answer", "random", "arrival")),
        pieces=draw.random() < 0.2,
        opening=(),
        actions=(),
    )
    drivers = [_Driver(draw, plan.places, index, plan) for index in range(2)]
    opening: list[Action] = []
    for driver in drivers:
        opening += [*driver.scene.opening(), driver.kick()]
    if device == "net":
        # Frames are dropped whose virtqueue has no buffer yet, in the eyes of the device.
        opening += [Wait(150), Incoming(90)]
    hostilities = _hostilities(draw, drivers, plan)
    return replace(plan, opening=tuple(opening), actions=tuple(hostilities))


def _hostilities(draw: random.Random, drivers: list[_Driver], plan: Plan) -> list[Action]:
    done: list[Action] = []
    attack = plan.intruder
    arrivals = (0, 0, 1, 1, 2, 4) if plan.device == "net" else (0,)
    for _ in range(draw.choice((1, 2, 3, 4, 6, 10))):
        driver = draw.choice(drivers)
        if attack and draw.random() < 0.6:
            done += intrusion(draw, QUEUES)
        else:
            done += draw.choice(driver.breaches)(driver.scene)
            if draw.random() < 0.9:
                done.append(driver.kick())
        if draw.random() < 0.15:
            done.append(stray_kick(draw, QUEUES if attack else 2))
        for _ in range(draw.choice(arrivals)):
            done.append(Incoming(draw.choice((1, 60, 60, 300, 1518, 1600)), draw.random() < 0.05))
        if draw.random() < 0.6:
            done.append(Wait(draw.choice((1, 5, 20, 60, 150))))
    return done
