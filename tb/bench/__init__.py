"""The benchmark: rates at full rings and the latency of lone packets, beside what the wire allows.

`python -m bench` (or `make bench`). `scenario` lists what is measured, `jobs` runs the simulations,
`measure` is their inner end: `flow` keeps rings full, `lone` times one packet at a time, both on a
`bed` (a brought-up device). `wrapper` is the device with a traffic generator and a checker at its
ports; `fast_ring` and `fast_chains` are drivers that work in bulk;
`blk_bed` and `blk_ring` are the same for requests of a block device. `ideal` is what no device can
beat, `targets` what this one must reach. Results go to `build/bench`.
"""
