"""Offers a guest fewer features than the function has, without building another one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from guest.device import Function, Host

_SELECT, _FEATURE, _WINDOW_END = 0, 4, 8


class FeatureMask:
    """A function whose `device_feature` register shows only what is not hidden.

    function: the one behind, with the common configuration at the start of BAR 0.
    hidden: feature bits to leave out, a feature set. A guest accepts what it is offered, so this
    chooses the ring format and the ring features that it uses. The PCI configuration access
    window shows all of them. [virtio 1.4 §4.1.4.3]
    """

    def __init__(self, function: Function, hidden: int) -> None:
        self.function = function
        self.hidden = hidden
        self._select = bytearray(4)

    @property
    def bars(self) -> Mapping[int, int]:
        """BARs of the function behind."""
        return self.function.bars

    def connect(self, host: Host) -> None:
        """Hand the host on."""
        self.function.connect(host)

    async def config_read(self, offset: int, length: int) -> bytes:
        """Read configuration space."""
        return await self.function.config_read(offset, length)

    async def config_write(self, offset: int, data: bytes) -> None:
        """Write configuration space."""
        await self.function.config_write(offset, data)

    async def bar_read(self, bar: int, offset: int, length: int) -> bytes:
        """Read a BAR, without the hidden features."""
        data = await self.function.bar_read(bar, offset, length)
        if bar or offset + length <= _FEATURE or offset >= _WINDOW_END:
            return data
        word = self.hidden >> 32 * int.from_bytes(self._select, "little") & 0xFFFF_FFFF
        hidden = (word << 8 * _FEATURE) >> 8 * offset
        return (int.from_bytes(data, "little") & ~hidden).to_bytes(length, "little")

    async def bar_write(self, bar: int, offset: int, data: bytes) -> None:
        """Write a BAR, and note which word of the features is selected."""
        if not bar:
            for at, byte in enumerate(data, offset):
                if at < len(self._select):
                    self._select[at] = byte
        await self.function.bar_write(bar, offset, data)

    async def reset(self) -> None:
        """Function level reset."""
        await self.function.reset()

    def busy(self) -> bool:
        """Whether anything is in flight."""
        return self.function.busy()

    async def step(self) -> None:
        """Let some time pass."""
        await self.function.step()

    def wake_fds(self) -> Sequence[int]:
        """Descriptors that wake the server."""
        return self.function.wake_fds()
