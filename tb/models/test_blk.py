"""Requests between the block driver model and the golden block device."""

from __future__ import annotations

from collections import deque
from typing import Any

import pytest
from blk_rig import ALL, PACKED, SERIAL, SPLIT, BlkRig
from hypothesis import given, settings
from hypothesis import strategies as st

from virtio_model.blk_request import BlkLimits, Range, RequestHeader, encode_ranges
from virtio_model.device.blk import GoldenBlk
from virtio_model.driver.blk import PIECES, BlkDone
from virtio_model.driver.framing import WHOLE, Framing
from virtio_model.errors import DriverComplaint, QueueFull
from virtio_model.memory import GuestMemory
from virtio_model.spec.blk import CONFIG, BlkFeature, RequestStatus, RequestType
from virtio_model.spec.features import Feature, mask

T, S, F = RequestType, RequestStatus, BlkFeature
OK, IOERR, UNSUPP = S.OK, S.IOERR, S.UNSUPP
RINGS = st.sampled_from(
    [ring | extra for ring in (SPLIT, PACKED) for extra in (0, mask([Feature.IN_ORDER]))]
)
CUTS = st.lists(st.integers(-40, 1600), max_size=4).map(tuple)
FRAMINGS = st.builds(Framing, CUTS, CUTS, st.booleans(), st.integers(0, 63))
SECTORS, LENGTHS = st.integers(0, 15), st.integers(0, 3)
RANGES = st.lists(st.tuples(SECTORS, st.integers(0, 7)), min_size=1, max_size=2)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["read", "write"]), SECTORS, LENGTHS, FRAMINGS),
        st.tuples(st.sampled_from(["discard", "write_zeroes"]), RANGES, st.just(0), FRAMINGS),
        st.tuples(st.sampled_from(["flush", "get_id"]), st.just(0), st.just(0), FRAMINGS),
        st.tuples(st.just("answer"), st.integers(0, 3), st.just(0), st.just(WHOLE)),
    ),
    max_size=40,
)


@given(steps=STEPS, ring=RINGS, seed=st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=150)
def test_random_requests(steps: list[tuple[Any, ...]], ring: int, seed: Any) -> None:
    """Whatever is asked in whatever framing, on two queues with many in flight, is done.

    The expectation is a plain list of sectors that knows nothing of requests.
    """
    rig = BlkRig(ring=ring, size=16)
    before = rig.allocator.outstanding
    disk = [bytes(rig.image[512 * n : 512 * n + 512]) for n in range(rig.capacity)]
    flying: list[deque[tuple[str, Any]]] = [deque(), deque()]

    def answer(limit: int | None) -> None:
        # All of one queue, then the other's: where two queues meet, order is nobody's.
        for queue, waiting in enumerate(flying):
            rig.device.process(queue, limit)
            while (done := rig.driver.poll(queue)) is not None:
                name, expected = waiting.popleft()
                assert (done.cookie, done.status) == (name, OK)
                assert done.data == expected

    for name, first, length, framing in steps:
        queue = seed.randrange(2)
        if name == "answer":
            answer(first or None)
            continue
        if flying[1 - queue]:
            answer(None)
        how = {"queue": queue, "framing": framing, "cookie": name}
        expected = b""
        changed: dict[int, bytes] = {}
        if name in ("read", "write"):
            length = min(length, rig.capacity - first)
        try:
            if name == "read":
                rig.driver.read(first, length, **how)
                expected = b"".join(disk[first : first + length])
            elif name == "write":
                data = [seed.randbytes(512) for _ in range(length)]
                rig.driver.write(first, b"".join(data), **how)
                changed = dict(enumerate(data, first))
            elif name in ("flush", "get_id"):
                getattr(rig.driver, name)(**how)
                expected = SERIAL.ljust(20, b"\0") if name == "get_id" else b""
            else:
                ranges = [Range(at, min(count, rig.capacity - at)) for at, count in first]
                getattr(rig.driver, name)(ranges, **how)
                changed = {
                    item.sector + n: bytes(512) for item in ranges for n in range(item.sectors)
                }
        except QueueFull:
            continue
        flying[queue].append((name, expected))
        for sector, data_of in changed.items():
            disk[sector] = data_of
    answer(None)
    assert not any(flying)
    assert bytes(rig.image) == b"".join(disk)
    assert rig.allocator.outstanding == before
    for ring_of in rig.driver.queues:
        ring_of.audit()


