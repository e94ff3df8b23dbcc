"""Read and write capture files: pcap (µs and ns) and pcapng, Ethernet only."""

from __future__ import annotations

import gzip
import logging
import os
import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from virtio_rtl.config import DeviceConfig

logging.getLogger("scapy").setLevel(logging.ERROR)  # it would comment on our captures and network

ETHERNET = 1
"""LINKTYPE_ETHERNET."""

ETHERNET_HEADER = 14
_TAGS = (b"\x81\x00", b"\x88\xa8")  # 802.1Q, 802.1ad
_SECTION = b"\x0a\x0d\x0d\x0a"
_PACKET_BLOCKS = (2, 3, 6)
_DAMAGE = (EOFError, OSError, OverflowError, zlib.error)  # what a broken file, or gzip, raises

SAMPLE = Path(__file__).with_name("data") / "sample.pcap"
"""The capture that comes with the demo; `make_sample.py` has made it."""


class CaptureError(Exception):
    """A capture that cannot be used; the message is one line for the user."""


@dataclass(frozen=True)
class Capture:
    """Ethernet frames without FCS, in the order of the file."""

    path: Path
    frames: list[bytes]

    @property
    def total_bytes(self) -> int:
        """Sum of the frame lengths."""
        return sum(map(len, self.frames))


def longest(frame: bytes, config: DeviceConfig) -> int:
    """Return how long a frame may be for a configuration's MTU; a VLAN tag may come on top."""
    tagged = frame[12:14] in _TAGS
    return min(config.mtu + ETHERNET_HEADER + 4 * tagged, config.max_frame)


def load(path: Path, config: DeviceConfig) -> Capture:
    """Read a capture whose frames a configuration can carry, or raise CaptureError."""
    if not path.exists():
        raise CaptureError(f"{path}: no such file")
    if path.is_dir():
        raise CaptureError(f"{path}: is a directory, not a capture file")
    if not path.is_file():
        raise CaptureError(f"{path}: not a regular file")
    if not os.access(path, os.R_OK):
        raise CaptureError(f"{path}: permission denied")
    frames = []
    for number, (frame, captured, wire) in enumerate(_records(path), 1):
        if wire != captured:
            raise CaptureError(
                f"{path}: frame {number} is truncated: {captured} of {wire} bytes were captured"
            )
        if len(frame) < captured:
            raise CaptureError(f"{path}: the file ends within frame {number}")
        if len(frame) < ETHERNET_HEADER:
            raise CaptureError(
                f"{path}: frame {number} has {len(frame)} bytes, less than an Ethernet header"
            )
        if len(frame) > (limit := longest(frame, config)):
            raise CaptureError(
                f"{path}: frame {number} has {len(frame)} bytes, {config.name} with its MTU of "
                f"{config.mtu} allows {limit}"
            )
        frames.append(frame)
    if not frames:
        raise CaptureError(f"{path}: holds no Ethernet frames")
    return Capture(path, frames)


def _records(path: Path) -> Iterator[tuple[bytes, int, int]]:
    """Give each record: its bytes, and the captured length and the length on the wire it claims."""
    from scapy.error import Scapy_Exception
    from scapy.utils import MTU, RawPcapNgReader, RawPcapReader

    try:
        reader: Any = RawPcapReader(str(path))
    except (Scapy_Exception, *_DAMAGE) as error:
        raise CaptureError(f"{path}: not a pcap or pcapng file") from error
    blocks = isinstance(reader, RawPcapNgReader)
    with reader:
        if blocks:
            _require_whole_blocks(path)
        else:
            _require_ethernet(path, reader.linktype & 0xFFFF)  # above: FCS length, rarely set
        count = 0
        while True:
            start = reader.f.tell()
            try:
                data, meta = reader._read_packet(MTU)
            except EOFError as error:
                if not blocks and not _at_end(reader.f, start):
                    raise CaptureError(f"{path}: the file ends within frame {count + 1}") from error
                return
            except (Scapy_Exception, *_DAMAGE) as error:
                raise CaptureError(f"{path}: damaged after frame {count}") from error
            count += 1
            if blocks:
                _require_ethernet(path, meta.linktype)
                yield data, len(data), meta.wirelen
            else:
                yield data, meta.caplen, meta.wirelen


def _at_end(file: Any, start: int) -> bool:
    """Tell whether a file that was read up to `start` ends there."""
    try:
        return file.tell() == start and not file.read(1)
    except _DAMAGE:
        return False


def _require_whole_blocks(path: Path) -> None:
    """Check that a pcapng file ends with a block; scapy does not tell."""
    with path.open("rb") as raw:
        packed = raw.read(2) == b"\x1f\x8b"
    frames, order = 0, "<"
    try:
        with gzip.open(path) if packed else path.open("rb") as file:
            while head := file.read(12):
                if head[:4] == _SECTION:
                    order = "<" if head[8:12] == b"\x4d\x3c\x2b\x1a" else ">"
                kind, length, _ = struct.unpack(order + "III", head)
                if length < 12 or len(file.read(length - 12)) < length - 12:
                    break
                frames += kind in _PACKET_BLOCKS
            else:
                return
    except (struct.error, *_DAMAGE):
        pass
    raise CaptureError(f"{path}: the file ends within frame {frames + 1}, or behind it")


def _require_ethernet(path: Path, linktype: int) -> None:
    if linktype != ETHERNET:
        raise CaptureError(f"{path}: link type {linktype} is not Ethernet")


def save(path: Path, frames: Iterable[bytes], times_ns: Sequence[int] | None = None) -> None:
    """Write a nanosecond pcap; `times_ns` counts from 0, one for each frame."""
    from scapy.utils import RawPcapWriter

    path.parent.mkdir(parents=True, exist_ok=True)
    with RawPcapWriter(str(path), linktype=ETHERNET, nano=True, sync=False) as writer:
        writer.write_header(None)
        for index, frame in enumerate(frames):
            seconds, rest = divmod(times_ns[index] if times_ns else 0, 1_000_000_000)
            writer.write_packet(frame, sec=seconds, usec=rest)
