"""What a device server counts while it serves one guest; it writes a JSON file at its end."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path


@dataclass
class Statistics:
    """Counts of one guest's life.

    simulated_ns, cycles: of the simulation; 0 for a model without time.
    wall_seconds: from the guest's connection to its end; busy_seconds: of these, spent simulating.
    requests: buffers that the device has given back. notifications: doorbells.
    table_interrupts: messages by the device's own MSI-X table; eventfd_interrupts: by the fallback.
    tlps: by kind, such as {"memory read": 12}; empty for a model without TLPs.
    bar_reads, bar_writes, config_accesses: what the guest did.
    faults: DMA to where no memory is, interrupt messages that the client refused or nobody took.
    damaged: frames that left a network device with a wrong checksum, or cut short. repeated: TCP
    segments that came twice.
    given: the first bytes that an entropy device got from its source, as hexadecimal digits; the
    guest's bytes must be among them.
    """

    device: str = ""
    model: str = ""
    simulated_ns: float = 0.0
    cycles: int = 0
    wall_seconds: float = 0.0
    busy_seconds: float = 0.0
    requests: int = 0
    notifications: int = 0
    table_interrupts: int = 0
    eventfd_interrupts: int = 0
    tlps: dict[str, int] = field(default_factory=dict)
    bar_reads: int = 0
    bar_writes: int = 0
    config_accesses: int = 0
    faults: int = 0
    damaged: int = 0
    repeated: int = 0
    given: str = ""

    @property
    def interrupts(self) -> int:
        """Interrupts of both kinds."""
        return self.table_interrupts + self.eventfd_interrupts

    @property
    def cycles_per_second(self) -> float:
        """Simulated cycles in a second of wall clock, while there was something to simulate."""
        return self.cycles / self.busy_seconds if self.busy_seconds else 0.0

    def write(self, path: Path) -> None:
        """Write the file; it appears whole or not at all."""
        part = path.with_suffix(path.suffix + ".part")
        part.write_text(json.dumps(asdict(self), indent=1) + "\n")
        part.replace(path)


def read(path: Path) -> Statistics:
    """Return a file's counts; ValueError if it is none. Unknown keys are left out."""
    found = json.loads(path.read_text())
    if not isinstance(found, dict):
        raise ValueError(f"{path} holds no statistics")
    names = {item.name for item in fields(Statistics)}
    return Statistics(**{name: value for name, value in found.items() if name in names})
