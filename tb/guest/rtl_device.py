"""The device that a guest gets in RTL, with counters for the statistics."""

from pathlib import Path

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import Out

from lib.disk import AxiRam, DiskDevice
from lib.wrap import pass_ports
from virtio_rtl.config import DeviceConfig
from virtio_rtl.top import VirtioDevice

__all__ = ["GuestDevice"]


class GuestDevice(wiring.Component):
    """`VirtioDevice(config)` with counters in the place of its event strobes; of a block device
    also the disk behind its AXI4 master.

    Ports
    -----
    ...
        All of `VirtioDevice` but ``events`` and ``axi``.
    completed : 32
        Buffers that the device has given back; two in one cycle count once. Counting in the
        simulated hardware costs next to nothing, watching a strobe from Python does.
    disk_beats : 32
        Block device: beats that moved on the bus of the disk.
    """

    files = (Path(__file__), *DiskDevice.files)

    def __init__(self, config: DeviceConfig):
        self.config = config
        self.device = VirtioDevice(config)
        self.device._MustUse__silence = True  # its ports are needed even if the netlist is there
        members = dict(self.device.signature.members)
        del members["events"]
        self._has_disk = members.pop("axi", None) is not None
        self._passed = tuple(members)
        members["completed"] = Out(32)
        if self._has_disk:
            members["disk_beats"] = Out(32)
        super().__init__(members)

    def elaborate(self, platform):
        m = Module()
        m.submodules.device = device = self.device
        pass_ports(m, self, device, self._passed)
        m.d.sync += self.completed.eq(self.completed + device.events.completed)
        if self._has_disk:
            m.submodules.ram = ram = AxiRam(self.config.width, self.config.blk)
            axi = device.axi
            wiring.connect(m, axi, ram.axi)
            moves = (axi.rvalid & axi.rready) | (axi.wvalid & axi.wready)
            m.d.sync += self.disk_beats.eq(self.disk_beats + moves)
        return m
