"""Guest memory: windows, faults, hooks, allocator."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from virtio_model.errors import DeviceFault
from virtio_model.memory import Allocator, GuestMemory

BASE = 0x1_0000_0000


@pytest.fixture
def memory() -> GuestMemory:
    """64 KiB beyond 4 GiB, so that addresses need all their bits."""
    return GuestMemory(0x10000, BASE)


def test_words_are_little_endian(memory: GuestMemory) -> None:
    """Words of all sizes are little-endian."""
    memory.write_u64(BASE, 0x0807060504030201)
    assert memory.read(BASE, 8) == bytes(range(1, 9))
    assert memory.read_u16(BASE) == 0x0201
    assert memory.read_u32(BASE + 2) == 0x06050403
    memory.write_u16(BASE, 0xBBAA)
    memory.write_u32(BASE + 2, 0x11223344)
    assert memory.read_u64(BASE) == 0x0807_1122_3344_BBAA


def test_driver_stays_inside(memory: GuestMemory) -> None:
    """The driver side cannot leave the memory."""
    for addr, length in ((BASE - 1, 1), (BASE + 0xFFFF, 2), (0, 1)):
        with pytest.raises(IndexError):
            memory.read(addr, length)
        with pytest.raises(IndexError):
            memory.write(addr, bytes(length))


def test_device_sees_nothing_without_a_grant(memory: GuestMemory) -> None:
    """A device without windows reaches nothing."""
    with pytest.raises(DeviceFault, match="read outside"):
        memory.device_read(BASE, 1)
    with pytest.raises(DeviceFault, match="write outside"):
        memory.device_write(BASE, b"x")
    assert len(memory.faults) == 2


def test_windows_are_exact(memory: GuestMemory) -> None:
    """A window ends at its last byte, and with its revocation."""
    window = memory.grant(BASE + 0x10, 0x10, writable=True)
    memory.device_write(BASE + 0x10, bytes(0x10))
    for addr, length in ((BASE + 0xF, 2), (BASE + 0x1F, 2), (BASE + 0x20, 1), (BASE, 0x100)):
        with pytest.raises(DeviceFault):
            memory.device_write(addr, bytes(length))
    memory.revoke(window)
    with pytest.raises(DeviceFault):
        memory.device_read(BASE + 0x10, 1)


def test_directions(memory: GuestMemory) -> None:
    """Reading and writing are granted separately."""
    memory.grant(BASE, 4)
    memory.grant(BASE + 4, 4, writable=True, readable=False)
    assert memory.device_may(BASE, 4, writing=False)
    assert not memory.device_may(BASE, 4, writing=True)
    assert memory.device_may(BASE + 4, 4, writing=True)
    assert not memory.device_may(BASE + 4, 4, writing=False)
    assert not memory.device_may(BASE, 8, writing=False)


def test_one_access_over_neighbouring_windows(memory: GuestMemory) -> None:
    """A device may join neighbouring elements in one access."""
    memory.grant(BASE + 0xFF0, 0x20)
    memory.grant(BASE + 0x1010, 0x3000)
    memory.grant(BASE + 0x1000, 0x20)
    assert memory.device_may(BASE + 0xFF0, 0x3020, writing=False)
    assert not memory.device_may(BASE + 0xFF0, 0x3021, writing=False)


def test_overlapping_windows_are_revoked_one_by_one(memory: GuestMemory) -> None:
    """Revoking one of two equal windows leaves the other."""
    first, second = memory.grant(BASE, 8), memory.grant(BASE, 8)
    memory.revoke(first)
    assert memory.device_may(BASE, 8, writing=False)
    memory.revoke(second)
    assert not memory.device_may(BASE, 8, writing=False)


def test_faults_only_recorded() -> None:
    """Without raising, a fault reads all ones and writes nothing."""
    memory = GuestMemory(0x100, raise_faults=False)
    assert memory.device_read(0, 4) == b"\xff" * 4
    assert memory.device_read(0x10_0000, 2) == b"\xff" * 2
    memory.device_write(0, b"abcd")
    assert memory.read(0, 4) == bytes(4)
    assert [fault.context["addr"] for fault in memory.faults] == [0, 0x10_0000, 0]


def test_hooks_see_good_accesses_only() -> None:
    """Hooks see the device's accesses, neither its faults nor the driver's."""
    memory = GuestMemory(0x100, raise_faults=False)
    seen: list[tuple[str, int, bytes]] = []
    memory.write_hooks.append(lambda addr, data: seen.append(("write", addr, data)))
    memory.read_hooks.append(lambda addr, data: seen.append(("read", addr, data)))
    memory.grant(0x10, 4, writable=True)
    memory.device_write(0x10, b"ab")
    memory.device_write(0x20, b"cd")
    memory.device_read(0x10, 2)
    memory.write(0x10, b"xy")
    assert seen == [("write", 0x10, b"ab"), ("read", 0x10, b"ab")]


def test_empty_access_needs_no_window(memory: GuestMemory) -> None:
    """An access of no bytes harms nobody."""
    assert memory.device_read(0, 0) == b""
    memory.device_write(0, b"")
    memory.revoke(memory.grant(BASE, 0))


@given(
    st.lists(
        st.tuples(
            st.integers(1, 300),
            st.sampled_from([1, 2, 16, 64, 4096]),
            st.integers(0, 70),
            st.booleans(),
        ),
        max_size=40,
    )
)
def test_allocations_are_aligned_and_disjoint(requests: list[tuple[int, int, int, bool]]) -> None:
    """Allocations keep alignment and apart, and freeing joins them again."""
    allocator = Allocator(GuestMemory(0x40000))
    live: dict[int, int] = {}
    for size, align, skew, give_back in requests:
        addr = allocator.alloc(size, align, skew)
        assert addr % align == skew % align
        assert addr > 0
        assert all(addr + size <= other or other + length <= addr for other, length in live.items())
        live[addr] = size
        if give_back:
            victim = next(iter(live))
            allocator.free(victim)
            del live[victim]
    assert allocator.outstanding == sum(live.values())
    for addr in live:
        allocator.free(addr)
    # All pieces joined again: the whole memory but address 0 is one allocation.
    assert allocator.alloc(0x3FFFF, 1) == 1


def test_allocator_runs_out() -> None:
    """No room, no bytes and a double free are errors."""
    allocator = Allocator(GuestMemory(0x100), start=0x80)
    assert allocator.alloc(0x80) == 0x80
    with pytest.raises(MemoryError):
        allocator.alloc(1, 1)
    with pytest.raises(ValueError, match="at least one byte"):
        allocator.alloc(0)
    with pytest.raises(KeyError):
        allocator.free(0x81)
