"""One TLP as the testbench carries it: the fields of `TLPHeader` and the payload bytes.

cocotbext-pcie's own `Tlp` is convenient but slow to build (its enums and ids are objects); a
`Packet` is what travels on the simulated link, and `tlp_codec` converts where `Tlp` is wanted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from amaranth.lib import data as amaranth_data
from cocotbext.pcie.core.dllp import FcType

from virtio_rtl.types.tlp import CompletionStatus, TLPHeader, TLPType

HEADER_FIELDS = tuple(name for name, _ in amaranth_data.Layout.cast(TLPHeader))

MEM_READ = TLPType.MEM_READ.value
MEM_WRITE = TLPType.MEM_WRITE.value
COMPLETION = TLPType.COMPLETION.value
COMPLETION_DATA = TLPType.COMPLETION_DATA.value
MESSAGE = TLPType.MESSAGE.value
MESSAGE_DATA = TLPType.MESSAGE_DATA.value

SUCCESS = CompletionStatus.SUCCESS.value
UNSUPPORTED_REQUEST = CompletionStatus.UNSUPPORTED_REQUEST.value
COMPLETER_ABORT = CompletionStatus.COMPLETER_ABORT.value

WITH_DATA = frozenset(t.value for t in TLPType if t.name.endswith(("DATA", "WRITE0", "WRITE1")))
WITH_DATA |= {MEM_WRITE, TLPType.IO_WRITE.value}
"""Types whose payload follows from `length_dw`."""

_NAMES = {t.value: t.name for t in TLPType}
_POSTED = frozenset({MEM_WRITE, MESSAGE, MESSAGE_DATA, TLPType.OTHER.value})
_COMPLETIONS = frozenset({COMPLETION, COMPLETION_DATA})
_FOUR_DW_HEADER = frozenset({MESSAGE, MESSAGE_DATA})


class Packet:
    """A TLP: every field of `TLPHeader` as an int, and `data` (whole dwords, or empty).

    A message's code is the byte that `last_be` and `first_be` share the place of in the header:
    `last_be << 4 | first_be`. `category` is the monitor's classification, if it has been made.
    """

    # Defaults are the class's (set below), so that making a packet costs only what it sets.
    category: str | None = None
    type: int
    data: bytes
    fc_type: FcType
    data_credits: int
    wire_size: int

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> int: ...
        def __setattr__(self, name: str, value: Any) -> None: ...

    def __init__(self, type: Any, data: bytes = b"", **fields: int) -> None:
        self.type = type if isinstance(type, int) else type.value
        self.data = data
        self.length_dw = len(data) // 4
        self.__dict__.update(fields)
        self.settle()

    @classmethod
    def of_fields(cls, fields: dict[str, Any]) -> Packet:
        """Return a packet of all fields and `data`; the dict becomes the packet's."""
        packet = cls.__new__(cls)
        packet.__dict__ = fields
        return packet.settle()

    def settle(self) -> Packet:
        """Work out what the link needs to know; call again if type, address or data change.

        The wire size is that of cocotbext-pcie, header + payload + 8: framing, sequence number
        and LCRC. With 64-bit addresses that is MWr 24, MRd 24, CplD 20, plus data.
        """
        kind = self.type
        if kind in _COMPLETIONS:
            self.fc_type = FcType.CPL
        else:
            self.fc_type = FcType.P if kind in _POSTED else FcType.NP
        size = len(self.data)
        self.data_credits = (size + 15) >> 4
        four = kind in _FOUR_DW_HEADER or (kind <= MEM_WRITE and self.address >> 32)
        self.wire_size = (24 if four else 20) + size
        return self

    def copy(self) -> Packet:
        """Return a copy that can be changed on its own."""
        return Packet.of_fields(dict(self.__dict__))

    @property
    def message_code(self) -> int:
        """Code of a message TLP."""
        return self.last_be << 4 | self.first_be

    def fields(self) -> dict[str, int]:
        """Return the header fields as a dict."""
        return {name: getattr(self, name) for name in HEADER_FIELDS}

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Packet):
            return NotImplemented
        return self.fields() == other.fields() and self.data == other.data

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        shown = ", ".join(f"{k}={v:#x}" for k, v in self.fields().items() if v and k != "type")
        kind = _NAMES.get(self.type, f"type {self.type}")
        return f"<{kind} {shown} data={self.data.hex()}>"


for _name in HEADER_FIELDS:
    setattr(Packet, _name, 0)
