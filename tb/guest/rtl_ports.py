"""What stands at the ports of a simulated device that are not PCIe."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from guest.device_types import ByType
from guest.net_peer import Peer
from virtio_rtl.config import NAMED_CONFIGS


class Ports:
    """The other side of a device's ports; this one is that of a device that has nothing but PCIe.

    All of them are made before reset, from the device, its configuration and what was asked for.
    `peer` is the other end of a network device's wire.
    """

    peer: Peer | None = None

    @property
    def given(self) -> bytes:
        """Of an entropy source: the first bytes that the device got from it."""
        return b""

    def activity(self) -> tuple[int, ...]:
        """Counters that change while something moves at the ports."""
        return ()

    def poll(self) -> None:
        """Look at the world outside; called every few cycles while simulated time moves on."""

    def fds(self) -> Sequence[int]:
        """Descriptors of the world outside that may wake the simulation."""
        return ()


def _of_type(name: str, *given: object) -> Ports:
    made: Ports = PORTS[name](*given) if name in PORTS else Ports()
    return made


PORTS = ByType(
    "rtl",
    "ports",
    {name: partial(_of_type, config.device) for name, config in NAMED_CONFIGS.items()},
)
"""By device type or name of a configuration: a function that makes its `Ports` of the device, the
`DeviceConfig` and the `ServeOptions`. A type that is not here has no ports."""
