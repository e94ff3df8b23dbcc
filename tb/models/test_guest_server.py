"""The vfio-user server, by a client in place of QEMU: what each message does."""

from __future__ import annotations

import errno
import os
import struct

import pytest
from guest_rig import BASE, SIZE, PlainFunction, Rig, served

from guest.client import Refused
from guest.config_view import CONFIG_SIZE
from guest.protocol import (
    Command,
    DeviceInfo,
    DmaFlag,
    DmaMap,
    DmaUnmap,
    Header,
    HeaderFlag,
    Irq,
    IrqAction,
    IrqInfo,
    ProtocolError,
    Region,
    RegionAccess,
    RegionInfo,
    SetIrqs,
    UnmapFlag,
    Version,
)
from virtio_model.memory import GuestMemory

PAGE = os.sysconf("SC_PAGESIZE")


def refused(rig: Rig, command: Command, body: bytes = b"", fds: tuple[int, ...] = ()) -> int:
    """The errno of an answer that has to be an error."""
    with pytest.raises(Refused) as answer:
        rig.client.call(command, body, fds)
    return answer.value.errno


@pytest.mark.parametrize("minor", [0, 1])
def test_version(minor: int) -> None:
    with served(PlainFunction()) as rig:
        answer = Version.decode(
            rig.client.call(Command.VERSION, Version(0, minor, {"max_msg_fds": 8}).encode())
        )
        # A client refuses a version that is newer than its own.
        assert (answer.major, answer.minor) == (0, minor)
        assert answer.capabilities["max_msg_fds"] > 0
        newer = Version(1, 0, {}).encode()
        assert refused(rig, Command.VERSION, newer) == errno.EINVAL


def test_device_regions_and_interrupts() -> None:
    function = PlainFunction(vectors=3)
    with served(function) as rig:
        info = DeviceInfo.decode(rig.client.call(Command.DEVICE_GET_INFO, bytes(16)))
        assert (info.flags, info.regions, info.irqs) == (3, 9, 5)
        sizes = {}
        for index in range(info.regions):
            body = RegionInfo(32, 0, index, 0, 0, 0).encode()
            answer = rig.client.call(Command.DEVICE_GET_REGION_INFO, body)
            found = RegionInfo.decode(answer)
            assert (found.argsz, found.index) == (32, index)
            assert bool(found.flags) == bool(found.size)
            sizes[index] = found.size
        expected = {**function.bars, int(Region.CONFIG): CONFIG_SIZE}
        assert sizes == {index: expected.get(index, 0) for index in range(9)}
        counts = []
        for index in range(info.irqs):
            body = IrqInfo(16, 0, index, 0).encode()
            counts.append(IrqInfo.decode(rig.client.call(Command.DEVICE_GET_IRQ_INFO, body)).count)
        assert counts == [1, 0, 3, 0, 0]
        beyond = RegionInfo(32, 0, 9, 0, 0, 0).encode()
        assert refused(rig, Command.DEVICE_GET_REGION_INFO, beyond) == errno.EINVAL
        assert refused(rig, Command.DEVICE_GET_IRQ_INFO, bytes([16, *[5] * 15])) == errno.EINVAL


def test_accesses_reach_the_function() -> None:
    with served(PlainFunction()) as rig:
        rig.client.write(0, 0x20, b"abcdefgh")
        assert rig.client.read(0, 0x22, 4) == b"cdef"
        for body in (
            RegionAccess(PAGE - 4, 0, 8),
            RegionAccess(0, 0, 16),
            RegionAccess(0, 0, 0),
            RegionAccess(0, 1, 4),
            RegionAccess(CONFIG_SIZE - 2, Region.CONFIG, 4),
        ):
            assert refused(rig, Command.REGION_READ, body.encode()) == errno.EINVAL
        short = RegionAccess(0, 0, 4).encode() + b"ab"
        assert refused(rig, Command.REGION_WRITE, short) == errno.EINVAL
        assert rig.client.read(0, 0, 8) == bytes(8)


def test_bars_stay_with_the_function() -> None:
    """Types without addresses are shown, and the guest's addresses go nowhere."""
    function = PlainFunction()
    before = bytes(function.config)
    with served(function) as rig:
        config = Region.CONFIG
        assert rig.client.read(config, 0x10, 4) == bytes([4, 0, 0, 0])
        assert rig.client.read(config, 0x18, 4) == bytes([12, 0, 0, 0])
        for offset in range(0x10, 0x28, 4):
            rig.client.write(config, offset, b"\xff" * 4)
        rig.client.write(config, 0x30, b"\xff" * 4)
        assert bytes(function.config) == before
        rig.client.write(config, 0x0E, b"\x11\x22\x33\x44")
        rig.client.write(config, 0x26, b"\x55\x66\x77\x88")
        assert function.written == [(0x0E, b"\x11\x22"), (0x28, b"\x77\x88")]


