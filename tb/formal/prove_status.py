"""The device status register."""

from __future__ import annotations

from amaranth.asserts import AnySeq
from amaranth.hdl import Assert, Assume, Cover, Module

from formal.harness import before, implies
from formal.proof import Mutant, proof
from virtio_model.spec.status import DeviceStatus
from virtio_rtl.transport.status import StatusRegister

_FILE = "transport/status.py"


@proof(
    "StatusRegister: bits are only added, a reset clears all, NEEDS_RESET stays",
    depth=3,
    cover=8,
    mutant_depth=8,
    sizes="as it is",
    mutants=[
        Mutant(
            _FILE,
            "self.status.eq(self.status | (self.write_data & allowed))",
            "self.status.eq(self.write_data & allowed)",
        ),
        Mutant(
            _FILE,
            "[_position(DeviceStatus.DRIVER_OK)] & features_ok)",
            "[_position(DeviceStatus.DRIVER_OK)])",
        ),
        Mutant(_FILE, "self.status.eq(RESET), resetting.eq(0)", "resetting.eq(0)"),
        Mutant(_FILE, "driver_ok & ~resetting", "driver_ok"),
    ],
)
def status_register(m: Module) -> None:
    """Writes, errors and resets come in any cycle. [virtio 1.4 §2.1, §2.4]"""
    m.submodules.dut = dut = StatusRegister()
    for port in ("write", "acceptable", "device_error", "reset_done", "function_reset"):
        m.d.comb += getattr(dut, port).eq(AnySeq(1))
    m.d.comb += [
        dut.write_data.eq(AnySeq(8)),
        Assume(~(dut.write & dut.reset_request)),
    ]
    status_before = before(m, dut.status)
    cleared = before(m, dut.clear)
    features, driver_ok = dut.status & DeviceStatus.FEATURES_OK, dut.status & DeviceStatus.DRIVER_OK
    needs_reset = dut.status & DeviceStatus.DEVICE_NEEDS_RESET
    added = dut.status & ~status_before
    written = before(m, dut.write_data & dut.write.replicate(8))
    asked_reset = before(m, dut.write & (dut.write_data == 0))
    erred = before(m, dut.device_error)
    requested = before(m, dut.reset_request & ~dut.clear)
    m.d.comb += [
        Assert(implies(cleared, dut.status == 0), "not reset"),
        Assert(implies(~cleared, (status_before & ~dut.status) == 0), "a bit is lost"),
        Assert((added & ~written & ~DeviceStatus.DEVICE_NEEDS_RESET) == 0, "nobody asked for it"),
        Assert(implies(driver_ok, features), "runs without features"),
        Assert(implies(added & DeviceStatus.FEATURES_OK, before(m, dut.acceptable))),
        Assert(implies(added & DeviceStatus.DEVICE_NEEDS_RESET, erred)),
        Assert(implies(erred & ~cleared, needs_reset), "an error is lost"),
        Assert(implies((asked_reset & ~cleared) | requested, dut.reset_request), "a reset is lost"),
        Assert(implies(dut.reset_request, ~dut.driver_ok), "runs during a reset"),
        Assert(implies(dut.driver_ok, driver_ok)),
        Assert(implies(dut.notify, driver_ok.bool() & needs_reset.bool())),
        Cover(dut.notify),
        Cover(dut.driver_ok),
        Cover(cleared & (status_before == 0x8F)),
    ]
