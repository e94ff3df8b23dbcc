"""Long runs: the device against the golden model, against hostile drivers; `python -m soak`."""
