"""Golden models of virtio: guest memory, rings, driver, device and the wire.

Pure Python, standard library only: neither Amaranth nor cocotb is imported here, so that
the models stay an independent witness and serve in anyone's testbench.
"""
