"""The virtqueue engine: wires the stages from doorbell to interrupt request."""

from amaranth.hdl import Cat, Module, Signal, unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from ..config import DeviceConfig
from ..types.events import HopEvents
from ..types.virtqueue import Doorbell, InterruptRequest, RingFeatures
from .clients import Clients, client_ports, read_clients
from .engine_pairs import PairPaths
from .engine_requests import RequestPaths
from .event import EventCheck
from .fetch import Fetch
from .path import WalkPath
from .scheduler import Scheduler
from .used import Used
from .walk_jump import JumpReads

__all__ = ["VirtqueueEngine"]

_STILL = 15
"""Cycles for which everything must have been idle."""


class VirtqueueEngine(wiring.Component):
    """Virtqueues of a device, in either format.

    Two kinds of devices. Of "pairs" the even virtqueues receive and the odd ones transmit: buffers
    for what the device has got, and packets that it is given. Of "requests" all virtqueues work
    alike: each buffer is a request, with bytes for the device and room for its answer.

    Wiring only; the stages' docstrings say what each does.

    Parameters
    ----------
    config
        The device's configuration.
    max_packet
        "pairs": longest packet in either direction, in bytes.
    paths
        "pairs" or "requests".
    min_receive
        "pairs": shortest packet towards the driver, in bytes: a receive buffer must have room for
        it.

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
        These three with "pairs".
    request : stream of ``Request``
        One for each buffer, in the order in which they are replied to.
    readable : packet_stream(width)
        A packet for each request that has readable bytes, in order. ``error``: a read failed on
        the bus.
    reply : stream of ``Reply``
        One for each request, in order, no longer than its writable part (or the buffer is given
        back without a byte). It must not wait for its packet to be taken.
    writable : packet_stream(width)
        A packet for each reply that has a length, in order. These four with "requests".
    interrupt : stream of ``InterruptRequest``
    failed : 1
        A virtqueue broke a rule or a read failed: the device needs a reset. The reads of a
        request's bytes do not count; the device answers these.
    transmit_dropped : 1
        "pairs": a packet was cut because it is longer than ``max_packet``.
    receive_dropped : 1
        "pairs": a packet did not fit the driver's buffer, or that buffer broke a rule.
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

    def __init__(
        self,
        config: DeviceConfig,
        max_packet: int = 0,
        *,
        paths: str = "pairs",
        min_receive: int = 0,
    ):
        if paths not in ("pairs", "requests"):
            raise ValueError(f"paths = {paths!r}: pairs or requests")
        self.config = config
        self.paths = paths
        self.middle = (
            PairPaths(config, max_packet, min_receive) if paths == "pairs" else RequestPaths(config)
        )
        members = {
            "enable": In(1),
            "features": In(RingFeatures),
            "short_reads": In(1),
            "doorbell": In(stream.Signature(Doorbell)),
            "enabled_queue": In(stream.Signature(unsigned(16))),
            "interrupt": Out(stream.Signature(InterruptRequest)),
            "crowded": In(1),
            "failed": Out(1),
            "busy": Out(1),
            "pause": In(1),
            "rested": Out(1),
            "hold": In(1),
            "fetch_idle": Out(1),
            "forget": In(1),
            "forget_queue": In(16),
            "events": Out(HopEvents),
        }
        super().__init__(members | self.middle.ports | client_ports(config, paths))

    def elaborate(self, platform):
        m = Module()
        config = self.config
        middle = self.middle
        width, queues = config.width, config.num_queues
        batch, depth = config.fetch_batch, config.read_ahead
        paths = len(middle.walkers)

        m.submodules.scheduler = scheduler = Scheduler(queues, 3, 2 + paths)
        m.submodules.fetch = fetch = Fetch(
            width, queues, paths, batch, depth, rings=config.rings, event_idx=config.event_idx
        )
        walks = [
            WalkPath(width, queues, paths, path, batch, depth,
                     wait_cycles=config.receive_wait_cycles, rings=config.rings,
                     indirect=config.indirect, **middle.walk_options(path))
            for path in range(paths)
        ]  # fmt: skip
        for name, walk in zip(middle.walkers, walks, strict=True):
            m.submodules[f"walk_{name}" if name else "walk"] = walk
        m.submodules.used = used = Used(
            width,
            queues,
            len(middle.walkers),
            batch,
            rings=config.rings,
            **middle.used_options,
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
            name = middle.walkers[path]
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
            clients.lookup(f"walk_{name}" if name else "walk", walk.lookup)
            if config.indirect:
                tables = f"{name}_tables" if name else "tables"
                clients.read(tables, walk.table_request, walk.table_packet)
        if "jumps" in read_clients(config, self.paths):
            m.submodules.jumps = jumps = JumpReads(width, paths)
            clients.read("jumps", jumps.read_request, jumps.read_packet)
            for path, walk in enumerate(walks):
                wiring.connect(m, walk.jump_request, getattr(jumps, f"request_{path}"))
                wiring.connect(m, getattr(jumps, f"answer_{path}"), walk.jump_answer)

        # From the walkers to the device and back.
        middle.connect(m, self, clients, fetch, walks)

        # Used buffers, event suppression, interrupt.
        inputs = [getattr(used, f"completion_{i}") for i in range(len(middle.completions))]
        for completion, port in zip(middle.completions, inputs, strict=True):
            wiring.connect(m, completion, port)
        clients.write("used", used.request, used.packet, used.done)
        clients.lookup("used", used.lookup)
        clients.lookup("used_write", used.lookup_write)
        wiring.connect(m, used.written, event.written)
        clients.read("events", event.request, event.packet)
        clients.lookup("event", event.lookup)
        join(self.interrupt, event.interrupt)

        self._rest(m, walks, scheduler, fetch, used, event)

        inside = Signal(16)
        entered = [
            walk.buffer.valid & walk.buffer.ready & ~walk.buffer.payload.absent for walk in walks
        ]
        left = [port.valid & port.ready for port in inputs]
        m.d.sync += inside.eq(inside + sum(entered) - sum(left))
        m.d.comb += [
            used.busy.eq(inside != 0),
            used.crowded.eq(self.crowded),
            self.failed.eq(Cat(fetch.failed, *middle.failed, event.failed).any()),
            self.busy.eq(walks[0].busy),
        ]

        def moves(port):
            return port.valid & port.ready

        m.d.comb += [
            self.events.scheduled.eq(moves(scheduler.work)),
            self.events.fetch_issued.eq(moves(fetch.read_request)),
            self.events.fetch_received.eq(moves(fetch.committed)),
            self.events.walked.eq(Cat(entered).any()),
            self.events.payload_requested.eq(Cat(moves(port) for port in middle.requests).any()),
            self.events.payload_delivered.eq(
                Cat(moves(port) & port.payload.last for port in middle.packets).any()
            ),
            self.events.completed.eq(Cat(left).any()),
            self.events.used_written.eq(moves(used.written)),
            self.events.event_requested.eq(moves(event.request)),
            self.events.event_received.eq(moves(event.packet)),
        ]
        return m

    def _rest(self, m, walks, scheduler, fetch, used, event) -> None:
        """Coming to rest, and forgetting a virtqueue."""
        quiet = Cat(*(walk.resting for walk in walks), *self.middle.idle)
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
