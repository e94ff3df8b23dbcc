"""DMA write engine: packets of bytes become memory write TLPs."""

from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from ..types.dma import WriteRequest
from ..types.packet import packet_stream
from ..types.pcie import FunctionControl
from ..types.tlp import tlp_stream
from .write_direct import WriteDirect
from .write_done import WriteDone
from .write_launch import WriteLaunch
from .write_mux import WriteMux
from .write_split import WriteSplit

__all__ = ["WriteEngine"]


class WriteEngine(wiring.Component):
    """Writes the packets of several clients to host memory, in one order.

    Parameters
    ----------
    width
        Data bits of a beat: 64, 128, 256 or 512.
    clients
        Number of clients, at least 1.
    payload_limit
        Largest TLP payload in bytes, 128 to 4096; MPS is obeyed up to this.
    buffer_bytes
        Bytes held, a power of two, at least 2048 and twice ``payload_limit``.
    done_depth
        Groups that a client may have between their grant and the taking of their token.

    Ports
    -----
    control: FunctionControl
        ``max_payload`` (obeyed per TLP), ``requester_id``, ``bus_master_enable``: while it is 0 no
        TLP starts, and all that waits goes on waiting.
    request_{i}: stream of WriteRequest
        Groups of requests; a group ends with ``last``. Lengths 1 to 4096, any byte address.
    packet_{i}: packet_stream(width)
        One packet per group: its bytes go to the group's requests one after the other.
    done_{i}: stream, 1 bit, always 0
        One token per group, when the group's last beat has been accepted at ``tlp``.
    tlp: tlp_stream(width)
        MEM_WRITE with exact byte enables, attributes 0; bytes that are not enabled, and lanes past
        the payload, are 0.
    stop
        Start no TLP.
    idle
        No TLP is half sent, none is between its start and ``tlp``.
    crowded
        Half of the buffer or more is waiting: ``tlp`` takes less than the clients give.

    Order: groups are granted round robin, whole, and leave in the order of their grants. A client
    is granted only when its request and its packet's first beat are both there; then it is trusted
    to deliver the rest of the group, for it holds the posted path until it has. A client that does
    not take its tokens is not granted any more, and holds up no one else.

    A TLP starts only when all its bytes are in the buffer, so a slow client never makes a gap
    inside of a TLP. TLPs are as few as MPS, 4 KiB boundaries and whole dwords allow.

    One beat per cycle in and out; no gap between TLPs or groups while all deliver. Latency from a
    one-beat group at an idle engine to its TLP 10 cycles; 2 cycles if it is one request at a
    dword's beginning, within one aligned block of ``width`` bits: it goes around the aligner. The
    token is offered in the cycle after the group's last beat was accepted. The clients' ``ready``
    and the tokens' ``valid`` are registers.

    Errors: a packet's ``error`` is ignored. A packet that is shorter or longer than its requests
    say is a client's fault: missing beats are made up as zeros (bytes of the packet's last beat
    past ``count`` are undefined), surplus ones are dropped, and no other group is touched.

    Limitations: a request of length 0 or above 4096 is not allowed. TLPs that have been split keep
    the MPS of that moment. A reset (from outside, when ``stop`` and ``idle``) forgets groups that
    have not been sent. [PCIe 3.0 §2.2.5, §2.2.7, §2.4, §7.8.4]
    """

    def __init__(
        self,
        width: int,
        clients: int,
        payload_limit: int = 512,
        buffer_bytes: int = 4096,
        done_depth: int = 64,
    ):
        if width not in (64, 128, 256, 512):
            raise ValueError(f"width = {width!r}: 64, 128, 256 or 512")
        if clients < 1:
            raise ValueError(f"clients = {clients!r}: at least 1")
        if payload_limit not in (128, 256, 512, 1024, 2048, 4096):
            raise ValueError(f"payload_limit = {payload_limit!r}: a power of two, 128 to 4096")
        if done_depth < 1:
            raise ValueError(f"done_depth = {done_depth!r}: at least 1")
        if buffer_bytes.bit_count() != 1 or buffer_bytes < max(2048, 2 * payload_limit):
            raise ValueError(
                f"buffer_bytes = {buffer_bytes!r}: a power of two, at least 2048 and twice "
                f"payload_limit ({payload_limit})"
            )
        self.width = width
        self.clients = clients
        self.payload_limit = payload_limit
        self.buffer_bytes = buffer_bytes
        self.done_depth = done_depth
        super().__init__(
            {
                "control": In(FunctionControl),
                "tlp": Out(tlp_stream(width)),
                "stop": In(1),
                "idle": Out(1),
                "crowded": Out(1),
            }
            | {f"request_{i}": In(stream.Signature(WriteRequest)) for i in range(clients)}
            | {f"packet_{i}": In(packet_stream(width)) for i in range(clients)}
            | {f"done_{i}": Out(stream.Signature(1)) for i in range(clients)}
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.mux = mux = WriteMux(self.width, self.clients)
        m.submodules.split = split = WriteSplit(self.clients, self.payload_limit)
        m.submodules.launch = launch = WriteLaunch(self.width, self.clients, self.buffer_bytes)
        m.submodules.done = done = WriteDone(self.clients, self.done_depth)
        m.submodules.direct = direct = WriteDirect(
            self.width, self.clients, self.clients * self.done_depth
        )
        for i in range(self.clients):
            for name, inner in (("request", mux), ("packet", mux), ("done", done)):
                port = getattr(self, f"{name}_{i}")
                wiring.connect(m, wiring.flipped(port), getattr(inner, f"{name}_{i}"))
        wiring.connect(m, mux.request, split.request)
        wiring.connect(m, mux.data, launch.data)
        wiring.connect(m, split.tlp, launch.request)
        wiring.connect(m, launch.tlp, direct.aligned)
        wiring.connect(m, direct.tlp, wiring.flipped(self.tlp))
        may_start = self.control.bus_master_enable & ~self.stop
        m.d.comb += [
            split.max_payload.eq(self.control.max_payload),
            launch.enable.eq(may_start),
            launch.requester_id.eq(self.control.requester_id),
            direct.enable.eq(may_start),
            direct.requester_id.eq(self.control.requester_id),
            mux.direct_open.eq(direct.open),
            direct.load.eq(mux.direct),
            direct.request.eq(mux.request.payload.request),
            direct.bits.eq(mux.data_in),
            direct.client.eq(mux.request.payload.client),
            direct.other_begins.eq(mux.others_begin),
            direct.aligned_finished.eq(launch.finished),
            direct.aligned_client.eq(launch.finished_client),
            mux.allowed.eq(done.allowed),
            done.granted.eq(mux.granted),
            done.finished.eq(direct.finished),
            done.finished_client.eq(direct.finished_client),
            self.idle.eq(launch.idle & ~direct.waits),
            self.crowded.eq(launch.crowded),
        ]
        return m
