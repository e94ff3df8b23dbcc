"""The whole virtio-pci transport, as a driver sees it through BAR 0."""

from __future__ import annotations

import random
from typing import Any

import cocotb
import pytest
from cocotb.triggers import RisingEdge
from register_helper import access, load, store
from transport_bench import (
    BAD_DOORBELLS,
    COUNTERS,
    DEVICE,
    FRAMES,
    ISR,
    MSIX,
    NOTIFY,
    Bench,
    run,
    seen,
    set_up_queue,
)
from transport_helper import (
    BASE,
    KINDS,
    NEEDS_RESET,
    NO_VECTOR,
    NOTIF_CONFIG_DATA,
    NOTIFICATION_DATA,
    STATUS,
    CommonModel,
    config,
    negotiate,
    strobe,
)

from lib.sim import params
from lib.streams import cycles, reset
from virtio_rtl.regs.generate import accessors
from virtio_rtl.regs.maps import register_maps
from virtio_rtl.transport.pci import TRANSPORT_COUNTERS


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def from_probe_to_interrupt_and_back(dut: Any) -> None:
    """Two lives of a driver: probe, queues, doorbells, vectors, link change, reset."""
    bench = Bench(dut, stall=0.2)
    bus, device = bench.bus, config(params().pairs, params().vectors)
    await reset(dut)
    bench.control(msix=1)
    for _ in range(2):
        offered = 0
        for word in range(4):
            await bus.write(0x00, word)
            offered |= await bus.read(0x04) << 32 * word
        assert offered == KINDS[params().kind][0]
        await negotiate(bus, offered, status=11)
        await bus.write(0x10, 0, 2)
        queues = device.num_queues
        assert await bus.read(0x12, 2) == queues
        vectors = {q: 1 + q % (device.msix_vectors - 1) for q in range(queues)}
        vectors[queues - 1] = NO_VECTOR
        expected = {q: await set_up_queue(bus, q, vectors[q]) for q in range(queues)}
        await bus.write(0x14, 15, 1)
        assert await bus.read(0x14, 1) == 15
        for queue in range(queues):
            assert await bench.lookup(queue) == expected[queue]
        assert (await bench.lookup(queues)).enabled == 0
        order = [random.randrange(queues) for _ in range(30)]
        for queue in order:
            size = 4 if offered & NOTIFICATION_DATA else random.choice([2, 4])
            name = queue | (0x8000 if offered & NOTIF_CONFIG_DATA else 0)
            await bus.write(NOTIFY + 4 * queue, name, size)
        assert [doorbell.queue for doorbell in await bench.doorbells.take(30)] == order
        bench.interrupts.queue({"queue": queue} for queue in order)
        await bench.interrupts.idle()
        await cycles(dut, 60)
        assert seen(bench.vectors) == [vectors[q] for q in order if vectors[q] != NO_VECTOR]
        assert await bus.read(ISR, 1) == 0
        dut.live.value = 1 - int(dut.live.value)
        assert await bench.vectors.receive() == 0
        assert await bus.read(ISR, 1) == 2
        assert await bus.read(DEVICE + 6, 2) == int(dut.live.value)
        await bus.write(0x14, 0, 1)
        bench.interrupts.queue({"queue": 0} for _ in range(5))  # too late
        while await bus.read(0x14, 1):
            pass
        await bench.interrupts.idle()
        await cycles(dut, 20)
        assert int(dut.interrupt_idle.value) == 1
        assert seen(bench.vectors) == []
        assert (await bench.lookup(0)).enabled == 0
    assert seen(bench.enabled) == []


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def without_msix_isr_and_intx(dut: Any) -> None:
    """INTx follows ISR; a reset clears both; INTx Disable hides the pin, not the status."""
    bench = Bench(dut)
    bus = bench.bus
    await reset(dut)
    await negotiate(bus, BASE | STATUS)
    for event, bit in (("queue", 1), ("config", 2)):
        if event == "queue":
            await bench.interrupts.send({"queue": 1})
        else:
            dut.live.value = 1
        await cycles(dut, 8)
        assert int(dut.intx.value) == int(dut.interrupt_status.value) == 1
        bench.control(msix=0, intx_disable=1)
        await cycles(dut, 2)
        assert int(dut.intx.value) == 0
        assert int(dut.interrupt_status.value) == 1
        bench.control(msix=0)
        assert await bus.read(ISR, 1) == bit
        await cycles(dut, 1)
        assert int(dut.intx.value) == int(dut.interrupt_status.value) == 0
    await bench.interrupts.send({"queue": 0})
    await cycles(dut, 8)
    await bus.write(0x14, 0, 1)
    while await bus.read(0x14, 1):
        pass
    assert int(dut.intx.value) == 0
    assert await bus.read(ISR, 1) == 0
    assert len(bench.vectors) == 0


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def config_changes_need_status_and_driver_ok(dut: Any) -> None:
    """A link change is told only to a running driver that knows of it; the generation counts."""
    bench = Bench(dut)
    bus = bench.bus
    await reset(dut)
    for features, status, told in (
        (BASE | STATUS, 15, True), (BASE, 15, False), (BASE | STATUS, 11, False),
    ):  # fmt: skip
        await bus.read(DEVICE)
        await negotiate(bus, features, status)
        generation = await bus.read(0x15, 1)
        dut.live.value = 1 - int(dut.live.value)
        await cycles(dut, 10)
        assert await bus.read(0x15, 1) == generation
        await bus.read(DEVICE + 4)
        assert await bus.read(0x15, 1) == (generation + 1) & 0xFF
        await bus.read(DEVICE + 4)
        assert await bus.read(0x15, 1) == (generation + 1) & 0xFF
        assert await bus.read(ISR, 1) == (2 if told else 0)
        await bus.write(0x14, 0, 1)
        while await bus.read(0x14, 1):
            pass


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def needs_reset_reaches_the_driver(dut: Any) -> None:
    """An error of the device: the bit, the configuration vector, and a reset that cures it."""
    bench = Bench(dut)
    bus = bench.bus
    await reset(dut)
    bench.control(msix=1)
    await negotiate(bus, BASE)
    await bus.write(0x10, 1, 2)
    await strobe(dut, "device_error")
    assert await bench.vectors.receive() == 1
    assert await bus.read(0x14, 1) == 15 | NEEDS_RESET
    assert await bus.read(ISR, 1) == 2
    await bus.write(0x14, 0, 1)
    while await bus.read(0x14, 1):
        pass
    await negotiate(bus, BASE)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def early_doorbell_is_kept_and_reset_drops(dut: Any) -> None:
    """A notification before DRIVER_OK comes out; during a reset none does."""
    bench = Bench(dut)
    await reset(dut)
    await bench.bus.write(NOTIFY, 0, 2)
    assert (await bench.doorbells.receive()).queue == 0
    await negotiate(bench.bus, BASE)
    bench.answer.delay = lambda: 200
    await bench.bus.write(0x14, 0, 1)
    for _ in range(5):
        await bench.bus.write(NOTIFY + 4, 1, 2)
    while await bench.bus.read(0x14, 1):
        pass
    assert len(bench.doorbells) == 0
    await bench.bus.write(NOTIFY + 4, 1, 2)
    assert (await bench.doorbells.receive()).queue == 1
    await bench.bus.write(NOTIFY, 0xFFFF, 2)
    await cycles(dut, 20)
    assert await bench.bus.read(BAD_DOORBELLS) == 1
    assert len(bench.doorbells) == 0


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def counters_survive_a_device_reset_only(dut: Any) -> None:
    """Events count; a device reset leaves the counters alone, a function reset clears them."""
    bench = Bench(dut)
    await reset(dut)
    await bench.bus.read(FRAMES)  # the counters are cleared first
    await bench.bus.write(NOTIFY, 0xFFFF, 2)
    dut.events.value = 3
    await cycles(dut, 5)
    dut.events.value = 2
    await cycles(dut, 2)
    dut.events.value = 0
    await bench.bus.write(0x14, 0, 1)
    await cycles(dut, 200)
    assert [await bench.bus.read(BAD_DOORBELLS + 4 * i) for i in range(4)] == [1, 5, 7, 0]
    await strobe(dut, "function_reset")
    assert [await bench.bus.read(BAD_DOORBELLS + 4 * i) for i in range(4)] == [0] * 4


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def msix_and_holes(dut: Any) -> None:
    """MSI-X accesses go out unchanged, in order; holes read 0; all this mixed with registers."""
    bench = Bench(dut, stall=0.3)
    bus = bench.bus
    await reset(dut)
    golden: dict[int, int] = {}
    expected = []
    for _ in range(400):
        base = random.choice([MSIX, 0xC000, 0x5000, 0x40, 0x1004, 0x2040, 0x7F00, 0x0])
        address = base + (4 * random.randrange(16) if base else 0)
        request = access(address, 4, random.getrandbits(32) if random.getrandbits(1) else None)
        request["byte_enable"] = random.getrandbits(4)
        answer = await bus.raw(**request)
        if address >= MSIX:
            expected.append(request)
        if request["write"] and (address >= MSIX or address == 0):
            store(golden, request)
        elif not request["write"]:
            assert answer == load(golden, address), hex(address)
    await cycles(dut, 20)
    assert bench.msix.log == expected


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def reset_values_are_those_of_the_maps(dut: Any) -> None:
    """Every register with a constant reset value in the maps reads so, through its accessor."""
    bench = Bench(dut)
    await reset(dut)
    device = config(params().pairs, params().vectors)
    checked = 0
    counters = TRANSPORT_COUNTERS + COUNTERS
    for path, register in accessors(register_maps(device, counters)).items():
        if path.startswith("msix") or register.reset is None or "R" not in register.access:
            continue
        assert await bench.bus.read(register.address, register.size) == register.reset, path
        checked += 1
    assert checked > 15
    model = CommonModel(device, params().kind)
    for offset in range(0, 0x40, 4):
        assert await bench.bus.read(offset) == model.read(offset)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def latencies(dut: Any) -> None:
    """A doorbell comes out one cycle after it went in, a vector two cycles; one a cycle."""
    bench = Bench(dut)
    bus = bench.bus
    await reset(dut)
    bench.control(msix=1)
    await negotiate(bus, BASE)
    await bus.write(0x1A, 1, 2)
    rings, events = [access(NOTIFY, 2, 0)] * 64, [{"queue": 0}] * 64
    for port, sink, start, latency in (
        ("bus__request", bench.doorbells, lambda: bus.request.queue(rings), 1),
        ("interrupt", bench.vectors, lambda: bench.interrupts.queue(events), 2),
    ):
        await cycles(dut, 5)
        start()
        valid = getattr(dut, f"{port}__valid")
        while not int(valid.value):
            await RisingEdge(dut.clk)
        await cycles(dut, 64 + latency - 1)
        assert sink.count == 63, port
        await cycles(dut, 1)
        assert sink.count == 64, port


@pytest.mark.parametrize(
    ("pairs", "vectors", "kind"),
    [(1, 2, "whole"), (1, 4, "whole"), (8, 17, "whole"), (1, 4, "plain")],
)
def test_pci_transport(pairs: int, vectors: int, kind: str) -> None:
    """The transport in simulation."""
    run(__name__, "pci_transport", pairs=pairs, vectors=vectors, kind=kind)
