"""The cases of `make guest`."""

import re
import subprocess

import pytest

import guest
from guest import golden_main, matrix, rtl_config, rtl_ports, script_files, table
from guest.initramfs import MODULES, SCRIPTS
from guest.matrix import Case, DeviceCase
from guest.options import RING_FEATURES
from guest.required import required
from guest.results import CaseResult
from virtio_rtl.config import NAMED_CONFIGS

DEVICES = tuple(matrix.DEVICES)


def test_quick_has_every_device_on_both_rings():
    cases = matrix.quick(DEVICES)
    assert {(case.device, case.ring) for case in cases} == {
        (device, ring) for device in ("net", "blk", "entropy") for ring in ("packed", "split")
    }
    assert all(case.steps == ("quick",) and not case.programs for case in cases)


def test_full_crosses_device_ring_events_and_kernel():
    cases = [case for case in matrix.full(DEVICES) if case.kind == "linux" and not case.config]
    extras = ("NOTIFICATION_DATA", "IN_ORDER", "RING_RESET")
    wanted = {
        (device, ring, kernel, *offer)
        for device in ("net", "blk", "entropy")
        for ring in ("packed", "split")
        for kernel in ("stable", "backports")
        for offer in ((True, ()), (True, extras), (False, extras))
    }
    plain = [case for case in cases if case.processors == 1]
    crossed = [(case.device, case.ring, case.kernel, case.event_idx, case.extras) for case in plain]
    assert len(crossed) == 36
    assert set(crossed) == wanted
    assert all({"quick", "work", "life"} <= set(case.steps) for case in cases)


def test_a_disk_with_a_virtqueue_for_each_processor():
    cases = [case for case in matrix.full(DEVICES) if case.processors > 1]
    assert len(cases) == 2
    assert {(case.device, case.ring, case.processors) for case in cases} == {
        ("blk", "packed", 2),
        ("blk", "split", 2),
    }
    assert "--queues 2" in " ".join(matrix.DEVICES["blk"].arguments)
    assert all(case.steps == ("machine_reset", "quick", "work", "life") for case in cases)


def test_named_configurations_as_they_are():
    cases = [case for case in matrix.full(DEVICES) if case.config]
    assert [case.config for case in cases] == ["net-x8", "blk-x8", "entropy-x1"]
    for case in cases:
        config = rtl_config.TYPES[case.config](None)
        assert config is NAMED_CONFIGS[case.config]
        assert config.device == case.device
        assert case.config in rtl_ports.PORTS
        assert set(case.features) == {feature.name for feature in RING_FEATURES}
        assert (case.steps, case.kernel) == (("quick",), "backports")
        assert case.name.startswith(f"{case.config}-packed")
        assert table.also(CaseResult(case)) == [case.config]
    assert [case.config for case in matrix.full(("blk",)) if case.config] == ["blk-x8"]
    assert not any(case.config for case in matrix.quick(DEVICES))


def test_names_are_unique_and_fit_for_files():
    names = [case.name for case in matrix.full(DEVICES)]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[a-z0-9-]+", name) for name in names)


def test_firmware_boots_from_blk_only():
    assert [case.device for case in matrix.full(DEVICES) if case.kind == "firmware"] == ["blk"]
    assert all(case.kind != "firmware" for case in matrix.full(("net", "entropy")))


def test_dpdk_drives_net_on_both_rings():
    cases = [case for case in matrix.full(DEVICES) if case.kind == "dpdk"]
    assert {(case.device, case.ring) for case in cases} == {("net", "packed"), ("net", "split")}
    assert all(case.script == "dpdk" and case.programs == "dpdk" for case in cases)
    taken = {frozenset(matrix.expected(case, "6.1.0")) for case in cases if case.ring == "packed"}
    assert taken == {
        frozenset({"RING_PACKED", "VERSION_1"}),
        frozenset({"RING_PACKED", "VERSION_1", "IN_ORDER", "NOTIFICATION_DATA"}),
    }


@pytest.mark.parametrize(
    ("ring", "event_idx", "offered"),
    [
        ("packed", True, {"INDIRECT_DESC", "RING_PACKED", "EVENT_IDX"}),
        ("split", True, {"INDIRECT_DESC", "EVENT_IDX"}),
        ("split", False, {"INDIRECT_DESC"}),
    ],
)
def test_offered_features_follow_the_case(ring, event_idx, offered):
    assert set(Case("blk", ring, event_idx, "stable").features) == offered


