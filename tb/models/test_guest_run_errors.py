"""When packages, QEMU or options are not as they should be: one clear line."""

import json
import os

import pytest
from typer.testing import CliRunner

from guest import apt, cli, packages, qemu
from guest.apt import Package, PrivateApt
from guest.errors import GuestError
from guest.packages import PackageSet
from lib.locks import file_lock

SET = PackageSet("tool", "trixie", ("tool",), without=("unwanted",))


def program(path, script):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n" + script + "\n")
    path.chmod(0o755)
    return path


def fake_qemu(folder, version):
    return program(folder / qemu.PROGRAM, f'echo "QEMU emulator version {version} (Debian 1)"')


@pytest.fixture
def apt_works(tmp_path, monkeypatch):
    """apt-get and dpkg that pretend: `calls` has what apt-get was told."""
    calls = tmp_path / "calls"
    closure = "\n".join(
        f"Inst {name} ({version} Debian:13/stable [amd64])"
        for name, version in (("libtool1", "1.0-1"), ("unwanted-x", "2"), ("tool", "1:3.2~x+1"))
    )
    program(
        tmp_path / "bin/apt-get",
        f'echo "$*" >>{calls}; case $1 in install) echo "{closure}";; '
        'download) shift; for x in "$@"; do case $x in *=*) touch "$x.deb";; esac; done;; esac',
    )
    program(tmp_path / "bin/dpkg", 'mkdir -p "$3/usr"; touch "$3/usr/$(basename "$2")"')
    use_path(monkeypatch, tmp_path / "bin")
    monkeypatch.setattr(PrivateApt.__init__, "__defaults__", ("http://mirror/debian", calls))
    calls.write_text("")
    return calls


def use_path(monkeypatch, folder):
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


def test_set_is_fetched_once_and_without_what_is_not_wanted(tmp_path, apt_works):
    said: list[str] = []
    folder = tmp_path / "packages"
    root = packages.fetch(SET, folder, said.append)
    assert said == ["fetching tool from http://mirror/debian"]
    versions = json.loads((root / packages.READY).read_text())["versions"]
    assert versions == {"libtool1": "1.0-1", "tool": "1:3.2~x+1"}
    assert (root / "usr/tool=1:3.2~x+1.deb").exists()
    assert not list((root / "usr").glob("unwanted*"))
    calls = apt_works.read_text()
    assert packages.fetch(SET, folder, said.append) == root
    assert apt_works.read_text() == calls
    # Another recipe of the same name is fetched anew, with lists that are still fresh.
    packages.fetch(PackageSet("tool", "bookworm", ("tool",)), folder, said.append)
    assert len(said) == 2
    assert apt_works.read_text().count("update") == 1


def test_a_suite_that_is_missing_is_an_error_and_no_warning(tmp_path, apt_works):
    PrivateApt(tmp_path / "apt").update()
    assert "update" in apt_works.read_text()
    assert "APT::Update::Error-Mode=any" in apt_works.read_text()


def test_system_is_left_alone(tmp_path, apt_works):
    apt_get = PrivateApt(tmp_path / "apt")
    apt_get.update()
    conf = (tmp_path / "apt/apt.conf").read_text()
    for place in ("Dir::State", "Dir::State::status", "Dir::Cache", "Dir::Etc"):
        assert f'{place} "{tmp_path}/apt/' in conf
    sources = (tmp_path / "apt/etc/sources.list").read_text()
    assert all(f"/debian {suite} main" in sources for suite in apt.SUITES)
    assert sources.count("signed-by=") == len(apt.SUITES)


def test_kernel_set_keeps_only_the_kernel():
    kernel = packages.KERNELS["backports"]
    assert kernel.suite == "trixie-backports"
    assert kernel.wants("linux-image-7.3.4+deb13-cloud-amd64")
    assert kernel.wants("linux-modules-7.3.4+deb13-cloud-amd64")
    assert not kernel.wants("linux-base")
    assert not kernel.wants("libc6")


def test_sources_not_reachable(tmp_path, apt_works, monkeypatch):
    program(
        tmp_path / "bin/apt-get",
        'echo "W: something" >&2; echo "E: Failed to fetch http://m/x  Could not connect" >&2; '
        "exit 100",
    )
    with pytest.raises(GuestError) as caught:
        packages.fetch(SET, tmp_path / "packages")
    assert str(caught.value) == (
        "packages of http://mirror/debian cannot be had (apt-get update): "
        "Failed to fetch http://m/x  Could not connect"
    )
    assert not (tmp_path / "packages/tool").exists()


def test_no_apt(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(GuestError, match="apt-get not found"):
        PrivateApt(tmp_path).update()


def test_no_keyring(tmp_path, apt_works):
    with pytest.raises(GuestError, match="install debian-archive-keyring"):
        PrivateApt(tmp_path, keyring=tmp_path / "none").update()


def test_broken_archive(tmp_path, apt_works):
    program(tmp_path / "bin/dpkg", 'echo "dpkg-deb: error: no archive" >&2; exit 2')
    with pytest.raises(GuestError, match=r"cannot unpack tool=1\.deb: dpkg-deb: error: no archive"):
        PrivateApt(tmp_path / "apt").unpack([Package("tool", "1")], tmp_path / "out")


@pytest.mark.parametrize(
    ("name", "text", "mirror"),
    [
        ("sources.list", "deb http://one/debian/ bookworm main\n", "http://one/debian"),
        ("sources.list", "deb [arch=amd64] https://two/debian trixie main\n", "https://two/debian"),
        ("sources.list.d/x.sources", "Types: deb\nURIs: http://3/debian\n", "http://3/debian"),
        ("sources.list", "deb http://other/ubuntu noble main\n", apt.MIRROR),
        ("sources.list.d/x.sources", "URIs: http://d/debian-security\n", apt.MIRROR),
    ],
)
def test_mirror_of_the_machine(tmp_path, name, text, mirror):
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / name).write_text(text)
    assert apt.system_mirror(tmp_path) == mirror


