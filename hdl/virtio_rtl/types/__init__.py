"""Typed records and streams: the doors between the rooms. No logic lives here."""
