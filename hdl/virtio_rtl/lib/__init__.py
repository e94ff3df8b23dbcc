"""Small reusable logic: FIFOs, skid buffers, arbiters."""
