"""Command line of `make guest`."""

from __future__ import annotations

import os
import sys
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import replace
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console

from guest import children, matrix, packages, qemu, report, table
from guest.board import Board
from guest.boot import Images
from guest.errors import GuestError
from guest.results import CaseResult
from guest.run import Run, Setting
from lib.locks import file_lock
from lib.paths import BUILD
from lib.words import counted

FOLDER = BUILD / "guest"
MODELS = ("rtl", "golden")
MSIX = ("table", "eventfd")
JOBS = 2
"""Guests at a time: a guest and its device mostly wait for each other, so a pair takes one core."""

app = typer.Typer(add_completion=False)


def fail(message: str, status: int) -> NoReturn:
    """End with one clear line on stderr."""
    print(f"error: {message}", file=sys.stderr)
    raise typer.Exit(status)


def _choice(name: str, value: str, choices: tuple[str, ...]) -> str:
    if value not in choices:
        fail(f"{name}={value!r}: {' or '.join(choices)}", 2)
    return value


def choose_devices(text: str) -> tuple[str, ...]:
    """Return the devices of DEVICE=name,name; all of them for an empty text."""
    names = tuple(name for name in text.split(",") if name) or tuple(matrix.DEVICES)
    for name in names:
        if name not in matrix.DEVICES:
            fail(f"DEVICE={name!r}: there is {', '.join(matrix.DEVICES)}", 2)
    return names


@app.command()
def guest(
    quick: Annotated[bool, typer.Option("--quick", help="A short look at each (QUICK=1).")] = False,
    console: Annotated[
        bool, typer.Option("--console", help="Show the guest's console (CONSOLE=1).")
    ] = False,
    model: Annotated[str, typer.Option(envvar="MODEL", help="rtl or golden.")] = "rtl",
    device: Annotated[str, typer.Option(envvar="DEVICE", help="Only these: blk,net.")] = "",
    only: Annotated[str, typer.Option(help="Only cases whose name contains this.")] = "",
    kernel: Annotated[str, typer.Option(help="Run all on this kernel.")] = "",
    qemu_program: Annotated[
        str, typer.Option("--qemu", envvar="QEMU", help="A QEMU to use, and no other.")
    ] = "",
    msix: Annotated[str, typer.Option(help="Interrupts by the device's table, or eventfd.")] = "",
    timeout: Annotated[float, typer.Option(min=1, help="Seconds for one guest.")] = 900.0,
    jobs: Annotated[int, typer.Option(min=1, help="Guests at a time.")] = JOBS,
    seed: Annotated[int, typer.Option(min=0, help="What random sources start from.")] = 1,
    folder: Annotated[Path, typer.Option(help="Where consoles and the report go.")] = FOLDER,
    listing: Annotated[bool, typer.Option("--list", help="Say the cases, run none.")] = False,
) -> None:
    """Boot unmodified guests on the simulated devices and let their drivers work."""
    quick = quick or os.environ.get("QUICK", "") not in ("", "0")
    console = console or os.environ.get("CONSOLE", "") not in ("", "0")
    _choice("MODEL", model, MODELS)
    _choice("--msix", msix or MSIX[0], MSIX)
    if kernel and kernel not in packages.KERNELS:
        fail(f"--kernel {kernel}: there is {', '.join(packages.KERNELS)}", 2)
    cases = matrix.select(choose_devices(device), quick, only)
    if model != "rtl":
        cases = [case for case in cases if not case.config]
    if kernel:
        changed = [matrix.with_kernel(case, kernel) for case in cases]
        cases = list(dict.fromkeys(changed))
    if not cases:
        fail(f"no case is named like {only!r}", 2)
    screen = Console(file=sys.stdout)
    if not screen.is_terminal:
        screen = Console(file=sys.stdout, width=table.WIDTH)
    if listing:
        for case in cases:
            say(screen, case.name)
        return

    try:
        with file_lock(folder / "lock", wait=False):
            setting = prepare(cases, screen, folder, model, qemu_program, msix)
            setting = replace(setting, timeout=timeout, seed=seed)
            if console:
                setting = replace(setting, console=lambda line: say(screen, line))
            say(screen, f"{counted(len(cases), 'guest')}, {model}, QEMU {setting.qemu.text}")
            results = run_all(cases, setting, screen, jobs)
            finish(screen, results, setting, folder)
    except BlockingIOError:
        fail(f"{folder}: another run is under way there; --folder names another place", 1)


def prepare(
    cases: list[matrix.Case],
    screen: Console,
    folder: Path,
    model: str,
    qemu_program: str,
    msix: str,
) -> Setting:
    """Find QEMU, and make what the guests boot. Ends the program if that cannot be had."""

    def tell(text: str) -> None:
        say(screen, text)

    children.stop_on_signals()
    try:
        program = qemu.find(qemu_program, say=tell)
        if not msix and not program.tried:
            tell(f"QEMU {program.text} has not been tried with the device's own MSI-X table")
        images = Images(folder / "initramfs", say=tell)
        for case in cases:
            if case.kind != "firmware":
                images.get(case.kernel, case.programs)
    except (GuestError, OSError) as error:
        fail(str(error), 1)
    return Setting(
        model=model, qemu=program, images=images, folder=folder / "runs", msix=msix or MSIX[0]
    )


def run_all(
    cases: list[matrix.Case], setting: Setting, screen: Console, jobs: int
) -> list[CaseResult]:
    """Run the cases, some at a time, and return what became of them, in their order."""
    runs = [Run(case, setting) for case in cases]
    done: dict[int, CaseResult] = {}
    with Board(screen, len(runs)) as board, ThreadPoolExecutor(jobs) as pool:
        futures = {}
        for number, run in enumerate(runs):
            futures[pool.submit(board.watch, run)] = number
        try:
            for future in as_completed(futures):
                done[futures[future]] = future.result()
        except BaseException:
            # Ctrl-C, or a mistake here: without their processes the threads end at once.
            pool.shutdown(wait=False, cancel_futures=True)
            children.stop_all()
            raise
    return [done[number] for number in sorted(done)]


def finish(screen: Console, results: list[CaseResult], setting: Setting, folder: Path) -> None:
    """Show the table and what failed, write the report, end with the right status."""
    table.show(screen, results)
    page = folder / "report.html"
    page.write_text(report.render(results, setting.model, setting.qemu.text), encoding="utf-8")
    say(screen, f"report: {page}")
    say(screen, f"consoles: {setting.folder}/*/console.log")
    broken = [result for result in results if not result.passed]
    for result in broken:
        if result.console_tail:
            say(screen, f"--- the end of {setting.folder}/{result.case.name}/console.log")
            say(screen, result.console_tail)
    for result in broken:
        print(f"error: {result.case.name}: {result.reason}", file=sys.stderr)
    if broken:
        raise typer.Exit(1)


def say(console: Console, text: str) -> None:
    """Print a line as it is: no colours for numbers, no folding of paths."""
    console.print(text, highlight=False, soft_wrap=True, markup=False)


def main() -> None:
    """Run the command line."""
    app(prog_name="make guest, or python -m guest")
