import enum as _enum
from enum import auto as auto
from enum import nonmember as nonmember
from enum import unique as unique
from typing import Any

class EnumType(_enum.EnumMeta):
    def __new__(
        metacls,
        name: str,
        bases: tuple[type, ...],
        namespace: Any,
        *,
        shape: Any = None,
        view_class: Any = None,
        **kwargs: Any,
    ) -> Any: ...
    def as_shape(cls) -> Any: ...
    def const(cls, value: Any) -> Any: ...

class Enum(_enum.Enum, metaclass=EnumType): ...  # type: ignore[misc]
class IntEnum(_enum.IntEnum, metaclass=EnumType): ...  # type: ignore[misc]
class Flag(_enum.Flag, metaclass=EnumType): ...  # type: ignore[misc]
class IntFlag(_enum.IntFlag, metaclass=EnumType): ...  # type: ignore[misc]

def __getattr__(name: str) -> Any: ...