@pytest.mark.parametrize("own_msix", [True, False])
def test_msix_is_hidden_until_the_first_reset(own_msix: bool) -> None:
    function = PlainFunction(vectors=3)
    with served(function, own_msix=own_msix) as rig:
        shown = rig.client.read(Region.CONFIG, 0x40, 4)
        real = bytes([0x11, 0, 2, 0])
        # A vendor-specific capability of 12 bytes is what a client leaves alone.
        assert shown == (bytes([0x09, 0, 12, 0]) if own_msix else real)
        assert rig.client.read(Region.CONFIG, 0x42, 1) == shown[2:3]
        rig.client.call(Command.DEVICE_RESET)
        assert rig.client.read(Region.CONFIG, 0x40, 4) == real
        assert function.resets == 1


def test_memory_is_what_is_mapped() -> None:
    with served(PlainFunction()) as rig:
        rig.client.map(BASE)
        memory: GuestMemory = rig.server.memory
        rig.client.memory[0x100:0x104] = b"abcd"
        assert memory.device_read(BASE + 0x100, 4) == b"abcd"
        memory.device_write(BASE + SIZE - 2, b"yz")
        assert rig.client.memory[SIZE - 2 :] == b"yz"
        assert not memory.faults
        memory.device_write(BASE + SIZE - 1, b"??")
        assert memory.device_read(BASE - 1, 2) == b"\xff\xff"
        assert [fault.context["addr"] for fault in memory.faults] == [BASE + SIZE - 1, BASE - 1]
        assert rig.client.memory[SIZE - 2 :] == b"yz"


def test_neighbouring_maps_are_one_memory() -> None:
    """A guest's memory comes in pieces, and a buffer may lie across them."""
    with served(PlainFunction()) as rig:
        both, reading = DmaFlag.READ | DmaFlag.WRITE, DmaFlag.READ
        for place, offset, flags in ((0, 2 * PAGE, both), (1, 0, both), (2, PAGE, reading)):
            body = DmaMap(32, flags, offset, BASE + place * PAGE, PAGE).encode()
            rig.client.call(Command.DMA_MAP, body, (rig.client.fd,))
        memory = rig.server.memory
        memory.device_write(BASE + PAGE - 3, b"abcdef")
        assert rig.client.memory[3 * PAGE - 3 : 3 * PAGE] == b"abc"
        assert rig.client.memory[:3] == b"def"
        assert memory.device_read(BASE + 2 * PAGE - 2, 4) == bytes(4)
        assert not memory.faults
        memory.device_write(BASE + 2 * PAGE - 2, b"stop")
        assert len(memory.faults) == 1
        assert rig.client.memory[PAGE - 2 : PAGE + 2] == bytes(4)


def test_no_map_outlives_its_unmap() -> None:
    """Clients unmap and map again while a guest boots: the same address, another memory."""
    with served(PlainFunction()) as rig:
        both = DmaFlag.READ | DmaFlag.WRITE
        first = DmaMap(32, both, 0, BASE, PAGE).encode()
        other = DmaMap(32, both, PAGE, BASE, PAGE).encode()
        rig.client.call(Command.DMA_MAP, first, (rig.client.fd,))
        memory = rig.server.memory
        memory.device_write(BASE, b"old")
        gone = DmaUnmap(24, 0, BASE, PAGE).encode()
        assert rig.client.call(Command.DMA_UNMAP, gone) == gone
        assert not memory.device_may(BASE, 1, writing=False)
        rig.client.call(Command.DMA_MAP, other, (rig.client.fd,))
        memory.device_write(BASE, b"new")
        assert rig.client.memory[:3] == b"old"
        assert rig.client.memory[PAGE : PAGE + 3] == b"new"
        rig.client.call(Command.DMA_UNMAP, DmaUnmap(24, UnmapFlag.ALL, 0, 0).encode())
        assert not memory.device_may(BASE, 1, writing=False)


