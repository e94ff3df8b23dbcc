"""AXI4 memory port."""

from typing import Any

from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["AXI4"]


class AXI4(wiring.Signature):
    """AXI4 as its master sees it; ``width`` data bits, ``address_bits`` of address, one ID bit.

    No locks, regions or user bits.
    """

    def __init__(self, width: int, address_bits: int):
        self.width = width
        self.address_bits = address_bits
        members: dict[str, Any] = {}
        for kind in ("aw", "ar"):
            members |= {
                f"{kind}id": Out(1),
                f"{kind}addr": Out(address_bits),
                f"{kind}len": Out(8),
                f"{kind}size": Out(3),
                f"{kind}burst": Out(2),
                f"{kind}cache": Out(4),
                f"{kind}prot": Out(3),
                f"{kind}valid": Out(1),
                f"{kind}ready": In(1),
            }
        members |= {
            "wdata": Out(width),
            "wstrb": Out(width // 8),
            "wlast": Out(1),
            "wvalid": Out(1),
            "wready": In(1),
            "bid": In(1),
            "bresp": In(2),
            "bvalid": In(1),
            "bready": Out(1),
            "rid": In(1),
            "rdata": In(width),
            "rresp": In(2),
            "rlast": In(1),
            "rvalid": In(1),
            "rready": Out(1),
        }
        super().__init__(members)
