"""What ends `make guest` with one line."""

from __future__ import annotations


class GuestError(Exception):
    """Something that a person can put right; its text is one line."""
