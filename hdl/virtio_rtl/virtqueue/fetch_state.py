"""What the two halves of the packed fetch share about a virtqueue."""

from amaranth.hdl import Module, Mux, Value
from amaranth.lib import data

__all__ = ["look_ahead", "receive_state"]


def receive_state(pointer_bits: int) -> data.StructLayout:
    """What ``FetchReceive`` knows of a virtqueue.

    ``index`` and ``wrapped`` (the wrap counter, inverted, so that 0 is its reset value) name the
    next ring slot whose descriptor has not been received, ``pointer`` its place in the read-ahead
    store. ``epoch`` changes with every rewind. ``more``: the last fetch found nothing but
    available descriptors; ``streak``: how often in a row, saturated at 3, and halved by one that
    found others. ``narrow``: by how many powers of two less than otherwise may be in flight, 2 at
    most, for fetches ahead found slots that were not available; ``run``: fetches that found
    nothing but available descriptors since then, modulo 32. ``chain_open``: the last descriptor
    received goes on, ``parted``: and the walker has the beginning of its chain; ``id``:
    its id. ``halted``: a chain was ended in error; nothing is read any more until a reset.
    """
    return data.StructLayout(
        {
            "index": 15,
            "wrapped": 1,
            "pointer": pointer_bits,
            "committed": pointer_bits,
            "epoch": 1,
            "more": 1,
            "streak": 2,
            "narrow": 2,
            "run": 5,
            "chain_open": 1,
            "parted": 1,
            "id": 16,
            "halted": 1,
        }
    )


def look_ahead(
    m: Module, known: data.View, then: data.View, *, full: Value, ahead: Value, empty: Value
) -> None:
    """Work out ``streak``, ``narrow`` and ``run`` after a fetch, from what was known before it.

    ``full``: it found nothing but available descriptors; ``ahead``: it was issued while others were
    in flight; ``empty``: it found nothing at all. A fetch by itself finds as little as there is; if
    that is nothing, the driver has stopped for a while. One ahead that is not full was too many.
    """
    with m.If(full):
        m.d.comb += [
            then.streak.eq(Mux(known.streak == 3, 3, known.streak + 1)),
            then.run.eq(known.run + 1),
            then.narrow.eq(known.narrow - (known.run.all() & (known.narrow != 0))),
        ]
    with m.Else():
        m.d.comb += [
            then.streak.eq(known.streak >> 1),
            then.run.eq(0),
            then.narrow.eq(known.narrow + (ahead & (known.narrow != 2))),
        ]
        with m.If(empty & ~ahead):
            m.d.comb += then.narrow.eq(0)
