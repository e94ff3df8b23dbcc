"""What a proof is, and where they all are.

    @proof("order is kept", depth=12, sizes="5 entries of 4 bits", mutants=[...])
    def stream_fifo(m: Module) -> None:
        m.submodules.dut = dut = StreamFIFO(4, 5)
        ...
        m.d.comb += [Assert(...), Cover(...)]

`m` is the top module, with a clock domain `sync`. Whatever the proof leaves undriven is 0, so free
inputs are `AnySeq`. Memories begin with any content, as they would after a reset, unless the proof
says otherwise.

Each proof ships mutants: a line of a file of `hdl/virtio_rtl` that is replaced. The proof of the
mutant must fail; and every `Cover` of a proof must be reached. Otherwise the proof shows nothing.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent

_PROOFS: dict[str, Proof] = {}


@dataclass(frozen=True)
class Mutant:
    """A fault: `old`, which stands once in `file` (below hdl/virtio_rtl), becomes `new`.

    `variant` is the number of the proof's variant that must catch it.
    """

    file: str
    old: str
    new: str
    variant: int = 0


@dataclass(frozen=True)
class Proof:
    """A property of one module.

    `mode` is "prove" (k-induction: for all time) or "bmc" (for `depth` cycles after reset);
    `depth` is the length of the induction's window as well. `cover` is how far to look for the
    covers (0: there are none), `mutant_depth` how far to look for the mutant's failure. Each of
    `variants` are arguments of `build`, and is proven on its own. `solver` is "z3", or "sat" for
    many small entries that z3 is slow with: bits alone, in Yosys's own solver.
    """

    name: str
    title: str
    build: Callable[..., None]
    depth: int
    sizes: str
    mode: str = "prove"
    cover: int = 0
    mutant_depth: int = 0
    mutants: tuple[Mutant, ...] = ()
    variants: tuple[dict[str, Any], ...] = ({},)
    any_memory: bool = True
    solver: str = "z3"
    file: str = field(default="", compare=False)


def proof(
    title: str,
    *,
    depth: int,
    sizes: str,
    mode: str = "prove",
    cover: int | None = None,
    mutant_depth: int | None = None,
    mutants: list[Mutant] | None = None,
    variants: list[dict[str, Any]] | None = None,
    any_memory: bool = True,
    solver: str = "z3",
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Declare the function below as a proof; see `Proof`."""

    def declare(build: Callable[..., None]) -> Callable[..., None]:
        name = build.__name__
        if name in _PROOFS:
            raise ValueError(f"two proofs named {name}")
        if mode not in ("prove", "bmc"):
            raise ValueError(f"{name}: mode is prove or bmc")
        if solver not in ("z3", "sat"):
            raise ValueError(f"{name}: solver is z3 or sat")
        if not mutants:
            raise ValueError(f"{name}: a proof without a mutant shows nothing")
        _PROOFS[name] = Proof(
            name=name,
            title=title,
            build=build,
            depth=depth,
            sizes=sizes,
            mode=mode,
            cover=depth if cover is None else cover,
            mutant_depth=mutant_depth or depth,
            mutants=tuple(mutants),
            variants=tuple(variants or [{}]),
            any_memory=any_memory,
            solver=solver,
            file=build.__module__.rpartition(".")[2],
        )
        return build

    return declare


def all_proofs() -> dict[str, Proof]:
    """Import every prove_*.py; return name -> proof in the order of files and lines."""
    for path in sorted(FOLDER.glob("prove_*.py")):
        importlib.import_module(f"formal.{path.stem}")
    return dict(_PROOFS)