def _ask(
    rig: BlkRig, kind: int, sector: int = 0, data: bytes = b"", room: int = 0, **how: Any
) -> BlkDone:
    rig.driver.send(RequestHeader(kind, sector).encode() + data, room + 1, **how)
    assert rig.device.process() == 1
    done = rig.driver.poll()
    assert done is not None
    return done


HUGE = (1 << 64) - 1
SECTOR = bytes(512)
REFUSED: list[tuple[int, int, bytes, int, RequestStatus]] = [
    (T.IN, 16, b"", 512, IOERR),
    (T.IN, 15, b"", 1024, IOERR),
    (T.IN, HUGE, b"", 512, IOERR),
    (T.IN, HUGE, b"", 1024, IOERR),
    (T.IN, 1 << 55, b"", 512, IOERR),
    (T.IN, 17, b"", 0, IOERR),
    (T.IN, 0, b"", 511, IOERR),
    (T.IN, 0, b"", 513, IOERR),
    (T.OUT, 16, SECTOR, 0, IOERR),
    (T.OUT, 15, 2 * SECTOR, 0, IOERR),
    (T.OUT, HUGE, SECTOR, 0, IOERR),
    (T.OUT, 0, SECTOR + b"x", 0, IOERR),
    (T.OUT, 0, b"x", 30, IOERR),
    (T.DISCARD, 0, encode_ranges([Range(0, 1)])[:15], 0, IOERR),
    (T.DISCARD, 0, encode_ranges([Range(0, 1)]) + b"x", 0, IOERR),
    (T.DISCARD, 0, encode_ranges([Range(0, 1)] * 3), 0, IOERR),
    (T.DISCARD, 0, encode_ranges([Range(0, 10)]), 0, IOERR),
    (T.DISCARD, 0, encode_ranges([Range(8, 9)]), 0, IOERR),
    (T.DISCARD, 0, encode_ranges([Range(HUGE, 1)]), 0, IOERR),
    (T.DISCARD, 0, encode_ranges([Range(0, 1, 1)]), 0, UNSUPP),
    (T.DISCARD, 0, encode_ranges([Range(0, 1, 1 << 31)]), 0, UNSUPP),
    (T.WRITE_ZEROES, 0, encode_ranges([Range(0, 1)] * 4), 0, IOERR),
    (T.WRITE_ZEROES, 0, encode_ranges([Range(0, 8)]), 0, IOERR),
    (T.WRITE_ZEROES, 0, encode_ranges([Range(10, 7)]), 0, IOERR),
    (T.WRITE_ZEROES, 0, encode_ranges([Range(0, 1, 2)]), 0, UNSUPP),
    # An unknown flag in any whole range counts, whatever else is wrong.
    (T.DISCARD, 0, encode_ranges([Range(16, 1), Range(0, 1, 1)]), 0, UNSUPP),
    (T.DISCARD, 0, encode_ranges([Range(16, 1, 1)]), 0, UNSUPP),
    (T.DISCARD, 0, encode_ranges([Range(0, 1, 1)] * 3), 0, UNSUPP),
    (T.DISCARD, 0, encode_ranges([Range(0, 1)] * 20 + [Range(0, 1, 1)]), 0, UNSUPP),
    (T.DISCARD, 0, encode_ranges([Range(0, 1, 1)]) + b"x", 0, UNSUPP),
    (T.DISCARD, 0, encode_ranges([Range(0, 1), Range(0, 1, 0xFFFF_FFFF)])[:-1], 0, IOERR),
    (T.WRITE_ZEROES, 0, encode_ranges([Range(0, 8), Range(0, 1, 2)]), 0, UNSUPP),
    (T.WRITE_ZEROES, 0, encode_ranges([Range(0, 1, 1)] * 3 + [Range(0, 1, 2)]), 0, UNSUPP),
    (T.WRITE_ZEROES, 0, encode_ranges([Range(0, 1, 4)]) + b"x", 0, UNSUPP),
    (T.WRITE_ZEROES, 0, encode_ranges([Range(0, 1, 1)] * 4), 0, IOERR),
    *((kind, 0, b"", 20, UNSUPP) for kind in (2, 3, 5, 9, 12, 99, 0xFFFF_FFFF, 1 << 16)),
    *((kind, 0, b"", 0, UNSUPP) for kind in (T.GET_LIFETIME, T.SECURE_ERASE)),
    *((kind, 0, b"", 8, UNSUPP) for kind in T if kind.name.startswith("ZONE")),
]


