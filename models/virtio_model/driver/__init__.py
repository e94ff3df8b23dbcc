"""The driver side: queues, PCI transport and network buffers, each checking the device."""
