"""The wire model against the simulated link, by an ideal endpoint that sends the least TLPs.

Bytes per frame agree. What is left of a difference comes from the edges of a window: requests
whose answers, and doorbells whose frames, fall outside of it.

Rates do not, and for one reason: the wire model allows for ACK, flow control and SKP in the worst
case (8.1% of Gen3 x8, 9.8% of Gen3 x16), while the simulated link has no SKP, and ACKs and credit
updates only as often as the timers of PCIe demand: an ACK, and an update or two for each type of
credit, in a period of 204 (x8) or 168 (x16) symbol times. That is 0.1 to 1.6% in the direction
that saturates.
"""

from __future__ import annotations

import functools
import random
from dataclasses import astuple, replace

import cocotb
import pytest

from bench import ideal
from bench.ideal import EmptyDut, IdealCase, IdealResult, measure_ideal
from bench.ideal_flow import IdealFlow
from lib.sim import simulate
from virtio_model.wire import (
    LARGE,
    SMALL,
    Frame,
    Link,
    ceiling_mpps,
    cut,
    mixed_bytes_per_frame,
    tx_bytes_per_frame,
)

MPS = 256
WAYS = ("transmit", "receive", "both")
DOWN_CREDITS = 2  # the host updates credits for posted and for nonposted requests
UP_CREDITS = 1  # the endpoint those for doorbells; completions have no limit


def framings() -> tuple[Frame, ...]:
    """Return frames of 60 to 9000 bytes in 1 to 16 segments."""
    draw = random.Random(3)
    return tuple(cut(draw.randint(72, 9012), draw.randint(1, 16)) for _ in range(32))


CASES = {
    **{f"x8 64 {way}": IdealCase(8, 3, way, (SMALL,)) for way in WAYS},
    **{f"x8 64 pieces {way}": IdealCase(8, 3, way, (SMALL,), 1, 64) for way in WAYS},
    **{f"x8 1500 {way}": IdealCase(8, 3, way, (LARGE,)) for way in WAYS},
    **{f"x16 64 {way}": IdealCase(16, 3, way, (SMALL,)) for way in WAYS},
    **{f"x16 1500 {way}": IdealCase(16, 3, way, (LARGE,)) for way in WAYS[:2]},
    **{f"x8 framing {way}": IdealCase(8, 3, way, framings()) for way in WAYS[:2]},
    "x8 64 in 3 descriptors": IdealCase(8, 3, "receive", (SMALL,), 3),
    "x8 64 one by one": IdealCase(8, 3, "transmit", (SMALL,), batch=1),
}


@functools.cache
def results() -> dict[str, IdealResult]:
    """Simulate all cases once, for all tests and for all processes of a run."""
    return dict(zip(CASES, measure_ideal(list(CASES.values())), strict=True))


def raw_gbps(case: IdealCase) -> float:
    """Return the link's rate behind its line code: what TLPs and DLLPs share."""
    return 8 * 128 / 130 * case.lanes


@pytest.mark.parametrize("name", CASES)
def test_bytes_per_frame(name):
    """As the formula says, both ways; where the link saturates, to half a percent."""
    case, result = CASES[name], results()[name]
    load = case.load()
    assert result.frames >= 512
    assert result.wire_up == pytest.approx(load.up, rel=0.02)
    assert result.wire_down == pytest.approx(load.down, rel=0.02)
    if load.up > load.down:
        assert result.wire_up == pytest.approx(load.up, rel=0.005)
    else:
        assert result.wire_down == pytest.approx(load.down, rel=0.005)


@pytest.mark.parametrize("name", CASES)
def test_the_link_is_full(name):
    """TLPs and DLLPs fill the direction that the formula calls the busier one."""
    case, result = CASES[name], results()[name]
    load, raw = case.load(), raw_gbps(case)
    busy = result.gbps_up if load.up > load.down else result.gbps_down
    assert busy == pytest.approx(raw, rel=0.002)
    assert max(result.gbps_up, result.gbps_down) < raw * 1.002


@pytest.mark.parametrize("name", CASES)
def test_rate_and_ceiling_differ_by_the_dllps(name):
    """Ceiling x (raw rate - DLLPs as counted) / (rate in the wire model) is the ideal rate."""
    case, result = CASES[name], results()[name]
    load, link, raw = case.load(), Link(case.lanes, case.generation), raw_gbps(case)
    dllp_bytes = result.dllp_up if load.up > load.down else result.dllp_down
    dllp_gbps = dllp_bytes * result.mpps * 8 / 1e3
    expected = ceiling_mpps(link, load) * (raw - dllp_gbps) / link.gbps
    assert result.mpps == pytest.approx(expected, rel=0.005)
    # The wire model is on the safe side: it sets aside more than the link spends.
    assert dllp_gbps < raw - link.gbps
    assert ceiling_mpps(link, load) < result.mpps


