"""A disk that firmware can boot: it reads more of itself and prints it on the second serial port.

The code is put together by hand: an assembler would be one more thing to fetch.
"""

from __future__ import annotations

import struct

SECTORS = 16
"""Sectors after the first; the text is in the last one, so that all of them must arrive."""

TEXT = b"RESULT firmware ok the boot sector and %d more were read\r\nEND\r\n" % SECTORS
_FAILED = b"RESULT firmware fail the disk was not read\r\nEND\r\n"
_LOADED = 0x7E00
_COM2 = 0x2F8


def disk(size: int = 1 << 20) -> bytes:
    """Return the image of a disk of `size` bytes."""
    code = bytearray()
    code += b"\xfa\x31\xc0\x8e\xd8\x8e\xc0\x8e\xd0\xbc\x00\x7c"  # cli; ds = es = ss = 0; sp
    code += b"\xb8" + struct.pack("<H", 0x0200 | SECTORS)  # mov ax: read sectors
    code += b"\xbb" + struct.pack("<H", _LOADED)  # mov bx: to here
    code += b"\xb9\x02\x00\xb6\x00"  # mov cx, 2; mov dh, 0: from the second on (dl: this disk)
    code += b"\xcd\x13"  # int 13h
    code += b"\xbe" + struct.pack("<H", _LOADED + 512 * (SECTORS - 1))  # mov si: the text
    code += b"\x73\x03"  # jnc over the next instruction
    place = len(code)
    code += b"\xbe\x00\x00"  # mov si: the other text
    code += b"\xac\x84\xc0\x74\x12"  # next: lodsb; test al, al; jz stop
    code += b"\x88\xc4"  # mov ah, al
    code += b"\xba" + struct.pack("<H", _COM2 + 5)  # mov dx: line status
    code += b"\xec\xa8\x20\x74\xfb"  # wait: in al, dx; test al, 20h; jz wait
    code += b"\x88\xe0\xba" + struct.pack("<H", _COM2)  # mov al, ah; mov dx: data
    code += b"\xee\xeb\xe9"  # out dx, al; jmp next
    code += b"\xf4\xeb\xfd"  # stop: hlt; jmp stop
    code[place + 1 : place + 3] = struct.pack("<H", 0x7C00 + len(code))
    code += _FAILED + b"\0"
    boot = bytes(code).ljust(510, b"\0") + b"\x55\xaa"
    middle = b"".join(bytes([sector]) * 512 for sector in range(SECTORS - 1))
    return (boot + middle + (TEXT + b"\0").ljust(512, b"\0")).ljust(size, b"\0")
