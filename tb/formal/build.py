"""A proof as RTLIL: `python -m formal.build NAME VARIANT FILE`.

A program of its own, so that a mutant's hdl/ can be put in front of the real one.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Any

from amaranth.back import rtlil
from amaranth.hdl import ClockDomain, Elaboratable, Module

from formal.proof import Proof, all_proofs

TOP = "top"


class _Top(Elaboratable):
    """The top module: one clock; reset stays low unless the proof drives it."""

    def __init__(self, proof: Proof, variant: int) -> None:
        self.proof = proof
        self.variant = variant
        self.domain = ClockDomain("sync")

    def elaborate(self, platform: Any) -> Module:
        """Build the proof's harness."""
        m = Module()
        m.domains += self.domain
        self.proof.build(m, **self.proof.variants[self.variant])
        return m


def rtlil_of(proof: Proof, variant: int) -> str:
    """Return the RTLIL of a proof."""
    top = _Top(proof, variant)
    # The clock has to be a port: a wire that nobody drives never ticks.
    return rtlil.convert(top, name=TOP, ports=[top.domain.clk], emit_src=True)


if __name__ == "__main__":
    warnings.simplefilter("error")
    _, _name, _variant, _file = sys.argv
    Path(_file).write_text(rtlil_of(all_proofs()[_name], int(_variant)))