@pytest.mark.parametrize("name", CASES)
def test_dllps_are_as_many_as_the_timers_allow(name):
    """An ACK in each period of the latency timers, and at most two updates per type of credit.

    The second is for requests that come while the first is being sent.
    """
    case, result = CASES[name], results()[name]
    factor = {8: 2.5, 16: 3.0}[case.lanes]  # [PCIe 3.0 §3.5.2, §2.6.1.2]
    period_ns = ((MPS + 28) * factor / case.lanes + 115) * 8 / (8 * 128 / 130)
    periods = result.window_ns / period_ns
    for dllp_bytes, credits in ((result.dllp_up, UP_CREDITS), (result.dllp_down, DOWN_CREDITS)):
        assert dllp_bytes / 8 * result.frames <= (1 + 2 * credits) * (periods + 1)
    # Requests never pause, so that the host owes an ACK and an update in every period.
    assert result.dllp_down / 8 * result.frames >= 2 * 0.9 * periods


def test_several_descriptors_cost_more_than_their_fetch():
    """The formula for one size counts a cut frame's fetch only; the ideal endpoint pays for all."""
    case = replace(CASES["x8 64 in 3 descriptors"], direction="transmit")
    simple = tx_bytes_per_frame(SMALL, "packed", 16, 256, descriptors=3)
    mixed = mixed_bytes_per_frame("transmit", case.chains, "packed", 16, 256)
    # Two more reads, and a used write of its own; descriptor reads end where they are full.
    assert mixed.up - simple.up == pytest.approx(2 * 24 + 32 - (16 + 24 / 16) - (3 - 2.25))
    # Two more completions of payload.
    assert mixed.down - simple.down == pytest.approx(2 * 20)


# The ideal endpoint itself


@cocotb.test(timeout_time=100, timeout_unit="us", expect_fail=True)
async def a_wrong_byte_is_found(dut):
    """The endpoint looks at what it reads: a byte that changes behind its back ends the run."""
    flow = IdealFlow(IdealCase(8, 3, "transmit", (SMALL, LARGE)))
    address, length = flow.rings[0].segments[1][0]
    at = address + random.randrange(length)
    flow.memory.write(at, bytes([flow.memory.read(at, 1)[0] ^ 1]))
    await flow.run()


@cocotb.test(timeout_time=300, timeout_unit="us")
async def every_buffer_is_filled(dut):
    """Received frames are in memory, and the host has nothing to complain about."""
    flow = IdealFlow(IdealCase(8, 3, "receive", (SMALL, (12, 1500), LARGE)))
    result = await flow.run()
    assert result.frames >= 512
    for frame in flow.rings[0].segments:
        found = b"".join(flow.memory.read(address, length) for address, length in frame)
        assert found == flow.rings[0].payload[: len(found)]
    assert flow.endpoint.rung >= result.frames // 32


def test_ideal_endpoint():
    """It moves real bytes."""
    simulate(EmptyDut(), module=__name__, name="ideal_endpoint_bytes")


def test_results_are_kept(tmp_path, monkeypatch):
    """A case is simulated once per seed; a change of case, seed or sources is another."""
    runs = []

    def fake(cases, seed):
        runs.append((list(cases), seed))
        return [dict.fromkeys(IdealResult.__dataclass_fields__, float(seed)) for _ in cases]

    monkeypatch.setattr(ideal, "_simulate", fake)
    small, large = CASES["x8 64 transmit"], CASES["x8 1500 transmit"]
    first = measure_ideal([small], tmp_path, seed=1)
    assert astuple(first[0])[0] == 1.0
    assert measure_ideal([small, large, small], tmp_path, seed=1) == first * 3
    assert runs == [([small], 1), ([large], 1)]
    measure_ideal([small], tmp_path, seed=2)
    assert runs[2:] == [([small], 2)]
    monkeypatch.setattr(ideal, "_sources_hash", lambda: "another")
    measure_ideal([small], tmp_path, seed=1)
    assert runs[3:] == [([small], 1)]


@pytest.mark.parametrize("wrong", [{"completion_bytes": 128}, {"batch": 12}, {"batch": 32}])
def test_cases_that_cannot_be(wrong):
    """Refused at once."""
    with pytest.raises(ValueError, match=str(next(iter(wrong.values())))):
        replace(CASES["x8 64 transmit"], **wrong)
