"""Device types: what the registry refuses, and where the facts of a type show."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sample_type import BARE, SAMPLE

from virtio_model.spec.fields import Field
from virtio_rtl.config import NAMED_CONFIGS, ConfigError, DeviceConfig
from virtio_rtl.device.kind import DeviceType, device_names, device_type, register
from virtio_rtl.device.net import NET
from virtio_rtl.pcie.capabilities import build_config_space
from virtio_rtl.regs.maps import register_maps
from virtio_rtl.top import VirtioDevice
from virtio_rtl.top_counters import all_counters
from virtio_rtl.top_device import build_device
from virtio_rtl.transport.features import dependencies, offered, required

CONFIG = DeviceConfig(name="test", device=SAMPLE.name)
RING = 1 << 28 | 1 << 29 | 0b1110111 << 34 | 1 << 32 | 1 << 33 | 1 << 43


def test_registry() -> None:
    """A name stands for one type; what is not registered cannot be configured."""
    assert device_type("net") is NET
    assert device_type("sample") is SAMPLE
    assert {"net", "sample", "bare"} <= {*device_names()}
    assert register(SAMPLE) is SAMPLE
    with pytest.raises(ValueError, match="registered already"):
        register(replace(SAMPLE, device_id=3))
    with pytest.raises(ConfigError, match=r"device = 'toaster': one of .*net"):
        DeviceConfig(name="test", device="toaster")


@pytest.mark.parametrize(
    ("message", "fields"),
    [
        ("identifier", {"name": "a-b"}),
        ("device_id", {"device_id": 0}),
        ("class_code", {"class_code": 1 << 24}),
        ("vendor_id", {"vendor_id": 0xFFFF}),
        ("pci_device_id", {"pci_device_id": 1 << 16}),
        ("paths", {"paths": "ring"}),
        ("packet_bytes", {"paths": "pairs"}),
        ("same name", {"config_fields": (Field("name", 0, 8), Field("name", 1, 8))}),
        ("longer than 4 KiB", {"config_fields": (*SAMPLE.config_fields, Field("x", 4096, 8))}),
        ("nothing is not", {"config_live": {"nothing": 1}}),
        ("nothing is not", {"config_writable": ("nothing",)}),
        ("nothing is not", {"config_features": {"nothing": 1}}),
        ("mode is live", {"config_live": {"mode": 1}}),
        ("inside one dword", {"config_writable": ("name",)}),
        ("state has 16 bits", {"config_live": {"state": 17}}),
    ],
)
def test_types_are_checked(message: str, fields: dict) -> None:
    """A type that makes no sense is refused, with the reason."""
    with pytest.raises(ValueError, match=f"device type .*{message}"):
        replace(SAMPLE, **fields)


def test_values_are_checked() -> None:
    """A value without a field, or too long for its field, is refused."""
    for values in ({"nothing": 1}, {"limit": 1 << 16}):
        kind = replace(SAMPLE, config_values=lambda config, values=values: values)
        with pytest.raises(ValueError, match="config_values"):
            kind.values(CONFIG)


def test_features() -> None:
    """Those of the rings are the configuration's, those of the type its own."""
    assert offered(CONFIG) == RING | 1 << 5 | 1 << 9
    assert required(CONFIG) == 1 << 32
    assert dependencies(CONFIG) == SAMPLE.dependencies
    plain = replace(CONFIG, rings=("packed",), indirect=False, in_order=False)
    assert offered(plain) == (RING | 1 << 5 | 1 << 9) & ~(1 << 28 | 1 << 35)
    assert required(plain) == 1 << 32 | 1 << 34
    wrong = register(replace(BARE, name="wrong", features=lambda config: 1 << 40))
    with pytest.raises(ConfigError, match="not those of a type"):
        offered(DeviceConfig(name="test", device=wrong.name))


def test_ids() -> None:
    """PCI ids and class are those of the type; unless it says otherwise, virtio's."""
    space = build_config_space(CONFIG)
    for name in ("vendor_id", "subsystem_vendor_id"):
        assert space[name].reset == 0x1234
    for name in ("device_id", "subsystem_id"):
        assert space[name].reset == 0x0077
    assert space["class_code"].reset == 0x123456
    bare = build_config_space(DeviceConfig(name="test", device=BARE.name))
    assert bare["vendor_id"].reset == bare["subsystem_vendor_id"].reset == 0x1AF4
    assert bare["device_id"].reset == bare["subsystem_id"].reset == 0x1040 + 51


def test_structures() -> None:
    """Length of the device configuration, kicks of all virtqueues; none that is not there."""
    assert CONFIG.num_queues == 3
    space = build_config_space(CONFIG)
    assert space["device_config_length"].reset == 24
    assert space["notify_config_length"].reset == 12
    bare = DeviceConfig(name="test", device=BARE.name)
    space = build_config_space(bare)
    types = [f.reset for name, f in space.fields.items() if name.endswith("_cfg_type")]
    assert types == [1, 2, 3, 5]
    at = space["capabilities_pointer"].reset
    walked = []
    while at:
        walked.append(at)
        at = next(f.reset for f in space.fields.values() if f.offset == at and f.low == 8)
    assert len(walked) == 3 + len(types)
    assert [m.name for m in register_maps(bare)] == [
        "common_config", "isr", "notify", "msix_table", "msix_pba",
    ]  # fmt: skip
    assert [m.name for m in register_maps(CONFIG)][2] == "sample_config"


@pytest.mark.parametrize("name", NAMED_CONFIGS)
def test_counters(name: str) -> None:
    """Those of all devices come first; each has a name of its own."""
    config = NAMED_CONFIGS[name]
    names = [counter.name for counter in all_counters(config)]
    assert len(names) == len(set(names))
    own = [counter.name for counter in device_type(config.device).counters]
    assert names[len(names) - len(own) :] == own
    assert names[: len(names) - len(own)] == [counter.name for counter in all_counters(CONFIG)]


def test_ports_are_checked() -> None:
    """A component without the ports of its type, and a port that the whole device has already."""
    build_device(NAMED_CONFIGS["net-x1"], NET)._MustUse__silence = True
    missing = "no port readable, wanted, writable, net_tx, net_rx, link_up, live, events"
    with pytest.raises(TypeError, match=missing):
        build_device(NAMED_CONFIGS["net-x1"], replace(NET, name="lame", build=_Empty))
    clash = register(replace(BARE, name="clash", outside=lambda config: {"events": None}))
    with pytest.raises(ValueError, match="events is the device's own"):
        VirtioDevice(DeviceConfig(name="test", device=clash.name))


class _Empty:
    """A component without ports."""

    def __init__(self, config: DeviceConfig) -> None:
        from amaranth.lib import wiring

        self.signature = wiring.Signature({})


def test_type_is_a_plain_record() -> None:
    """The least that a type needs."""
    least = DeviceType(name="least", device_id=52, class_code=0xFF0000, build=_Empty)
    assert (least.queues(CONFIG), least.features(CONFIG), least.config_bytes) == (1, 0, 0)
