"""One breach of the ring rules at a time, as actions: what is the same in both formats."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from lib.hostile.actions import Action, BusFault, Flip, Kick, Wait, Write
from lib.hostile.arena import NEIGHBOUR
from lib.hostile.buffers import any_address, buffer_address, table_address
from lib.hostile.rings import INDIRECT, NEXT, WRITE, Element
from lib.hostile.scenes import Scene, linked
from lib.pcie.faults import KINDS

__all__ = ["Breach", "common_breaches"]

Breach = Callable[[Scene], list[Action]]


def clean(scene: Scene) -> list[Action]:
    """A buffer as it should be."""
    return scene.clean()


def odd_buffers(scene: Scene) -> list[Action]:
    """Correct links; addresses and lengths of every kind."""
    return scene.writer.expose(scene.chain(min(scene.writer.place.size, 6)), "odd buffers")


def huge(scene: Scene) -> list[Action]:
    """Gigabytes."""
    length = scene.draw.choice(scene.HUGE)
    at = any_address(scene.draw, scene.places)
    chain = [Element(at, length, scene.direction)] * scene.draw.randint(1, 2)
    return scene.writer.expose(linked(chain), "huge")


def empty(scene: Scene) -> list[Action]:
    """Only zero lengths."""
    chain = [Element(buffer_address(scene.draw), 0, scene.direction)] * scene.draw.randint(1, 3)
    return scene.writer.expose(linked(chain), "empty")


def writable_before_readable(scene: Scene) -> list[Action]:
    """Readable elements behind writable ones."""
    at = buffer_address(scene.draw)
    chain = [Element(at, 100, WRITE), Element(at + 100, 100), Element(at + 200, 100, WRITE)]
    return scene.writer.expose(linked(chain[: scene.draw.randint(2, 3)]), "writable first")


def wrong_direction(scene: Scene) -> list[Action]:
    """Writable where the device only reads, or the other way round."""
    at = buffer_address(scene.draw)
    return scene.writer.expose([Element(at, 400, scene.direction ^ WRITE)], "wrong direction")


def reserved_flags(scene: Scene) -> list[Action]:
    """Flag bits that mean nothing are set."""
    at = buffer_address(scene.draw)
    flags = scene.direction | scene.draw.getrandbits(16) & 0x7F78
    return scene.writer.expose([Element(at, 200, flags)], "reserved flags")


def longer_than_the_ring(scene: Scene) -> list[Action]:
    """The chain catches up with itself."""
    count = scene.writer.place.size + scene.draw.randint(0, 3)
    at = buffer_address(scene.draw)
    chain = linked([Element(at, 8, scene.direction)] * count)
    if scene.draw.random() < 0.5:
        chain[-1] = replace(chain[-1], flags=chain[-1].flags | NEXT)
    return scene.writer.expose(chain, "longer than the ring")


def table(scene: Scene) -> list[Action]:
    """An indirect table, mostly with something wrong about it."""
    draw, writer = scene.draw, scene.writer
    at = table_address(draw)
    entries = [scene.element() for _ in range(draw.randint(1, 8))]
    style = draw.randrange(5)
    note = "table"
    if style < 3:
        entries = linked(entries)
    if style == 1:
        inner = draw.randrange(len(entries))
        entries[inner] = replace(entries[inner], flags=entries[inner].flags | INDIRECT)
        note = "table in table"
    elif style == 2:
        victim = draw.randrange(len(entries))
        target = draw.choice((0, victim, len(entries), 0xFFFF, draw.getrandbits(16)))
        entries[victim] = replace(entries[victim], flags=entries[victim].flags | NEXT, next=target)
        note = "table with a jump"
    length = 16 * len(entries)
    if draw.random() < 0.4:
        odd = (0, 1, 8, 15, 17, length - 1, length + 8, 16 * 65, 16 * 65536, (1 << 32) - 16)
        length = draw.choice(odd)
        note += ", odd length"
    where = any_address(draw, scene.places) if draw.random() < 0.15 else at
    flags = INDIRECT
    if draw.random() < 0.2:
        flags |= draw.choice((NEXT, WRITE, NEXT | WRITE))
    chain = [Element(where, length, flags)]
    if flags & NEXT and draw.random() < 0.7:
        chain.append(Element(buffer_address(draw), 64, scene.direction))
    return [writer.table(at, entries, note), *writer.expose(chain[: writer.place.size], note)]


def rewritten(scene: Scene) -> list[Action]:
    """A chain that changes while the device fetches it."""
    draw, place = scene.draw, scene.writer.place
    done = scene.writer.expose(scene.chain(min(place.size, 8)), "rewritten")
    where = [one.address for one in done if isinstance(one, Write)]
    done.append(Kick(place.index, place.index, 2))
    for _ in range(draw.randint(1, 10)):
        at = draw.choice(where) & -2
        if place.desc <= at < place.driver:
            at = at & -16 | draw.choice((0, 2, 8, 12, 14))
        done += [
            Wait(draw.randrange(1, 30)),
            Flip(at, (1 << draw.randrange(16)).to_bytes(2, "little")),
        ]
    return done


def noise(scene: Scene) -> list[Action]:
    """Random bytes over some of the ring."""
    draw, place = scene.draw, scene.writer.place
    start, end = draw.choice(((place.desc, place.driver), (place.driver, place.device + 8)))
    at = draw.randrange(start, end)
    length = min(draw.randint(1, 128), end - at)
    return [Write(at, draw.randbytes(length), "noise")]


def events(scene: Scene) -> list[Action]:
    """Random wishes for notifications."""
    place = scene.writer.place
    at = place.driver if place.packed else place.driver + scene.draw.choice((0, 4 + 2 * place.size))
    return [Write(at, scene.draw.randbytes(4 if place.packed else 2), "wishes")]


def failing_reads(scene: Scene) -> list[Action]:
    """The bus fails for the rings, the tables or the buffers; a clean chain comes behind."""
    draw, place = scene.draw, scene.writer.place
    start, end = draw.choice(
        (
            (place.desc, place.driver),
            (place.driver, place.device),
            (place.driver, place.driver + 4),
            (buffer_address(draw), 1 << 33),
        )
    )
    kind = draw.choice([name for name in KINDS if name != "drop"] * 3 + ["drop"])
    return [BusFault(start, min(end, NEIGHBOUR), kind, draw.randint(1, 3)), *scene.clean()]


def common_breaches(indirect: bool) -> list[Breach]:
    """What can be done in either format; `indirect`: tables were negotiated."""
    found: list[Breach] = [
        clean, clean, odd_buffers, odd_buffers, huge, empty, writable_before_readable,
        wrong_direction, reserved_flags, longer_than_the_ring, rewritten, rewritten, noise, events,
        failing_reads,
    ]  # fmt: skip
    return found + [table] * (6 if indirect else 1)
