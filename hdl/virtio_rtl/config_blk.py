"""Configuration of the block device: frozen, validated."""

from dataclasses import dataclass

__all__ = ["SECTOR_BYTES", "BlkConfig"]

SECTOR_BYTES = 512
"""The unit of all sector numbers, whatever ``blk_size`` is. [virtio 1.4 §5.2.4]"""

_LARGEST_PART = 1 << 25
"""Bytes of a request's readable or writable part that the virtqueue engine lets pass."""


@dataclass(frozen=True)
class BlkConfig:
    """What is fixed about a block device when the RTL is generated. [virtio 1.4 §5.2.4]

    Parameters
    ----------
    capacity_sectors
        Size of the disk, in sectors of 512 bytes; a multiple of ``blk_size``.
    backend
        Where the bytes are: ``"memory"``, on-chip memory, which starts as zeros and keeps its
        contents over a reset of the device (converting it to Verilog takes seconds per MiB); or
        ``"axi4"``, external memory behind an AXI4 master.
    num_queues
        Request virtqueues, 1 to 256; more than one offers MQ.
    seg_max, size_max
        Data segments of a request, at most 254, and bytes in each.
    blk_size
        Logical block in bytes, a power of two from 512 to 65536.
    physical_block_exp, alignment_offset, min_io_size, opt_io_size
        The topology told to the driver; in logical blocks, the first one as a power of two.
    read_only
        Offer RO: nothing is ever written.
    flush
        Offer FLUSH. There is no volatile cache: a write is answered when it is done.
    config_wce
        Offer CONFIG_WCE; needs ``flush``. The cache mode that the driver writes can be read back
        and changes nothing.
    max_discard_sectors, max_discard_seg, discard_sector_alignment
        Sectors in a segment of a DISCARD, segments in a request (up to 64), and what is told about
        alignment; 0 sectors: DISCARD is not offered. A read-only device offers it never.
    max_write_zeroes_sectors, max_write_zeroes_seg
        The same for WRITE_ZEROES.
    identity
        Answer to GET_ID, up to 20 ASCII characters.
    axi_address_bits, axi_base
        AXI4 backend: width of its addresses, up to 64, and where sector 0 is, a multiple of 4096.
    axi_burst_bytes
        AXI4 backend: longest burst; 512, 1024 or 2048. A burst never crosses a multiple of it.
    """

    capacity_sectors: int = 2048
    backend: str = "memory"
    num_queues: int = 1
    seg_max: int = 126
    size_max: int = 131072
    blk_size: int = 512
    physical_block_exp: int = 0
    alignment_offset: int = 0
    min_io_size: int = 1
    opt_io_size: int = 0
    read_only: bool = False
    flush: bool = True
    config_wce: bool = False
    max_discard_sectors: int = 2048
    max_discard_seg: int = 16
    discard_sector_alignment: int = 1
    max_write_zeroes_sectors: int = 2048
    max_write_zeroes_seg: int = 16
    identity: str = "virtio-rtl"
    axi_address_bits: int = 32
    axi_base: int = 0
    axi_burst_bytes: int = 1024

    def __post_init__(self) -> None:
        def require(condition: bool, field: str, rule: str) -> None:
            if not condition:
                # Here, for the configuration of the whole device is made of this one.
                from .config import ConfigError

                raise ConfigError(f"blk.{field} = {getattr(self, field)!r}: {rule}")

        def within(field: str, low: int, high: int) -> None:
            require(low <= getattr(self, field) <= high, field, f"{low} to {high}")

        require(self.backend in ("memory", "axi4"), "backend", '"memory" or "axi4"')
        within("blk_size", SECTOR_BYTES, 65536)
        require(self.blk_size.bit_count() == 1, "blk_size", "a power of two")
        within("capacity_sectors", 1, 1 << (24 if self.backend == "memory" else 48))
        require(
            self.capacity_sectors % (self.blk_size // SECTOR_BYTES) == 0,
            "capacity_sectors",
            "whole logical blocks",
        )
        within("num_queues", 1, 256)
        within("seg_max", 1, 254)
        within("size_max", SECTOR_BYTES, _LARGEST_PART)
        require(
            self.seg_max * self.size_max + 16 <= _LARGEST_PART,
            "size_max",
            f"a request of seg_max segments and its header are at most {_LARGEST_PART} bytes",
        )
        within("physical_block_exp", 0, 15)
        within("alignment_offset", 0, 255)
        within("min_io_size", 0, 65535)
        within("opt_io_size", 0, (1 << 32) - 1)
        require(self.flush or not self.config_wce, "config_wce", "only with flush")
        for kind in ("discard", "write_zeroes"):
            within(f"max_{kind}_sectors", 0, (1 << 32) - 1)
            within(f"max_{kind}_seg", 1, 64)
        within("discard_sector_alignment", 1, (1 << 32) - 1)
        require(
            len(self.identity) <= 20 and self.identity.isascii(),
            "identity",
            "up to 20 ASCII characters",
        )
        within("axi_address_bits", 12, 64)
        require(self.axi_burst_bytes in (512, 1024, 2048), "axi_burst_bytes", "512, 1024 or 2048")
        require(
            self.backend == "memory"
            or (
                self.axi_base >= 0
                and self.axi_base % 4096 == 0
                and self.axi_base + self.capacity_sectors * SECTOR_BYTES
                <= 1 << self.axi_address_bits
            ),
            "axi_base",
            "a multiple of 4096, and the whole disk within the address space",
        )

    @property
    def discard(self) -> bool:
        """Whether DISCARD is offered."""
        return self.max_discard_sectors > 0 and not self.read_only

    @property
    def write_zeroes(self) -> bool:
        """Whether WRITE_ZEROES is offered."""
        return self.max_write_zeroes_sectors > 0 and not self.read_only

    @property
    def segments(self) -> int:
        """Most segments of a DISCARD or WRITE_ZEROES."""
        return max(self.max_discard_seg, self.max_write_zeroes_seg)

    @property
    def sector_bits(self) -> int:
        """Bits of a sector number, and of a number of sectors, up to the capacity itself."""
        return self.capacity_sectors.bit_length()
