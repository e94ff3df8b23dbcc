"""Random traffic between the driver models and the golden devices: formats, features, sizes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ring_rig import Rig

from virtio_model.driver.free_list import FreePolicy
from virtio_model.errors import QueueFull
from virtio_model.memory import GuestMemory
from virtio_model.rings.split import used_event_offset

LENGTHS = st.lists(st.integers(1, 40), max_size=5)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), LENGTHS, LENGTHS, st.booleans()),
        st.tuples(
            st.sampled_from(
                ["take", "complete", "poll", "audit", "kick", "interrupts", "notifications"]
            )
        ),
    ),
    max_size=80,
)
POLICIES: tuple[FreePolicy, ...] = ("linux", "fifo", "random")


@st.composite
def rigs(draw: st.DrawFn) -> Rig:
    """A rig of any format, size and set of features."""
    packed = draw(st.booleans())
    in_order = draw(st.booleans())
    return Rig(
        draw(st.sampled_from((1, 2, 3, 7, 16, 100) if packed else (1, 2, 4, 16, 128))),
        packed=packed,
        event_idx=draw(st.booleans()),
        indirect=draw(st.booleans()),
        in_order=in_order,
        policy=None if packed or in_order else draw(st.sampled_from(POLICIES)),
        any_order=not in_order and draw(st.booleans()),
        drawn=draw(st.booleans()),
        seed=draw(st.integers(0, 9999)),
    )


def fits(rig: Rig, readable: list[int], writable: list[int], indirect: bool) -> bool:
    """Whether this buffer can be added now."""
    count = len(readable) + len(writable)
    if indirect and not rig.indirect:
        return False
    return 1 <= count <= rig.size and (1 if indirect else count) <= rig.driver.free_slots


@given(rig=rigs(), steps=STEPS)
@settings(deadline=None, max_examples=300)
def test_random_traffic(rig: Rig, steps: list[tuple[object, ...]]) -> None:
    """Any order of steps carries all bytes, each buffer once, and nothing leaks."""
    for step in steps:
        match step:
            case ("add", list() as readable, list() as writable, bool() as indirect):
                if fits(rig, readable, writable, indirect):
                    rig.add(readable, writable, indirect)
            case ("audit",):
                rig.driver.audit()
            case ("kick",):
                rig.driver.needs_kick()
            case ("interrupts",):
                rig.random.choice([rig.driver.disable_interrupts, rig.driver.enable_interrupts])()
                rig.device.should_interrupt()
            case ("notifications",):
                rig.device.enable_notifications(rig.random.random() < 0.5)
            case (name,):
                getattr(rig, str(name))()
    rig.drain()


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("in_order", [False, True])
@pytest.mark.parametrize("size", [1, 2, 16])
def test_many_laps_with_the_ring_kept_full(size: int, in_order: bool, packed: bool) -> None:
    """Full rings over many laps; what does not fit is refused with nothing written."""
    rig = Rig(size, packed=packed, in_order=in_order, seed=size)
    for lap in range(3 * size + 20):
        segments = min(size, 1 + lap % 3)
        while rig.driver.free_slots >= segments:
            rig.add([5] * (segments - 1), [9])
        with pytest.raises(QueueFull):
            rig.driver.add([], [(rig.memory.base, 1)] * (rig.driver.free_slots + 1))
        while rig.take():
            pass
        while rig.complete():
            pass
        rig.driver.audit()
        while rig.poll():
            pass
    rig.drain()


@pytest.mark.parametrize("size", [1, 32])
def test_split_indices_pass_65536(size: int) -> None:
    """Both indices are 16 bits wide and go round; events and slots with them."""
    rig = Rig(size, packed=False, event_idx=True, drawn=False)
    for number in range(65536 + 3 * size):
        rig.device.enable_notifications()
        rig.add([1], [])
        assert rig.driver.needs_kick(), number
        rig.take()
        rig.complete()
        assert rig.device.should_interrupt(), number
        rig.poll()
    assert rig.driver.notification_data() == 3 * size
    rig.drain()


class EagerMemory(GuestMemory):
    """Lets the device look at the ring between any two writes of the driver."""

    rig: Rig | None = None
    seen: list[tuple[object, bytes]]

    def write(self, addr: int, data: bytes) -> None:
        super().write(addr, data)
        if self.rig is not None:
            chain = self.rig.device.next_buffer()
            if chain is not None:
                # The rig notes a buffer only after `add`: remember what was seen.
                self.seen.append((chain, chain.read_all(self)))


@pytest.mark.parametrize(
    ("packed", "size"),
    [(True, 1), (True, 2), (True, 3), (True, 7), (True, 16), (True, 100)]
    + [(False, 1), (False, 2), (False, 16)],
)
@pytest.mark.parametrize("indirect", [False, True])
def test_device_never_sees_a_partial_chain(packed: bool, size: int, indirect: bool) -> None:
    """Between any two writes of the driver the device sees all of a chain or nothing."""
    rig = Rig(size, packed=packed, seed=size)
    memory = rig.memory
    memory.__class__ = EagerMemory
    assert isinstance(memory, EagerMemory)
    memory.seen = []
    for lap in range(3 * size + 5):
        count = 1 + lap % min(size, 4)
        layout = rig.layout([3] * count)
        data = rig.random.randbytes(3 * count)
        layout.write(memory, data)
        memory.rig = rig
        rig.driver.add(layout.segments, [], None, indirect)
        memory.rig = None
        ((chain, seen),) = memory.seen
        memory.seen.clear()
        assert seen == data
        rig.device.complete(chain, 0)  # type: ignore[arg-type]
        assert rig.driver.poll() is not None


@pytest.mark.parametrize("packed", [False, True])
def test_reset_returns_cookies_and_windows(packed: bool) -> None:
    """A reset takes everything back, used or not, and both sides start over."""
    rig = Rig(4, packed=packed)
    first, second = rig.add([4], []), rig.add([], [4, 4], indirect=True)
    rig.take()
    rig.complete()
    assert rig.driver.outstanding == 2
    assert rig.driver.reset() == [first, second]
    assert (rig.driver.free_slots, rig.driver.outstanding) == (4, 0)
    assert not rig.memory.device_may(first.readable.segments[0].addr, 1, writing=False)
    assert rig.memory.read(rig.driver.desc_addr, 64) == bytes(64)
    rig.new_device()
    for _ in range(9):
        rig.add([4], [3])
        assert rig.take()
        assert rig.complete()
        assert rig.poll()


@pytest.mark.parametrize("policy", POLICIES)
def test_free_list_policies(policy: FreePolicy) -> None:
    """Which heads a driver hands out after a ring full of buffers was used in order."""
    rig = Rig(8, packed=False, policy=policy, drawn=policy == "random")
    laps = []
    for _ in range(3):
        laps.append([rig.driver.add([(rig.memory.base, 1)], [], indirect=False) for _ in range(8)])
        for _ in range(8):
            chain = rig.device.next_buffer()
            assert chain is not None
            rig.device.complete(chain)
            assert rig.driver.poll() is not None
    up, down = list(range(8)), list(range(7, -1, -1))
    if policy == "random":
        assert all(sorted(lap) == up for lap in laps)
        assert len({tuple(lap) for lap in laps}) == 3
    else:
        assert laps == ([up, down, up] if policy == "linux" else [up, up, up])


@pytest.mark.parametrize("event_idx", [False, True])
@pytest.mark.parametrize("packed", [False, True])
def test_interrupts(packed: bool, event_idx: bool) -> None:
    """Used buffer notifications on and off, with the race on enabling."""
    rig = Rig(3 if packed else 4, packed=packed, event_idx=event_idx, drawn=packed)
    for _ in range(7):
        rig.driver.disable_interrupts()
        rig.add([], [1])
        rig.take()
        rig.complete()
        assert not rig.device.should_interrupt()
        assert rig.driver.enable_interrupts(), "a used buffer waits already"
        rig.poll()
        assert not rig.driver.enable_interrupts()
        rig.add([], [1])
        rig.take()
        rig.complete()
        assert rig.device.should_interrupt()
        assert not rig.device.should_interrupt(), "nothing new was used"
        rig.poll()
        if packed:
            continue
        if not event_idx:
            used_event = rig.driver.driver_addr + used_event_offset(4)
            assert rig.memory.read_u16(used_event) == 0, "it means nothing, and is left alone"
        flags = rig.memory.read_u16(rig.driver.driver_addr)
        assert flags in ((0,) if event_idx else (0, 1))


@pytest.mark.parametrize("packed", [False, True])
def test_interrupt_after_several(packed: bool) -> None:
    """An event can name a descriptor or an element further on."""
    rig = Rig(4, packed=packed, event_idx=True, drawn=packed)
    rig.driver.enable_interrupts(after=2)
    fired = []
    for _ in range(4):
        rig.add([], [1])
        rig.take()
        rig.complete()
        fired.append(rig.device.should_interrupt())
    assert fired == [False, False, True, False]
