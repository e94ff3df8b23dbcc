"""Frames through the whole device, behind a root complex."""

from __future__ import annotations

import random

import cocotb
import pytest
from cocotb.utils import get_sim_time

from lib.net_system import NetSystem, exchange, random_frame, small_config
from lib.sim import params, simulate
from virtio_rtl.top import VirtioDevice


def make_system(dut, **options) -> NetSystem:
    return NetSystem(dut, small_config(params().config), **options)


@cocotb.test(timeout_time=400, timeout_unit="us")
async def lone_frame_each_way(dut):
    """One frame out, one in, one interrupt each, after the data."""
    system = make_system(dut)
    await system.bring_up()
    frame = random_frame()
    system.net.send(frame, cookie="sent")
    start = get_sim_time("ns")
    await system.kick(1)
    await system.until(lambda: system.sink.frames == [frame])
    await system.until(lambda: system.interrupts == [2])
    dut._log.warning("doorbell to interrupt: %d ns", get_sim_time("ns") - start)
    assert system.poll() == ["sent"]
    system.net.post(2048)
    await system.kick(0)
    reply = random_frame()
    system.source.send(reply)
    await system.until(lambda: system.interrupts == [2, 1])
    system.poll()
    assert [got.frame for got in system.received] == [reply]
    system.host.check()


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def random_traffic_both_ways(dut):
    system = make_system(dut, rx_size=random.choice([33, 64]), tx_size=random.choice([29, 64]))
    await system.bring_up()
    await exchange(system, 120)


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def random_traffic_with_stalls_and_pieces(dut):
    system = make_system(dut, split=True, stall=0.2, max_payload=128, max_read_request=128)
    await system.bring_up()
    await exchange(system, 60)


@pytest.mark.parametrize(
    "config",
    [
        # No other test needs their models.
        pytest.param("net-x1", marks=pytest.mark.sweep),
        pytest.param("net-x4", marks=pytest.mark.sweep),
        "net-x8",
        "net-x16",
    ],
)
def test_traffic(config):
    simulate(
        VirtioDevice(small_config(config)),
        module=__name__,
        name=f"traffic_{config}",
        params={"config": config},
    )
