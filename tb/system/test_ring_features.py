"""Both ring formats with every ring feature, through the whole device."""

from __future__ import annotations

import random

import cocotb
import pytest

from lib.net_system import NetSystem, exchange, small_config
from lib.sim import params, simulate
from lib.streams import cycles
from virtio_rtl.top import VirtioDevice

FORMATS = ("split", "packed")
FEATURES = {
    "plain": (),
    "indirect": ("indirect_desc",),
    "event_idx": ("indirect_desc", "event_idx"),
    "in_order": ("in_order",),
    "in_order_events": ("indirect_desc", "in_order", "event_idx"),
    "notification_data": ("notification_data",),
    "notif_config_data": ("notif_config_data", "notification_data"),
    "all": (
        "indirect_desc", "event_idx", "in_order", "notification_data", "notif_config_data",
        "ring_reset", "suspend",
    ),
}  # fmt: skip


def make_system(dut, ring: str, features: tuple[str, ...], **options) -> NetSystem:
    return NetSystem(dut, small_config(params().config), ring=ring, features=features, **options)


@cocotb.test(timeout_time=4, timeout_unit="ms")
@cocotb.parametrize(("ring", FORMATS), ("features", list(FEATURES)))
async def traffic_with(dut, ring, features):
    """Random frames both ways, everything compared, whatever was negotiated."""
    sizes = [16, 64] if ring == "split" else [17, 64]
    system = make_system(
        dut, ring, FEATURES[features], rx_size=random.choice(sizes), tx_size=random.choice(sizes)
    )
    await system.bring_up()
    await exchange(system, 60)


@cocotb.test(timeout_time=4, timeout_unit="ms")
@cocotb.parametrize(("ring", FORMATS))
async def traffic_with_stalls_and_pieces(dut, ring):
    """The same under stalls, short payloads and completions in pieces."""
    system = make_system(
        dut, ring, FEATURES["all"], split=True, stall=0.2, max_payload=128, max_read_request=128
    )
    await system.bring_up()
    await exchange(system, 40)


@cocotb.test(timeout_time=4, timeout_unit="ms")
@cocotb.parametrize(("ring", FORMATS))
async def smallest_rings(dut, ring):
    """One and two slots."""
    system = make_system(dut, ring, ("indirect_desc", "event_idx"), rx_size=2, tx_size=1)
    await system.bring_up()
    await exchange(system, 12)


@cocotb.test(timeout_time=4, timeout_unit="ms")
@cocotb.parametrize(("ring", FORMATS))
async def a_virtqueue_is_reset_in_traffic(dut, ring):
    """Each virtqueue in turn; the driver sets it up again, perhaps with another size."""
    system = make_system(dut, ring, FEATURES["all"])
    await system.bring_up()
    await exchange(system, 20)
    for index in (1, 0, 1):
        await system.reset_queue(index, random.choice([16, 32, 64]))
        await exchange(system, 20)


@cocotb.test(timeout_time=4, timeout_unit="ms")
@cocotb.parametrize(("ring", FORMATS))
async def suspend_and_resume(dut, ring):
    """While suspended the device is silent; afterwards nothing is missing."""
    system = make_system(dut, ring, FEATURES["all"])
    await system.bring_up()
    for _ in range(2):
        await exchange(system, 20)
        await system.suspend()
        before = system.memory_reads, len(system.dma_writes), len(system.interrupts)
        await cycles(dut, 1000)
        assert before == (system.memory_reads, len(system.dma_writes), len(system.interrupts))
        await system.resume()
    await exchange(system, 20)


@pytest.mark.parametrize("config", ["net-x16"])
def test_ring_features(config):
    simulate(
        VirtioDevice(small_config(config)),
        module=__name__,
        name=f"ring_features_{config}",
        params={"config": config},
    )