def test_maps_that_make_no_sense() -> None:
    with served(PlainFunction()) as rig:
        rig.client.map(BASE)
        fds = (rig.client.fd,)

        def map_(offset: int, address: int, size: int) -> int:
            body = DmaMap(32, DmaFlag.READ, offset, address, size).encode()
            return refused(rig, Command.DMA_MAP, body, fds)

        assert map_(0, BASE + PAGE, PAGE) == errno.EEXIST
        assert map_(1, 0, PAGE) == errno.EINVAL
        assert map_(0, 0, 2 * SIZE) == errno.EINVAL
        assert map_(0, 0, 0) == errno.EINVAL
        half = DmaUnmap(24, 0, BASE, PAGE).encode()
        assert refused(rig, Command.DMA_UNMAP, half) == errno.EINVAL
        assert rig.server.memory.device_may(BASE, SIZE, writing=True)


def test_memory_without_a_descriptor_is_none() -> None:
    with served(PlainFunction()) as rig:
        body = DmaMap(32, DmaFlag.READ, 0, BASE, PAGE).encode()
        rig.client.call(Command.DMA_MAP, body)
        assert not rig.server.memory.device_may(BASE, 1, writing=False)


def entries(function: PlainFunction) -> list[tuple[int, ...]]:
    """Address, data and vector control of the function's MSI-X table."""
    table = function.bar[function.MSIX_TABLE :][:32]
    return list(struct.iter_unpack("<QII", bytes(table)))


def test_eventfds_come_and_go() -> None:
    function = PlainFunction()
    with served(function, own_msix=False) as rig:
        rig.listen(2)
        function.host.message(0, (1).to_bytes(4, "little"))
        assert rig.signalled(1) == 1
        # The entries of the function's table were programmed for the client's eventfds.
        assert entries(function) == [(0xFEE0_0000, 0, 0), (0xFEE0_0000, 1, 0)]
        none = SetIrqs(20, IrqAction.DATA_EVENTFD | IrqAction.TRIGGER, Irq.MSIX, 1, 1).encode()
        rig.client.call(Command.DEVICE_SET_IRQS, none)
        function.host.message(0, (1).to_bytes(4, "little"))
        assert rig.server.counts["message lost"] == 1
        assert [control for _, _, control in entries(function)] == [0, 1]
        beyond = SetIrqs(20, IrqAction.DATA_NONE | IrqAction.TRIGGER, Irq.MSIX, 0, 3).encode()
        assert refused(rig, Command.DEVICE_SET_IRQS, beyond) == errno.EINVAL
        loop = SetIrqs(20, IrqAction.DATA_NONE | IrqAction.TRIGGER, Irq.MSIX, 0, 1).encode()
        rig.client.call(Command.DEVICE_SET_IRQS, loop)
        assert rig.signalled(0) == 1
        off = SetIrqs(20, IrqAction.DATA_NONE | IrqAction.TRIGGER, Irq.MSIX, 0, 0).encode()
        rig.client.call(Command.DEVICE_SET_IRQS, off)
        function.host.message(0, bytes(4))
        assert rig.server.counts["message lost"] == rig.server.faults == 2


def test_a_client_that_keeps_the_table_gets_eventfds() -> None:
    """QEMU with another way to find MSI-X: no interrupt is lost."""
    function = PlainFunction()
    with served(function, own_msix=True) as rig:
        rig.listen(2)
        function.host.message(0, bytes(4))
        assert rig.signalled(0) == 1
        assert not rig.client.messages


def test_messages_are_posted_and_may_be_refused() -> None:
    function = PlainFunction()
    with served(function) as rig:
        function.host.message(0xFEE0_0000, b"\x11\0\0\0")
        function.host.message(0xFEE0_0000, b"\x22\0\0\0")
        rig.client.wait_message(2)
        assert [data[0] for _, data in rig.client.messages] == [0x11, 0x22]
        function.host.message(0x1234, bytes(4))
        message = rig.next_message()
        rig.client.connection.reply(message.header, error=errno.EFAULT)
        rig.client.read(0, 0, 4)
        assert [fault.context["addr"] for fault in rig.server.memory.faults] == [0x1234]
        assert rig.server.faults == 1


def test_messages_that_a_reset_overtakes_are_no_faults() -> None:
    function = PlainFunction()
    with served(function) as rig:
        function.host.message(0x1234, bytes(4))
        early = rig.next_message()
        rig.client.call(Command.DEVICE_RESET)
        function.host.message(0x5678, bytes(4))
        late = rig.next_message()
        for message in (early, late):
            rig.client.connection.reply(message.header, error=errno.ENODEV)
        rig.client.read(0, 0, 4)
        assert [fault.context["addr"] for fault in rig.server.memory.faults] == [0x5678]


