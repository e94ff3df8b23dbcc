"""What the guest boots: cpio archive, modules, libraries, the boot sector."""

import lzma
import stat
import struct

import pytest

from guest import cpio, initramfs, kernel_modules, mbr
from guest.cpio import Archive
from guest.errors import GuestError
from guest.packages import Kernel

KERNEL_VERSION = "6.1.0-1"


def module(depends, name):
    return b"\x7fELF\0license=GPL\0depends=" + depends + b"\0name=" + name + b"\0"


@pytest.fixture
def kernel(tmp_path):
    root = tmp_path / KERNEL_VERSION
    (root / "kernel/drivers").mkdir(parents=True)
    files = {
        "virtio_blk.ko": module(b"virtio,virtio_ring", b"virtio_blk"),
        "virtio.ko": module(b"", b"virtio"),
        "virtio_ring.ko": module(b"virtio", b"virtio_ring"),
        "virtio-rng.ko.xz": lzma.compress(module(b"rng-core", b"virtio_rng")),
        "rng-core.ko": module(b"", b"rng_core"),
        "unused.ko": module(b"virtio", b"unused"),
    }
    for name, data in files.items():
        (root / "kernel/drivers" / name).write_bytes(data)
    return Kernel("test", KERNEL_VERSION, tmp_path / "vmlinuz", root)


@pytest.fixture
def busybox(tmp_path):
    (tmp_path / "busy/usr/bin").mkdir(parents=True)
    (tmp_path / "busy/usr/bin/busybox").write_bytes(b"busybox")
    return tmp_path / "busy"


def test_archive_reads_back():
    archive = Archive()
    archive.file("a/b/c.txt", b"twelve bytes", executable=True)
    archive.file("empty", b"")
    archive.link("l", "a/b")
    archive.character_device("dev/console", 5, 1)
    entries = {entry.path: entry for entry in cpio.unpack(archive.pack())}
    assert list(entries) == ["a", "a/b", "a/b/c.txt", "empty", "l", "dev", "dev/console"]
    assert stat.S_ISDIR(entries["a/b"].mode)
    assert entries["a/b/c.txt"].data == b"twelve bytes"
    assert stat.S_IMODE(entries["a/b/c.txt"].mode) == 0o755
    assert entries["empty"].data == b""
    assert stat.S_ISLNK(entries["l"].mode)
    assert entries["l"].data == b"a/b"
    assert stat.S_ISCHR(entries["dev/console"].mode)
    assert entries["dev/console"].device == (5, 1)
    assert all(entry.mode & 0o7000 == 0 for entry in entries.values())


@pytest.mark.parametrize("data", [b"", b"something else", b"070707" + b"0" * 110])
def test_what_is_no_archive(data):
    with pytest.raises(ValueError, match="no cpio header"):
        list(cpio.unpack(data))


def test_archive_is_the_same_every_time(kernel, busybox):
    first = initramfs.build(kernel, busybox, modules=["virtio_blk"]).pack()
    assert initramfs.build(kernel, busybox, modules=["virtio_blk"]).pack() == first
    assert len(first) % 4 == 0


def test_initramfs_holds_what_init_needs(kernel, busybox):
    archive = initramfs.build(kernel, busybox, modules=["virtio_blk", "virtio_rng", "virtio_pci"])
    entries = archive.entries
    home = f"lib/modules/{KERNEL_VERSION}"
    modules = {path for path in entries if path.endswith(".ko")}
    assert modules == {
        f"{home}/{name}.ko" for name in ("virtio_blk", "virtio", "virtio_ring", "virtio_rng",
                                         "rng_core")
    }  # fmt: skip
    assert entries[f"{home}/virtio_rng.ko"].data.startswith(b"\x7fELF")
    assert entries[f"{home}/modules.builtin"].data == b"virtio_pci.ko\n"
    assert entries["init"].data == b"scripts/init.sh"
    assert entries["scripts/init.sh"].mode & 0o111
    assert entries["bin/sh"].data == b"busybox"
    assert {"proc", "sys", "dev", "dev/console", "mnt", "scripts/blk.sh"} <= set(entries)


def test_dependencies_are_loaded_before_who_needs_them(kernel):
    tree = kernel_modules.collect(kernel.modules, ["virtio_blk", "virtio_rng"])
    lines = dict(line.split(":") for line in tree.dependencies().splitlines())
    # modprobe loads from the last to the first.
    assert lines["virtio_blk.ko"].split() == ["virtio_ring.ko", "virtio.ko"]
    assert lines["virtio_rng.ko"].split() == ["rng_core.ko"]
    assert lines["virtio.ko"].split() == []


def test_modules_without_dependencies():
    assert kernel_modules.needs(b"\0name=x\0") == []
    assert kernel_modules.needs(module(b"", b"x")) == []
    assert kernel_modules.needs(module(b"vfio-pci-core,irqbypass", b"x")) == [
        "vfio_pci_core",
        "irqbypass",
    ]


def loader(root, script):
    (root / "usr/lib64").mkdir(parents=True)
    path = root / "usr/lib64/ld-linux-x86-64.so.2"
    path.write_text("#!/bin/sh\n" + script)
    path.chmod(0o755)


def test_programs_come_with_their_libraries(tmp_path):
    loader(
        tmp_path,
        f"echo '  linux-vdso.so.1 (0x1)'; echo '  libc.so.6 => {tmp_path}/libc.so.6 (0x2)'; "
        f"echo '  /lib64/ld-linux-x86-64.so.2 => {tmp_path}/usr/lib64/ld (0x3)'\n",
    )
    (tmp_path / "libc.so.6").write_bytes(b"libc")
    (tmp_path / "usr/lib64/ld").write_bytes(b"ld")
    (tmp_path / "program").write_bytes(b"elf")
    archive = Archive()
    initramfs.add_program(archive, tmp_path, "program")
    assert archive.entries["bin/program"].data == b"elf"
    assert archive.entries["lib/x86_64-linux-gnu/libc.so.6"].data == b"libc"
    assert "lib64/ld-linux-x86-64.so.2" in archive.entries


def test_a_missing_library_is_named(tmp_path):
    loader(tmp_path, "echo 'fio: cannot open libceph.so' >&2; exit 127\n")
    with pytest.raises(GuestError, match="libceph"):
        initramfs.libraries(tmp_path, tmp_path / "fio")


def test_boot_sector_needs_every_sector_after_it():
    disk = mbr.disk(64 * 1024)
    assert len(disk) == 64 * 1024
    assert disk[510:512] == b"\x55\xaa"
    place = disk.index(mbr.TEXT)
    assert place == 512 * mbr.SECTORS
    # mov si: where the firmware's read leaves the text.
    assert struct.pack("<BH", 0xBE, 0x7C00 + place) in disk[:64]
    assert b"RESULT firmware fail" in disk[:510]
