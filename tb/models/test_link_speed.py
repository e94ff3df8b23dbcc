"""The comparison of the simulated link with plain cocotbext-pcie."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from guest import link_speed


def test_both_links_carry_the_same_tlps():
    count = 40
    device, host = link_speed.measure(count, rounds=1)
    # A read of 512 bytes is answered in two completions, and there are two writes for each.
    assert (device.traffic, device.tlps) == ("device", 5 * count)
    assert (host.traffic, host.tlps) == ("host", 3 * count)
    text = io.StringIO()
    Console(file=text, width=100).print(link_speed.table([device, host]))
    assert f"{device.ratio:.1f}" in text.getvalue()


@pytest.mark.parametrize("count", [0, link_speed.MAX_COUNT + 1])
def test_counts_that_cannot_be_compared(count):
    with pytest.raises(ValueError, match="count"):
        link_speed.measure(count)