@pytest.mark.parametrize(("kind", "sector", "data", "room", "status"), REFUSED)
def test_refused(kind: int, sector: int, data: bytes, room: int, status: RequestStatus) -> None:
    """What a device refuses: the disk stays, and all data bytes are zeros."""
    rig = BlkRig(strict=False)
    before = bytes(rig.image)
    assert _ask(rig, kind, sector, data, room) == BlkDone(None, status, bytes(room))
    assert bytes(rig.image) == before


def test_edges_of_the_disk() -> None:
    """The last sector, a request of no data at the end, the largest range, a flag that is fine."""
    rig = BlkRig(strict=False)
    assert _ask(rig, T.IN, 16).status == OK
    assert _ask(rig, T.OUT, 15, b"\xee" * 512).status == OK
    assert _ask(rig, T.IN, 15, room=512).data == b"\xee" * 512
    assert _ask(rig, T.DISCARD, 0, encode_ranges([Range(7, 9), Range(16, 0)])).status == OK
    assert rig.image[7 * 512 :] == bytes(9 * 512)
    rig.image[:] = b"\xff" * len(rig.image)
    whole = [Range(9, 7), Range(0, 1, 1), Range(2, 1)]
    assert _ask(rig, T.WRITE_ZEROES, 5, encode_ranges(whole)).status == OK
    zeroed = [not any(rig.image[512 * n : 512 * n + 512]) for n in range(16)]
    assert zeroed == [n in (0, 2) or n >= 9 for n in range(16)]


@pytest.mark.parametrize(
    ("bad", "status"), [(Range(0, 8), IOERR), (Range(0, 1, 2), UNSUPP), (Range(12, 5), IOERR)]
)
def test_all_ranges_are_done_or_none(bad: Range, status: RequestStatus) -> None:
    """Wherever the range that is refused stands, nothing is zeroed."""
    rig = BlkRig(strict=False)
    before = bytes(rig.image)
    for ranges in ([Range(1, 1), bad], [bad, Range(1, 1), Range(0, 1, 1)]):
        assert _ask(rig, T.WRITE_ZEROES, 0, encode_ranges(ranges)).status == status
        assert bytes(rig.image) == before


@pytest.mark.parametrize("kind", [T.FLUSH, T.DISCARD, T.WRITE_ZEROES])
def test_commands_that_were_not_negotiated(kind: RequestType) -> None:
    """Each needs its feature, whatever it carries."""
    rig = BlkRig(features=ALL & ~mask([F[kind.name]]), strict=False)
    assert _ask(rig, kind, 0, encode_ranges([Range(0, 1)])).status == UNSUPP
    assert _ask(BlkRig(strict=False), kind, 0, encode_ranges([Range(0, 1)])).status == OK


@pytest.mark.parametrize("kind", [T.OUT, T.DISCARD, T.WRITE_ZEROES])
def test_read_only_disk(kind: RequestType) -> None:
    """Nothing changes it."""
    rig = BlkRig(read_only=True, strict=False)
    before = bytes(rig.image)
    data = SECTOR if kind == T.OUT else encode_ranges([Range(0, 1)])
    assert _ask(rig, kind, 0, data).status == IOERR
    if kind != T.OUT:
        assert _ask(rig, kind, 0, encode_ranges([Range(0, 1, 2)])).status == UNSUPP
    assert _ask(rig, T.IN, 0, room=512).data == before[:512]
    assert bytes(rig.image) == before


@pytest.mark.parametrize("length", range(16))
def test_short_header(length: int) -> None:
    """Less than a header is an error, and not the request that it might have become."""
    rig = BlkRig(strict=False)
    before = bytes(rig.image)
    rig.driver.send(RequestHeader(T.OUT).encode()[:length], 5)
    rig.device.process()
    assert rig.driver.poll() == BlkDone(None, IOERR, bytes(4))
    assert bytes(rig.image) == before


@pytest.mark.parametrize("ring", [SPLIT, PACKED])
def test_no_byte_for_the_status(ring: int) -> None:
    """A request that cannot be answered is not done, and comes back with length 0."""
    rig = BlkRig(ring=ring, strict=False)
    before = bytes(rig.image)
    rig.driver.send(RequestHeader(T.OUT).encode() + b"\xee" * 512, 0, cookie="lost")
    assert rig.device.process() == 1
    assert rig.driver.poll() == BlkDone("lost", OK, b"")
    assert bytes(rig.image) == before


