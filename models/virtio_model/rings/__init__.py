"""Layout and arithmetic of the rings, shared by the driver and the device models."""
