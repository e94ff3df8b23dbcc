"""The register monitor on device types other than the network device."""

from __future__ import annotations

import asyncio

import pytest
from register_bench import Bench
from register_mistakes import Steps
from register_mistakes_blk import BLK_BREACHES, blk_bench

from lib.register_monitor import ENTROPY
from virtio_model.spec import entropy
from virtio_model.spec import features as feat
from virtio_model.spec.features import Feature


@pytest.mark.parametrize(
    ("steps", "rows"), [case[1:] for case in BLK_BREACHES], ids=[case[0] for case in BLK_BREACHES]
)
def test_block_driver(steps: Steps, rows: set[str]) -> None:
    """A block driver that breaks a rule is told which, and nothing else."""
    bench = blk_bench()
    asyncio.run(steps(bench))
    assert bench.monitor.rows == rows, bench.monitor.breaches


def test_device_without_configuration() -> None:
    """An entropy device has no device configuration, and its driver asks for none."""
    offered = feat.mask([Feature.VERSION_1, Feature.RING_PACKED])
    bench = Bench(offered, entropy.DEVICE_ID, ENTROPY)
    asyncio.run(bench.run(offered))
    bench.monitor.check()
