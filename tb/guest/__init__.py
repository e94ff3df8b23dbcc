"""Unmodified guests in QEMU on a simulated device."""
