"""Breaches that only a packed ring knows."""

from __future__ import annotations

from lib.hostile.actions import Action, Wait, Write
from lib.hostile.breaches import Breach
from lib.hostile.rings import INDIRECT, NEXT, WRITE, PackedWriter
from lib.hostile.scenes import Scene
from virtio_model.rings.packed import PackedDescriptor
from virtio_model.spec.packed import AVAIL_BIT, USED_BIT
from virtio_model.spec.split import DESC_SIZE

__all__ = ["packed_breaches"]


def _writer(scene: Scene) -> PackedWriter:
    assert isinstance(scene.writer, PackedWriter)
    return scene.writer


def endless(scene: Scene) -> list[Action]:
    """Every slot says that another one follows, and the lap goes on."""
    writer = _writer(scene)
    chain = scene.chain(2) * writer.place.size
    done: list[Action] = []
    for element in chain[: writer.place.size]:
        entry = PackedDescriptor(
            element.address & (1 << 64) - 1,
            element.length & 0xFF,
            scene.draw.getrandbits(16),
            writer.flags(element.flags | NEXT),
        )
        done.append(Write(writer.place.desc + DESC_SIZE * writer.slot, entry.encode(), "endless"))
        writer.step()
    return done


def ends_in_nothing(scene: Scene) -> list[Action]:
    """The last slot says NEXT, and the next one is not available."""
    writer = _writer(scene)
    chain = scene.chain(min(writer.place.size - 1, 4) or 1)
    return writer.expose(
        [type(one)(one.address, one.length, one.flags | NEXT) for one in chain], "no end"
    )


def hole(scene: Scene) -> list[Action]:
    """A slot is left out; perhaps it comes later."""
    writer = _writer(scene)
    slot, wrap = writer.slot, writer.wrap
    writer.step()
    done = writer.expose([scene.element()], "behind a hole")
    if scene.draw.random() < 0.5:
        after = writer.slot, writer.wrap
        writer.slot, writer.wrap = slot, wrap
        done += [Wait(scene.draw.randrange(200)), *writer.expose([scene.element()], "hole filled")]
        writer.slot, writer.wrap = after
    return done


def wrong_wrap(scene: Scene) -> list[Action]:
    """Available and used bits in any combination."""
    writer, draw = _writer(scene), scene.draw
    done: list[Action] = []
    for _ in range(draw.randint(1, 4)):
        element = scene.element()
        flags = element.flags | draw.getrandbits(1) << AVAIL_BIT | draw.getrandbits(1) << USED_BIT
        entry = PackedDescriptor(
            element.address & (1 << 64) - 1, element.length, draw.getrandbits(16), flags
        )
        at = draw.randrange(writer.place.size)
        done.append(Write(writer.place.desc + DESC_SIZE * at, entry.encode(), "wrong wrap"))
    return done


def whole_ring(scene: Scene) -> list[Action]:
    """All slots available at once, with flags and ids of any kind."""
    writer, draw = _writer(scene), scene.draw
    done: list[Action] = []
    for _ in range(writer.place.size):
        element = scene.element()
        flags = element.flags | draw.choice((0, 0, 0, NEXT, INDIRECT, NEXT | INDIRECT, WRITE))
        entry = PackedDescriptor(
            element.address & (1 << 64) - 1,
            element.length,
            draw.choice((7, draw.getrandbits(16))),
            writer.flags(flags),
        )
        done.append(Write(writer.place.desc + DESC_SIZE * writer.slot, entry.encode(), "all slots"))
        writer.step()
    return done[::-1]


def taken_back(scene: Scene) -> list[Action]:
    """A buffer is made available and at once no more."""
    writer, draw = _writer(scene), scene.draw
    slot = writer.slot
    done = writer.expose(scene.chain(1), "taken back")
    at = writer.place.desc + DESC_SIZE * slot
    return [*done, Wait(draw.randrange(60)), Write(at, draw.randbytes(16), "taken back")]


def packed_breaches() -> list[Breach]:
    """All of them, the frequent ones more than once."""
    return [
        endless, ends_in_nothing, ends_in_nothing, hole, wrong_wrap, wrong_wrap, whole_ring,
        taken_back,
    ]  # fmt: skip
