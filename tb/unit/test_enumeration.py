"""A root complex enumerates the real configuration space, and uses the real BAR target."""

import random
from typing import Any

import cocotb
import pytest
from amaranth import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from cocotb.triggers import Timer

from lib.layout import unpack
from lib.pcie.access import PciAccess
from lib.pcie.endpoint import RtlEndpoint
from lib.pcie.host import HostRootComplex, memory_request
from lib.pcie.packet import MEM_READ, UNSUPPORTED_REQUEST
from lib.sim import params, simulate
from lib.streams import reset, start_clock
from virtio_model.driver.pci import VirtioPciDriver
from virtio_model.memory import GuestMemory
from virtio_rtl.config import DeviceConfig
from virtio_rtl.pcie.bar_target import BarTarget
from virtio_rtl.pcie.config_space import ConfigSpace
from virtio_rtl.pcie.rx_demux import RxDemux
from virtio_rtl.pcie.tx_arbiter import TxArbiter
from virtio_rtl.types.pcie import FunctionControl
from virtio_rtl.types.regbus import RegisterBus
from virtio_rtl.types.tlp import FlowControlLimits, tlp_stream


class RegisterRam(wiring.Component):
    """64 KiB of memory on the register bus."""

    bus: In(RegisterBus())

    def elaborate(self, platform: Any) -> Module:
        """Answer a read in the cycle after it."""
        m = Module()
        m.submodules.memory = memory = Memory(shape=32, depth=16384, init=[])
        write, read = memory.write_port(granularity=8), memory.read_port()
        waiting = Signal()
        request, response = self.bus.request, self.bus.response
        taken = request.valid & request.ready
        m.d.comb += [
            request.ready.eq(~waiting),
            write.addr.eq(request.payload.address >> 2),
            write.data.eq(request.payload.data),
            write.en.eq((taken & request.payload.write).replicate(4) & request.payload.byte_enable),
            read.addr.eq(request.payload.address >> 2),
            read.en.eq(taken),
            response.payload.eq(read.data),
            response.valid.eq(waiting),
        ]
        with m.If(taken & ~request.payload.write):
            m.d.sync += waiting.eq(1)
        with m.Elif(response.ready):
            m.d.sync += waiting.eq(0)
        return m


class FunctionDut(wiring.Component):
    """The PCIe function without its virtio device: memory where the registers will be."""

    def __init__(self, width: int) -> None:
        self.width = width
        super().__init__(
            {
                "rx_tlp": In(tlp_stream(width)),
                "tx_tlp": Out(tlp_stream(width)),
                "flow_control": In(FlowControlLimits),
                "control": Out(FunctionControl),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Wire demultiplexer, configuration space, BAR target and arbiter."""
        m = Module()
        config = DeviceConfig(name="enumeration", width=self.width)
        m.submodules.demux = demux = RxDemux(self.width)
        m.submodules.space = space = ConfigSpace(config, self.width)
        m.submodules.target = target = BarTarget(self.width)
        m.submodules.arbiter = arbiter = TxArbiter(self.width)
        m.submodules.registers = registers = RegisterRam()
        m.submodules.window = window = RegisterRam()
        wiring.connect(m, wiring.flipped(self.rx_tlp), demux.tlp)
        wiring.connect(m, demux.config, space.requests)
        wiring.connect(m, demux.requests, target.requests)
        wiring.connect(m, space.completion, arbiter.completion_config)
        wiring.connect(m, target.completion, arbiter.completion_bar)
        wiring.connect(m, arbiter.tlp, wiring.flipped(self.tx_tlp))
        wiring.connect(m, target.bus, registers.bus)
        wiring.connect(m, space.bus, window.bus)
        m.d.comb += [
            arbiter.limits.eq(self.flow_control),
            demux.completions.ready.eq(1),
            target.control.eq(space.control),
            target.bar_base.eq(space.bar_base),
            space.unsupported_request.eq(target.unsupported),
            space.flr_done.eq(space.flr_request),
            self.control.eq(space.control),
        ]
        return m


async def bring_up(dut: Any, **host: Any) -> tuple[HostRootComplex, Any, PciAccess]:
    """Connect, reset and enumerate; return host, function and access to it."""
    start_clock(dut)
    root = HostRootComplex(GuestMemory(4096, 1 << 32), **host)
    endpoint = RtlEndpoint(dut, params().width, rx_stall=0.2, tx_stall=0.2, noise=True)
    root.make_port().connect(endpoint)
    await reset(dut)
    function = await root.bring_up()
    return root, function, PciAccess(root, function)


@cocotb.test(timeout_time=500, timeout_unit="us")
@cocotb.parametrize(
    (("payload", "request", "boundary"), ((128, 128, 64), (256, 512, 128), (512, 4096, 64)))
)
async def enumerates(dut: Any, payload: int, request: int, boundary: int) -> None:
    """The root complex finds a virtio net function and what it programs takes effect."""
    root, function, _ = await bring_up(
        dut, max_payload=payload, max_read_request=request, read_boundary=boundary
    )
    assert (function.vendor_id, function.device_id) == (0x1AF4, 0x1041)
    assert function.class_code >> 16 == 2
    assert function.bar_size[0] == 65536
    assert function.bar_addr[0] == function.bar_window[0].base
    assert {0x09, 0x10, 0x11} <= {number for number, _ in function.capabilities}
    control = dut.control.value.to_unsigned()

    seen = unpack(FunctionControl, control)
    assert seen.requester_id == int(function.pcie_id)
    assert seen.memory_enable
    assert seen.bus_master_enable
    assert 128 << seen.max_payload == min(payload, 256)
    assert 128 << seen.max_read_request == request
    assert seen.read_boundary_128 == (boundary == 128)
    assert seen.extended_tag
    root.check()


@cocotb.test(timeout_time=500, timeout_unit="us")
async def driver_discovers(dut: Any) -> None:
    """The driver model walks the capabilities through `PciAccess`."""
    root, _, access = await bring_up(dut)
    driver = VirtioPciDriver(access)
    await driver.discover()
    assert driver.layout.msix is not None
    assert driver.layout.notify_off_multiplier == 4
    root.check()


@cocotb.test(timeout_time=500, timeout_unit="us")
async def reaches_the_bar(dut: Any) -> None:
    """Accesses of every size reach the registers; what is outside is refused."""
    root, function, access = await bring_up(dut)
    model = bytearray(65536)
    for _ in range(100):
        size = random.choice((1, 2, 4))
        at = random.randrange(0x8000, 0x8040, size)
        if random.random() < 0.5:
            value = random.getrandbits(8 * size)
            await access.bar_write(0, at, value, size)
            model[at : at + size] = value.to_bytes(size, "little")
        elif any(model[at : at + size]):
            expected = int.from_bytes(model[at : at + size], "little")
            assert await access.bar_read(0, at, size) == expected
    base = access.bar_address(0, 0)
    await root.mmio_write(base + 0x1005, bytes(range(1, 200)))
    assert await root.mmio_read(base + 0x1005, 100) == bytes(range(1, 101))
    await access.config_write(4, 0, 2)
    (refused,) = await root.mmio_request(memory_request(MEM_READ, base, 4))
    assert refused.status == UNSUPPORTED_REQUEST
    assert refused.completer_id == int(function.pcie_id)
    await Timer(100, "ns")
    root.check()


@pytest.mark.parametrize("width", [64, 128, 256, 512])
def test_enumeration(width: int) -> None:
    """Configuration space and BAR through a simulated root complex, at all widths."""
    simulate(
        FunctionDut(width),
        module=__name__,
        name=f"enumeration_{width}",
        params={"width": width},
    )
