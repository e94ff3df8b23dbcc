"""Logic made from the field tables: which access touches a field, and what it leaves there."""

from collections.abc import Iterable, Mapping

from amaranth.hdl import Cat, Const, Mux, Value, ValueLike
from amaranth.lib import data

from virtio_model.spec.fields import Field

__all__ = ["dword_value", "merged", "touched"]


def _enables(field: Field, request: data.View) -> Value:
    lane = field.offset % 4
    if lane + field.size > 4:
        raise ValueError(f"{field.name}: not inside one dword")
    return request.byte_enable[lane : lane + field.size]


def touched(field: Field, request: data.View, address_bits: int) -> Value:
    """Whether an access has a byte of the field enabled, within a block of 2**address_bits."""
    at_dword = request.address[2:address_bits] == field.offset // 4
    return at_dword & _enables(field, request).any()


def merged(field: Field, request: data.View, old: ValueLike) -> Value:
    """The field's value with the enabled bytes of a write over ``old``."""
    old = Value.cast(old)
    lane = field.offset % 4
    return Cat(
        Mux(enable, request.data.word_select(lane + byte, 8), old.word_select(byte, 8))
        for byte, enable in enumerate(_enables(field, request))
    )


def dword_value(fields: Iterable[Field], values: Mapping[str, ValueLike], dword: int) -> Value:
    """The 32 bits that a read of a dword shows; 0 where ``values`` has nothing for a field."""
    lanes: list[Value] = [Const(0, 8)] * 4
    for field in fields:
        if field.name in values:
            value = Cat(values[field.name], Const(0, field.bits))[: field.bits]
            for byte in range(field.size):
                if (field.offset + byte) // 4 == dword:
                    lanes[(field.offset + byte) % 4] = value[8 * byte : 8 * byte + 8]
    return Cat(lanes)
