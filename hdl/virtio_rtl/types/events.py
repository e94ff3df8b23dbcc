"""One strobe per hop from doorbell to interrupt, for latency tables and waveforms."""

from amaranth.lib import data

__all__ = ["HopEvents"]


class HopEvents(data.Struct):
    """Each bit is high for one cycle whenever its hop has handed something on.

    The order of the fields is the order in which one lone buffer raises them.
    """

    doorbell: 1
    scheduled: 1
    fetch_issued: 1
    fetch_received: 1
    walked: 1
    payload_requested: 1
    payload_delivered: 1
    completed: 1
    used_written: 1
    event_requested: 1
    event_received: 1
    interrupt: 1
