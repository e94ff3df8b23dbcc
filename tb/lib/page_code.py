"""Code on the pages of docs/, for tests that run it as it stands."""

from __future__ import annotations

import re

from lib.paths import ROOT

__all__ = ["code_blocks"]

_BLOCK = re.compile(r"^```\w+ (\S+)\n(.*?)^```$", re.M | re.S)


def code_blocks(page: str) -> dict[str, str]:
    """The blocks of a page that have a file name behind the language: name -> text."""
    found = _BLOCK.findall((ROOT / "docs" / page).read_text())
    assert found, f"no code on {page}"
    assert len(dict(found)) == len(found), "a name is used twice"
    return dict(found)
