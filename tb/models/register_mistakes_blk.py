"""What a driver of a block device can do wrong with its registers, and the rows that it breaks."""

from __future__ import annotations

from register_bench import Bench
from register_mistakes import Steps

from lib.register_monitor import BLK
from virtio_model.spec import blk
from virtio_model.spec import features as feat
from virtio_model.spec.blk import BlkFeature
from virtio_model.spec.features import Feature
from virtio_model.spec.fields import by_name
from virtio_model.spec.status import DeviceStatus

CONFIG = by_name(blk.CONFIG)
OFFERED = feat.mask(
    [Feature.VERSION_1, Feature.RING_PACKED, BlkFeature.FLUSH, BlkFeature.CONFIG_WCE]
)


def blk_bench() -> Bench:
    """A fake block device behind a monitor."""
    return Bench(OFFERED, blk.DEVICE_ID, BLK)


def _reads(name: str, *, early: bool = False) -> Steps:
    """Make a driver that reads a field, before FEATURES_OK or when the device runs."""

    async def steps(bench: Bench) -> None:
        await (bench.announce() if early else bench.run(OFFERED))
        await bench.driver.read_config([CONFIG[name]])

    return steps


def _writes(name: str, *, early: bool = False) -> Steps:
    """Make a driver that writes a field."""

    async def steps(bench: Bench) -> None:
        await (bench.announce() if early else bench.run(OFFERED))
        await bench.driver.write_config(CONFIG[name], 1)

    return steps


async def _accepts_the_cache_mode_alone(bench: Bench) -> None:
    await bench.announce()
    await bench.driver.write_features(OFFERED & ~feat.mask([BlkFeature.FLUSH]))
    await bench.driver.add_status(DeviceStatus.FEATURES_OK)


BLK_BREACHES: list[tuple[str, Steps, set[str]]] = [
    ("reads writeback early", _reads("writeback", early=True), {"drv-blk-init-04"}),
    ("reads writeback", _reads("writeback"), set()),
    ("reads capacity early", _reads("capacity", early=True), set()),
    ("writes writeback early", _writes("writeback", early=True), {"drv-init-seq-03"}),
    ("writes writeback", _writes("writeback"), set()),
    ("reads what is not offered", _reads("blk_size"), {"drv-basic-config-03"}),
    ("accepts CONFIG_WCE alone", _accepts_the_cache_mode_alone, {"drv-basic-features-02"}),
]
"""Name, what a driver does, and the rows that it breaks by that."""
