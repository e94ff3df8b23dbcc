"""Testbench library: simulation runner, stream models, test plans."""
