"""The demo of an entropy device: its command line, and a whole run."""

from __future__ import annotations

import random

import pytest
from demo_helper import ask, demonstrate, refused

from demo.entropy_config import DEFAULT, entropy_config
from demo.entropy_flow import MIXED, PHASE_BYTES, mixed_sizes
from demo.request_result import load_request_result
from virtio_model.device.entropy import SeededBytes
from virtio_rtl.config import NAMED_CONFIGS


def test_options_of_the_entropy_demo():
    """What is not for it, or not known, gets one line and status 2."""
    assert "IMAGE is for DEVICE=blk" in refused(ask(DEVICE="entropy", IMAGE="some.img"))
    assert "PCAP is for DEVICE=net" in refused(ask(DEVICE="entropy", PCAP="some.pcap"))
    assert "RING='round'" in refused(ask(DEVICE="entropy", RING="round"))
    assert "SEED='x'" in refused(ask("--seed=x", DEVICE="entropy"))
    line = refused(ask(DEVICE="entropy", CONFIG="entropy-x3"))
    assert "'entropy-x3'" in line
    assert all(name in line for name in NAMED_CONFIGS)


@pytest.mark.parametrize("name", [DEFAULT, "entropy-x8", "net-x8", "blk-x8"])
def test_entropy_config(name):
    """Like the named one, with the source for simulation."""
    config = entropy_config(name)
    like = NAMED_CONFIGS.get(name) or NAMED_CONFIGS["net-x8"]
    assert (config.device, config.entropy.source) == ("entropy", "seeded")
    assert (config.width, config.lanes, config.rings) == (like.width, like.lanes, like.rings)
    assert config.name == f"entropy-x{config.lanes}"


def test_mixed_sizes():
    """They are what they should be together, none is empty, and one is too large."""
    random.seed(1)
    largest = entropy_config(DEFAULT).entropy.largest_reply
    for _ in range(20):
        sizes = mixed_sizes(PHASE_BYTES)
        assert sum(sizes) == PHASE_BYTES
        assert min(sizes) > 0
        assert [size for size in sizes if size > largest] == [MIXED]


@pytest.mark.slow
@pytest.mark.sweep
def test_whole_entropy_demo(tmp_path):
    """Every request gets its bytes, those of the seeded source; a report and a result."""
    printed = demonstrate(tmp_path, DEVICE="entropy", RING="split")
    result = load_request_result(tmp_path / "result.json")
    assert result.passed
    assert [check.name for check in result.checks] == [
        "bytes", "rest of the buffers", "rules of PCIe",
    ]  # fmt: skip
    small, mixed, large = result.phases
    assert (small.requests, large.requests) == (384, 6)
    assert small.data_bytes == large.data_bytes == PHASE_BYTES
    config = entropy_config(DEFAULT)
    assert mixed.data_bytes == PHASE_BYTES - MIXED + config.entropy.largest_reply
    received = (tmp_path / "received.bin").read_bytes()
    assert len(received) == sum(phase.data_bytes for phase in result.phases)
    assert received.startswith(SeededBytes(config.entropy.seed, 8)(small.data_bytes))
    assert (tmp_path / "report.html").read_text().count("<svg") == 1
    for line in ("entropy-x1, split ring", "mixed: requests", "Held against the golden model"):
        assert line in printed
