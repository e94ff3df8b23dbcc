"""Breaches that only a split ring knows."""

from __future__ import annotations

from dataclasses import replace

from lib.hostile.actions import Action, Write
from lib.hostile.breaches import Breach
from lib.hostile.rings import NEXT, SplitWriter
from lib.hostile.scenes import Scene

__all__ = ["split_breaches"]


def _writer(scene: Scene) -> SplitWriter:
    assert isinstance(scene.writer, SplitWriter)
    return scene.writer


def loop(scene: Scene) -> list[Action]:
    """A chain that comes back to one of its own descriptors."""
    writer = _writer(scene)
    size, first = writer.place.size, writer.free
    chain = [replace(element, flags=element.flags | NEXT) for element in scene.chain(min(size, 5))]
    chain[-1] = replace(chain[-1], next=(first + scene.draw.randrange(len(chain))) % size)
    return writer.expose(chain, "loop")


def next_out_of_range(scene: Scene) -> list[Action]:
    """A link to a descriptor behind the end of the table, or to any."""
    writer = _writer(scene)
    chain = scene.chain(min(writer.place.size, 4))
    size = writer.place.size
    target = scene.draw.choice((size, size + 1, 0xFFFF, 0x8000, scene.draw.getrandbits(16)))
    at = scene.draw.randrange(len(chain))
    chain[at] = replace(chain[at], flags=chain[at].flags | NEXT, next=target)
    return writer.expose(chain, "next out of range")


def head_out_of_range(scene: Scene) -> list[Action]:
    """The available ring names a descriptor behind the end of the table."""
    writer = _writer(scene)
    size = writer.place.size
    return writer.announce(scene.draw.choice((size, 0xFFFF, 0x8000, size * 2)), "head out of range")


def same_head_again(scene: Scene) -> list[Action]:
    """A buffer that the device has, or has had, is made available once more."""
    writer = _writer(scene)
    head = (writer.free - 1) % writer.place.size
    done: list[Action] = []
    for _ in range(scene.draw.randint(1, 4)):
        done += writer.announce(head, "same head")
    return done


def index_jump(scene: Scene) -> list[Action]:
    """The available index goes further than the ring is long, or back."""
    writer = _writer(scene)
    size = writer.place.size
    step = scene.draw.choice((size + 1, size * 2, 0x8000, 0xFFFF, 0xFFF0, size))
    head = scene.draw.randrange(size)
    return writer.announce(head, "index jump", step)


def all_entries(scene: Scene) -> list[Action]:
    """As many buffers as there are entries, all at once, from a table of random descriptors."""
    writer, draw = _writer(scene), scene.draw
    size = writer.place.size
    entries = [scene.element() for _ in range(size)]
    done: list[Action] = [
        writer.table(
            writer.place.desc,
            [
                replace(e, flags=e.flags | draw.choice((0, 0, NEXT)), next=draw.randrange(size))
                for e in entries
            ],
            "random descriptors",
        )
    ]
    heads = b"".join(draw.randrange(size).to_bytes(2, "little") for _ in range(size))
    done.append(Write(writer.place.driver + 4, heads, "random heads"))
    step = draw.randint(1, size)
    writer.avail = writer.avail + step & 0xFFFF
    done.append(Write(writer.place.driver + 2, writer.avail.to_bytes(2, "little"), "many at once"))
    return done


def split_breaches() -> list[Breach]:
    """All of them, the frequent ones more than once."""
    return [
        loop, loop, next_out_of_range, next_out_of_range, head_out_of_range, same_head_again,
        index_jump, all_entries, all_entries,
    ]  # fmt: skip
