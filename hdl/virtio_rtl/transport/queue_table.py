"""What the driver has set for each virtqueue, in memories indexed by virtqueue."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from virtio_model.spec import pci
from virtio_model.spec.fields import by_name
from virtio_rtl.regs.fields import dword_value, merged, touched
from virtio_rtl.regs.maps import NOTIF_CONFIG_DATA
from virtio_rtl.types.regbus import RegisterRequest
from virtio_rtl.types.virtqueue import QueueLookup

__all__ = ["QueueRegisters", "QueueTable", "VectorLookup"]

_FIELDS = by_name(field for field in pci.COMMON_CFG if field.banked)
_AREAS = {
    "queue_desc": "descriptor_area",
    "queue_driver": "driver_area",
    "queue_device": "device_area",
}
_ADDRESS_BITS = (pci.COMMON_CFG_SIZE - 1).bit_length()


class QueueRegisters(wiring.Signature):
    """The selected virtqueue's registers, seen from the common configuration.

    ``read_data`` is the dword at ``request.address`` of virtqueue ``select``: combinational from
    the address, one cycle after ``select``, two cycles after a write. ``write`` strobes
    ``request`` into it. ``enabling``, one cycle later, says that it enables the virtqueue.
    """

    def __init__(self) -> None:
        super().__init__(
            {
                "select": Out(16),
                "request": Out(RegisterRequest),
                "write": Out(1),
                "read_data": In(32),
                "enabling": In(1),
            }
        )


class VectorLookup(wiring.Signature):
    """MSI-X vector of virtqueue ``queue``, one cycle after the index; seen from who asks.

    0xFFFF if none is mapped, or no such virtqueue exists.
    """

    def __init__(self) -> None:
        super().__init__({"queue": Out(16), "vector": In(16)})


class QueueTable(wiring.Component):
    """Per-virtqueue configuration: the banked registers of the common configuration structure.

    [virtio 1.4 §4.1.4.3, §4.1.5.1.2]

    Parameters
    ----------
    queues
        Virtqueues, 1 to 65535.
    size_max
        Largest virtqueue size in descriptors, 1 to 32768; what ``queue_size`` resets to.
    vectors
        MSI-X vectors of the device.
    readers
        Number of lookup ports.
    ring_reset, notif_config_data
        Whether ``queue_reset`` and ``queue_notif_config_data`` are there; else they read 0.

    Ports
    -----
    registers: In(QueueRegisters)
    any_size: In(1)
        ``queue_size`` need not be a power of two: RING_PACKED is negotiated.
        [virtio 1.4 §4.1.4.3.1]
    reset_allowed: In(1)
        RING_RESET is negotiated; else writes of ``queue_reset`` are ignored.
    reset_request: Out(1), reset_queue: Out(16)
        Strobe: the driver asks for the reset of a virtqueue. Not again before ``forget`` has
        answered it.
    forget: In(1), forget_queue: In(16)
        Strobe: return this virtqueue to its reset values.
    lookup_0 ... lookup_{readers-1}: In(QueueLookup)
    vector_lookup: In(VectorLookup)
    clear: In(1)
        Strobe: return everything to reset values.
    busy: Out(1)
        The sweep of ``clear`` (and of ``rst``) runs, ``queues`` + 1 cycles, or ``forget`` is at
        work, three cycles from its strobe on; an access that begins now is not to come, lookups
        see old or new rows.

    Every lookup takes one index per cycle and answers one cycle later; a lookup at the same time
    as a write sees the old value. Writes are exact to the byte. While a virtqueue is enabled its
    size and addresses do not change. ``queue_size`` takes 1 to ``size_max``, ``queue_enable``
    and ``queue_reset`` take 1, a vector that does not exist becomes 0xFFFF; other values are
    ignored. A virtqueue that does not exist reads as 0 (its vector as 0xFFFF) and takes no write.

    ``queue_reset`` reads 1 from the write of 1 until ``forget``, whether the virtqueue was enabled
    or not; with the same strobe everything else of it returns to reset values.
    [virtio 1.4 §2.6.1]
    """

    def __init__(
        self,
        queues: int,
        size_max: int,
        vectors: int,
        readers: int,
        *,
        ring_reset: bool = False,
        notif_config_data: bool = False,
    ):
        for name, value, high in (
            ("queues", queues, 65535),
            ("size_max", size_max, 32768),
            ("vectors", vectors, pci.VECTORS_MAX),
        ):
            if not 1 <= value <= high:
                raise ValueError(f"{name} = {value!r}: 1 to {high}")
        if notif_config_data and queues > NOTIF_CONFIG_DATA:
            raise ValueError(f"queues = {queues!r}: at most {NOTIF_CONFIG_DATA}")
        self.queues = queues
        self.size_max = size_max
        self.vectors = vectors
        self.readers = readers
        self.ring_reset = ring_reset
        self.notif_config_data = notif_config_data
        super().__init__(
            {f"lookup_{i}": In(QueueLookup()) for i in range(readers)}
            | {
                "registers": In(QueueRegisters()),
                "vector_lookup": In(VectorLookup()),
                "any_size": In(1),
                "reset_allowed": In(1),
                "reset_request": Out(1),
                "reset_queue": Out(16),
                "forget": In(1),
                "forget_queue": In(16),
                "clear": In(1),
                "busy": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        regs = self.registers
        request = regs.request
        index_bits = max((self.queues - 1).bit_length(), 1)
        selected = Signal(16)
        present = Signal()
        m.d.sync += [selected.eq(regs.select), present.eq(regs.select < self.queues)]

        # The sweep has the write ports for itself; it also runs when `rst` is released.
        row = Signal(index_bits)
        sweeping = Signal(init=1)
        settling = Signal()  # the rows read in the sweep's last cycle are still the old ones
        m.d.comb += self.busy.eq(sweeping | settling)
        m.d.sync += [row.eq(Mux(sweeping, row + 1, 0)), settling.eq(sweeping)]
        with m.If(row == self.queues - 1):
            m.d.sync += [sweeping.eq(0), row.eq(0)]
        if self.ring_reset:
            single = Signal()
            with m.If(single):
                m.d.sync += [single.eq(0), sweeping.eq(0), row.eq(0)]
            with m.If(self.forget):
                m.d.comb += self.busy.eq(1)
                m.d.sync += [single.eq(1), sweeping.eq(1), row.eq(self.forget_queue)]
            with m.If(self.clear):
                m.d.sync += single.eq(0)
        with m.If(self.clear):
            m.d.sync += [sweeping.eq(1), row.eq(0)]

        # Left alone, tools make few virtqueues flip-flops, and a multiplexer for every reader.
        style = {"ram_style": "distributed"} if self.queues <= 32 else {}
        write_index = Mux(sweeping, row, regs.select[:index_bits])
        stored = {}
        write_enable = {}
        write_data = {}
        lookups = [getattr(self, f"lookup_{i}") for i in range(self.readers)]
        answers: list[dict[str, Signal]] = [{} for _ in lookups]

        def column(name, bits, init, ports):
            """One memory of all virtqueues; ``ports``: index and output of each lookup."""
            memory = Memory(shape=bits, depth=self.queues, init=[init] * self.queues, attrs=style)
            m.submodules[name] = memory
            write_enable[name] = Signal(name=f"{name}_write")
            write_data[name] = Signal(bits, name=f"{name}_write_data")
            stored[name] = Signal(bits, name=f"{name}_stored")
            write_port = memory.write_port()
            m.d.comb += [
                write_port.addr.eq(write_index),
                write_port.en.eq(sweeping | (regs.write & present & write_enable[name])),
                write_port.data.eq(Mux(sweeping, init, write_data[name])),
            ]
            for index, output in [(regs.select, stored[name]), *ports]:
                read_port = memory.read_port()
                m.d.comb += [read_port.addr.eq(index[:index_bits]), output.eq(read_port.data)]

        def lookup_ports(name, bits):
            for number, answer in enumerate(answers):
                answer[name] = Signal(bits, name=f"{name}_{number}")
            return [(lookup.queue, answer[name]) for lookup, answer in zip(lookups, answers)]

        mapped_vector = Signal(16)
        column("size", 16, self.size_max, lookup_ports("size", 16))
        column("enabled", 1, 0, lookup_ports("enabled", 1))
        column("vector", 16, pci.NO_VECTOR, [(self.vector_lookup.queue, mapped_vector)])
        for area in _AREAS.values():
            for half in ("low", "high"):
                column(f"{area}_{half}", 32, 0, lookup_ports(f"{area}_{half}", 32))

        size = merged(_FIELDS["queue_size"], request, stored["size"])
        vector = merged(_FIELDS["queue_msix_vector"], request, stored["vector"])
        enable = merged(_FIELDS["queue_enable"], request, Const(0, 16))
        touches = {
            name: touched(field, request, _ADDRESS_BITS)
            for name, field in _FIELDS.items()
            if field.bits <= 32
        }
        m.d.comb += [
            write_data["size"].eq(size),
            write_enable["size"].eq(
                touches["queue_size"]
                & ~stored["enabled"]
                & (size != 0)
                & (size <= self.size_max)
                & (self.any_size | ((size & (size - 1)) == 0))
            ),
            write_data["vector"].eq(Mux(vector < self.vectors, vector, pci.NO_VECTOR)),
            write_enable["vector"].eq(touches["queue_msix_vector"]),
            write_data["enabled"].eq(1),
            write_enable["enabled"].eq(touches["queue_enable"] & (enable == 1)),
        ]
        m.d.sync += regs.enabling.eq(
            regs.write & present & write_enable["enabled"] & ~stored["enabled"]
        )
        dword = request.address[2:_ADDRESS_BITS]
        readable = {
            "queue_size": Mux(present, stored["size"], 0),
            "queue_msix_vector": Mux(present, stored["vector"], pci.NO_VECTOR),
            "queue_enable": stored["enabled"] & present,
            "queue_notify_off": Mux(present, selected, 0),
        }
        if self.notif_config_data:
            readable["queue_notif_config_data"] = Mux(present, selected | NOTIF_CONFIG_DATA, 0)
        if self.ring_reset:
            column("resetting", 1, 0, ())
            readable["queue_reset"] = stored["resetting"] & present
            asked = merged(_FIELDS["queue_reset"], request, Const(0, 16)) == 1
            m.d.comb += [
                write_data["resetting"].eq(1),
                write_enable["resetting"].eq(touches["queue_reset"] & asked & self.reset_allowed),
                self.reset_queue.eq(selected),
            ]
            m.d.sync += self.reset_request.eq(
                regs.write & present & write_enable["resetting"] & ~stored["resetting"]
            )
        with m.Switch(dword):
            for number in sorted({_FIELDS[name].offset // 4 for name in readable}):
                with m.Case(number):
                    m.d.comb += regs.read_data.eq(dword_value(_FIELDS.values(), readable, number))
            for field_name, area in _AREAS.items():
                for high, part in enumerate((f"{area}_low", f"{area}_high")):
                    at = _FIELDS[field_name].offset // 4 + high
                    with m.Case(at):
                        m.d.comb += regs.read_data.eq(Mux(present, stored[part], 0))
                    m.d.comb += [
                        write_data[part].eq(_merge_dword(request, stored[part])),
                        write_enable[part].eq((dword == at) & ~stored["enabled"]),
                    ]

        for lookup, answer in zip(lookups, answers):
            exists = Signal()
            m.d.sync += exists.eq(lookup.queue < self.queues)
            m.d.comb += [
                lookup.config.enabled.eq(answer["enabled"] & exists),
                lookup.config.size.eq(answer["size"]),
            ] + [
                lookup.config[area].eq(Cat(answer[f"{area}_low"], answer[f"{area}_high"]))
                for area in _AREAS.values()
            ]
        mapped_exists = Signal()
        m.d.sync += mapped_exists.eq(self.vector_lookup.queue < self.queues)
        m.d.comb += self.vector_lookup.vector.eq(Mux(mapped_exists, mapped_vector, pci.NO_VECTOR))
        return m


def _merge_dword(request, old):
    """The enabled bytes of a write over ``old``."""
    return Cat(
        Mux(request.byte_enable[byte], request.data.word_select(byte, 8), old.word_select(byte, 8))
        for byte in range(4)
    )
