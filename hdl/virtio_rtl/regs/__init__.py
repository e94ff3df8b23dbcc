"""Registers as data: maps, decode, arbitration, and what is generated from the maps."""
