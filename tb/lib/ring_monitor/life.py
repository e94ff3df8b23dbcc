"""Whether a device may touch its virtqueues at all [virtio 1.4 §2.1, §2.4, §3.4]."""

from __future__ import annotations

from enum import Enum, auto

__all__ = ["Life", "Phase"]


class Phase(Enum):
    """Life of the device."""

    SETUP = auto()
    LIVE = auto()
    RESETTING = auto()
    RESET = auto()
    SUSPENDING = auto()
    SUSPENDED = auto()


class Life:
    """Follows the device status.

    A change that the driver has asked for is done when the driver has read it: until then the
    device may finish what it has begun.
    """

    _FORBIDDEN = {
        Phase.SETUP: "basic-status-01",
        Phase.RESET: "basic-reset-02",
        Phase.SUSPENDED: "init-suspend-03",
    }

    def __init__(self) -> None:
        self.phase = Phase.SETUP

    @property
    def forbidden(self) -> str | None:
        """The row that an access or an interrupt would break now, or None."""
        return self._FORBIDDEN.get(self.phase)

    def driver_ok(self) -> None:
        """The driver sets DRIVER_OK."""
        self.phase = Phase.LIVE

    def ask_reset(self) -> None:
        """The driver writes 0 to the status."""
        self.phase = Phase.RESETTING

    def reset_done(self) -> None:
        """The status was read as 0."""
        if self.phase is Phase.RESETTING:
            self.phase = Phase.RESET

    def ask_suspend(self) -> None:
        """The driver sets SUSPEND."""
        if self.phase is Phase.LIVE:
            self.phase = Phase.SUSPENDING

    def suspended(self) -> None:
        """The status was read with SUSPEND set and DRIVER_OK clear."""
        if self.phase is Phase.SUSPENDING:
            self.phase = Phase.SUSPENDED
