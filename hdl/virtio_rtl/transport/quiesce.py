"""Bringing the virtqueues to rest: reset of one virtqueue, suspend of the device."""

from amaranth.hdl import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from virtio_rtl.lib.stream import StreamFIFO

__all__ = ["Quiesce"]

_LASTING = 16
_FORGETTING = 4  # then the row of every memory is clear, and a lookup sees it


class Quiesce(wiring.Component):
    """Stops the virtqueue engine in order, lets something be done to it, lets it go on.

    [virtio 1.4 §2.6.1, §2.1, §3.4]

    First no new buffer is begun, and those inside are finished, used and told to the driver. Then
    no new work is offered, and the descriptors on their way are awaited. At rest, virtqueues whose
    reset was asked for are forgotten, one after the other; then the device is suspended, if that
    was asked for, until it is resumed.

    Parameters
    ----------
    queues
        Virtqueues of the device.
    ring_reset, suspend
        What it is built for.

    Ports
    -----
    reset_request: In(1), reset_queue: In(16)
        Strobe: reset a virtqueue. Not again for this one before it is forgotten.
    suspend_request: In(1)
        Level until ``suspend_done``.
    suspend_done: Out(1)
        Strobe: all is at rest, and stays so as long as ``suspended``.
    suspended: In(1)
        From the cycle after ``suspend_done`` until the driver resumes the device.
    resetting: Out(1)
        Level: a virtqueue waits to be forgotten.
    pause: Out(1)
        Level: begin no new buffer.
    rested: In(1)
        No buffer is inside the engine, all used buffers are in the posted path and all
        interrupts that they cause have been asked for; stays so as long as ``pause``.
    hold: Out(1)
        Level, inside of ``pause``: offer no virtqueue for work; keep what comes.
    fetch_idle: In(1)
        No descriptor is on its way; stays so as long as ``hold``.
    told: In(1)
        No interrupt is on its way to the host.
    forget: Out(1), forget_queue: Out(16)
        Strobe, at rest: return everything of this virtqueue to reset values, within two cycles.
        The next one is four cycles later at the earliest.

    ``rested``, ``fetch_idle`` and ``told`` must have lasted for 16 cycles, so that they need not
    cover a register or two between rooms. All virtqueues pause together: a reset costs the others
    the time until the buffers inside are done, and the read-ahead goes on meanwhile. Resets that
    are asked for meanwhile join.

    A reset of the device or the function comes as the module's own reset, held until both
    requests have fallen.
    """

    def __init__(self, queues: int, *, ring_reset: bool, suspend: bool):
        self.queues = queues
        self.ring_reset = ring_reset
        self.suspend = suspend
        super().__init__(
            {
                "reset_request": In(1),
                "reset_queue": In(16),
                "suspend_request": In(1),
                "suspend_done": Out(1),
                "suspended": In(1),
                "resetting": Out(1),
                "pause": Out(1),
                "rested": In(1),
                "hold": Out(1),
                "fetch_idle": In(1),
                "told": In(1),
                "forget": Out(1),
                "forget_queue": Out(16),
            }
        )

    def elaborate(self, platform):
        m = Module()
        asked = stream.Signature(max((self.queues - 1).bit_length(), 1)).create()
        if self.ring_reset:
            # Each virtqueue asks once at most: there is room.
            m.submodules.asked = fifo = StreamFIFO(asked.payload.shape(), self.queues)
            m.d.comb += [
                fifo.input.valid.eq(self.reset_request),
                fifo.input.payload.eq(self.reset_queue),
            ]
            wiring.connect(m, fifo.output, wiring.flipped(asked))
        work = Signal()
        m.d.comb += [self.resetting.eq(asked.valid), work.eq(asked.valid)]
        if self.suspend:
            m.d.comb += work.eq(asked.valid | self.suspend_request)

        lasted = Signal(range(_LASTING))
        quiet = Signal()
        waits = Signal()
        done = Signal()  # quiet now, and for long enough
        m.d.comb += done.eq(quiet & (lasted == _LASTING - 1))
        with m.If(~waits | ~quiet | done):
            m.d.sync += lasted.eq(0)
        with m.Else():
            m.d.sync += lasted.eq(lasted + 1)

        m.d.comb += self.forget_queue.eq(asked.payload)
        with m.FSM(name="quiesce"):
            with m.State("RUN"):
                with m.If(work):
                    m.d.sync += self.pause.eq(1)
                    m.next = "REST"
            with m.State("REST"):
                m.d.comb += [waits.eq(1), quiet.eq(self.rested)]
                with m.If(done):
                    m.d.sync += self.hold.eq(1)
                    m.next = "DRAIN"
            with m.State("DRAIN"):
                m.d.comb += [waits.eq(1), quiet.eq(self.rested & self.fetch_idle & self.told)]
                with m.If(done):
                    m.next = "GO_ON"
                    if self.suspend:
                        with m.If(self.suspend_request):
                            m.d.comb += self.suspend_done.eq(~asked.valid)
                            m.next = "SUSPENDED"
                    if self.ring_reset:
                        with m.If(asked.valid):
                            m.next = "FORGET"
            if self.ring_reset:
                with m.State("FORGET"):
                    m.d.comb += [self.forget.eq(1), asked.ready.eq(1)]
                    m.next = "FORGETTING"
                with m.State("FORGETTING"):
                    m.d.comb += [waits.eq(1), quiet.eq(1)]
                    with m.If(lasted == _FORGETTING - 3):
                        m.next = "FORGOTTEN"
                with m.State("FORGOTTEN"):
                    with m.If(asked.valid):
                        m.next = "FORGET"
                    with m.Elif(work):
                        m.next = "DRAIN"
                    with m.Else():
                        m.next = "GO_ON"
            if self.suspend:
                with m.State("SUSPENDED"):
                    with m.If(~self.suspended):
                        m.next = "GO_ON"
            with m.State("GO_ON"):
                m.d.sync += [self.pause.eq(0), self.hold.eq(0)]
                m.next = "RUN"
        return m
