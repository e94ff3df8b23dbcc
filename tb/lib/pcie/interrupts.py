"""Interrupts as the host sees them: messages (MSI-X writes) and the INTx wire."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from cocotb.triggers import Event
from cocotb.utils import get_sim_time
from cocotbext.pcie.core.tlp import MsgType

MESSAGE_WINDOW = (0xFEE0_0000, 0xFEF0_0000)
"""Memory writes to here are interrupt messages, as on a PC."""


class Interrupt(NamedTuple):
    """One interrupt message."""

    time_ns: float
    address: int
    data: int


class InterruptController:
    """Collects interrupt messages in `received`, and follows INTA.

    `callbacks` are called with each message, `level_callbacks` with each new level of INTA;
    `level` is the state of INTA, `level_changes` its history as (time in ns, level).
    """

    def __init__(self) -> None:
        self.received: list[Interrupt] = []
        self.callbacks: list[Callable[[Interrupt], None]] = []
        self.level_callbacks: list[Callable[[int], None]] = []
        self.level = 0
        self.level_changes: list[tuple[float, int]] = []
        self._news = Event()

    def claim(self, address: int, data: bytes) -> bool:
        """Take a memory write if it is an interrupt message."""
        if not MESSAGE_WINDOW[0] <= address < MESSAGE_WINDOW[1]:
            return False
        interrupt = Interrupt(get_sim_time("ns"), address, int.from_bytes(data, "little"))
        self.received.append(interrupt)
        self._news.set()
        for callback in self.callbacks:
            callback(interrupt)
        return True

    def message(self, code: int) -> bool:
        """Take a message TLP if it is Assert_INTA or Deassert_INTA."""
        if code not in (MsgType.ASSERT_INTA, MsgType.DEASSERT_INTA):
            return False
        self.level = int(code == MsgType.ASSERT_INTA)
        self.level_changes.append((get_sim_time("ns"), self.level))
        self._news.set()
        for callback in self.level_callbacks:
            callback(self.level)
        return True

    async def wait(self, done: Callable[[], bool]) -> None:
        """Wait until `done()`, which is looked at after each interrupt."""
        while not done():
            self._news.clear()
            await self._news.wait()
