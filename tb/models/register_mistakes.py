"""What a driver can do wrong with status, features and suspend, and the rows that it breaks."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fake_pci import OFFERED
from register_bench import RUNNING, Bench

from virtio_model.spec import features as feat
from virtio_model.spec import net, pci
from virtio_model.spec.features import Feature
from virtio_model.spec.fields import by_name
from virtio_model.spec.net import NetFeature
from virtio_model.spec.status import DeviceStatus as Status

CONFIG = by_name(net.CONFIG)
COMMON = by_name(pci.COMMON_CFG)
Steps = Callable[[Bench], Coroutine[Any, Any, None]]

BREACHES: list[tuple[Steps, set[str]]] = []
"""What a driver does, and the rows that it breaks by that."""


def breaks(*rows: str) -> Callable[[Steps], Steps]:
    """Put a driver's steps into `BREACHES`."""

    def note(steps: Steps) -> Steps:
        BREACHES.append((steps, set(rows)))
        return steps

    return note


@breaks("drv-basic-status-01")
async def _skips_driver(bench: Bench) -> None:
    await bench.driver.discover()
    await bench.driver.reset()
    await bench.write("device_status", Status.DRIVER)


@breaks("drv-basic-status-02")
async def _takes_bits_away(bench: Bench) -> None:
    await bench.announce()
    await bench.write("device_status", Status.ACKNOWLEDGE)


@breaks("drv-basic-status-03")
async def _goes_on_after_failed(bench: Bench) -> None:
    await bench.negotiate()
    await bench.driver.add_status(Status.FAILED)
    await bench.driver.driver_ok()


@breaks("drv-basic-features-01")
async def _accepts_what_is_not_offered(bench: Bench) -> None:
    await bench.announce()
    await bench.driver.write_features(OFFERED | 1 << int(NetFeature.MRG_RXBUF))


@breaks("drv-basic-features-02")
async def _accepts_what_needs_more(bench: Bench) -> None:
    bench.device.offered |= feat.mask([NetFeature.CSUM, NetFeature.HOST_TSO4])
    await bench.announce()
    await bench.driver.write_features(OFFERED | 1 << int(NetFeature.HOST_TSO4))
    await bench.driver.add_status(Status.FEATURES_OK)


@breaks("drv-basic-features-05", "drv-basic-features-01")
async def _accepts_reserved_bits(bench: Bench) -> None:
    await bench.announce()
    await bench.driver.write_features(OFFERED | 1 << 45)


@breaks("drv-resv-feat-01")
async def _leaves_version_1(bench: Bench) -> None:
    await bench.announce()
    await bench.driver.write_features(OFFERED & ~(1 << int(Feature.VERSION_1)))
    await bench.driver.add_status(Status.FEATURES_OK)


@breaks("drv-init-seq-04")
async def _adds_features_late(bench: Bench) -> None:
    await bench.negotiate(0)
    await bench.driver.write_features(OFFERED)


@breaks("drv-init-seq-01")
async def _does_not_look_at_features_ok(bench: Bench) -> None:
    await bench.announce()
    await bench.driver.write_features(OFFERED)
    ready = Status.ACKNOWLEDGE | Status.DRIVER | Status.FEATURES_OK
    await bench.write("device_status", ready)
    await bench.write("device_status", ready | Status.DRIVER_OK)


@breaks("drv-init-seq-01")
async def _sets_up_before_features_ok(bench: Bench) -> None:
    await bench.announce()
    await bench.write("queue_size", 8)


@breaks("drv-basic-reset-01", "drv-pci-common-cfg-05")
async def _does_not_wait_for_the_reset(bench: Bench) -> None:
    await bench.negotiate()
    await bench.write("device_status", 0)
    await bench.write("device_status", Status.ACKNOWLEDGE)


@breaks("drv-basic-reset-01", "drv-pci-common-cfg-05")
async def _writes_before_the_reset_ends(bench: Bench) -> None:
    await bench.negotiate()
    await bench.write("device_status", 0)
    await bench.write("queue_select", 1)


@breaks("drv-init-seq-07")
async def _kicks_early(bench: Bench) -> None:
    await bench.negotiate()
    await bench.driver.setup_queue(0, bench.queue())
    await bench.driver.notify(0)


@breaks("drv-init-suspend-01")
async def _suspends_without_the_feature(bench: Bench) -> None:
    await bench.run(OFFERED)
    await bench.suspend()


@breaks("drv-init-suspend-02")
async def _does_not_look_whether_it_is_suspended(bench: Bench) -> None:
    await bench.run()
    await bench.write("device_status", RUNNING | Status.SUSPEND)
    await bench.write("device_status", RUNNING)


@breaks("drv-init-suspend-04")
async def _kicks_suspended(bench: Bench) -> None:
    await bench.run()
    await bench.suspend()
    await bench.driver.notify(0)


@breaks("drv-init-suspend-05")
async def _writes_suspended(bench: Bench) -> None:
    await bench.run()
    await bench.suspend()
    await bench.write("queue_select", 1)


@breaks("drv-init-suspend-06")
async def _does_not_wait_for_the_resume(bench: Bench) -> None:
    await bench.run()
    await bench.suspend()
    await bench.write("device_status", RUNNING | Status.SUSPEND)
    await bench.driver.notify(0)
