"""Compare the driver models' ring memory with the kernel's own header, the independent witness.

`kernel_ring.c` is built on `linux/virtio_ring.h`: structures, `vring_init`, `vring_size`,
`vring_need_event`. It lays out what Linux would for the same buffers.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from virtio_model.device.make import make_device_queue
from virtio_model.driver.make import make_queue
from virtio_model.driver.packed_queue import PackedQueue
from virtio_model.memory import Allocator, GuestMemory
from virtio_model.rings.packed import EVENT_SIZE, advance, distance, event_reached
from virtio_model.rings.split import (
    DESC_SIZE,
    RING_OFFSET,
    avail_event_offset,
    avail_size,
    need_event,
    used_event_offset,
    used_size,
)
from virtio_model.spec.features import Feature, mask

HEADER = Path("/usr/include/linux/virtio_ring.h")
BASE = 0x1_0000_0000
U16 = st.integers(0, 0xFFFF)

Witness = Callable[[list[str]], list[str]]


@pytest.fixture(scope="module")
def witness(tmp_path_factory: pytest.TempPathFactory) -> Witness:
    """Runs a list of operations and returns the lines of the answers."""
    if not HEADER.exists():
        pytest.skip(f"{HEADER} is missing: apt-get install linux-libc-dev")
    program = tmp_path_factory.mktemp("witness") / "kernel_ring"
    source = Path(__file__).with_name("kernel_ring.c")
    subprocess.run(["gcc", "-Wall", "-Werror", "-o", str(program), str(source)], check=True)

    def ask(operations: list[str]) -> list[str]:
        run = subprocess.run(
            [str(program)],
            input="\n".join([*operations, ""]),
            capture_output=True,
            text=True,
            check=True,
        )
        return run.stdout.split("\n")[:-1]

    return ask


def test_layout_of_split_rings(witness: Witness) -> None:
    """Places and sizes for every queue size and many alignments, in the legacy arrangement."""
    cases = [(1 << bits, align) for bits in range(16) for align in (4, 64, 4096)]
    answers = witness([f"L {size} {align}" for size, align in cases])
    for (size, align), answer in zip(cases, answers, strict=True):
        avail = DESC_SIZE * size
        used = -(-(avail + avail_size(size)) // align) * align
        ours = [
            *(0, avail, avail + 2, avail + RING_OFFSET, avail + used_event_offset(size)),
            *(used + RING_OFFSET, used + avail_event_offset(size), used + used_size(size)),
        ]
        assert ours == [int(word) for word in answer.split()], (size, align)


@given(triples=st.lists(st.tuples(U16, U16, U16), min_size=100, max_size=100))
@settings(deadline=None, max_examples=20)
def test_need_event(witness: Witness, triples: list[tuple[int, int, int]]) -> None:
    """The event test of split rings, in full width; near misses are drawn as well."""
    near = [(event, (event + old % 5) & 0xFFFF, (event - new % 5) & 0xFFFF)
            for event, new, old in triples]  # fmt: skip
    cases = triples + near
    answers = witness([f"E {event} {new} {old}" for event, new, old in cases])
    for (event, new, old), answer in zip(cases, answers, strict=True):
        assert need_event(event, old, new) == bool(int(answer)), (event, old, new)


@given(
    size=st.integers(1, 32768),
    draws=st.lists(st.tuples(U16, st.booleans(), U16, st.booleans(), U16), min_size=50),
)
@settings(deadline=None, max_examples=20)
def test_need_event_of_packed_rings(
    witness: Witness, size: int, draws: list[tuple[int, bool, int, bool, int]]
) -> None:
    """The event test of packed rings, as Linux turns it into one of split rings."""
    cases = []
    for event_at, event_wrap, old_at, old_wrap, count in draws:
        event, old = (event_at % size, int(event_wrap)), (old_at % size, int(old_wrap))
        new = advance(*old, count % (size + 1), size)
        cases.append((event, old, new))
    # virtqueue_kick_prepare_packed: the event's slot counts from the lap of `new`.
    asked = [
        f"E {(event[0] - (size if event[1] != new[1] else 0)) & 0xFFFF} {new[0]} "
        f"{(new[0] - distance(old, new, size)) & 0xFFFF}"
        for event, old, new in cases
    ]
    for (event, old, new), answer in zip(cases, witness(asked), strict=True):
        assert event_reached(event, old, new, size) == bool(int(answer)), (event, old, new, size)


STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.lists(st.tuples(st.integers(1, 300), st.booleans()), min_size=1, max_size=5),
            st.booleans(),
        ),
        st.tuples(st.integers(0, 99), st.integers(0, 300)),
    ),
    max_size=60,
)


@given(size=st.sampled_from([1, 2, 8, 32]), steps=STEPS)
@settings(deadline=None, max_examples=60)
@pytest.mark.parametrize("packed", [False, True])
def test_memory_image(
    witness: Witness, packed: bool, size: int, steps: list[tuple[object, object]]
) -> None:
    """Table, rings, events and indirect tables, byte for byte, after any adds and uses."""
    memory = GuestMemory(1 << 20, BASE)
    chosen = [Feature.INDIRECT_DESC, Feature.EVENT_IDX]
    features = mask([*chosen, Feature.RING_PACKED] if packed else chosen)
    queue = make_queue(memory, Allocator(memory), size, features)
    device = make_device_queue(memory, queue, features)
    queue.enable_interrupts()
    operations = [f"{'P' if packed else 'S'} {size}"]
    ids: list[int] = []
    chains = []
    table, entries = 0, 0
    for first, second in steps:
        if isinstance(first, list):
            # The driver puts what is readable first.
            cut = sorted((write, length) for length, write in first)
            pieces = [(BASE + 0x8_0000 + 512 * at, length, write)
                      for at, (write, length) in enumerate(cut)]  # fmt: skip
            indirect = bool(second)
            needed = 1 if indirect else len(pieces)
            if len(pieces) > size or needed > queue.free_slots:
                continue
            readable = [(addr, length) for addr, length, write in pieces if not write]
            writable = [(addr, length) for addr, length, write in pieces if write]
            place = queue.avail_position[0] if isinstance(queue, PackedQueue) else None
            ids.append(queue.add(readable, writable, indirect=indirect))
            if indirect:
                place = ids[-1] if place is None else place
                table = memory.read_u64(queue.desc_addr + DESC_SIZE * place)
                entries = len(pieces)
            words = " ".join(f"{addr} {length} {write:d}" for addr, length, write in pieces)
            operations.append(f"A {table if indirect else 0} {len(pieces)} {words}")
            chain = device.next_buffer()
            assert chain is not None
            chains.append(chain)
        elif chains:
            chain = chains.pop(int(str(first)) % len(chains))
            length = min(int(str(second)), chain.writable_length)
            device.complete(chain, length)
            used = queue.poll()
            assert used is not None
            assert used.id == chain.id
            operations.append(f"U {chain.id} {length}")
    *heads, desc, driver, dev, indirect_table = witness([*operations, "D"])
    assert [int(head) for head in heads] == ids
    driver_size = EVENT_SIZE if packed else avail_size(size)
    device_size = EVENT_SIZE if packed else used_size(size)
    assert memory.read(queue.desc_addr, DESC_SIZE * size).hex() == desc
    assert memory.read(queue.driver_addr, driver_size).hex() == driver
    assert memory.read(queue.device_addr, device_size).hex() == dev
    assert memory.read(table or BASE, DESC_SIZE * entries).hex() == indirect_table
