"""Command line of the generator: Verilog, register pages, configurations."""

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from .config import NAMED_CONFIGS, ConfigError, DeviceConfig, named_config
from .pcie.capabilities import build_config_space, render_markdown
from .regs.generate import c_header, markdown
from .regs.maps import register_maps
from .top import COUNTERS, DEVICE_CONFIG_BYTES, VirtioDevice

__all__ = ["main"]

app = typer.Typer(add_completion=False, help="Generate a virtio device.", no_args_is_help=True)

ConfigName = Annotated[str, typer.Option("--config", help="Named configuration.")]


def _config(name: str) -> DeviceConfig:
    try:
        return named_config(name)
    except ConfigError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from None


@app.command()
def generate(
    config: ConfigName = "net-x8",
    output: Annotated[Path, typer.Option(help="Directory to write to.")] = Path("build"),
) -> None:
    """Write Verilog, C header and register pages of a configuration."""
    chosen = _config(config)
    # Imported late: finding Yosys takes a while, and the other commands do without.
    from amaranth.back import verilog  # noqa: PLC0415

    target = output / chosen.name
    target.mkdir(parents=True, exist_ok=True)
    maps = register_maps(chosen, COUNTERS)
    space = build_config_space(chosen, device_config_length=DEVICE_CONFIG_BYTES)
    files = {
        "virtio_device.v": verilog.convert(
            VirtioDevice(chosen), name="virtio_device", emit_src=False
        ),
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
    for field, value in dataclasses.asdict(_config(config)).items():
        typer.echo(f"{field:24}{value}")


@app.command("list")
def list_configs() -> None:
    """Print the named configurations."""
    for name, config in NAMED_CONFIGS.items():
        typer.echo(
            f"{name:12}{config.device}, {config.width} bits at {config.clock_mhz:g} MHz, "
            f"PCIe Gen{config.generation} x{config.lanes}, {config.queue_pairs} queue pair(s)"
        )


def main() -> None:
    """Run the command line."""
    app()
