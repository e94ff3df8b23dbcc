"""AXI4-Stream ports of the network side."""

from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["AXIStream"]


class AXIStream(wiring.Signature):
    """AXI4-Stream of ``width`` data bits, one Ethernet frame without FCS per packet.

    ``tkeep`` is all ones but on the last beat; ``tuser`` on the last beat marks a frame that is
    not to be used. ``tdest``, if it has bits at all, is the queue pair of the frame, the same on
    all of its beats.
    """

    def __init__(self, width: int, dest_bits: int = 0):
        self.width = width
        self.dest_bits = dest_bits
        super().__init__(
            {
                "tdata": Out(width),
                "tkeep": Out(width // 8),
                "tvalid": Out(1),
                "tready": In(1),
                "tlast": Out(1),
                "tuser": Out(1),
            }
            | ({"tdest": Out(dest_bits)} if dest_bits else {})
        )
