"""The golden devices through vfio-user, driven by the project's own drivers."""

from __future__ import annotations

import random

import pytest
from guest_rig import BASE, SIZE, Rig, Up, served

from guest.golden_blk import BlkType
from guest.golden_entropy import EntropyType
from guest.golden_function import GoldenFunction
from guest.golden_net import NetType
from guest.net_peer import Peer
from guest.options import ring_features
from guest.server import run
from virtio_model.blk_request import BlkLimits, Range
from virtio_model.device.entropy import SeededBytes
from virtio_model.driver.blk import BlkDone, BlkDriver
from virtio_model.driver.entropy import EntropyDriver
from virtio_model.driver.net import NetDriver
from virtio_model.driver.pci import VirtioPciDriver
from virtio_model.spec import blk, net, pci
from virtio_model.spec import features as feat
from virtio_model.spec.blk import BlkFeature, RequestStatus
from virtio_model.spec.features import Feature
from virtio_model.spec.status import DeviceStatus

RINGS = {
    "split": "INDIRECT_DESC",
    "split-events-order": "INDIRECT_DESC,EVENT_IDX,IN_ORDER,NOTIFICATION_DATA,RING_RESET",
    "packed": "RING_PACKED,INDIRECT_DESC",
    "packed-events-order": "",
}
MSIX = {"table": True, "eventfd": False}
ALL = ring_features("")
SECTOR = blk.SECTOR_SIZE

rings = pytest.mark.parametrize("ring", RINGS)
msix = pytest.mark.parametrize("own_msix", MSIX.values(), ids=MSIX.keys())


def begin(rig: Rig, own_msix: bool, vectors: int) -> None:
    """What happens before the driver comes."""
    rig.attach()
    if not own_msix:
        rig.listen(vectors)


