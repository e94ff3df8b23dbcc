"""What `make guest` runs: devices x ring x EVENT_IDX x kernel x features."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class DeviceCase:
    """How a device type is tried.

    `steps` are functions of scripts/NAME.sh or life.sh that the full run adds to `quick`;
    `arguments` go to the device server; `unit` says what its requests are.
    """

    name: str
    steps: tuple[str, ...] = ("work", "life")
    arguments: tuple[str, ...] = ()
    unit: str = "requests"


DEVICES = {
    device.name: device
    for device in (
        DeviceCase("entropy"),
        # mke2fs discards the disk first, and every sector of it is simulated. Linux takes as many
        # of its queues as there are processors.
        DeviceCase("blk", arguments=("--mebibytes", "8", "--queues", "2")),
        DeviceCase("net", unit="buffers"),
    )
}
"""A device type joins by one line here, and by files of its own that are found by its name; see
docs/guest.md."""

NAMED = {"net-x8": "net", "blk-x8": "blk", "entropy-x1": "entropy"}
"""Configurations of the RTL that the full run tries as they are, and their device types. All other
cases have one that is made for the simulation, see `rtl_config.py`."""

RINGS = ("packed", "split")

EXTRAS = {
    "NOTIFICATION_DATA": (6, 4),
    "IN_ORDER": (7, 0),
    "RING_RESET": (6, 0),
}
"""Features that a case may offer besides, and the first Linux that takes them."""

OFFERS = ((True, ()), (True, tuple(EXTRAS)), (False, tuple(EXTRAS)))
"""EVENT_IDX, and features besides. Neither, which would be the fourth, is what testpmd gets."""

DPDK_TAKES = {"RING_PACKED", "IN_ORDER", "NOTIFICATION_DATA"}
"""Features that DPDK's virtio driver takes of those that a case may offer."""

MACHINE_RESET = "machine_reset"
"""A step that resets the machine, which then boots again: the first of its case."""

QUICK_KERNEL = "stable"
FULL_KERNELS = ("stable", "backports")

BITS = {
    "INDIRECT_DESC": 28,
    "EVENT_IDX": 29,
    "VERSION_1": 32,
    "ACCESS_PLATFORM": 33,
    "RING_PACKED": 34,
    "IN_ORDER": 35,
    "NOTIFICATION_DATA": 38,
    "RING_RESET": 40,
}
"""Feature bits of all devices, by the names that the server takes."""


@dataclass(frozen=True)
class Case:
    """One guest: a device with what it offers, a kernel, and the steps inside.

    kind: "linux"; "firmware" for SeaBIOS that boots from the device; "dpdk" for testpmd.
    processors: of the guest. config: one of `NAMED`; only the RTL has them.
    """

    device: str
    ring: str
    event_idx: bool
    kernel: str
    extras: tuple[str, ...] = ()
    steps: tuple[str, ...] = ("quick",)
    kind: str = "linux"
    processors: int = 1
    config: str = ""

    @property
    def name(self) -> str:
        """The case in a few words, fit for a file name."""
        if self.kind == "firmware":
            return f"{self.device}-firmware"
        if self.kind == "dpdk":
            return f"{self.device}-dpdk-{self.ring}" + ("-extras" if self.extras else "")
        parts = [
            self.config or self.device,
            self.ring,
            "event" if self.event_idx else "flags",
            self.kernel,
        ]
        parts += ["extras"] if self.extras else []
        return "-".join(parts + ([f"{self.processors}cpu"] if self.processors > 1 else []))

    @property
    def features(self) -> tuple[str, ...]:
        """What the device offers of the features that a case chooses."""
        packed = ("RING_PACKED",) if self.ring == "packed" else ()
        event = ("EVENT_IDX",) if self.event_idx else ()
        return ("INDIRECT_DESC", *packed, *event, *self.extras)

    @property
    def programs(self) -> str:
        """What the guest needs besides busybox; see initramfs.PROGRAMS."""
        if self.kind == "dpdk":
            return "dpdk"
        return "" if self.steps == ("quick",) else "tools"

    @property
    def script(self) -> str:
        """The name of the script that the guest runs."""
        return self.kind if self.kind == "dpdk" else self.device


def taken(bits: str) -> tuple[str, ...]:
    """Return the features that a driver took, of Linux' string of bits, the lowest first."""
    return tuple(name for name, bit in BITS.items() if bits[bit : bit + 1] == "1")


def expected(case: Case, release: str) -> set[str]:
    """Return the features of a case that the driver must take, with a kernel of this release."""
    if case.kind == "dpdk":
        return {name for name in case.features if name in DPDK_TAKES} | {"VERSION_1"}
    version = tuple(int(part) for part in release.split("-")[0].split("+")[0].split(".")[:2])
    choices = {name for name in case.features if name not in EXTRAS or version >= EXTRAS[name]}
    return choices - {"INDIRECT_DESC"} | {"VERSION_1"}


def quick(devices: tuple[str, ...]) -> list[Case]:
    """Return the cases of QUICK=1: each device on both rings, a short look at each."""
    extras = tuple(EXTRAS)
    return [Case(device, ring, True, QUICK_KERNEL, extras) for device in devices for ring in RINGS]


def full(devices: tuple[str, ...]) -> list[Case]:
    """Return all cases."""
    cases = [
        Case(device, ring, event_idx, kernel, extras, ("quick", *DEVICES[device].steps))
        for device in devices
        for kernel in FULL_KERNELS
        for ring in RINGS
        for event_idx, extras in OFFERS
    ]
    if "blk" in devices:
        widest = [case for case in cases if _is_widest(case)]
        cases += [
            replace(case, processors=2, steps=(MACHINE_RESET, *case.steps)) for case in widest
        ]
        # Firmware takes split rings even where packed is offered.
        cases.append(Case("blk", "packed", True, "", steps=(), kind="firmware"))
    if "net" in devices:
        extras = ("NOTIFICATION_DATA", "IN_ORDER")
        for ring in RINGS:
            for offered in ((), extras):
                cases.append(
                    Case("net", ring, False, QUICK_KERNEL, offered, ("work",), kind="dpdk")
                )
    everything = ("packed", True, FULL_KERNELS[-1], tuple(EXTRAS))
    named = [name for name, device in NAMED.items() if device in devices]
    return cases + [Case(NAMED[name], *everything, config=name) for name in named]


def _is_widest(case: Case) -> bool:
    """Whether to try a case with a queue for each of two processors as well."""
    widest = case.event_idx and bool(case.extras)
    return widest and case.device == "blk" and case.kernel == "backports"


def select(devices: tuple[str, ...], only_quick: bool, pattern: str = "") -> list[Case]:
    """Return the cases of devices whose name contains `pattern`."""
    cases = quick(devices) if only_quick else full(devices)
    return [case for case in cases if pattern in case.name]


def with_kernel(case: Case, kernel: str) -> Case:
    """Return the case on another kernel."""
    return replace(case, kernel=kernel) if case.kind != "firmware" else case
