"""What can go wrong, and whose fault it is."""

from __future__ import annotations


def _render(text: str, context: dict[str, object]) -> str:
    shown = ", ".join(
        f"{name}={value:#x}"
        if isinstance(value, int) and not isinstance(value, bool)
        else f"{name}={value}"
        for name, value in context.items()
    )
    return f"{text} ({shown})" if shown else text


class ModelError(Exception):
    """An error with the numbers that explain it in `context`."""

    def __init__(self, text: str, **context: object) -> None:
        super().__init__(_render(text, context))
        self.text = text
        self.context = context


class DeviceFault(ModelError):
    """The device touched guest memory that no outstanding buffer or ring gave it."""


class DriverComplaint(ModelError):
    """The driver model saw the device break a rule."""


class DeviceBreach(DriverComplaint):
    """The device broke a rule of the virtqueue."""


class DriverBreach(ModelError):
    """The device model saw the driver break a rule of the virtqueue or of its device type."""


class DriverMisuse(ModelError):
    """The caller asked the driver model for what no driver may do; nothing was done."""


class QueueFull(ModelError):
    """The buffer does not fit into the free slots of the ring; nothing was written."""
