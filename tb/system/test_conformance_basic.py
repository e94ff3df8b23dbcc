"""Rows of basic facilities, PCI and net that ordinary traffic does not show by itself."""

from __future__ import annotations

import random

import cocotb

from lib.net_system import NetSystem, exchange, random_frame, small_config
from lib.register_monitor import RegisterMonitor
from lib.sim import params, simulate
from lib.streams import cycles
from virtio_model.driver.pci import VirtioPciDriver
from virtio_model.spec import net, pci
from virtio_model.spec.features import Feature, mask
from virtio_model.spec.fields import by_name
from virtio_model.spec.status import DeviceStatus
from virtio_rtl.top import VirtioDevice

CONFIG = by_name(net.CONFIG)
OURS = [CONFIG["mac"], CONFIG["status"], CONFIG["mtu"]]


def make_system(dut, **options) -> NetSystem:
    return NetSystem(dut, small_config(params().config), **options)


@cocotb.test(timeout_time=400, timeout_unit="us")
async def configuration_is_readable_before_features_ok(dut):
    """All fields of offered features, at every step before FEATURES_OK, accepted or not."""
    system = make_system(dut)
    await system.bring_up()

    async def check() -> None:
        found = await system.pci.read_config(OURS)
        assert found["mac"].to_bytes(6, "little") == system.config.mac_bytes
        assert found["mtu"] == system.config.mtu
        assert found["status"] == int(dut.link_up.value)

    for features in (0, mask([net.NetFeature.MTU]), system.pci.offered):
        await system.pci.reset()
        await check()
        for bits in (DeviceStatus.ACKNOWLEDGE, DeviceStatus.DRIVER):
            await system.pci.add_status(bits)
            await check()
        await system.pci.write_features(features | mask([Feature.VERSION_1]))
        await check()
        dut.link_up.value = 1 - int(dut.link_up.value)
        await cycles(dut, 20)
        await check()


@cocotb.test(timeout_time=800, timeout_unit="us")
async def good_driver_breaks_no_register_rule(dut):
    """Bring-up, traffic, configuration, window, reset and again, under the register monitor."""
    system = make_system(dut)
    await system.bring_up()
    monitor = RegisterMonitor(system.access)
    system.pci = VirtioPciDriver(monitor, dependencies=net.DEPENDENCIES)
    await system.pci.discover()
    for _ in range(2):
        await system.start()
        for index, queue in enumerate(system.queues):
            monitor.watch(index, queue)
        await exchange(system, 10)
        await system.pci.read_config(OURS)
        place = system.pci.structure(pci.CfgType.COMMON)
        await system.pci.window_read(place.bar, place.offset, 4)
    monitor.check()


class SharedVector:
    """A driver with one vector for everything, that looks at everything on each message."""

    def __init__(self, system: NetSystem):
        self.system = system
        self.done: list[int] = []
        self.status: list[int] = []
        self._task = cocotb.start_soon(self._run())

    async def _run(self) -> None:
        seen = 0
        while True:
            while len(self.system.interrupts) == seen:
                await cycles(self.system.dut, 5)
            seen = len(self.system.interrupts)
            self.done += self.system.poll()
            self.status.append((await self.system.pci.read_config([CONFIG["status"]]))["status"])


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def one_vector_for_everything(dut):
    """Used buffers and link changes on one vector: a driver that looks at both misses none."""
    system = make_system(dut)
    await system.bring_up()
    for queue in range(len(system.queues)):
        await system.pci.set_queue_vector(queue, 1)
    await system.pci.set_config_vector(1)
    driver = SharedVector(system)
    for number in range(16):
        link = number & 1
        system.net.send(random_frame(), cookie=number)
        await system.kick(1)
        await cycles(dut, random.randrange(400))
        dut.link_up.value = link
        expected = list(range(number + 1))
        await system.until(lambda want=expected: driver.done == want)
        await system.until(lambda want=link: driver.status[-1:] == [want])
    assert set(system.interrupts) == {1}
    system.host.check()


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def intx_tells_both_reasons(dut):
    """A used buffer and a link change behind one INTx: ISR shows both, and both are found."""
    system = make_system(dut)
    await system.bring_up(msix=False)
    for number in range(12):
        link = number & 1
        early = random.getrandbits(1)
        if early:
            dut.link_up.value = link
        system.net.send(random_frame(), cookie=number)
        await system.kick(1)
        await cycles(dut, random.choice([20, 500, 2000]))
        dut.link_up.value = link
        await system.until(lambda: system.host.interrupts.level == 1)
        if random.getrandbits(1):  # by then both have happened
            await cycles(dut, 2000)
        reasons = pci.Isr(0)
        done: list[int] = []
        for _ in range(100):
            reasons |= await system.pci.read_isr()
            done += system.poll()
            if done and reasons == pci.Isr.QUEUE | pci.Isr.CONFIG:
                break
        assert reasons == pci.Isr.QUEUE | pci.Isr.CONFIG
        assert done == [number]
        assert (await system.pci.read_config([CONFIG["status"]]))["status"] == link
        await system.until(lambda: system.host.interrupts.level == 0)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def vlan_tagged_frames_are_delivered(dut):
    """Every VLAN id, priority and kind of tag, also two tags: nothing is filtered."""
    system = make_system(dut)
    await system.bring_up()
    frames = []
    for identifier in [0, 1, 4095, *random.sample(range(4096), 21)]:
        tag = random.choice(["8100", "88a8", "88a88100"])
        word = (random.randrange(16) << 12 | identifier).to_bytes(2, "big")
        tags = b"".join(bytes.fromhex(tag[at : at + 4]) + word for at in range(0, len(tag), 4))
        frames.append(random.randbytes(12) + tags + random.randbytes(random.randint(48, 600)))
    for frame in frames:
        system.net.post(1600)
        system.source.send(frame)
    await system.kick(0)
    await system.until(lambda: system.poll() == [] and len(system.received) == len(frames))
    assert [got.frame for got in system.received] == frames
    system.host.check()


def test_conformance_basic():
    simulate(
        VirtioDevice(small_config("net-x8")),
        module=__name__,
        name="conformance_basic",
        params={"config": "net-x8"},
    )
