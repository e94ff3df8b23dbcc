"""The demo of a block device: the image that it makes, and what e2fsck says of images."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from demo_helper import NO_TOOLS, fake_tool, has_e2fsprogs

from demo import disk_image
from demo.disk_image import DiskImage
from lib.golden import Check

SECTOR = 512


def test_own_image_without_a_tool(tmp_path, monkeypatch):
    """Without mkfs.ext4, or if it fails, the image is a pattern."""
    monkeypatch.setattr(disk_image, "tool", lambda name: None)
    image = disk_image.make(tmp_path / "folder" / "image")
    assert len(image.content) == 1 << 20
    assert not image.ext4
    fake_tool(tmp_path, monkeypatch, "exit 1")
    assert disk_image.make(tmp_path / "image").content == image.content


def file_system(image: DiskImage, read_back: Path) -> Check:
    """Return what e2fsck says, which must be a check."""
    check = disk_image.check_file_system(image, read_back)
    assert isinstance(check, Check), check
    return check


def test_own_image_is_ext4(tmp_path):
    """With it, it is a clean file system; what was read back may not be less."""
    if not has_e2fsprogs():
        pytest.skip(NO_TOOLS)
    image = disk_image.make(tmp_path / "image")
    assert image.ext4
    check = file_system(image, image.path)
    assert check.passed
    assert re.fullmatch(r"clean: \d+/\d+ files .*, \d+/1024 blocks", check.detail)
    broken = tmp_path / "broken"
    broken.write_bytes(image.content[:0x400] + bytes(0x10) + image.content[0x410:])
    check = file_system(image, broken)
    assert not check.passed
    assert re.match(r"status \d+: \S", check.detail)


@pytest.mark.parametrize("fault", ["damaged", "cut"])
def test_image_that_is_not_clean(fault, tmp_path):
    """Errors of the image itself are not those of the device, and are no check that passed."""
    if not has_e2fsprogs():
        pytest.skip(NO_TOOLS)
    good = disk_image.make(tmp_path / "good")
    path, read_back = tmp_path / "image", tmp_path / "read-back"
    bad = good.content[:0x400] + bytes(0x10) + good.content[0x410:]
    # e2fsck's status is 0 for a file system that only ends beyond the disk's end.
    path.write_bytes(bad if fault == "damaged" else good.content[:-SECTOR])
    read_back.write_bytes(path.read_bytes())
    image = disk_image.load(path)
    note = disk_image.check_file_system(image, read_back)
    assert isinstance(note, str)
    assert note.startswith("the image's own file system is not clean, so only its bytes are")
    assert re.search(r"; e2fsck -fn of it, status \d+: .*[Ss]uperblock", note)
    if fault == "damaged":
        assert not file_system(image, good.path).passed, "not what was written"