def test_intx_is_a_level() -> None:
    function = PlainFunction()
    with served(function) as rig:
        fd = os.eventfd(0, os.EFD_NONBLOCK)
        rig.eventfds = [fd]
        how = IrqAction.DATA_EVENTFD | IrqAction.TRIGGER
        rig.client.call(Command.DEVICE_SET_IRQS, SetIrqs(20, how, 0, 0, 1).encode(), (fd,))
        unmask = SetIrqs(20, IrqAction.DATA_NONE | IrqAction.UNMASK, 0, 0, 1).encode()
        function.host.intx(True)
        function.host.intx(True)
        assert rig.signalled(0) == 1
        rig.client.call(Command.DEVICE_SET_IRQS, unmask)
        assert rig.signalled(0) == 1, "still asserted"
        function.host.intx(False)
        function.host.intx(True)
        with pytest.raises(BlockingIOError):
            os.eventfd_read(fd)
        rig.client.call(Command.DEVICE_SET_IRQS, unmask)
        assert rig.signalled(0) == 1
        function.host.intx(False)
        rig.client.call(Command.DEVICE_SET_IRQS, unmask)
        with pytest.raises(BlockingIOError):
            os.eventfd_read(fd)


def test_time_moves_only_while_something_is_in_flight() -> None:
    """`PlainFunction.step` fails where there is nothing to do."""
    function = PlainFunction()
    with served(function) as rig:
        rig.client.read(0, 0, 4)
        assert function.steps == 0
        rig.client.write(0, PlainFunction.WORK, b"\x05")
        while function.busy():
            rig.client.read(0, 0, 4)
        assert function.steps == 5
        rig.client.read(0, 0, 4)
        assert function.steps == 5


def test_what_is_not_known_is_an_error() -> None:
    with served(PlainFunction()) as rig:
        for command in (Command.DEVICE_GET_REGION_IO_FDS, Command.DIRTY_PAGES):
            assert refused(rig, command, bytes(64)) == errno.EOPNOTSUPP
        assert refused(rig, Command.REGION_READ, b"short") == errno.EINVAL
        assert refused(rig, Command.VERSION, b"\0\0\0\0{no json") == errno.EINVAL
        # Where no reply is wanted there is none, error or not: the next answer is the next one's.
        rig.client.connection.command(Command.REGION_READ, b"short", no_reply=True)
        body = RegionAccess(0, 0, 4).encode() + b"abcd"
        rig.client.connection.command(Command.REGION_WRITE, body, no_reply=True)
        assert rig.client.read(0, 0, 4) == b"abcd"


@pytest.mark.parametrize(
    "header",
    [
        Header(1, Command.VERSION, 15),
        Header(1, Command.VERSION, 1 << 30),
        Header(7, Command.DMA_WRITE, 16, HeaderFlag.REPLY),
    ],
    ids=["short", "long", "reply"],
)
def test_lost_framing_ends_the_server(header: Header) -> None:
    with served(PlainFunction(), fails=True) as rig:
        rig.peer.sendall(header.encode())
        rig.end()
        assert [type(error) for error in rig.errors] == [ProtocolError]


def test_messages_in_pieces() -> None:
    """A stream socket keeps no boundaries; descriptors come with the first byte."""
    with served(PlainFunction()) as rig:
        read = Header(1, Command.REGION_READ, 32).encode() + RegionAccess(0, 0, 4).encode()
        for at in range(len(read)):
            rig.peer.sendall(read[at : at + 1])
        message = rig.next_message()
        assert (message.header.id, message.header.flags, len(message.body)) == (1, 1, 20)
        twice = read + Header(2, Command.DEVICE_RESET, 16).encode()
        rig.peer.sendall(twice)
        assert [rig.next_message().header.id for _ in range(2)] == [1, 2]


@pytest.mark.parametrize("sent", [0, 8, 20])
def test_a_client_that_leaves(sent: int) -> None:
    """Between messages or within one: the server ends, and keeps no descriptor."""
    before = len(os.listdir("/proc/self/fd"))
    function = PlainFunction()
    with served(function) as rig:
        rig.client.map(BASE)
        rig.listen(2)
        rig.client.write(0, PlainFunction.WORK, b"\x03")
        whole = Header(1, Command.REGION_READ, 32).encode() + RegionAccess(0, 0, 4).encode()
        rig.peer.sendall(whole[:sent])
        rig.client.connection.close()
        rig.end()
        assert not rig.errors
        assert not rig.server.memory.device_may(BASE, 1, writing=False)
    assert len(os.listdir("/proc/self/fd")) == before
