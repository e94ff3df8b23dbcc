"""Compare the spec tables with the kernel's own headers, the independent witness.

A generated C program prints every constant and the place of every structure member. Headers
older than virtio 1.4 lack some: those are listed in kernel_names, so that a typo cannot pass for
something new.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest
from kernel_names import CONSTANTS, HEADERS, NEWER_MEMBERS, NEWER_THAN_HEADER, STRUCTS, Struct

from virtio_model.spec import blk, console, net, packed, pci, split
from virtio_model.spec.fields import Field


def _members(struct: Struct) -> Iterable[tuple[str, Field]]:
    _, fields, renamed, _ = struct
    for field in fields:
        if member := renamed.get(field.name, field.name):
            yield member, field


def _compile(source: str, where: Path) -> subprocess.CompletedProcess[str]:
    (where / "probe.c").write_text(source)
    return subprocess.run(
        ["gcc", "-w", "-o", str(where / "probe"), str(where / "probe.c")],
        capture_output=True,
        text=True,
        check=False,
    )


def _includes() -> str:
    lines = [f"#include <linux/{name}.h>" for name in HEADERS]
    return "\n".join(["#include <stddef.h>", "#include <stdio.h>", *lines, ""])


def _probe(struct: str, member: str) -> str:
    return (
        f'printf("{struct}.{member} %zu\\n{struct}.{member}# %zu\\n", '
        f"offsetof(struct {struct}, {member}), "
        f"8 * sizeof(((struct {struct} *)0)->{member}));"
    )


@pytest.fixture(scope="module")
def header(tmp_path_factory: pytest.TempPathFactory) -> dict[str, int]:
    """Everything that the installed headers say, by C name; sizes in bits under "name#"."""
    missing = [name for name in HEADERS if not Path(f"/usr/include/linux/{name}.h").exists()]
    if missing:
        pytest.fail(f"no kernel headers {missing}: apt-get install linux-libc-dev", pytrace=False)
    where = tmp_path_factory.mktemp("headers")
    body = [
        f'#ifdef {name}\nprintf("{name} %lld\\n", (long long)({name}));\n#endif'
        for name in CONSTANTS
    ]
    for struct in STRUCTS:
        body.append(f'printf("{struct[0]}# %zu\\n", 8 * sizeof(struct {struct[0]}));')
        for member, _ in _members(struct):
            probe = _probe(struct[0], member)
            if (struct[0], member) in NEWER_MEMBERS:
                alone = _compile(_includes() + f"int main(void) {{ {probe} }}\n", where)
                if alone.returncode:
                    continue
            body.append(probe)
    built = _compile(_includes() + "int main(void) {\n" + "\n".join(body) + "\n}\n", where)
    assert built.returncode == 0, built.stderr
    out = subprocess.run([str(where / "probe")], capture_output=True, text=True, check=True)
    return {name: int(value) for name, value in map(str.split, out.stdout.splitlines())}


def test_nothing_listed_as_newer_that_the_tables_lack() -> None:
    """The list of newer names holds no stale ones."""
    assert set(CONSTANTS) >= NEWER_THAN_HEADER


@pytest.mark.parametrize("name", sorted(CONSTANTS))
def test_constant(name: str, header: dict[str, int]) -> None:
    """One constant agrees with the header."""
    if name not in header:
        assert name in NEWER_THAN_HEADER, "not in the header, and not listed as newer than it"
        pytest.skip("newer than the installed header")
    assert CONSTANTS[name] == header[name]


@pytest.mark.parametrize("struct", STRUCTS, ids=[struct[0] for struct in STRUCTS])
def test_structure(struct: Struct, header: dict[str, int]) -> None:
    """Every member of one structure is where the header has it."""
    name, _, _, size = struct
    for member, field in _members(struct):
        key = f"{name}.{member}"
        if key not in header:
            assert (name, member) in NEWER_MEMBERS
            continue
        assert (field.offset, field.bits) == (header[key], header[key + "#"]), key
    if size is not None:
        assert header[name + "#"] == 8 * size


@pytest.mark.parametrize(
    ("table", "size"),
    [
        (split.DESCRIPTOR, 16),
        (packed.DESCRIPTOR, 16),
        (packed.EVENT_SUPPRESSION, 4),
        (pci.CAP, pci.CAP_SIZE),
        (pci.CAP64, pci.CAP64_SIZE),
        (pci.NOTIFY_CAP, pci.NOTIFY_CAP_SIZE),
        (pci.PCI_CFG_CAP, pci.PCI_CFG_CAP_SIZE),
        (pci.COMMON_CFG, pci.COMMON_CFG_SIZE),
        (pci.MSIX_ENTRY, pci.MSIX_ENTRY_SIZE),
        (net.CONFIG, net.CONFIG_SIZE),
        (net.HEADER, net.HEADER_SIZE),
        (blk.CONFIG, blk.CONFIG_SIZE),
        (blk.REQUEST_HEADER, blk.REQUEST_HEADER_SIZE),
        (blk.SEGMENT, blk.SEGMENT_SIZE),
        (console.CONFIG, console.CONFIG_SIZE),
        (console.CONTROL, console.CONTROL_SIZE),
    ],
)
def test_tables_have_neither_gap_nor_overlap(table: tuple[Field, ...], size: int) -> None:
    """The fields of a table cover it, byte for byte."""
    at = 0
    for field in table:
        assert field.offset == at, field.name
        at = field.end
    assert at == size
