"""The register file of the configuration space: a small memory, copied out where needed."""

from amaranth.hdl import Module, Mux, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from .capabilities import Access, ConfigSpaceMap

__all__ = [
    "ConfigAccess",
    "ConfigCommit",
    "ConfigEvents",
    "ConfigLive",
    "ConfigRegisters",
    "ConfigState",
]

_D1_AND_D2 = (1, 2)


class ConfigAccess(data.Struct):
    """One access to a dword of the configuration space."""

    dword: 10
    write: 1
    data: 32
    byte_enable: 4


class ConfigCommit(data.Struct):
    """A dword of the memory takes a new value: by a write, or by a reset."""

    strobe: 1
    dword: 10
    value: 32


class ConfigState(data.Struct):
    """The written fields that the function obeys, named as in the map."""

    memory_enable: 1
    bus_master_enable: 1
    parity_error_response: 1
    intx_disable: 1
    bar0_base: 16
    bar1_base: 32
    power_state: 2
    msix_function_mask: 1
    msix_enable: 1
    relaxed_ordering: 1
    max_payload: 3
    extended_tag: 1
    no_snoop: 1
    max_read_request: 3
    read_boundary_128: 1
    completion_timeout_disable: 1


class ConfigLive(data.Struct):
    """Status bits that show the present, named as in the map."""

    interrupt_status: 1
    transactions_pending: 1


class ConfigEvents(data.Struct):
    """Strobes that set the write-1-to-clear status bits, named as in the map."""

    master_data_parity: 1
    signaled_target_abort: 1
    received_target_abort: 1
    received_master_abort: 1
    detected_parity: 1
    correctable_error: 1
    nonfatal_error: 1
    unsupported_request: 1


