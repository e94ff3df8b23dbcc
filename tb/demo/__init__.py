"""The demo: move a capture file through the simulated device, out of its port and back.

`python -m demo` (or `make demo`); `cli` has the options. What it does, in order: `capture` reads
and judges the file, `simulation` runs the device under `flow` in the simulator and shows its
progress, `golden` repeats the run on the golden model, `table` and `report` show the `result`.
"""
