"""What is generated from the register maps: C header, Markdown page, accessors for tests."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from virtio_model.spec.fields import Field
from virtio_rtl.regs.maps import RegisterMap

__all__ = ["Accessor", "accessors", "c_header", "check_maps", "markdown"]


class MapError(ValueError):
    """Register maps that contradict themselves; the message names the field."""


@dataclass(frozen=True)
class Accessor:
    """Where a register is: byte ``address`` in the BAR and ``size`` in bytes.

    ``reset`` is None where it is not a constant. ``banked`` registers show the virtqueue that
    ``queue_select`` holds.
    """

    address: int
    size: int
    access: str
    reset: int | None
    banked: bool


class _Placed(NamedTuple):
    where: RegisterMap
    field: Field
    offset: int

    @property
    def path(self) -> str:
        return f"{self.where.name}.{self.field.name}"


def _placed(maps: Iterable[RegisterMap]) -> Iterator[_Placed]:
    for where in maps:
        for field in where.fields:
            yield _Placed(where, field, where.base + field.offset)


def check_maps(maps: Iterable[RegisterMap]) -> None:
    """Raise ``MapError`` if registers overlap, are not aligned, or share a name."""
    taken: dict[int, str] = {}
    names: set[str] = set()
    for entry in _placed(maps):
        where, field, start = entry
        if field.bits not in (8, 16, 24, 32, 48, 64):
            raise MapError(f"{entry.path}: {field.bits} bits")
        if start % min(field.size & -field.size, 4):
            raise MapError(f"{entry.path}: offset {field.offset:#x} is not aligned")
        if where.count > 1 and where.stride < max(other.end for other in where.fields):
            raise MapError(f"{where.name}: stride {where.stride} is less than its fields take")
        if entry.path in names:
            raise MapError(f"{entry.path}: twice")
        names.add(entry.path)
        for index in range(where.count):
            for byte in range(
                start + index * where.stride, start + index * where.stride + field.size
            ):
                if byte in taken:
                    raise MapError(f"{entry.path}: overlaps {taken[byte]} at {byte:#x}")
                taken[byte] = entry.path


def accessors(maps: Iterable[RegisterMap]) -> dict[str, Accessor]:
    """Registers by "map.field", or "map[index].field" in a repeated map."""
    result = {}
    for where, field, offset in _placed(maps):
        for index in range(where.count):
            block = where.name if where.stride == 0 else f"{where.name}[{index}]"
            result[f"{block}.{field.name}"] = Accessor(
                offset + index * where.stride, field.size, field.access, field.reset, field.banked
            )
    return result


def c_header(maps: Iterable[RegisterMap], prefix: str = "VIRTIO_RTL") -> str:
    """A C header with the offset of every register in the BAR."""
    lines = [
        "/* Generated from the register maps; do not edit. Offsets are bytes in BAR 0. */",
        f"#ifndef {prefix}_REGS_H",
        f"#define {prefix}_REGS_H",
    ]
    for where in maps:
        block = f"{prefix}_{where.name}".upper()
        lines += ["", f"/* {where.description} */", f"#define {block} 0x{where.base:04x}"]
        if where.stride:
            lines += [
                f"#define {block}_COUNT {where.count}",
                f"#define {block}_STRIDE {where.stride}",
            ]
        for field in where.fields:
            name = f"{block}_{field.name}".upper()
            if where.stride:
                place = f"{name}(n) (0x{where.base + field.offset:04x} + {where.stride} * (n))"
            else:
                place = f"{name} 0x{where.base + field.offset:04x}"
            lines.append(f"#define {place} /* {field.access}, {field.bits} bits */")
    return "\n".join([*lines, "", f"#endif /* {prefix}_REGS_H */", ""])


def markdown(maps: Iterable[RegisterMap], title: str = "Registers of BAR 0") -> str:
    """A page with one table per register map."""
    lines = [f"# {title}", "", "Generated from the register maps; do not edit."]
    for where in maps:
        times = f", {where.count} times every {where.stride} bytes" if where.stride else ""
        lines += [
            "",
            f"## `{where.name}` at 0x{where.base:04x}{times}",
            "",
            where.description,
            "",
            "| offset | bits | name | access | reset | section | description |",
            "|---|---|---|---|---|---|---|",
        ]
        for field in where.fields:
            reset = "" if field.reset is None else f"0x{field.reset:x}"
            name = f"`{field.name}`" + (" (per virtqueue)" if field.banked else "")
            cells = (
                f"0x{field.offset:02x}",
                str(field.bits),
                name,
                field.access,
                reset,
                field.section,
                field.description.replace("|", "\\|"),
            )
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, ""])
