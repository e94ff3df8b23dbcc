"""One vfio-user connection: framing, file descriptors, waiting."""

from __future__ import annotations

import array
import contextlib
import os
import select
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from guest.protocol import Command, Header, HeaderFlag, ProtocolError

MAX_DATA = 1 << 20
"""Bytes of data in one message that this side takes."""
MAX_FDS = 16
"""File descriptors in one message that this side takes."""
_MAX_SIZE = Header.SIZE + MAX_DATA + 4096
_ANCILLARY = socket.CMSG_SPACE(MAX_FDS * array.array("i").itemsize)


class ConnectionLost(Exception):
    """The other side is gone."""


@dataclass
class Message:
    """A message as it arrived. Whoever takes a descriptor out of `fds` has to close it."""

    header: Header
    body: bytes
    fds: list[int] = field(default_factory=list)

    def close(self) -> None:
        """Close the descriptors that nobody took."""
        while self.fds:
            os.close(self.fds.pop())


class Connection:
    """A connected stream socket that carries vfio-user messages.

    Nothing blocks except `wait`: `receive` gives a message when all of it has arrived, and None
    until then. `ConnectionLost` when the other side is gone, `ProtocolError` when the framing is
    lost; after either the connection is of no more use.
    """

    def __init__(self, peer: socket.socket) -> None:
        self._socket = peer
        # Header and body are read one after the other and never beyond: descriptors belong to
        # the message with whose first bytes they arrive.
        self._arrived = bytearray()
        self._header: Header | None = None
        self._fds: list[int] = []
        self._next_id = 0
        self._poll = select.poll()
        self._poll.register(peer, select.POLLIN)
        self._extra: set[int] = set()

    def fileno(self) -> int:
        """Descriptor of the socket."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close the socket and the descriptors of a message that never came to its end."""
        self._socket.close()
        while self._fds:
            os.close(self._fds.pop())

    def wait(self, seconds: float | None = None, extra: Sequence[int] = ()) -> bool:
        """Wait for bytes from the other side, or until one of `extra` is readable.

        `seconds`: None without limit, 0 only to look. Whether anything is there.
        """
        wanted = set(extra)
        for fd in self._extra - wanted:
            self._poll.unregister(fd)
        for fd in wanted - self._extra:
            self._poll.register(fd, select.POLLIN)
        self._extra = wanted
        return bool(self._poll.poll(None if seconds is None else seconds * 1000))

    def receive(self) -> Message | None:
        """The next message, or None while it has not arrived in full."""
        if self._header is None:
            if not self._fill(Header.SIZE):
                return None
            header = Header.decode(bytes(self._arrived))
            if not Header.SIZE <= header.size <= _MAX_SIZE:
                raise ProtocolError(f"a message of {header.size} bytes")
            self._header = header
            self._arrived.clear()
        header = self._header
        if not self._fill(header.size - Header.SIZE):
            return None
        message = Message(header, bytes(self._arrived), self._fds)
        self._header, self._fds = None, []
        self._arrived.clear()
        return message

    def _fill(self, size: int) -> bool:
        """Read on to `size` bytes of header or body; whether they are there."""
        while len(self._arrived) < size:
            try:
                data, ancillary, flags, _ = self._socket.recvmsg(
                    size - len(self._arrived),
                    _ANCILLARY,
                    socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC,
                )
            except (BlockingIOError, InterruptedError):
                return False
            except OSError as error:
                raise ConnectionLost(str(error)) from error
            self._fds += _descriptors(ancillary)
            if not data:
                raise ConnectionLost("the other side has closed the connection")
            if flags & socket.MSG_CTRUNC:
                raise ProtocolError("more file descriptors than were agreed on")
            self._arrived += data
        return True

    def _send(self, header: Header, body: bytes, fds: Sequence[int] = ()) -> None:
        data = header.encode() + body
        try:
            if fds:
                sent = socket.send_fds(self._socket, [data], list(fds))
                data = data[sent:]
            if data:
                self._socket.sendall(data)
        except OSError as error:
            raise ConnectionLost(str(error)) from error

    def reply(self, header: Header, body: bytes = b"", error: int = 0) -> None:
        """Answer a command; `error` is an errno."""
        flags = HeaderFlag.REPLY | (HeaderFlag.ERROR if error else 0)
        size = Header.SIZE + len(body)
        self._send(Header(header.id, header.command, size, flags, error), body)

    def command(
        self, command: Command, body: bytes, fds: Sequence[int] = (), *, no_reply: bool = False
    ) -> int:
        """Send a command; its message id, which the reply repeats."""
        self._next_id = (self._next_id + 1) & 0xFFFF
        flags = HeaderFlag.NO_REPLY if no_reply else 0
        header = Header(self._next_id, command, Header.SIZE + len(body), flags)
        self._send(header, body, fds)
        return self._next_id


def _descriptors(ancillary: Sequence[tuple[int, int, bytes]]) -> Iterator[int]:
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds = array.array("i")
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
            yield from fds


class Listener:
    """A socket file that waits for one client; it is removed again."""

    def __init__(self, path: Path) -> None:
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.bind(str(path))
        self._socket.listen(1)

    def accept(self, timeout: float | None = None) -> Connection:
        """Wait for the client; `ConnectionLost` if nobody comes within `timeout` seconds."""
        self._socket.settimeout(timeout)
        try:
            peer, _ = self._socket.accept()
        except TimeoutError as error:
            raise ConnectionLost(f"no client at {self.path} within {timeout} s") from error
        finally:
            self.close()
        peer.setblocking(True)
        return Connection(peer)

    def close(self) -> None:
        """Wait no longer."""
        self._socket.close()
        self.path.unlink(missing_ok=True)
