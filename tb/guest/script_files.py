"""What the rest of the harness reads from the guest's scripts, so that it is said there only."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

SCRIPTS = Path(__file__).parent / "scripts"


def kernel_modules(folder: Path | None = None) -> list[str]:
    """Return the kernel modules that the scripts load, from their lines `MODULE=name`."""
    texts = (path.read_text() for path in sorted((folder or SCRIPTS).glob("*.sh")))
    return [name for text in texts for name in re.findall(r"^MODULE=(\w+)$", text, re.MULTILINE)]


def checks(script: str, step: str, folder: Path | None = None) -> list[str]:
    """Return the checks in a step of a script, without those whose name has a variable in it.

    KeyError if the script has no such step.
    """
    text = ((folder or SCRIPTS) / f"{script}.sh").read_text()
    body = re.search(rf"^{step}\(\) \{{\n(.*?)^\}}", text, re.MULTILINE | re.DOTALL)
    if body is None:
        raise KeyError(step)
    return re.findall(r"^ +check ([a-z0-9-]+) ", body[1], re.MULTILINE)


def shown_at_work(script: str, folder: Path | None = None) -> str:
    """Return the check that shows a device at work: the last one of `quick`, or else of `work`.

    "" if there is none.
    """
    for step in ("quick", "work"):
        with suppress(KeyError, IndexError):
            return checks(script, step, folder)[-1]
    return ""
