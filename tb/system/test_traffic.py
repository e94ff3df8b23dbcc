"""Frames through the whole device, behind a root complex."""

from __future__ import annotations

import random
from dataclasses import replace

import cocotb
import pytest
from cocotb.utils import get_sim_time
from lib.net_system import NetSystem
from lib.sim import params, simulate
from lib.streams import cycles
from virtio_rtl.config import DeviceConfig, named_config
from virtio_rtl.top import VirtioDevice


def config_of(name: str) -> DeviceConfig:
    """Small memories: these tests want corners, not speed."""
    config = named_config(name)
    return replace(config, read_tags=32, read_ahead=64, completion_timeout_us=20)


def make_system(dut, **options) -> NetSystem:
    return NetSystem(dut, config_of(params().config), **options)


def random_frame(longest: int = 1514) -> bytes:
    return random.randbytes(random.choice([random.randint(14, 120), random.randint(14, longest)]))


def random_cuts(length: int) -> tuple[int, ...]:
    return tuple(
        random.randrange(1, length) for _ in range(random.choice([0, 0, 0, 1, 2, 3, 7]))
    )


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


async def exchange(system: NetSystem, count: int) -> None:
    """`count` random frames each way, framed at random, everything compared."""
    sent: list[bytes] = []
    replies: list[bytes] = []
    done: list[int] = []
    while len(done) < count or len(system.received) < count:
        for _ in range(random.randint(0, 16)):
            frame = random_frame()
            cuts = random_cuts(len(frame) + 12)
            table = random.random() < 0.4
            if len(sent) == count or system.queues[1].free_slots < len(cuts) + 1:
                break
            system.net.send(
                frame, cuts=cuts, indirect=table, skew=random.randrange(64), cookie=len(sent)
            )
            sent.append(frame)
        await system.kick(1)
        for _ in range(random.randint(0, 16)):
            cuts = random_cuts(1600)
            if system.queues[0].free_slots < len(cuts) + 1:
                break
            table = random.random() < 0.4
            system.net.post(1600, cuts=cuts, indirect=table, skew=random.randrange(64), fill=0xA5)
        await system.kick(0)
        while len(replies) < count and system.source.waiting < 8:
            replies.append(random_frame())
            system.source.send(replies[-1])
        await cycles(system.dut, random.choice([10, 100, 400]))
        done += system.poll()
        for queue in system.queues:
            queue.audit()
    assert done == list(range(count))
    assert system.sink.frames == sent
    assert [got.frame for got in system.received] == replies
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


@pytest.mark.parametrize("config", ["net-x1", "net-x4", "net-x8", "net-x16"])
def test_traffic(config):
    simulate(
        VirtioDevice(config_of(config)),
        module=__name__,
        name=f"traffic_{config}",
        params={"config": config},
    )