@pytest.mark.parametrize(
    ("release", "refused"),
    [
        ("6.1.0-50-cloud-amd64", {"NOTIFICATION_DATA", "IN_ORDER"}),
        ("6.12.107+deb13-cloud-amd64", {"IN_ORDER"}),
        ("5.10.0-1", {"NOTIFICATION_DATA", "IN_ORDER", "RING_RESET"}),
        ("6.4.0-1", {"IN_ORDER"}),
        ("7.0+deb13", set()),
        ("7.3.4+deb13-cloud-amd64", set()),
    ],
)
def test_a_kernel_must_take_what_it_knows(release, refused):
    case = Case("net", "packed", True, "stable", tuple(matrix.EXTRAS))
    wanted = set(case.features) - {"INDIRECT_DESC"} | {"VERSION_1"}
    assert matrix.expected(case, release) == wanted - refused


def test_bits_that_linux_shows():
    bits = ["0"] * 64
    for bit in (29, 32, 34):
        bits[bit] = "1"
    assert matrix.taken("".join(bits)) == ("EVENT_IDX", "VERSION_1", "RING_PACKED")
    assert matrix.taken("") == ()


def test_a_device_type_joins_by_one_line_and_files_of_its_name(monkeypatch, tmp_path):
    def place(name, text):
        (tmp_path / name).write_text(text)

    place("golden_hash.py", "def make(options):\n    return 'golden', options\n")
    place("rtl_hash.py", "def config(options):\n    return 'rtl', options\n")
    place(
        "hash.sh",
        "MODULE=virtio_hash\nquick() {\n    check hash-id ...\n    check hash-sum ...\n}\n"
        "work() {\n    check hash-long ...\n}\n",
    )
    monkeypatch.setattr(guest, "__path__", [*guest.__path__, str(tmp_path)])
    assert "hash" not in golden_main.TYPES
    monkeypatch.setitem(matrix.DEVICES, "hash", DeviceCase("hash", steps=("work",)))
    full = matrix.full(tuple(matrix.DEVICES))
    assert len([case for case in full if case.device == "hash"]) == 12
    assert len(matrix.quick(("hash",))) == 2
    assert golden_main.TYPES["hash"]("o") == ("golden", "o")
    assert rtl_config.TYPES["hash"]("o") == ("rtl", "o")
    assert "hash" not in rtl_ports.PORTS
    assert script_files.kernel_modules(tmp_path) == ["virtio_hash"]
    assert script_files.shown_at_work("hash", tmp_path) == "hash-sum"
    monkeypatch.setattr(script_files, "SCRIPTS", tmp_path)
    case = Case("hash", "packed", True, "stable", steps=("quick", "work"))
    assert set(required(case)) == {"boot", "hash-id", "hash-sum", "hash-long"}


def test_what_is_no_device_type():
    for types in (golden_main.TYPES, rtl_config.TYPES, rtl_ports.PORTS):
        assert set(types) - set(NAMED_CONFIGS) == set(DEVICES)
        # Modules of these names are there.
        assert not {"main", "config", "common", "flow"} & set(types)
        assert "main" not in types
        assert "config" not in types


def test_what_is_read_from_the_scripts():
    assert {"virtio_blk", "virtio_net", "virtio_rng", "uio_pci_generic"} < set(MODULES)
    shown = {name: script_files.shown_at_work(name) for name in (*DEVICES, "dpdk", "life")}
    assert shown == {
        "blk": "blk-verify",
        "net": "net-ping",
        "entropy": "entropy-differ",
        "dpdk": "dpdk-echo",
        "life": "",
    }


def test_selection_by_name():
    assert {case.ring for case in matrix.select(DEVICES, False, "split")} == {"split"}
    assert matrix.select(DEVICES, False, "no such") == []
    case = matrix.quick(("blk",))[0]
    assert matrix.with_kernel(case, "trixie").kernel == "trixie"


@pytest.mark.parametrize("script", sorted(SCRIPTS.glob("*.sh")), ids=lambda path: path.name)
def test_scripts_are_shell(script):
    parsed = subprocess.run(["sh", "-n", script], capture_output=True, text=True, check=False)
    assert parsed.returncode == 0, parsed.stderr


@pytest.mark.parametrize("device", DEVICES)
def test_every_step_of_a_device_is_in_its_scripts(device):
    text = (SCRIPTS / f"{device}.sh").read_text()
    functions = set(re.findall(r"^(\w+)\(\) \{", text, re.MULTILINE))
    variables = set(re.findall(r"^(\w+)=", text, re.MULTILINE))
    common = set(re.findall(r"^(\w+)\(\) \{", (SCRIPTS / "life.sh").read_text(), re.MULTILINE))
    assert {"present", "quick", "traffic"} <= functions
    assert {"MODULE", "DRIVER"} <= variables
    for case in matrix.full((device,)):
        assert case.kind != "linux" or set(case.steps) <= functions | common
    assert not functions & common
