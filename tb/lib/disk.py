"""A block device with its disk: external memory that a file fills, for simulation."""

from pathlib import Path
from typing import Any

from amaranth.hdl import ClockSignal, Instance, Module, ResetSignal
from amaranth.lib import wiring
from amaranth.lib.wiring import Out

from lib.wrap import pass_ports
from virtio_rtl.config import ConfigError, DeviceConfig
from virtio_rtl.config_blk import BlkConfig
from virtio_rtl.top import VirtioDevice
from virtio_rtl.types.axi4 import AXI4

__all__ = ["AxiRam", "DiskDevice", "disk_plusargs"]

_HERE = Path(__file__)
_MODEL = _HERE.with_name("axi_ram.sv")
_NOT_USED = tuple(f"{kind}{name}" for kind in ("aw", "ar") for name in (
    "size", "burst", "cache", "prot"
))  # fmt: skip


class AxiRam(wiring.Component):
    """Behavioural AXI4 memory, `axi_ram.sv`, which says what it can do.

    Parameters
    ----------
    width
        Bits of the bus.
    config
        Where the disk is, and how large.

    Ports
    -----
    axi : ``AXI4(width, axi_address_bits)``, as its slave
    """

    files = (_HERE, _MODEL)

    def __init__(self, width: int, config: BlkConfig):
        self.width = width
        self.config = config
        super().__init__({"axi": Out(AXI4(width, config.axi_address_bits)).flip()})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        ports: dict[str, Any] = {"i_clk": ClockSignal(), "i_rst": ResetSignal()}
        # The signature is the master's.
        for name, member in AXI4(self.width, self.config.axi_address_bits).members.items():
            if name not in _NOT_USED:
                way = "i" if member.flow is Out else "o"
                ports[f"{way}_{name}"] = getattr(self.axi, name)
        m.submodules.ram = Instance(
            "axi_ram",
            p_WIDTH=self.width,
            p_ADDRESS_BITS=self.config.axi_address_bits,
            p_BASE=self.config.axi_base,
            p_BYTES=self.config.capacity_sectors * 512,
            **ports,
        )
        return m


class DiskDevice(wiring.Component):
    """`VirtioDevice(config)` of a block device with AXI4 backend, and its memory.

    The size of the disk costs no time when the model is built: Amaranth's own memories, which the
    other backend has, spell out every row. What is on the disk, see `disk_plusargs`.

    Ports
    -----
    ...
        All of `VirtioDevice` but ``axi``.
    """

    files = (_HERE, _HERE.with_name("wrap.py"), _MODEL)

    def __init__(self, config: DeviceConfig):
        if config.device != "blk" or config.blk.backend != "axi4":
            raise ConfigError("a disk needs a block device with the AXI4 backend")
        self.config = config
        self.device = VirtioDevice(config)
        self.device._MustUse__silence = True  # its ports are needed even if the netlist is there
        members = dict(self.device.signature.members)
        del members["axi"]
        super().__init__(members)

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.device = device = self.device
        m.submodules.ram = ram = AxiRam(self.config.width, self.config.blk)
        pass_ports(m, self, device, self.signature.members)
        wiring.connect(m, device.axi, ram.axi)
        return m


def disk_plusargs(content: Path | None = None, dump: Path | None = None) -> list[str]:
    """Return the `plusargs` for `lib.sim.simulate`.

    content: file that the disk holds at the start, else zeros. dump: gets the disk at the end.
    """
    named = (("disk", content), ("disk_out", dump))
    return [f"+{name}={path.resolve()}" for name, path in named if path is not None]
