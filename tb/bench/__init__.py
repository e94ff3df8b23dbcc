"""The benchmark: rates at full rings beside the wire model's ceiling.

`python -m bench` (or `make bench`). `wrapper` is the device with a traffic generator and a
checker at its ports, `fast_ring` a driver that works in bulk, `flow` one measurement inside the
simulator, `cli` the command line. Results go to `build/bench/results.json`.
"""
