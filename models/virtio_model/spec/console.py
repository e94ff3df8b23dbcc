"""Console device: ids, features, configuration, control messages [virtio 1.4 §5.3]."""

from __future__ import annotations

from enum import IntEnum

from virtio_model.spec.features import Dependencies
from virtio_model.spec.fields import Field

DEVICE_ID = 3

RX_QUEUE = 0
TX_QUEUE = 1
CONTROL_RX_QUEUE = 2
CONTROL_TX_QUEUE = 3


class ConsoleFeature(IntEnum):
    """Feature bit numbers [virtio 1.4 §5.3.3]."""

    SIZE = 0
    MULTIPORT = 1
    EMERG_WRITE = 2


DEPENDENCIES: Dependencies = {}

CONFIG_SIZE = 12
CONFIG: tuple[Field, ...] = (
    Field("cols", 0, 16, "R", section="5.3.4", description="SIZE."),
    Field("rows", 2, 16, "R", section="5.3.4", description="SIZE."),
    Field("max_nr_ports", 4, 32, "R", section="5.3.4", description="MULTIPORT."),
    Field(
        "emerg_wr",
        8,
        32,
        "RW",
        section="5.3.4",
        description="EMERG_WRITE: one character, at any time, even before DRIVER_OK.",
    ),
)

CONTROL_SIZE = 8
CONTROL: tuple[Field, ...] = (
    Field("id", 0, 32, "RW", section="5.3.6.2", description="Port."),
    Field("event", 4, 16, "RW", section="5.3.6.2"),
    Field("value", 6, 16, "RW", section="5.3.6.2"),
)


class ControlEvent(IntEnum):
    """Events of the control queues [virtio 1.4 §5.3.6.2]."""

    DEVICE_READY = 0
    DEVICE_ADD = 1
    DEVICE_REMOVE = 2
    PORT_READY = 3
    CONSOLE_PORT = 4
    RESIZE = 5
    """Trailer: the spec prints cols, rows; Linux has long parsed rows, cols."""
    PORT_OPEN = 6
    PORT_NAME = 7