class Disk:
    """A block driver that waits for each answer."""

    def __init__(self, rig: Rig, up: Up, image: bytearray) -> None:
        self.rig = rig
        self.up = up
        self.driver = BlkDriver(
            rig.memory,
            rig.allocator,
            up.queues,
            up.driver.features,
            limits=BlkLimits(len(image) // SECTOR, max_discard_seg=16, max_write_zeroes_seg=16),
        )

    def answer(self, queue: int = 0) -> BlkDone:
        """Kick, wait for the interrupt, take the answer."""
        run(self.up.driver.kick(queue))
        assert self.rig.vector() == 1 + queue
        done = self.driver.poll(queue)
        assert done is not None, "an interrupt without an answer"
        self.up.queues[queue].enable_interrupts()
        return done


@rings
@msix
def test_blk(ring: str, own_msix: bool) -> None:
    image = bytearray(random.Random(1).randbytes(64 * SECTOR))
    before = bytes(image)
    function = GoldenFunction(BlkType(image, serial=b"a disk"), offered=ring_features(RINGS[ring]))
    with served(function, own_msix=own_msix) as rig:
        begin(rig, own_msix, 2)
        wanted = function.device.features | ring_features(RINGS[ring])
        up = rig.bring_up(wanted, [16], dependencies=blk.DEPENDENCIES)
        disk = Disk(rig, up, image)
        disk.driver.read(3, 5)
        assert disk.answer() == BlkDone(None, RequestStatus.OK, before[3 * SECTOR : 8 * SECTOR])
        for turn in range(40):
            data = random.Random(turn).randbytes(4 * SECTOR)
            disk.driver.write(turn, data)
            assert disk.answer().status == RequestStatus.OK
            assert image[turn * SECTOR :][: len(data)] == data
        disk.driver.flush()
        assert disk.answer().status == RequestStatus.OK
        disk.driver.get_id()
        assert disk.answer().data == b"a disk".ljust(20, b"\0")
        disk.driver.discard([Range(8, 4), Range(20, 1)])
        assert disk.answer().status == RequestStatus.OK
        assert image[8 * SECTOR : 12 * SECTOR] == bytes(4 * SECTOR)
        assert function.buffers == 44
        assert not rig.server.memory.faults
        assert not function.breaches


@rings
@msix
def test_net(ring: str, own_msix: bool) -> None:
    """A frame out, the peer's answer in: two virtqueues, two vectors."""
    frames: list[bytes] = []

    class Mirror(Peer):
        def answer(self, frame: bytes) -> list[bytes]:
            frames.append(frame)
            return [frame[::-1], frame[:20]]

    function = GoldenFunction(NetType(Mirror()), offered=ring_features(RINGS[ring]))
    with served(function, own_msix=own_msix) as rig:
        begin(rig, own_msix, 3)
        wanted = function.device.features | ring_features(RINGS[ring])
        up = rig.bring_up(wanted, [16, 16], dependencies=net.DEPENDENCIES)
        rx, tx = up.queues
        driver = NetDriver(rig.memory, rig.allocator, rx, tx, up.driver.features)
        for turn in range(20):
            driver.post(2000)
            driver.post(2000)
            run(up.driver.kick(0))
            frame = random.Random(turn).randbytes(60 + turn)
            driver.send(frame)
            run(up.driver.kick(1))
            found = {rig.vector() for _ in range(2)}
            assert found == {1, 2}
            assert frames[-1] == frame
            arrived = [driver.receive() for _ in range(3)]
            assert [each.frame for each in arrived if each] == [frame[::-1], frame[:20]]
            assert len(driver.reap()) == 1
            rx.enable_interrupts()
            tx.enable_interrupts()
        assert not function.breaches


@rings
def test_entropy(ring: str) -> None:
    source = SeededBytes(7, 16)
    device = EntropyType(7)
    function = GoldenFunction(device, offered=ring_features(RINGS[ring]))
    with served(function) as rig:
        begin(rig, True, 2)
        up = rig.bring_up(ring_features(RINGS[ring]), [8], device_config=False)
        driver = EntropyDriver(rig.memory, rig.allocator, up.queues[0])
        for length in (1, 16, 300):
            driver.request(length)
            run(up.driver.kick(0))
            assert rig.vector() == 1
            found = driver.poll()
            assert found is not None
            assert found.data == source(length)
            assert device.given.endswith(found.data)
            up.queues[0].enable_interrupts()


def test_several_queues() -> None:
    image = bytearray(8 * SECTOR)
    function = GoldenFunction(BlkType(image, queues=3))
    with served(function) as rig:
        begin(rig, True, 4)
        up = rig.bring_up(function.device.features | ALL, [8, 16, 4], dependencies=blk.DEPENDENCIES)
        assert feat.has(up.driver.features, BlkFeature.MQ)
        disk = Disk(rig, up, image)
        for queue in (2, 0, 1, 2):
            disk.driver.write(queue, bytes([queue + 1]) * SECTOR, queue)
            assert disk.answer(queue).status == RequestStatus.OK
        assert [image[at * SECTOR] for at in range(4)] == [1, 2, 3, 0]


@pytest.mark.parametrize("ring", ["split-events-order", "packed-events-order"])
def test_virtqueue_reset_and_device_reset(ring: str) -> None:
    image = bytearray(8 * SECTOR)
    function = GoldenFunction(BlkType(image), offered=ring_features(RINGS[ring]))
    with served(function) as rig:
        begin(rig, True, 2)
        wanted = function.device.features | ring_features(RINGS[ring])
        for turn in range(2):
            up = rig.bring_up(wanted, [8], dependencies=blk.DEPENDENCIES)
            disk = Disk(rig, up, image)
            disk.driver.write(turn, b"a" * SECTOR)
            disk.answer()
            run(up.driver.reset_queue(0))
            up.queues[0].reset()
            run(up.driver.setup_queue(0, up.queues[0], 1))
            disk.driver.write(2 + turn, b"b" * SECTOR)
            disk.answer()
            run(up.driver.reset())
        assert bytes(image[::SECTOR]) == b"aabb\0\0\0\0"


@rings
def test_a_buffer_that_comes_unannounced(ring: str) -> None:
    """Made available after the device's last look, before it has asked for a kick."""
    image = bytearray(8 * SECTOR)
    function = GoldenFunction(BlkType(image), offered=ring_features(RINGS[ring]))
    with served(function) as rig:
        begin(rig, True, 2)
        wanted = function.device.features | ring_features(RINGS[ring])
        up = rig.bring_up(wanted, [8], dependencies=blk.DEPENDENCIES)
        disk = Disk(rig, up, image)
        queue = up.queues[0]
        packed = feat.has(up.driver.features, Feature.RING_PACKED)
        events = feat.has(up.driver.features, Feature.EVENT_IDX)
        place = queue.device_addr + (4 + 8 * 8 if events and not packed else 0)
        late: list[int] = []

        def add(addr: int, data: bytes) -> None:
            if addr == place and not late:
                late.append(addr)
                disk.driver.write(1, b"2" * SECTOR)

        disk.driver.write(0, b"1" * SECTOR)
        rig.server.memory.write_hooks.append(add)
        run(up.driver.kick(0))
        assert rig.vector() == 1
        for _ in range(10_000):
            if image[SECTOR : SECTOR + 1] == b"2":
                break
            rig.client.read(7, 0, 4)
        assert late
        assert bytes(image[::SECTOR]) == b"12" + bytes(6)


def test_a_masked_vector_waits() -> None:
    function = GoldenFunction(BlkType(bytearray(8 * SECTOR)))
    with served(function) as rig:
        begin(rig, True, 2)
        up = rig.bring_up(function.device.features | ALL, [8], dependencies=blk.DEPENDENCIES)
        disk = Disk(rig, up, bytearray(8 * SECTOR))
        run(up.driver.msix.mask(1))
        disk.driver.read(0, 1)
        run(up.driver.kick(0))
        for _ in range(10_000):
            if run(up.driver.msix.pending(1)):
                break
        else:
            pytest.fail("the vector is not pending")
        assert not rig.client.messages
        run(up.driver.msix.mask(1, False))
        assert rig.vector() == 1
        assert not run(up.driver.msix.pending(1))


def test_interrupts_without_msix() -> None:
    """INTx: asserted until the ISR is read."""
    function = GoldenFunction(BlkType(bytearray(8 * SECTOR)))
    with served(function) as rig:
        rig.attach()
        rig.listen_intx()
        up = rig.bring_up(function.device.features | ALL, [8], dependencies=blk.DEPENDENCIES)
        run(up.driver.msix.enable(False))
        disk = Disk(rig, up, bytearray(8 * SECTOR))
        for _ in range(3):
            disk.driver.read(0, 1)
            run(up.driver.kick(0))
            assert rig.signalled(0) == 1
            assert run(up.driver.read_isr()) == pci.Isr.QUEUE
            assert run(up.driver.read_isr()) == 0
            rig.unmask_intx()
            assert disk.driver.poll()
            up.queues[0].enable_interrupts()


def test_a_broken_rule_needs_a_reset() -> None:
    """A chain that is a loop: the device says so by a configuration interrupt."""
    function = GoldenFunction(BlkType(bytearray(8 * SECTOR)), offered=ring_features("none"))
    with served(function) as rig:
        begin(rig, True, 2)
        up = rig.bring_up(function.device.features, [8], dependencies=blk.DEPENDENCIES)
        disk = Disk(rig, up, bytearray(8 * SECTOR))
        disk.driver.read(0, 1)
        for slot in range(8):
            rig.memory.write(up.queues[0].desc_addr + 16 * slot + 12, b"\x01\0\0\0")
        run(up.driver.kick(0))
        assert rig.vector() == 0
        assert run(up.driver.status()) & DeviceStatus.DEVICE_NEEDS_RESET
        assert "loop" in str(function.breaches[0])


def test_dma_to_nowhere_is_recorded() -> None:
    """A buffer outside the guest's memory: the device goes on, and the run tells of it."""
    image = bytearray(8 * SECTOR)
    function = GoldenFunction(BlkType(image), offered=ring_features("none"))
    with served(function) as rig:
        begin(rig, True, 2)
        up = rig.bring_up(function.device.features, [8], dependencies=blk.DEPENDENCIES)
        disk = Disk(rig, up, image)
        disk.driver.write(0, b"x" * SECTOR)
        table = up.queues[0].desc_addr
        rig.memory.write_u64(table, BASE + SIZE)
        run(up.driver.kick(0))
        assert rig.vector() == 1
        faults = rig.server.memory.faults
        assert [fault.context["addr"] for fault in faults] == [BASE + SIZE]
        assert not run(up.driver.status()) & DeviceStatus.DEVICE_NEEDS_RESET
        assert image == bytes(8 * SECTOR)


def test_what_is_offered() -> None:
    """A guest takes what it is offered, so a run chooses by the offer."""
    for text in (*RINGS.values(), "none"):
        offered = ring_features(text)
        function = GoldenFunction(BlkType(bytearray(SECTOR)), offered=offered)
        with served(function) as rig:
            rig.attach()
            up = rig.bring_up(ALL, [], dependencies=blk.DEPENDENCIES)
            ring_bits = up.driver.offered & ~function.device.features
            basics = feat.mask([Feature.VERSION_1, Feature.ACCESS_PLATFORM])
            assert ring_bits == offered | basics


def test_features_that_were_not_offered() -> None:
    function = GoldenFunction(BlkType(bytearray(SECTOR)), offered=ring_features("none"))
    with served(function) as rig:
        rig.attach()
        driver = VirtioPciDriver(rig.client)
        run(driver.discover())
        run(driver.reset())
        run(driver.add_status(DeviceStatus.ACKNOWLEDGE | DeviceStatus.DRIVER))
        run(driver.write_features(feat.mask([Feature.VERSION_1, Feature.RING_PACKED])))
        status = run(driver.add_status(DeviceStatus.FEATURES_OK))
        assert not status & DeviceStatus.FEATURES_OK


def test_function_level_reset() -> None:
    function = GoldenFunction(BlkType(bytearray(8 * SECTOR)))
    with served(function) as rig:
        begin(rig, True, 2)
        up = rig.bring_up(function.device.features | ALL, [8], dependencies=blk.DEPENDENCIES)
        express = rig.find_capability(0x10)
        rig.client.write(7, express + 8, b"\x10\xa8")
        assert run(up.driver.status()) == 0
        # MSI-X is off again, its table masked.
        msix_at = rig.find_capability(pci.PCI_CAP_ID_MSIX)
        assert rig.client.read(7, msix_at + 2, 2) == b"\x01\x00"
        disk = Disk(
            rig,
            rig.bring_up(function.device.features | ALL, [8], dependencies=blk.DEPENDENCIES),
            bytearray(8 * SECTOR),
        )
        disk.driver.read(0, 1)
        assert disk.answer().status == RequestStatus.OK


def test_bar_through_configuration_space() -> None:
    function = GoldenFunction(BlkType(bytearray(24 * SECTOR)))
    with served(function) as rig:
        begin(rig, True, 2)
        up = rig.bring_up(function.device.features | ALL, [8], dependencies=blk.DEPENDENCIES)
        where = up.driver.structure(pci.CfgType.DEVICE)
        assert run(up.driver.window_read(where.bar, where.offset, 4)) == 24
        common = up.driver.structure(pci.CfgType.COMMON)
        status = run(up.driver.window_read(common.bar, common.offset + 0x14, 1))
        assert status == run(up.driver.status())
        run(up.driver.window_write(common.bar, common.offset + 0x14, 0, 1))
        assert run(up.driver.status()) == 0


def test_cache_mode_is_the_drivers() -> None:
    function = GoldenFunction(BlkType(bytearray(SECTOR)))
    with served(function) as rig:
        begin(rig, True, 2)
        up = rig.bring_up(function.device.features | ALL, [8], dependencies=blk.DEPENDENCIES)
        fields = {field.name: field for field in blk.CONFIG}
        run(up.driver.write_config(fields["writeback"], 0))
        values = run(up.driver.read_config([fields["writeback"], fields["capacity"]]))
        assert values == {"writeback": 0, "capacity": 1}
        run(up.driver.write_config(fields["capacity"], 9))
        assert run(up.driver.read_config([fields["capacity"]])) == {"capacity": 1}


def test_a_disk_in_memory_unmaps_nothing() -> None:
    """It says so, and takes `unmap` for the permission that it is."""
    image = bytearray(random.Random(2).randbytes(8 * SECTOR))
    function = GoldenFunction(BlkType(image))
    with served(function) as rig:
        begin(rig, True, 2)
        up = rig.bring_up(function.device.features, [8], dependencies=blk.DEPENDENCIES)
        field = next(field for field in blk.CONFIG if field.name == "write_zeroes_may_unmap")
        assert run(up.driver.read_config([field])) == {field.name: 0}
        disk = Disk(rig, up, image)
        disk.driver.write_zeroes([Range(2, 3, 1)])
        assert disk.answer().status == RequestStatus.OK
        assert [any(image[at * SECTOR :][:SECTOR]) for at in (1, 2, 3, 4, 5)] == [1, 0, 0, 0, 1]


def test_pages_under_io_may_change() -> None:
    """A file system writes into a page that is on its way to the disk; that is its right."""
    image = bytearray(8 * SECTOR)
    function = GoldenFunction(BlkType(image))
    with served(function) as rig:
        begin(rig, True, 2)
        up = rig.bring_up(function.device.features, [8], dependencies=blk.DEPENDENCIES)
        disk = Disk(rig, up, image)
        changed: list[int] = []

        def change(addr: int, data: bytes) -> None:
            if data == b"a" * SECTOR and not changed:
                changed.append(addr)
                rig.memory.write(addr, b"b" * SECTOR)

        rig.server.memory.read_hooks.append(change)
        disk.driver.write(0, b"a" * SECTOR)
        run(up.driver.kick(0))
        assert rig.vector() == 1
        assert changed
        assert not function.breaches
        assert not run(up.driver.status()) & DeviceStatus.DEVICE_NEEDS_RESET
