"""Python values to and from the bits of an Amaranth shape.

`pack(shape, value)` makes an int, `unpack(shape, bits)` gives the value back: structs become a
`Record` (a dict whose keys are attributes, too), arrays a list, enums their member, all else an
int. Shapes are compiled once, so a call costs a few additions per leaf field.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, NamedTuple

from amaranth.hdl import Shape
from amaranth.lib import data


class Record(dict[str, Any]):
    """A dict whose keys can be read as attributes: `record.address`, `record["address"]`."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value


class Codec(NamedTuple):
    """How to pack and unpack one shape."""

    width: int
    pack: Callable[[Any], int]
    unpack: Callable[[int], Any]


def pack(shape: Any, value: Any) -> int:
    """Return the bits of `value`; fields that a dict leaves out are zero."""
    return codec(shape).pack(value)


def unpack(shape: Any, bits: int) -> Any:
    """Return the value that `bits` stand for."""
    return codec(shape).unpack(bits)


def codec(shape: Any) -> Codec:
    """Return the codec of any Amaranth shape (an int means unsigned of that width)."""
    try:
        return _cached(shape)
    except TypeError:  # a shape that cannot be hashed
        return _compile(shape)


@cache
def _cached(shape: Any) -> Codec:
    return _compile(shape)


def _compile(shape: Any) -> Codec:
    if _is_layout(shape):
        layout = data.Layout.cast(shape)
        if isinstance(layout, data.ArrayLayout):
            return _array(layout)
        return _struct(layout)
    if isinstance(shape, type) and issubclass(shape, enum.Enum):
        return _enum(shape)
    cast = Shape.cast(shape)
    return _integer(cast.width, cast.signed)


def _is_layout(shape: Any) -> bool:
    """Tell whether a shape is a layout or a struct class (and not a plain integer shape)."""
    try:
        data.Layout.cast(shape)
    except TypeError:
        return False
    return True


def _integer(width: int, signed: bool) -> Codec:
    low, high = (-(1 << width - 1), 1 << width - 1) if signed and width else (0, 1 << width)
    mask = (1 << width) - 1

    def pack_int(value: Any) -> int:
        number = int(value)
        if not low <= number < high:
            raise ValueError(f"{number} does not fit {'signed' if signed else 'unsigned'}({width})")
        return number & mask

    def unpack_int(bits: int) -> int:
        number = bits & mask
        return number - (mask + 1) if number >= high else number

    return Codec(width, pack_int, unpack_int)


def _enum(shape: type[enum.Enum]) -> Codec:
    cast = Shape.cast(shape)
    plain = _integer(cast.width, cast.signed)

    def pack_enum(value: Any) -> int:
        if isinstance(value, str):
            value = shape[value]
        return plain.pack(value.value if isinstance(value, enum.Enum) else value)

    def unpack_enum(bits: int) -> Any:
        number = plain.unpack(bits)
        try:
            return shape(number)
        except ValueError:  # not a member: hardware can do that
            return number

    return Codec(cast.width, pack_enum, unpack_enum)


def _array(layout: data.ArrayLayout) -> Codec:
    width, pack_one, unpack_one = codec(layout.elem_shape)
    length = layout.length

    def pack_array(value: Any) -> int:
        if isinstance(value, int):
            return _raw(value, length * width)
        if len(value) > length:
            raise ValueError(f"{len(value)} elements for an array of {length}")
        return sum(pack_one(item) << index * width for index, item in enumerate(value))

    def unpack_array(bits: int) -> list[Any]:
        return [unpack_one(bits >> index * width) for index in range(length)]

    return Codec(length * width, pack_array, unpack_array)


def _struct(layout: data.Layout) -> Codec:
    fields = {str(key): (field.offset, codec(field.shape)) for key, field in layout}
    width = layout.size
    steps = [(key, offset, part.unpack) for key, (offset, part) in fields.items()]

    def pack_struct(value: Any) -> int:
        if isinstance(value, int):
            return _raw(value, width)
        items = value if isinstance(value, Mapping) else vars(value)
        bits = 0
        for key, item in items.items():
            if key not in fields:
                raise KeyError(f"no field {key!r}; there are {', '.join(fields)}")
            offset, part = fields[key]
            bits |= part.pack(item) << offset
        return bits

    def unpack_struct(bits: int) -> Record:
        return Record((key, take(bits >> offset)) for key, offset, take in steps)

    return Codec(width, pack_struct, unpack_struct)


def _raw(value: int, width: int) -> int:
    """Return bits that were given already packed."""
    if not 0 <= value < 1 << width:
        raise ValueError(f"{value:#x} does not fit {width} bits")
    return value
