"""The stream rule, module by module."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from amaranth.hdl import Cover, Module

from formal import stream_contracts as contracts
from formal.harness import before, steady
from formal.proof import Mutant, proof
from formal.stream_rule import CONSTANT, surround
from virtio_rtl.config import BlkConfig, DeviceConfig
from virtio_rtl.regs.maps import Region
from virtio_rtl.types.dma import ReadRequest

_NAMES = {
    "CONFIG": DeviceConfig("small", width=64, queue_size_max=4, msix_vectors=2),
    "ENTROPY": DeviceConfig("random", device="entropy", width=64),
    "BLK": BlkConfig(
        capacity_sectors=6,
        max_discard_sectors=2,
        max_discard_seg=2,
        max_write_zeroes_sectors=3,
        max_write_zeroes_seg=2,
        axi_address_bits=16,
        axi_burst_bytes=512,
    ),
    "REGIONS": (Region("low", 0, 64), Region("high", 128, 256)),
    "RINGS": ("split", "packed"),
    "ReadRequest": ReadRequest,
}
"""What the arguments of a module may name."""


@dataclass(frozen=True)
class Case:
    """A module of a small size, as `module.Class(arguments)`.

    `contract`: what else its surroundings keep. `tied`: input ports that keep a value, see
    `surround`. `far`: outputs whose first offer lies behind the cycles that are looked at.
    `unless`: an input that may withdraw what is offered. `reset`: outputs whose offers
    `engine_reset` may withdraw, in the cycle behind it. `patient`: see `surround`. `kind`: another
    size of a module that is in already.
    """

    expression: str
    contract: Callable[[Module, Any], None] | None = None
    tied: dict[str, Any] = field(default_factory=dict)
    far: tuple[str, ...] = ()
    unless: str = ""
    reset: tuple[str, ...] = ()
    patient: bool = False
    kind: str = ""

    @property
    def name(self) -> str:
        """Return the name of the class, and of which kind it is."""
        return self._class + self.kind

    @property
    def _class(self) -> str:
        return self.expression.partition("(")[0].rpartition(".")[2]

    def withdraws(self, m: Module, dut: Any, output: str) -> Any:
        """Return when an output may withdraw its offer."""
        if output in self.reset:
            return before(m, dut.engine_reset)
        return getattr(dut, self.unless) if self.unless else 0

    def make(self) -> Any:
        """Return the module."""
        path, bracket, arguments = self.expression.partition("(")
        module, _, name = path.rpartition(".")
        component = getattr(importlib.import_module(f"virtio_rtl.{module}"), name)
        return eval(f"component{bracket}{arguments}", {**_NAMES, "component": component})


_LIST = [
    Case("lib.bypass.BypassFIFO(3, 4)"),
    Case("lib.prefix.DropPrefix(32, 6)"),
    Case("lib.prefix.AddPrefix(32, bytes(6))"),
    Case("lib.frame_fifo.FrameFIFO(16, 4, 2)"),
    Case("lib.cut_packet.CutPacket(32)", unless="cut"),
    Case("device.mtu_limit.MTULimit(64, 68)"),
    Case("device.net_ports.PortToPacket(32)", unless="cut"),
    Case("device.net_ports.PacketToPort(32)"),
    Case("device.blk_header.BlkHeader(64)"),
    Case("device.blk_segments.BlkSegments(64, BLK)"),
    Case("device.blk_segments.BlkSegments(256, BLK)", kind="Wide"),
    Case("device.blk_check.BlkCheck(BLK)"),
    Case("device.blk_dispatch.BlkDispatch(64, BLK, under_way=2, tokens=2)"),
    Case("device.blk_write.BlkWrite(64, BLK)"),
    Case("device.blk_respond.BlkRespond(64, b'id')"),
    Case("device.blk_memory.BlkMemory(64, BLK, tokens=2)"),
    Case("device.blk_axi_read.BlkAxiRead(64, BLK)", reset=("read_data",)),
    Case("device.blk_axi_write.BlkAxiWrite(64, BLK, tokens=2)", reset=("written",)),
    Case("device.entropy.EntropyDevice(ENTROPY)"),
    Case("device.entropy_cut.CutPackets(64, 20)"),
    Case("device.entropy_reply.TellReplies(64, 20, 4, 2)"),
    Case("device.entropy_noise.NoiseBytes(2, 3, 3, 4)"),
    Case("device.entropy_words.SeededSource(64, 1)"),
    Case("device.entropy_words.WordSource(64, 32)"),
    Case("dma.read_chunk_buffer.ChunkBuffer(64)"),
    Case("dma.read_split.ReadSplit(64, 128)"),
    Case("dma.read_issue.ReadIssue(64, 8, 128, 2, 1)"),
    Case("dma.read_merge.ReadMerge(64, 8, 128, 2)"),
    Case("dma.read_outlet.ReadOutlet(64, 4, 2)", contracts.claimed_first),
    Case("dma.read_deliver.ReadDeliver(64, 8, 128, 2, 32)"),
    Case("dma.read_timer.ReadTimer(8, 128)"),
    Case("dma.tags.TagPool(8)"),
    Case("dma.read_engine.ReadEngine(64, 8, 128, 2, 1000)", far=("packet_0", "packet_1", "error")),
    Case("dma.write_input.WriteInput(64)"),
    Case("dma.write_mux.WriteMux(64, 2)"),
    Case("dma.write_direct.WriteDirect(64, 2, 4)", contracts.one_way_at_a_time),
    Case("dma.write_split.WriteSplit(2, 128)"),
    Case("dma.write_launch.WriteLaunch(64, 2, 512)"),
    Case("dma.write_done.WriteDone(2, 4)"),
    Case("dma.write_engine.WriteEngine(64, 2, 128, 2048, 4)"),
    Case("pcie.bar_target.BarTarget(64)"),
    Case("pcie.config_space.ConfigSpace(CONFIG, 64)", far=("bus.request",)),
    Case("pcie.msix_message.MSIXMessage(64)", contracts.offered_when_free),
    Case("pcie.rx_demux.RxDemux(64, 4)"),
    Case("pcie.tx_arbiter.TxArbiter(64, 4, 5)"),
    Case("regs.arbiter.BusArbiter(2)"),
    Case("regs.decode.BusDecoder(REGIONS)"),
    Case("transport.common_config.CommonConfig(CONFIG, 1 << 32, 1 << 32)"),
    Case("transport.interrupt.InterruptRouter()"),
    Case("transport.notify.Notify(2, notification_data=True)"),
    Case("virtqueue.descriptor_stream.DescriptorStream(64)"),
    Case("virtqueue.entry_stream.EntryStream(64)"),
    Case(
        "virtqueue.event.EventCheck(64, 2)", tied={"lookup.config": CONSTANT, "features": CONSTANT}
    ),
    Case("virtqueue.fetch_issue.FetchIssue(2, 1, 2, 4)"),
    Case("virtqueue.fetch_receive.FetchReceive(64, 2, 1, 2, 4)", far=("repair_request",)),
    Case("virtqueue.fetch_source.FetchSource(64)", contracts.one_packet_at_a_time),
    Case(
        "virtqueue.fetch_packed.PackedFetch(64, 2, 1, 2, 4, 4)",
        far=("rearm_0", "rearm_1", "ring_request", "suppression", "committed"),
    ),
    Case(
        "virtqueue.fetch_split.SplitFetch(64, 2, 1, 2, 4, fetches=4)",
        far=("rearm_0", "read_request", "suppression", "committed"),
    ),
    Case("virtqueue.gather.Gather(64, 64, 4)", contracts.packets_of_requests),
    Case("virtqueue.scatter.Scatter(64, 4)"),
    Case("virtqueue.scatter.Scatter(64, 4, length_bits=26, requests=True)", kind="Requests"),
    Case("virtqueue.request_chunks.RequestChunks(ReadRequest, 16, 2)"),
    Case("virtqueue.request_done.RequestDone(2)"),
    Case("virtqueue.request_split.RequestSplit(257, 2)", contracts.record_with_last_segment),
    Case("virtqueue.service.Service(2, 4)"),
    Case("virtqueue.split_ask.SplitAsk(2)", contracts.one_question_at_a_time),
    Case("virtqueue.split_available.SplitAvailable(64, 2, 4)"),
    Case("virtqueue.split_group.SplitGroup(2, 4)"),
    Case("virtqueue.split_issue.SplitIssue(2, 1, 4)"),
    Case("virtqueue.split_notify.SplitNotify(2)", contracts.decided_when_done),
    Case("virtqueue.split_resolve.SplitResolve(2, 2, 4)"),
    Case("virtqueue.split_window.SplitWindow(64, 4)"),
    Case("virtqueue.suppression.Suppression(64)"),
    Case("virtqueue.used.Used(64, 2, 2, 2, 4, 8)"),
    Case("virtqueue.used_beats.UsedBeats(64, RINGS)", tied={"packed": CONSTANT}),
    Case("virtqueue.used_write.UsedWrite(64, 2, 2, 2, RINGS)"),
    Case("virtqueue.walk_expand.WalkExpand(4)", patient=True),
    Case("virtqueue.walk_follow.WalkFollow(RINGS)", tied={"packed": CONSTANT}),
    Case("virtqueue.walk_jump.JumpReads(64, 2)", contracts.answers_to_reads),
    Case("virtqueue.walk_landing.WalkLanding(64, RINGS)"),
    Case(
        "virtqueue.walk_ring.WalkRing(2, 1, 2, 4, True, 8, rings=RINGS)",
        contracts.store_holds,
        far=("result",),
        unless="pause",
    ),
    Case("virtqueue.walk_table.WalkTable(RINGS)"),
]
CASES = {case.name: case for case in _LIST}


def _mutant(module: str, file: str, old: str, new: str) -> Mutant:
    """Return a fault that the proof of this module must find."""
    return Mutant(file, old, new, variant=list(CASES).index(module))


@proof(
    "the stream rule: what is offered stays as it is until it is taken",
    mode="bmc",
    depth=8,
    cover=14,
    mutant_depth=8,
    sizes="small; any inputs that obey the stream rule",
    variants=[{"module": name} for name in CASES],
    mutants=[
        _mutant(
            "BypassFIFO",
            "lib/bypass.py",
            "Mux(waiting.valid, waiting.payload, self.input.payload)",
            "Mux(self.input.valid, self.input.payload, waiting.payload)",
        ),
        _mutant("FrameFIFO", "lib/frame_fifo.py", " & (~offered | self.output.ready))", ")"),
        _mutant(
            "MSIXMessage", "pcie/msix_message.py", "with m.If(self.tlp.ready):", "with m.If(1):"
        ),
        _mutant("JumpReads", "virtqueue/walk_jump.py", "m.If(self.read_request.ready)", "m.If(1)"),
        _mutant(
            "BusDecoder", "regs/decode.py", "waits.eq(access_valid & ~access_ready)", "waits.eq(0)"
        ),
        _mutant(
            "RequestChunks",
            "virtqueue/request_chunks.py",
            "~request.valid | (request.ready & ~long)",
            "~request.valid | ~long",
        ),
        _mutant(
            "SplitNotify",
            "virtqueue/split_notify.py",
            "with m.If(update.ready):",
            "with m.If(~self.decide):",
        ),
        _mutant(
            "RequestDone",
            "virtqueue/request_done.py",
            "self.completion.valid.eq(self.written.valid & some)",
            "self.completion.valid.eq(self.written.valid & some & ~self.read.valid)",
        ),
        _mutant(
            "BlkSegments",
            "device/blk_segments.py",
            "ended & (left == 0) & ~valid.any()",
            "ended & (left == 0)",
        ),
        _mutant(
            "BlkRespond",
            "device/blk_respond.py",
            "~self.writable.valid | self.writable.ready",
            "~self.writable.valid | self.response.valid",
        ),
        _mutant(
            "BlkAxiRead",
            "device/blk_axi_read.py",
            "m.submodules.addresses = addresses = SkidBuffer(burst(config.axi_address_bits))",
            "addresses = SkidBuffer(burst(config.axi_address_bits)); "
            "m.submodules.addresses = ResetInserter(self.engine_reset)(addresses)",
        ),
        _mutant(
            "CutPackets",
            "device/entropy_cut.py",
            "with m.Elif(self.output.ready):",
            "with m.Elif(self.length.valid):",
        ),
    ],
)
def stream_rule(m: Module, module: str) -> None:
    """Each output stream of the module, whatever the surroundings do."""
    case = CASES[module]
    m.submodules.dut = dut = case.make()
    outputs = surround(m, dut, case.tied, case.patient)
    if case.contract:
        case.contract(m, dut)
    for port in outputs:
        output = port.object
        steady(m, output, unless=case.withdraws(m, dut, port.name))
        if port.name not in case.far:
            m.d.comb += Cover(before(m, output.valid & ~output.ready))
