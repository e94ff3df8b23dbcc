"""Interrupts as the host sees them: masks, shared vectors, none at all, INTx, order."""

from __future__ import annotations

import random

import cocotb

from lib.net_system import NetSystem, random_frame, small_config
from lib.sim import params, simulate
from lib.streams import cycles
from virtio_model.spec import pci
from virtio_rtl.top import VirtioDevice


def make_system(dut, **options) -> NetSystem:
    return NetSystem(dut, small_config(params().config), **options)


async def send_one(system: NetSystem) -> None:
    """Send a frame and wait until it has left and its buffer is used."""
    before = len(system.sink.frames)
    system.net.send(random_frame(), cookie=before)
    await system.kick(1)
    await system.until(lambda: len(system.sink.frames) == before + 1)
    await system.until(lambda: system.poll() == [before])


async def receive_one(system: NetSystem) -> None:
    before = len(system.received)
    system.net.post(2048)
    await system.kick(0)
    system.source.send(random_frame())
    await system.until(lambda: system.poll() == [] and len(system.received) == before + 1)


@cocotb.test(timeout_time=400, timeout_unit="us")
async def masked_vector_is_pending(dut):
    """No message while masked, the pending bit meanwhile, exactly one message afterwards."""
    system = make_system(dut)
    await system.bring_up()
    await system.pci.msix.mask(2)
    for _ in range(3):
        await send_one(system)
    await cycles(dut, 600)
    assert system.interrupts == []
    assert await system.pci.msix.pending(2)
    assert not await system.pci.msix.pending(1)
    await system.pci.msix.mask(2, False)
    await system.until(lambda: system.interrupts == [2])
    assert not await system.pci.msix.pending(2)
    await cycles(dut, 600)
    assert system.interrupts == [2]


@cocotb.test(timeout_time=400, timeout_unit="us")
async def masked_function_is_pending(dut):
    system = make_system(dut)
    await system.bring_up()
    await system.pci.msix.enable(mask_all=True)
    await send_one(system)
    await receive_one(system)
    await cycles(dut, 600)
    assert system.interrupts == []
    await system.pci.msix.enable()
    await system.until(lambda: sorted(system.interrupts) == [1, 2])


@cocotb.test(timeout_time=400, timeout_unit="us")
async def fewer_vectors_than_queues(dut):
    """Both virtqueues on one vector; then none for transmit; a vector past the table is refused."""
    system = make_system(dut)
    await system.bring_up()
    await system.pci.set_queue_vector(1, 1)
    await send_one(system)
    await receive_one(system)
    await system.until(lambda: system.interrupts == [1, 1])
    await system.pci.set_queue_vector(1, pci.NO_VECTOR)
    await send_one(system)
    await cycles(dut, 800)
    assert system.interrupts == [1, 1]
    await system.pci.write_common("queue_msix_vector", system.config.msix_vectors)
    assert await system.pci.read_common("queue_msix_vector") == pci.NO_VECTOR


@cocotb.test(timeout_time=400, timeout_unit="us")
async def intx_without_msix(dut):
    """INTA rises with a used buffer and falls when ISR is read; Interrupt Disable silences it."""
    system = make_system(dut)
    await system.bring_up(msix=False)
    lines = system.host.interrupts
    await send_one(system)
    await system.until(lambda: lines.level == 1)
    assert await system.pci.read_isr() == pci.Isr.QUEUE
    await system.until(lambda: lines.level == 0)
    assert await system.pci.read_isr() == 0
    command = await system.access.config_read(4, 2)
    await system.access.config_write(4, command | 0x400, 2)
    await send_one(system)
    await cycles(dut, 800)
    assert lines.level == 0
    assert await system.access.config_read(6, 2) & 8
    dut.link_up.value = 0
    await cycles(dut, 200)
    assert await system.pci.read_isr() == pci.Isr.QUEUE | pci.Isr.CONFIG
    assert system.interrupts == []


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def interrupt_never_overtakes_its_data(dut):
    """A driver that looks at its ring only when a message arrives sees every used descriptor."""
    system = make_system(dut, tx_size=32)
    await system.bring_up()
    done: list[int] = []
    system.host.interrupts.callbacks.append(lambda _: done.extend(system.poll()))
    sent = 0
    for _ in range(40):
        for _ in range(random.randint(1, 6)):
            if system.queues[1].free_slots < 2:
                break
            system.net.send(random_frame(300), cookie=sent)
            sent += 1
        await system.kick(1)
        await cycles(dut, random.choice([3, 30, 300]))
    # If a message were lost, or came before its used descriptor, buffers would stay.
    await system.until(lambda: len(done) == sent)
    assert done == list(range(sent))
    system.host.check()


@cocotb.test(timeout_time=800, timeout_unit="us")
async def suppressed_interrupts_stay_away(dut):
    system = make_system(dut)
    await system.bring_up()
    system.queues[1].disable_interrupts()
    for _ in range(4):
        await send_one(system)
    await cycles(dut, 800)
    assert system.interrupts == []
    system.queues[1].enable_interrupts()
    await send_one(system)
    await system.until(lambda: system.interrupts == [2])


def test_interrupts():
    simulate(
        VirtioDevice(small_config("net-x8")),
        module=__name__,
        name="interrupts",
        params={"config": "net-x8"},
    )
