"""What the tests of the configuration space share: bring-up, comparison, configurations."""

from __future__ import annotations

from typing import Any

from config_space_golden import Golden
from config_space_host import Host

from lib.streams import reset, start_clock
from virtio_rtl.config import DeviceConfig
from virtio_rtl.pcie.config_space import ConfigSpace

__all__ = ["CASES", "check_all", "configured", "setup"]

CASES = [
    {"width": 64, "queue_pairs": 1, "msix_vectors": 2, "lanes": 1, "generation": 2},
    {"width": 128, "queue_pairs": 4, "msix_vectors": 9, "lanes": 4, "generation": 3},
    {"width": 256, "queue_pairs": 8, "msix_vectors": 64, "lanes": 8, "generation": 4},
    {"width": 512, "queue_pairs": 256, "msix_vectors": 1024, "lanes": 16, "generation": 3},
]


async def setup(
    dut: Any, stall: float = 0.0, bus_stall: float | None = None
) -> tuple[Host, Golden]:
    """Reset, walk the capability list."""
    start_clock(dut)
    host = Host(dut, stall, bus_stall)
    await reset(dut)
    golden = Golden()
    await golden.walk(host)
    return host, golden


async def check_all(host: Host, golden: Golden, skip: tuple[int, ...] = ()) -> None:
    """Read every register that is not a status register or the window."""
    for offset, expected in golden.value.items():
        if offset != golden.at("window", 16) and offset not in skip:
            found = await host.read(offset)
            assert found == expected, f"{offset:#x}: {found:#x}, not {expected:#x}"


def configured(case: dict[str, int]) -> tuple[ConfigSpace, dict[str, int]]:
    """The configuration space of a case, and all that its tests need to know about it."""
    options = {"max_payload_code": 2 if case["width"] == 512 else 1}
    component = ConfigSpace(DeviceConfig(name="test", **case), case["width"], **options)
    return component, case | options
