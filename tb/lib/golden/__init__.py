"""A run once more on the golden device, and the comparison bit for bit.

What the drivers did is journalled while the RTL runs (`driver`). Replayed on a copy of memory with
the golden net device in the place of the RTL (`twin`), the same buffers lie at the same addresses,
so that everything can be compared (`compare`): frames, headers, used entries in their order, and in
the end the whole of guest memory. The same for a block device, with its disk: `blk`.
"""

from lib.golden.blk import DiskDriver, DiskTwin, compare_disk, stray_byte
from lib.golden.compare import Check, compare
from lib.golden.driver import RX, TX, Journal, PairDriver, QueueMaker
from lib.golden.twin import Twin

__all__ = [
    "RX", "TX", "Check", "DiskDriver", "DiskTwin", "Journal", "PairDriver", "QueueMaker", "Twin",
    "compare", "compare_disk", "stray_byte",
]  # fmt: skip
