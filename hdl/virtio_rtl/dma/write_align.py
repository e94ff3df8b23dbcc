"""Third room of the write engine: the bytes, from where they lie to where they go."""

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

__all__ = ["ALIGN_LATENCY", "WriteAlign", "align_read"]

ALIGN_LATENCY = 3


def align_read(width: int, rows: int) -> data.StructLayout:
    """Where the bytes of an output beat lie.

    Output lane 0 is lane ``lane`` of row ``row``; the following lanes follow, over the end of the
    row into the next one. The first ``skip`` output lanes and those from ``count`` on are 0.
    """
    lanes = width // 8
    return data.StructLayout(
        {"row": range(rows), "lane": range(lanes), "skip": 2, "count": range(lanes + 1)}
    )


class WriteAlign(wiring.Component):
    """Ring buffer of rows of ``width`` bits, read at any byte.

    Parameters
    ----------
    width
        Data bits of a row and of a beat: 64, 128, 256 or 512.
    rows
        Rows, a power of two, at least 2.

    Ports
    -----
    write_enable, write_row, write_data
        Write a whole row.
    read
        ``align_read``: what to read in this cycle.
    read_data
        The beat, ``ALIGN_LATENCY`` (3) cycles later.

    Any ``width / 8`` consecutive bytes lie in two neighbouring rows; even and odd rows are in two
    memories, so that both are read at once. Then each lane selects its row, and a rotation in two
    pipeline stages brings the bytes to their lanes. One beat per cycle, no flow control: whoever
    issues a read has room for its result. A row can be read from the cycle after its write on.
    """

    def __init__(self, width: int, rows: int):
        if width not in (64, 128, 256, 512):
            raise ValueError(f"width = {width!r}: 64, 128, 256 or 512")
        if rows < 2 or rows.bit_count() != 1:
            raise ValueError(f"rows = {rows!r}: a power of two, at least 2")
        self.width = width
        self.rows = rows
        super().__init__(
            {
                "write_enable": In(1),
                "write_row": In(range(rows)),
                "write_data": In(width),
                "read": In(align_read(width, rows)),
                "read_data": Out(width),
            }
        )

    def elaborate(self, platform):
        m = Module()
        lanes = self.width // 8
        lane_bits = lanes.bit_length() - 1
        first_stage = lane_bits // 2

        m.submodules.even = even = Memory(shape=self.width, depth=self.rows // 2, init=[])
        m.submodules.odd = odd = Memory(shape=self.width, depth=self.rows // 2, init=[])
        for parity, memory in enumerate((even, odd)):
            write = memory.write_port()
            m.d.comb += [
                write.addr.eq(self.write_row >> 1),
                write.data.eq(self.write_data),
                write.en.eq(self.write_enable & (self.write_row[0] == parity)),
            ]
        read_even, read_odd = even.read_port(), odd.read_port()
        m.d.comb += [
            read_even.addr.eq((self.read.row + 1) >> 1),
            read_odd.addr.eq(self.read.row >> 1),
            read_even.en.eq(1),
            read_odd.en.eq(1),
        ]

        # Beside the memory: which memory has each lane's byte.
        from_odd = Signal(lanes)
        fetched = Signal.like(self.read)
        m.d.sync += fetched.eq(self.read)
        for lane in range(lanes):
            m.d.sync += from_odd[lane].eq(self.read.row[0] ^ (self.read.lane > lane))

        # First stage: select, rotate by the low bits of the lane.
        selected = Signal(self.width)
        turned = Signal(self.width)
        lane_left = Signal(lane_bits - first_stage)
        keep = Signal(lanes)
        for lane in range(lanes):
            byte = slice(8 * lane, 8 * lane + 8)
            m.d.comb += selected[byte].eq(
                Mux(from_odd[lane], read_odd.data[byte], read_even.data[byte])
            )
            m.d.sync += keep[lane].eq((fetched.skip <= lane) & (fetched.count > lane))
        m.d.sync += [
            turned.eq(_rotate(selected, fetched.lane[:first_stage], 1)),
            lane_left.eq(fetched.lane[first_stage:]),
        ]

        # Second stage: rotate by the high bits, clear what does not belong to the TLP.
        placed = _rotate(turned, lane_left, 1 << first_stage)
        m.d.sync += self.read_data.eq(placed & Cat(bit.replicate(8) for bit in keep))
        return m


def _rotate(bits: Value, amount: Value, step: int) -> Value:
    """Rotate right by ``amount * step`` bytes, one level of 2:1 multiplexers per bit."""
    for level in range(len(amount)):
        bits = Mux(amount[level], bits.rotate_right(8 * step << level), bits)
    return bits
