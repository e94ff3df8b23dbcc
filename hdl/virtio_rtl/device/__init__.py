"""Device types, one file each, behind one door: bytes in, bytes out, done."""
