from typing import Any

from amaranth.lib import data as data
from amaranth.lib import enum as enum

def __getattr__(name: str) -> Any: ...
