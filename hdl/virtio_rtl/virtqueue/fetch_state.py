"""What the two halves of the packed fetch share about a virtqueue."""

from amaranth.lib import data

__all__ = ["receive_state"]


def receive_state(pointer_bits: int) -> data.StructLayout:
    """What ``FetchReceive`` knows of a virtqueue.

    ``index`` and ``wrapped`` (the wrap counter, inverted, so that 0 is its reset value) name the
    next ring slot whose descriptor has not been received, ``pointer`` its place in the read-ahead
    store. ``epoch`` changes with every rewind. ``more``: the last fetch found nothing but
    available descriptors; ``streak``: how often in a row, saturated at 3. ``chain_open``: the last
    descriptor received goes on, ``parted``: and the walker has the beginning of its chain; ``id``:
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
            "chain_open": 1,
            "parted": 1,
            "id": 16,
            "halted": 1,
        }
    )
