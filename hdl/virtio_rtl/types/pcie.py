"""Run-time state of the PCIe function that the rest of the device obeys."""

from amaranth.lib import data

__all__ = ["FunctionControl"]


class FunctionControl(data.Struct):
    """What the host has programmed: from our configuration space, or from a hard IP's pins.

    ``max_payload`` and ``max_read_request`` are PCIe codes: 128 << code bytes, code 0 to 5.
    ``read_boundary_128`` is the root's read completion boundary (0: 64 bytes, 1: 128 bytes).
    """

    requester_id: 16
    memory_enable: 1
    bus_master_enable: 1
    intx_disable: 1
    max_payload: 3
    max_read_request: 3
    read_boundary_128: 1
    extended_tag: 1
    relaxed_ordering: 1
    no_snoop: 1
    msix_enable: 1
    msix_function_mask: 1
