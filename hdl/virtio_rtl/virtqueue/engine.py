"""The virtqueue engine: wires the stages from doorbell to interrupt request."""

from amaranth.hdl import Cat, Module, Signal, unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from ..config import DeviceConfig
from ..types.events import HopEvents
from ..types.packet import packet_stream
from ..types.virtqueue import Doorbell, InterruptRequest, RingFeatures, WritableRequest
from .clients import Clients, client_ports, read_clients
from .event import EventCheck
from .fetch import Fetch
from .gather import Gather
from .path import WalkPath
from .scatter import Scatter
from .scheduler import Scheduler
from .service import Service
from .used import Used
from .walk_jump import JumpReads

__all__ = ["VirtqueueEngine"]

_RECEIVE, _TRANSMIT = 0, 1
_STILL = 15
"""Cycles for which everything must have been idle."""


class VirtqueueEngine(wiring.Component):
    """Virtqueues of a device that has receive (even) and transmit (odd) ones, in either format.

    Wiring only; the stages' docstrings say what each does.

    Parameters
    ----------
    config
        The device's configuration.
    max_packet
        Longest packet in either direction, in bytes.
    min_receive
        Shortest packet towards the driver, in bytes: a receive buffer must have room for it.

    Ports
    -----
    enable : 1
        DRIVER_OK.
    features : ``RingFeatures``
        Constant while ``enable`` is high.
    short_reads : 1
        MRRS is 128 bytes.
    doorbell : stream of ``Doorbell``
    enabled_queue : stream of 16 bits
        A virtqueue that was enabled after DRIVER_OK: looked at once, as by a doorbell.
    lookup_{i} : ``QueueLookup``, see ``clients.LOOKUPS``
    read_request_{i}, read_packet_{i} : clients of the read engine, see ``clients.read_clients``
    write_request_{i}, write_packet_{i}, write_done_{i} : see ``clients.WRITE_CLIENTS``
    readable : packet_stream(width, pair_bits), what drivers sent
    wanted : stream of ``WritableRequest``; writable : packet_stream(width), what drivers get
    interrupt : stream of ``InterruptRequest``
    failed : 1
        A virtqueue broke a rule or a read failed: the device needs a reset.
    transmit_dropped : 1
        A packet was cut because it is longer than ``max_packet``.
    receive_dropped : 1
        A packet did not fit the driver's buffer, or that buffer broke a rule.
    crowded : 1
        The posted path has more to send than it can.
    pause : 1
        No new buffer is begun; those that were are finished, told and forgotten.
    rested : 1
        While ``pause`` is high: nothing of any buffer is inside, all interrupts were handed over.
    hold : 1
        No virtqueue is looked at; doorbells are kept.
    fetch_idle : 1
        While ``hold`` is high: no descriptor fetch is in flight, nothing of ours is being written.
    forget : 1, forget_queue : 16
        Strobe, while all four are high: the virtqueue was reset; its state returns to that after a
        reset within two cycles. [virtio 1.4 §2.6.1]
    events : ``HopEvents``
        Its first and last field are left to the outside.
    busy
        State in memories is being cleared after a reset.
    """

    def __init__(self, config: DeviceConfig, max_packet: int, *, min_receive: int = 0):
        self.config = config
        self.max_packet = max_packet
        self.min_receive = min_receive
        width = config.width
        members = {
            "enable": In(1),
            "features": In(RingFeatures),
            "short_reads": In(1),
            "doorbell": In(stream.Signature(Doorbell)),
            "enabled_queue": In(stream.Signature(unsigned(16))),
            "readable": Out(packet_stream(width, config.pair_bits)),
            "wanted": In(stream.Signature(WritableRequest)),
            "writable": In(packet_stream(width)),
            "interrupt": Out(stream.Signature(InterruptRequest)),
            "crowded": In(1),
            "failed": Out(1),
            "transmit_dropped": Out(1),
            "receive_dropped": Out(1),
            "busy": Out(1),
            "pause": In(1),
            "rested": Out(1),
            "hold": In(1),
            "fetch_idle": Out(1),
            "forget": In(1),
            "forget_queue": In(16),
            "events": Out(HopEvents),
        }
        super().__init__(members | client_ports(config))

    def elaborate(self, platform):
        m = Module()
        config = self.config
        width, queues = config.width, config.num_queues
        batch, depth = config.fetch_batch, config.read_ahead
        paths = 2

        m.submodules.scheduler = scheduler = Scheduler(queues, 3, 2 + paths)
        m.submodules.fetch = fetch = Fetch(
            width, queues, paths, batch, depth, rings=config.rings, event_idx=config.event_idx
        )
        walks = [
            WalkPath(width, queues, paths, path, batch, depth, pull=path == _RECEIVE,
                     segments=256 if path == _RECEIVE else 64,
                     wait_cycles=config.receive_wait_cycles, rings=config.rings,
                     indirect=config.indirect)
            for path in range(paths)
        ]  # fmt: skip
        m.submodules.walk_receive, m.submodules.walk_transmit = walks
        m.submodules.service = service = Service(queues)
        m.submodules.gather = gather = Gather(width, self.max_packet, dest_bits=config.pair_bits)
        m.submodules.scatter = scatter = Scatter(width, least_bytes=self.min_receive)
        m.submodules.used = used = Used(
            width,
            queues,
            paths,
            batch,
            rings=config.rings,
            in_order=config.in_order,
            read_only=(_TRANSMIT,),
        )
        m.submodules.event = event = EventCheck(
            width, queues, rings=config.rings, event_idx=config.event_idx
        )

        def join(ours, theirs):
            wiring.connect(m, wiring.flipped(ours), theirs)

        clients = Clients(m, self)

        # Doorbell to fetch.
        m.d.comb += [
            scheduler.enable.eq(self.enable),
            fetch.short_reads.eq(self.short_reads),
            scheduler.doorbell_0.payload.eq(self.doorbell.payload.queue),
            scheduler.doorbell_0.valid.eq(self.doorbell.valid),
            self.doorbell.ready.eq(scheduler.doorbell_0.ready),
        ]
        wiring.connect(m, fetch.recheck, scheduler.doorbell_1)
        join(self.enabled_queue, scheduler.doorbell_2)
        wiring.connect(m, fetch.rearm_0, scheduler.rearm_0)
        wiring.connect(m, fetch.rearm_1, scheduler.rearm_1)
        wiring.connect(m, scheduler.work, fetch.work)
        clients.read("descriptors", fetch.read_request, fetch.read_packet)
        clients.read("ring", fetch.ring_request, fetch.ring_packet)
        clients.write("suppression", fetch.write_request, fetch.write_packet, fetch.write_done)
        clients.lookup("issue", fetch.lookup_issue)
        clients.lookup("receive", fetch.lookup_receive)

        # Walkers with their read-ahead stores, one of each per path.
        for path, walk in enumerate(walks):
            name = ("receive", "transmit")[path]
            m.d.comb += [
                walk.write_en.eq(fetch.write_en),
                walk.write_queue.eq(fetch.write_queue),
                walk.write_pointer.eq(fetch.write_pointer),
                walk.write_descriptor.eq(fetch.write_descriptor),
                walk.commit_en.eq(fetch.commit_en),
                walk.commit_pointer.eq(fetch.commit_pointer),
                walk.taken_queue.eq(fetch.taken_queue),
                getattr(fetch, f"taken_{path}").eq(walk.taken),
                walk.packed.eq(self.features.packed),
                walk.pause.eq(self.pause),
            ]
            wiring.connect(m, walk.rearm, getattr(scheduler, f"rearm_{2 + path}"))
            clients.lookup(f"walk_{name}", walk.lookup)
            if config.indirect:
                clients.read(f"{name}_tables", walk.table_request, walk.table_packet)
        if "jumps" in read_clients(config):
            m.submodules.jumps = jumps = JumpReads(width, paths)
            clients.read("jumps", jumps.read_request, jumps.read_packet)
            for path, walk in enumerate(walks):
                wiring.connect(m, walk.jump_request, getattr(jumps, f"request_{path}"))
                wiring.connect(m, getattr(jumps, f"answer_{path}"), walk.jump_answer)

        # Transmit: virtqueues with descriptors are served in turn.
        m.d.comb += [
            service.committed.payload.eq(fetch.committed.payload),
            service.committed.valid.eq(fetch.committed.valid & fetch.committed.payload[0]),
            fetch.committed.ready.eq(service.committed.ready | ~fetch.committed.payload[0]),
        ]
        transmit = walks[_TRANSMIT]
        wiring.connect(m, service.request, transmit.request)
        wiring.connect(m, transmit.result, service.result)
        wiring.connect(m, transmit.segment, gather.segment)
        wiring.connect(m, transmit.buffer, gather.buffer)
        clients.read("payload", gather.request, gather.packet)
        join(self.readable, gather.readable)

        # Receive: the device asks for buffers.
        receive = walks[_RECEIVE]
        m.d.comb += receive.result.ready.eq(1)
        wiring.connect(m, scatter.take, receive.request)
        wiring.connect(m, receive.segment, scatter.segment)
        wiring.connect(m, receive.buffer, scatter.buffer)
        join(self.wanted, scatter.wanted)
        join(self.writable, scatter.packet)
        clients.write("payload", scatter.request, scatter.write_packet, scatter.done)

        # Used buffers, event suppression, interrupt.
        wiring.connect(m, scatter.completion, used.completion_0)
        wiring.connect(m, gather.completion, used.completion_1)
        clients.write("used", used.request, used.packet, used.done)
        clients.lookup("used", used.lookup)
        clients.lookup("used_write", used.lookup_write)
        wiring.connect(m, used.written, event.written)
        clients.read("events", event.request, event.packet)
        clients.lookup("event", event.lookup)
        join(self.interrupt, event.interrupt)

        self._rest(m, walks, scheduler, fetch, gather, scatter, used, event)

        inside = Signal(16)
        entered = [
            walk.buffer.valid & walk.buffer.ready & ~walk.buffer.payload.absent for walk in walks
        ]
        left = [port.valid & port.ready for port in (used.completion_0, used.completion_1)]
        m.d.sync += inside.eq(inside + entered[0] + entered[1] - left[0] - left[1])
        m.d.comb += [
            used.busy.eq(inside != 0),
            used.crowded.eq(self.crowded),
            self.failed.eq(Cat(fetch.failed, gather.failed, scatter.failed, event.failed).any()),
            self.transmit_dropped.eq(gather.dropped),
            self.receive_dropped.eq(scatter.dropped),
            self.busy.eq(walks[0].busy),
        ]

        def moves(port):
            return port.valid & port.ready

        m.d.comb += [
            self.events.scheduled.eq(moves(scheduler.work)),
            self.events.fetch_issued.eq(moves(fetch.read_request)),
            self.events.fetch_received.eq(moves(fetch.committed)),
            self.events.walked.eq(entered[0] | entered[1]),
            self.events.payload_requested.eq(moves(gather.request) | moves(scatter.request)),
            self.events.payload_delivered.eq(
                moves(gather.readable) & gather.readable.payload.last
                | moves(scatter.packet) & scatter.packet.payload.last
            ),
            self.events.completed.eq(left[0] | left[1]),
            self.events.used_written.eq(moves(used.written)),
            self.events.event_requested.eq(moves(event.request)),
            self.events.event_received.eq(moves(event.packet)),
        ]
        return m

    def _rest(self, m, walks, scheduler, fetch, gather, scatter, used, event) -> None:
        """Coming to rest, and forgetting a virtqueue."""
        quiet = Cat(*(walk.resting for walk in walks), gather.idle, scatter.idle)
        # What passes from one to another may be seen by neither for a cycle or two.
        still = Signal(range(_STILL + 1))
        with m.If(~self.pause | ~Cat(quiet, used.idle, event.idle).all()):
            m.d.sync += still.eq(0)
        with m.Elif(~self.rested):
            m.d.sync += still.eq(still + 1)
        m.d.comb += self.rested.eq(still == _STILL)
        m.d.comb += [
            scheduler.hold.eq(self.hold),
            self.fetch_idle.eq(fetch.idle),
            *(part.features.eq(self.features) for part in (fetch, used, event)),
        ]
        # The event check has nothing to forget of a virtqueue that is at rest.
        for part in (*walks, fetch, used):
            m.d.comb += [
                part.forget.eq(self.forget),
                part.forget_queue.eq(self.forget_queue),
            ]