class ConfigRegisters(wiring.Component):
    """Dword accesses to the configuration space.

    Parameters
    ----------
    space
        The map: reset values, access and names of all fields.

    Ports
    -----
    access
        Stream of ``ConfigAccess``, one at a time.
    value
        Stream of the dword's value after the access: one for every access, writes included.
    state, live, events
        Fields that the function obeys; fields and status bits that it provides.
    commit
        Every change of the memory, for those who keep copies of other fields.
    initiate_flr
        Strobe: the host has written 1 to Initiate Function Level Reset.
    restore, restoring
        Strobe, not during an access: bring back the reset values, but for the fields that
        function level reset keeps. ``restoring`` is high from the next cycle on until done;
        accesses wait.

    An access takes four cycles. After a reset of the clock domain, the memory is filled first,
    which takes ``2 * space.dwords`` cycles.
    Status bits: an event wins over clearing it in the same cycle.
    Dwords without fields read 0. A write of D1 or D2 to the power state is ignored
    [PCI PM 1.2 §3.2.4]; so is everything that is not writable.
    """

    def __init__(self, space: ConfigSpaceMap):
        self.space = space
        super().__init__(
            {
                "access": In(stream.Signature(ConfigAccess)),
                "value": Out(stream.Signature(unsigned(32))),
                "state": Out(ConfigState),
                "live": In(ConfigLive),
                "events": In(ConfigEvents),
                "commit": Out(ConfigCommit),
                "initiate_flr": Out(1),
                "restore": In(1),
                "restoring": Out(1, init=1),
            }
        )

    def _memories(self, m: Module, dword, new_value, write):
        """Return the present value, the reset value and the writable bits of a dword."""
        space = self.space
        depth = space.dwords
        rules = data.StructLayout({"reset": 32, "writable": 32})
        m.submodules.storage = storage = Memory(
            shape=unsigned(32), depth=depth, init=[space.reset(n) for n in range(depth)]
        )
        m.submodules.rules = table = Memory(
            shape=rules,
            depth=depth,
            init=[{"reset": space.reset(n), "writable": space.writable(n)} for n in range(depth)],
        )
        read, write_port, rule = storage.read_port(), storage.write_port(), table.read_port()
        m.d.comb += [
            read.addr.eq(dword),
            rule.addr.eq(dword),
            read.en.eq(1),
            rule.en.eq(1),
            write_port.addr.eq(dword),
            write_port.data.eq(new_value),
            write_port.en.eq(write),
        ]
        return read.data, rule.data.reset, rule.data.writable

    def _status(self, m: Module, dword, clear):
        """Keep the status bits; return what they add to the value of the current dword."""
        shown = Signal(32)
        for field in self.space.fields.values():
            if field.access is Access.LIVE:
                with m.If(dword == field.dword):
                    m.d.comb += shown[field.low].eq(self.live[field.name])
            elif field.access is Access.W1C:
                flag = Signal(name=field.name)
                with m.If(self.events[field.name]):
                    m.d.sync += flag.eq(1)
                with m.Elif(self.restoring | ((dword == field.dword) & clear[field.low])):
                    m.d.sync += flag.eq(0)
                with m.If(dword == field.dword):
                    m.d.comb += shown[field.low].eq(flag)
        return shown

    def _copy_state(self, m: Module) -> None:
        """Copy the fields that the function obeys out of the memory, as they change."""
        for name in ConfigState.as_shape().members:
            field = self.space[name]
            copy = Signal(field.width, name=name, init=field.reset)
            with m.If(self.commit.strobe & (self.commit.dword == field.dword)):
                m.d.sync += copy.eq(self.commit.value[field.low : field.low + field.width])
            m.d.comb += self.state[name].eq(copy)

    def elaborate(self, platform):
        m = Module()
        space = self.space
        current = Signal(ConfigAccess)
        # After power-up everything is set; function level reset keeps some fields.
        power_up = Signal(init=1)
        changed = Signal(32)
        new_value = Signal(32)
        clear = Signal(32)
        commit = Signal()
        shown = self._status(m, current.dword, clear)
        stored, reset_value, writable = self._memories(m, current.dword, new_value, commit)

        kept = Signal(32)
        with m.Switch(current.dword):
            for dword in range(space.dwords):
                if space.kept(dword):
                    with m.Case(dword):
                        m.d.comb += kept.eq(Mux(power_up, 0, space.kept(dword)))

        enabled = Signal(32)
        for byte in range(4):
            m.d.comb += enabled[8 * byte : 8 * byte + 8].eq(current.byte_enable[byte].replicate(8))
        power = space["power_state"]
        written_power = current.data[power.low : power.low + power.width]
        discarded = Signal(32)
        with m.If((current.dword == power.dword) & written_power.matches(*_D1_AND_D2)):
            m.d.comb += discarded.eq(power.mask)
        m.d.comb += [
            changed.eq(writable & enabled & ~discarded),
            self.commit.strobe.eq(commit),
            self.commit.dword.eq(current.dword),
            self.commit.value.eq(new_value),
        ]
        self._copy_state(m)

        flr = space["initiate_flr"]
        exists = Signal()
        result = Signal(32)
        m.d.comb += self.value.payload.eq(result)
        with m.FSM(name="access_state"):
            with m.State("RESTORE_READ"):
                m.next = "RESTORE_WRITE"
            with m.State("RESTORE_WRITE"):
                m.d.comb += [
                    new_value.eq((stored & kept) | (reset_value & ~kept)),
                    commit.eq(1),
                ]
                m.d.sync += current.dword.eq(current.dword + 1)
                m.next = "RESTORE_READ"
                with m.If(current.dword == space.dwords - 1):
                    m.d.sync += [self.restoring.eq(0), power_up.eq(0)]
                    m.next = "IDLE"
            with m.State("IDLE"):
                m.d.sync += current.eq(self.access.payload)
                with m.If(self.restore):
                    m.d.sync += [self.restoring.eq(1), current.dword.eq(0)]
                    m.next = "RESTORE_READ"
                with m.Else():
                    m.d.comb += self.access.ready.eq(1)
                    with m.If(self.access.valid):
                        m.next = "READ"
            with m.State("READ"):
                m.d.sync += exists.eq(current.dword < space.dwords)
                m.next = "MERGE"
            with m.State("MERGE"):
                m.d.comb += new_value.eq((stored & ~changed) | (current.data & changed))
                with m.If(current.write & exists):
                    m.d.comb += [commit.eq(1), clear.eq(current.data & enabled)]
                    m.d.comb += self.initiate_flr.eq(
                        (current.dword == flr.dword) & current.data[flr.low] & enabled[flr.low]
                    )
                m.d.sync += result.eq(Mux(exists, Mux(current.write, new_value, stored) | shown, 0))
                m.next = "VALUE"
            with m.State("VALUE"):
                m.d.comb += self.value.valid.eq(1)
                with m.If(self.value.ready):
                    m.next = "IDLE"
        return m
