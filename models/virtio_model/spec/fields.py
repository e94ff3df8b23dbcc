"""`Field`: one named piece of a register block or structure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Access = Literal["R", "W", "RW"]


@dataclass(frozen=True)
class Field:
    """A field of a little-endian layout.

    `access` is the driver's view: R reads only, W writes only. `banked` fields exist once per
    virtqueue and are picked by queue_select. `reset` is None where the value is a property of
    the device, or where the layout is memory and has no reset.
    """

    name: str
    offset: int
    bits: int
    access: Access = "R"
    banked: bool = False
    reset: int | None = None
    section: str = ""
    description: str = ""

    @property
    def size(self) -> int:
        """Bytes taken."""
        return self.bits // 8

    @property
    def end(self) -> int:
        """Offset of the first byte behind the field."""
        return self.offset + self.size


def by_name(fields: Iterable[Field]) -> dict[str, Field]:
    """The fields of a table by their names."""
    return {field.name: field for field in fields}
