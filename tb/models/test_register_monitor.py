"""The register monitor passes a good driver, and names the row of each rule that one breaks."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest
from fake_pci import OFFERED
from register_bench import EXTRA, RUNNING, Bench
from register_mistakes import COMMON, CONFIG, Steps
from register_mistakes_blk import BLK_BREACHES
from register_mistakes_queue import BREACHES

from lib import register_monitor
from lib.paths import ROOT
from lib.plans import load_rows
from virtio_model.errors import DriverComplaint
from virtio_model.spec import features as feat
from virtio_model.spec.features import Feature
from virtio_model.spec.status import DeviceStatus as Status


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("extra", [0, EXTRA, feat.mask([Feature.NOTIFICATION_DATA])])
def test_good_driver_passes(packed: bool, extra: int) -> None:
    """A whole life: bring-up, kicks, configuration, window, queue reset, suspend, reset, again."""
    format_bit = feat.mask([Feature.RING_PACKED])
    bench = Bench((OFFERED | format_bit if packed else OFFERED & ~format_bit) | extra)
    bench.device.max_sizes = {0: 256, 1: 64}

    async def life() -> None:
        driver = bench.driver
        for _ in range(2):
            await bench.run()
            for index in (0, 1):
                await driver.notify(index)
            await driver.read_config([CONFIG["mac"], CONFIG["status"]])
            await driver.read_isr()
            await driver.window_write(0, COMMON["queue_select"].offset, 1, 2)
            assert await driver.window_read(0, COMMON["queue_size"].offset, 2) == 16
            await driver.msix.enable()
            await driver.set_vector(2, 0xFEE0_0000, 0x41)
            await driver.reset_queue(0)
            await driver.setup_queue(0, bench.queue(8))
            await driver.notify(0)
            if extra & feat.mask([Feature.SUSPEND]):
                await bench.suspend()
                await bench.resume()
                await driver.notify(1)
            await driver.reset()

    asyncio.run(life())
    bench.monitor.check()


@pytest.mark.parametrize(("steps", "rows"), BREACHES)
def test_breaches_are_named(steps: Steps, rows: set[str]) -> None:
    """A driver that breaks a rule is told which, and nothing else."""
    bench = Bench(OFFERED | EXTRA)
    asyncio.run(steps(bench))
    assert bench.monitor.rows == rows, bench.monitor.breaches
    with pytest.raises(AssertionError, match="breaches"):
        bench.monitor.check()


@pytest.mark.parametrize("after", ["nothing", "asking", "reset", "queue reset", "set-up"])
def test_buffers_are_taken_back_after_a_reset_only(after: str) -> None:
    """Of a live virtqueue nothing is taken back; a reset counts when it is done."""
    bench = Bench()

    async def steps() -> None:
        await bench.negotiate()
        queue = bench.queue()
        bench.monitor.watch(0, queue)
        await bench.driver.setup_queue(0, queue)
        queue.add([(0x1000, 4)], [])
        if after != "set-up":
            await bench.driver.driver_ok()
        if after == "asking":
            await bench.write("device_status", 0)
        elif after == "reset":
            await bench.driver.reset()
        elif after == "queue reset":
            await bench.driver.reset_queue(0)
        assert queue.reset() == [None]

    asyncio.run(steps())
    live = after in ("nothing", "asking")
    assert bench.monitor.rows == ({"drv-init-cleanup-02"} if live else set())


@pytest.mark.parametrize("refused", [False, True])
def test_driver_gives_up_with_failed(refused: bool) -> None:
    """Without a feature that it needs, or refused, a driver sets FAILED and goes no further."""
    bench = Bench()
    bench.device.refuse = refused
    missing = 0 if refused else feat.mask([Feature.EVENT_IDX])

    async def steps() -> None:
        await bench.driver.discover()
        with pytest.raises(DriverComplaint, match="refused" if refused else "not to be had"):
            await bench.driver.start(OFFERED, missing)
        assert await bench.driver.status() & Status.FAILED
        assert bool(bench.device.accepted) == refused, "nothing is accepted but what is refused"
        # Only a reset leads on.
        bench.device.refuse = False
        await bench.run()
        assert await bench.driver.status() == RUNNING

    asyncio.run(steps())
    bench.monitor.check()


def test_every_row_of_the_monitor_is_shown() -> None:
    """The rows that its rules name are requirement rows, and each is broken above."""
    source = "".join(path.read_text() for path in Path(register_monitor.__path__[0]).glob("*.py"))
    named = set(re.findall(r'"(drv-[a-z-]+-\d\d)"', source))
    lists = [rows for _, rows in BREACHES] + [rows for _, _, rows in BLK_BREACHES]
    shown = {row for rows in lists for row in rows} | {"drv-init-cleanup-02"}
    assert named == shown
    assert named <= load_rows(ROOT / "tb" / "testplan" / "requirements.csv").keys()
