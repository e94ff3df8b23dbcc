"""The map of the configuration space: what is refused, how it renders, Linux's names for it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from virtio_rtl.config import ConfigError, DeviceConfig
from virtio_rtl.pcie.capabilities import build_config_space, render_markdown


def _config(**fields: Any) -> DeviceConfig:
    return DeviceConfig(name="test", **fields)


def test_builder_refuses() -> None:
    """A configuration that cannot be built names its field."""
    with pytest.raises(ConfigError, match="msix_vectors"):
        build_config_space(_config(msix_vectors=2048))
    with pytest.raises(ConfigError, match="max_payload_code"):
        build_config_space(_config(), max_payload_code=3)


def test_markdown() -> None:
    """The rendered table names every field once, with offset, bits, access and reset."""
    space = build_config_space(_config())
    lines = render_markdown(space).splitlines()
    assert len(lines) == 2 + len(space.fields)
    assert "| 0x000 | 15:0 | vendor_id | read only | 0x1af4 |" in lines
    assert "| 0x010 | 31:16 | bar0_base | read/write | 0x0 |" in lines


def _macros(header: str) -> dict[str, int]:
    path = Path("/usr/include/linux") / header
    if not path.exists():
        pytest.skip(f"{path} is not installed")
    found = re.findall(
        r"^#define\s+(\w+)\s+(0x[0-9a-fA-F]+|\d+)\s*(?:/\*.*)?$", path.read_text(), re.M
    )
    return {name: int(value, 0) for name, value in found}


def test_kernel_headers() -> None:
    """Places of fields are those that Linux uses (pci_regs.h)."""
    pci = _macros("pci_regs.h")
    space = build_config_space(_config())
    express, msix = space["express_id"].offset, space["msix_id"].offset
    power = space["power_id"].offset
    for field, register, mask in (
        ("memory_enable", pci["PCI_COMMAND"], pci["PCI_COMMAND_MEMORY"]),
        ("bus_master_enable", pci["PCI_COMMAND"], pci["PCI_COMMAND_MASTER"]),
        ("parity_error_response", pci["PCI_COMMAND"], pci["PCI_COMMAND_PARITY"]),
        ("serr_enable", pci["PCI_COMMAND"], pci["PCI_COMMAND_SERR"]),
        ("intx_disable", pci["PCI_COMMAND"], pci["PCI_COMMAND_INTX_DISABLE"]),
        ("interrupt_status", pci["PCI_STATUS"], pci["PCI_STATUS_INTERRUPT"]),
        ("capabilities_list", pci["PCI_STATUS"], pci["PCI_STATUS_CAP_LIST"]),
        ("master_data_parity", pci["PCI_STATUS"], pci["PCI_STATUS_PARITY"]),
        ("signaled_target_abort", pci["PCI_STATUS"], pci["PCI_STATUS_SIG_TARGET_ABORT"]),
        ("received_target_abort", pci["PCI_STATUS"], pci["PCI_STATUS_REC_TARGET_ABORT"]),
        ("received_master_abort", pci["PCI_STATUS"], pci["PCI_STATUS_REC_MASTER_ABORT"]),
        ("detected_parity", pci["PCI_STATUS"], pci["PCI_STATUS_DETECTED_PARITY"]),
        ("subsystem_id", pci["PCI_SUBSYSTEM_ID"], 0xFFFF),
        ("interrupt_pin", pci["PCI_INTERRUPT_PIN"], 0xFF),
        ("power_state", power + pci["PCI_PM_CTRL"], pci["PCI_PM_CTRL_STATE_MASK"]),
        ("no_soft_reset", power + pci["PCI_PM_CTRL"], pci["PCI_PM_CTRL_NO_SOFT_RESET"]),
        ("msix_table_size", msix + pci["PCI_MSIX_FLAGS"], pci["PCI_MSIX_FLAGS_QSIZE"]),
        ("msix_function_mask", msix + pci["PCI_MSIX_FLAGS"], pci["PCI_MSIX_FLAGS_MASKALL"]),
        ("msix_enable", msix + pci["PCI_MSIX_FLAGS"], pci["PCI_MSIX_FLAGS_ENABLE"]),
        ("max_payload_supported", express + pci["PCI_EXP_DEVCAP"], pci["PCI_EXP_DEVCAP_PAYLOAD"]),
        ("extended_tag_supported", express + pci["PCI_EXP_DEVCAP"], pci["PCI_EXP_DEVCAP_EXT_TAG"]),
        ("role_based_error_reporting", express + pci["PCI_EXP_DEVCAP"], pci["PCI_EXP_DEVCAP_RBER"]),
        ("flr_capable", express + pci["PCI_EXP_DEVCAP"], pci["PCI_EXP_DEVCAP_FLR"]),
        ("relaxed_ordering", express + pci["PCI_EXP_DEVCTL"], pci["PCI_EXP_DEVCTL_RELAX_EN"]),
        ("max_payload", express + pci["PCI_EXP_DEVCTL"], pci["PCI_EXP_DEVCTL_PAYLOAD"]),
        ("extended_tag", express + pci["PCI_EXP_DEVCTL"], pci["PCI_EXP_DEVCTL_EXT_TAG"]),
        ("no_snoop", express + pci["PCI_EXP_DEVCTL"], pci["PCI_EXP_DEVCTL_NOSNOOP_EN"]),
        ("max_read_request", express + pci["PCI_EXP_DEVCTL"], pci["PCI_EXP_DEVCTL_READRQ"]),
        ("initiate_flr", express + pci["PCI_EXP_DEVCTL"], pci["PCI_EXP_DEVCTL_BCR_FLR"]),
        ("correctable_error", express + pci["PCI_EXP_DEVSTA"], pci["PCI_EXP_DEVSTA_CED"]),
        ("nonfatal_error", express + pci["PCI_EXP_DEVSTA"], pci["PCI_EXP_DEVSTA_NFED"]),
        ("unsupported_request", express + pci["PCI_EXP_DEVSTA"], pci["PCI_EXP_DEVSTA_URD"]),
        ("transactions_pending", express + pci["PCI_EXP_DEVSTA"], pci["PCI_EXP_DEVSTA_TRPND"]),
        ("link_max_width", express + pci["PCI_EXP_LNKCAP"], pci["PCI_EXP_LNKCAP_MLW"]),
        ("read_boundary_128", express + pci["PCI_EXP_LNKCTL"], pci["PCI_EXP_LNKCTL_RCB"]),
        ("link_width", express + pci["PCI_EXP_LNKSTA"], pci["PCI_EXP_LNKSTA_NLW"]),
        ("slot_clock", express + pci["PCI_EXP_LNKSTA"], pci["PCI_EXP_LNKSTA_SLC"]),
        (
            "completion_timeout_disable",
            express + pci["PCI_EXP_DEVCTL2"],
            pci["PCI_EXP_DEVCTL2_COMP_TMOUT_DIS"],
        ),
        ("link_target_speed", express + pci["PCI_EXP_LNKCTL2"], pci["PCI_EXP_LNKCTL2_TLS"]),
    ):
        found = space[field]
        assert (found.offset, found.mask) == (register & ~3, mask << 8 * (register & 3)), field
