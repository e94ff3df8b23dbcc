"""The virtqueue engine: from doorbell to used descriptor."""
