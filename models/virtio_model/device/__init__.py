"""The golden device: what the hardware must do, one buffer at a time and in order."""