def test_kernel_and_modules_wherever_they_are(tmp_path, monkeypatch):
    monkeypatch.setattr(packages, "fetch", lambda *_: tmp_path)
    with pytest.raises(GuestError, match="no kernel with its modules"):
        packages.find_kernel("stable", tmp_path)
    (tmp_path / "usr/lib/modules/7.3").mkdir(parents=True)
    (tmp_path / "usr/lib/modules/7.3/vmlinuz").touch()
    assert packages.find_kernel("stable", tmp_path).version == "7.3"
    (tmp_path / "usr/lib/modules/7.3/vmlinuz").unlink()
    (tmp_path / "lib/modules/6.1").mkdir(parents=True)
    (tmp_path / "boot").mkdir()
    (tmp_path / "boot/vmlinuz-6.1").touch()
    assert packages.find_kernel("stable", tmp_path).image == tmp_path / "boot/vmlinuz-6.1"
    with pytest.raises(GuestError, match="no kernel 'plan9': there is stable, backports"):
        packages.find_kernel("plan9")


def test_qemu_on_path_is_taken_if_new_enough(tmp_path, monkeypatch):
    fake_qemu(tmp_path, "10.1.0")
    use_path(monkeypatch, tmp_path)
    found = qemu.find()
    assert found.command == (str(tmp_path / qemu.PROGRAM),)
    assert (found.version, found.text, found.tried) == ((10, 1, 0), "10.1.0", True)


def test_qemu_on_path_that_is_too_old_is_passed_over(tmp_path, monkeypatch):
    fake_qemu(tmp_path, "7.2.22")
    use_path(monkeypatch, tmp_path)
    root = tmp_path / "unpacked"
    program(root / "usr/lib64/ld-linux-x86-64.so.2", 'echo "QEMU emulator version 11.1.3"')
    monkeypatch.setattr(packages, "fetch", lambda *_: root)
    said: list[str] = []
    assert qemu.find(say=said.append).version == (11, 1, 3)
    assert "is 7.2.22: vfio-user-pci needs 10.1 or newer" in said[0]


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ('echo "QEMU emulator version 9.2.0"', "is 9.2.0: vfio-user-pci needs 10.1 or newer"),
        ('echo "something else"', "does not tell its version: something else"),
        ('echo "libfoo.so is missing" >&2; exit 127', "version: libfoo.so is missing"),
    ],
)
def test_qemu_that_was_asked_for_and_is_no_good(tmp_path, script, message):
    path = program(tmp_path / "q", script)
    with pytest.raises(GuestError, match=message):
        qemu.find(str(path))


def test_qemu_that_is_missing(tmp_path):
    with pytest.raises(GuestError, match="no such program"):
        qemu.find(str(tmp_path / "none"))


@pytest.mark.parametrize(
    ("version", "tried"), [("10.1.2", True), ("11.1.3", True), ("11.2.0", False), ("12.0", False)]
)
def test_versions_whose_msix_is_known(tmp_path, version, tried):
    assert qemu.inspect((str(fake_qemu(tmp_path, version)),), "it").tried is tried


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--model", "wood"], 2, "error: MODEL='wood': rtl or golden"),
        (["--device", "blk,sound"], 2, "error: DEVICE='sound': there is entropy, blk, net"),
        (["--only", "nothing"], 2, "error: no case is named like 'nothing'"),
        (["--kernel", "plan9"], 2, "error: --kernel plan9: there is stable, backports, trixie"),
        (["--msix", "pigeon"], 2, "error: --msix='pigeon': table or eventfd"),
        (["--qemu", "no-such-qemu"], 1, "error: QEMU=no-such-qemu: no such program"),
    ],
)
def test_bad_options_get_one_line(arguments, status, message):
    result = CliRunner().invoke(cli.app, arguments)
    assert result.exit_code == status
    assert result.stderr == message + "\n"


def test_listing():
    result = CliRunner().invoke(cli.app, ["--list", "--quick", "--device", "blk"])
    assert result.exit_code == 0
    assert result.stdout.split() == [
        "blk-packed-event-stable-extras",
        "blk-split-event-stable-extras",
    ]


def test_named_configurations_are_of_the_rtl():
    arguments = ["--list", "--device", "blk", "--only", "x8"]
    rtl = CliRunner().invoke(cli.app, arguments)
    assert rtl.stdout.split() == ["blk-x8-packed-event-backports-extras"]
    golden = CliRunner().invoke(cli.app, [*arguments, "--model", "golden"])
    assert golden.exit_code == 2
    assert "no case is named like 'x8'" in golden.stderr


def test_two_runs_do_not_share_a_folder(tmp_path):
    arguments = ["--quick", "--folder", str(tmp_path), "--qemu", str(tmp_path / "none")]
    with file_lock(tmp_path / "lock"):
        result = CliRunner().invoke(cli.app, arguments)
    assert result.exit_code == 1
    assert result.stderr == (
        f"error: {tmp_path}: another run is under way there; --folder names another place\n"
    )
    # The other one is over: this one gets on, to what is wrong with itself.
    assert "no such program" in CliRunner().invoke(cli.app, arguments).stderr