@pytest.mark.parametrize("room", [0, 1, 19, 20, 21, 64])
def test_get_id_in_any_room(room: int) -> None:
    """As much of the id as there is room for, NULs behind it."""
    rig = BlkRig(strict=False)
    done = _ask(rig, T.GET_ID, room=room)
    assert (done.status, done.data) == (OK, SERIAL.ljust(room, b"\0")[:room])
    rig.device.serial = b"x" * 20
    assert _ask(rig, T.GET_ID, room=room).data == (b"x" * 20).ljust(room, b"\0")[:room]


def test_pieces_are_header_data_and_status() -> None:
    """The framing of most drivers; without data there is none of it."""
    rig = BlkRig()
    for sectors, room in ((0, [1]), (2, [1024, 1])):
        rig.driver.read(0, sectors, framing=PIECES)
        chain = rig.device.queues[0].next_buffer()
        assert chain is not None
        assert [length for _, length in chain.readable] == [16]
        assert [length for _, length in chain.writable] == room
    rig.driver.write(0, SECTOR, framing=PIECES)
    chain = rig.device.queues[0].next_buffer()
    assert chain is not None
    assert [length for _, length in chain.readable] == [16, 512]


def test_image_and_id_must_fit() -> None:
    """A disk is whole sectors, and of the size that the configuration says."""
    memory = GuestMemory(4096)
    for capacity in (1, 3):
        with pytest.raises(ValueError, match="capacity"):
            GoldenBlk(memory, [], bytearray(1024), limits=BlkLimits(capacity))
    with pytest.raises(ValueError, match="capacity"):
        GoldenBlk(memory, [], bytearray(1000))
    with pytest.raises(ValueError, match="20 bytes"):
        GoldenBlk(memory, [], bytearray(512), serial=b"x" * 21)


def test_limits_from_the_device_configuration() -> None:
    """Fields count that offered features bring; the others may hold anything."""
    config = {field.name: 1000 + number for number, field in enumerate(CONFIG)}
    plain = BlkLimits.of(config, 0)
    assert plain == BlkLimits(config["capacity"])
    full = BlkLimits.of(config, mask([F.RO, F.DISCARD, F.WRITE_ZEROES]))
    assert full == BlkLimits(
        config["capacity"],
        True,
        config["max_discard_sectors"],
        config["max_discard_seg"],
        config["max_write_zeroes_sectors"],
        config["max_write_zeroes_seg"],
    )


def _meddle(rig: BlkRig, what: str) -> None:
    """Answer a read as a device would that makes one mistake."""
    queue = rig.device.queues[0]
    chain = queue.next_buffer()
    assert chain is not None
    answer = rig.device.answer(chain.read_all(rig.memory), chain.writable_length)
    if what == "status":
        answer = answer[:-1] + b"\x03"
    if what == "no status":
        answer = answer[:-1]
    chain.write_all(rig.memory, answer)
    queue.complete(chain, {"short": 512, "nothing": 0}.get(what, 513))
    if what == "readable":
        addr, _ = chain.readable[0]
        rig.memory.write(addr, b"\x55")


@pytest.mark.parametrize(
    ("what", "text"),
    [
        ("short", "used length"),
        ("nothing", "used length"),
        ("status", "no status"),
        ("no status", "no status"),
        ("readable", "readable part"),
    ],
)
@pytest.mark.parametrize("framing", [PIECES, WHOLE])
def test_driver_complains(what: str, text: str, framing: Framing) -> None:
    """The driver finds what a device gets wrong in an answer."""
    rig = BlkRig()
    rig.driver.read(3, 1, framing=framing)
    _meddle(rig, what)
    with pytest.raises(DriverComplaint, match=text):
        rig.driver.poll()


@pytest.mark.parametrize("ring", [SPLIT, PACKED])
def test_requests_taken_back_after_a_reset(ring: int) -> None:
    """What a queue held is freed, and told by its cookies; a full queue leaks nothing."""
    rig = BlkRig(ring=ring, size=4, count=1)
    before = rig.allocator.outstanding
    rig.driver.flush(cookie=1)
    rig.device.process()
    assert rig.driver.poll() == BlkDone(1, OK, b"")
    rig.driver.read(0, 1, cookie=2, framing=Framing(indirect=True))
    rig.driver.write(0, SECTOR, cookie=3, framing=WHOLE)
    with pytest.raises(QueueFull):
        rig.driver.read(0, 1)
    assert rig.driver.take_back(rig.driver.queues[0]) == [2, 3]
    assert rig.allocator.outstanding == before
