"""The block device: a read and a write of the same sector are never under way together."""

from __future__ import annotations

from typing import Any

from amaranth.asserts import AnyConst
from amaranth.hdl import Assert, Assume, Cat, Cover, Module, Mux, Signal

from formal.harness import free, implies, inside, sink, source
from formal.proof import Mutant, proof
from virtio_rtl.config import BlkConfig
from virtio_rtl.device import blk_dispatch as dispatch_file
from virtio_rtl.device.blk_dispatch import BlkDispatch
from virtio_rtl.device.blk_types import Action

_FILE = "device/blk_dispatch.py"
_CONFIG = BlkConfig(
    capacity_sectors=3,
    max_discard_sectors=3,
    max_discard_seg=2,
    max_write_zeroes_sectors=3,
    max_write_zeroes_seg=2,
)
_UNDER_WAY = 2
_TOKENS = 1
_WAITING = 2
"""Responses that wait; in use: 64."""


class _UnderWay:
    """Reads, or writes, from their offer to the backend until it is done with them."""

    def __init__(self, m: Module, stream: Any, counts: Any, done: Any):
        """Watch a stream, as far as it `counts`; `done` is what the backend tells, in order."""
        run, offered = stream.payload, stream.valid & counts
        begins = offered & stream.ready
        begun, ended = Signal(3), Signal(3)
        m.d.sync += [begun.eq(begun + begins), ended.eq(ended + done)]
        #: The backend has one that is not done.
        self.some = begun != ended
        m.d.comb += Assume(implies(done, self.some))
        watched = AnyConst(3)
        here = offered & (begun == watched)
        kept = Signal(2 * len(run.first))
        now = Mux(here, Cat(run.first, (run.first + run.sectors)[:2]), kept)
        m.d.sync += kept.eq(now)
        self.first, self.end = now[:2], now[2:]
        #: The watched one is offered or not done; it is over.
        self.there = here | ((begun > watched) & (ended <= watched))
        self.over = ended > watched


@proof(
    "BlkDispatch: a read and a write under way share no sector, in whatever order they came",
    mode="bmc",
    depth=13,
    cover=16,
    mutant_depth=13,
    sizes=f"3 sectors, {_UNDER_WAY} reads and writes under way, {_TOKENS} token, 2 segments",
    mutants=[
        Mutant(_FILE, "Mux(is_read, writing.overlap, reading.overlap)", "writing.overlap"),
        Mutant(_FILE, "Mux(is_read, writing.overlap, reading.overlap)", "reading.overlap"),
        Mutant(_FILE, 'm.next = "COMPARE"', 'm.next = "GO"'),
        Mutant(_FILE, "writing.add.eq(~is_read)", "writing.add.eq(0)"),
    ],
)
def blk_dispatch(m: Module) -> None:
    """Any plans within the disk; the backend ends what it has taken when it likes."""
    responses = dispatch_file._RESPONSES
    dispatch_file._RESPONSES = _WAITING
    try:
        m.submodules.dut = dut = BlkDispatch(64, _CONFIG, under_way=_UNDER_WAY, tokens=_TOKENS)
        inside(dut)
    finally:
        dispatch_file._RESPONSES = responses
    source(m, dut.plan)
    source(m, dut.segment)
    for port in (dut.read_done, dut.write_done, dut.written):
        free(m, port)
    for output in (dut.read, dut.write, dut.response):
        sink(m, output)
    plan, segment, job = dut.plan.payload, dut.segment.payload, dut.write.payload
    runs = {action: plan.action == action for action in Action}
    is_run = runs[Action.READ] | runs[Action.WRITE]
    capacity = _CONFIG.capacity_sectors
    m.d.comb += [
        # What the check lets pass. [virtio 1.4 §5.2.6.2]
        Assume(plan.segments <= _CONFIG.segments),
        Assume(implies(is_run, (plan.sectors != 0) & (plan.first + plan.sectors <= capacity))),
        Assume(implies(is_run, plan.segments == 0)),
        Assume(implies(runs[Action.ZERO], plan.segments != 0)),
        Assume(implies(~runs[Action.NONE], plan.told & ~plan.drain)),
        Assume((segment.sectors != 0) & (segment.first + segment.sectors <= capacity)),
    ]

    # Nothing else is looked at.
    m.d.comb += [Assume(plan.room == 0), Assume(~plan.identity), Assume(plan.status == 0)]
    reading = _UnderWay(m, dut.read, 1, dut.read_done)
    writing = _UnderWay(m, dut.write, ~job.drain, dut.write_done)
    share = (reading.first < writing.end) & (writing.first < reading.end)
    m.d.comb += [
        Assert(~(reading.there & writing.there & share), "of the same sector, at once"),
        Cover(reading.there & writing.there),
        Cover(share & reading.over & writing.there),
        Cover(share & writing.over & reading.there),
    ]
