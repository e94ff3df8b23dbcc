"""The device behind the virtqueues: its engine, its door, and its ports to the outside."""

from amaranth.hdl import Module, ResetInserter, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from .config import DeviceConfig
from .device.kind import DeviceType
from .virtqueue.engine import VirtqueueEngine

__all__ = ["build_device", "build_engine", "connect_device"]

_DOORS = {
    "pairs": ("readable", "wanted", "writable"),
    "requests": ("request", "readable", "reply", "writable"),
}


def build_engine(config: DeviceConfig, kind: DeviceType) -> VirtqueueEngine:
    """The virtqueue engine for the paths of a device type."""
    if kind.packet_bytes is None:
        return VirtqueueEngine(config, paths=kind.paths)
    least, longest = kind.packet_bytes(config)
    return VirtqueueEngine(config, longest, paths=kind.paths, min_receive=least)


def build_device(config: DeviceConfig, kind: DeviceType) -> wiring.Component:
    """The device; it has the ports that its type says, or ``TypeError``."""
    device = kind.build(config)
    members = device.signature.members
    needed = [*_DOORS[kind.paths], *kind.outside(config)]
    for port, names in (
        ("live", kind.config_live),
        ("settings", kind.config_writable),
        ("events", kind.counters),
    ):
        if names:
            needed.append(port)
    if missing := [name for name in needed if name not in members]:
        raise TypeError(f"device type {kind.name!r}: {device!r} has no port {', '.join(missing)}")
    return device


def connect_device(
    m: Module, top: wiring.Component, kind: DeviceType, device, *, engine, transport, running, reset
) -> None:
    """Add the device, and connect its door, its state and its ports to the outside.

    ``running``: DRIVER_OK and no reset under way; ``reset``: clear all between host and device.
    """
    m.submodules.device = device if kind.own_reset else ResetInserter(reset)(device)
    members = device.signature.members
    for name in _DOORS[kind.paths]:
        wiring.connect(m, getattr(engine, name), getattr(device, name))
    for name, value in (
        ("open", running),
        ("engine_reset", reset),
        ("accepted", transport.driver_features[:64]),
        ("resetting", transport.resetting),
        ("suspending", transport.suspending),
    ):
        if name in members:
            m.d.comb += getattr(device, name).eq(value)
    error = device.error if "error" in members else 0
    m.d.comb += transport.device_error.eq(engine.failed | error)
    if kind.config_live:
        m.d.comb += transport.live.eq(device.live)
    if kind.config_writable:
        m.d.comb += device.settings.eq(transport.settings)
    for counter in kind.counters:
        # What the engine drops on behalf of the device counts with what that drops.
        dropped = getattr(engine, counter.name, 0)
        m.d.comb += transport.events[counter.name].eq(device.events[counter.name] | dropped)
    for name, member in kind.outside(top.config).items():
        ours, theirs = getattr(top, name), getattr(device, name)
        if member.is_signature:
            wiring.connect(m, wiring.flipped(ours), theirs)
        elif member.flow is In:
            m.d.comb += Value.cast(theirs).eq(ours)
        else:
            m.d.comb += Value.cast(ours).eq(theirs)
