"""The entropy device of the demo: a named configuration with the seeded source."""

from __future__ import annotations

from dataclasses import replace

from demo.request_config import request_config
from virtio_rtl.config import DeviceConfig

__all__ = ["DEFAULT", "entropy_config"]

DEFAULT = "entropy-x1"


def entropy_config(name: str) -> DeviceConfig:
    """Return the configuration; name as for `request_config`."""
    base = request_config("entropy", name)
    return replace(base, entropy=replace(base.entropy, source="seeded"))
