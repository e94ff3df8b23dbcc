"""What PCIe demands of the requests that a device sends. [PCIe 3.0 §2.2.5, §2.2.7]"""

from __future__ import annotations

from lib.pcie.packet import MEM_WRITE, Packet


class RequestChecker:
    """Collects the rules that memory requests broke, in `violations`.

    max_payload, max_read_request: bytes, as the host has programmed them.
    requester_id: expected one, or None for any.
    """

    def __init__(self) -> None:
        self.violations: list[str] = []
        self.max_payload = 128
        self.max_read_request = 512
        self.requester_id: int | None = None
        self.tags: set[tuple[int, int]] = set()
        self.peak_reads = 0

    def request(self, packet: Packet) -> None:
        """Check a memory request as it arrives; a read's tag is taken until `done`."""
        length, first, last = packet.length_dw, packet.first_be, packet.last_be
        size, offset = length * 4, packet.address & 0xFFF
        write = packet.type == MEM_WRITE
        broken = []
        if not 1 <= length <= 1024:
            broken.append("length out of range")
        if offset + size > 4096:
            broken.append("crosses a 4 KiB boundary")
        if write:
            if size > self.max_payload:
                broken.append(f"more than the maximum payload of {self.max_payload}")
            if size != len(packet.data):
                broken.append("length is not that of the data")
        elif size > self.max_read_request:
            broken.append(f"more than the maximum read request of {self.max_read_request}")
        if packet.address & 3:
            broken.append("address not a multiple of 4")
        if length == 1 and last:
            broken.append("one dword with a last byte enable")
        if length > 1:
            if not first or not last:
                broken.append("several dwords with an empty byte enable")
            if length > 2 or packet.address & 4:
                # Only a quadword on its boundary may have holes. [PCIe 3.0 §2.2.5]
                if first not in (0b1111, 0b1110, 0b1100, 0b1000):
                    broken.append("hole behind the first byte")
                if last not in (0b1111, 0b0111, 0b0011, 0b0001):
                    broken.append("hole before the last byte")
        if self.requester_id is not None and packet.requester_id != self.requester_id:
            broken.append(f"requester id is not {self.requester_id:#x}")
        if not write:
            key = (packet.requester_id, packet.tag)
            if key in self.tags:
                broken.append("tag is in use")
            self.tags.add(key)
            self.peak_reads = max(self.peak_reads, len(self.tags))
        if broken:
            self.violations.append(f"{'; '.join(broken)}: {packet!r}")

    def done(self, packet: Packet) -> None:
        """Free the tag of a read that has been answered."""
        self.tags.discard((packet.requester_id, packet.tag))
