"""A whole system: host, link, the net device in RTL, its PCI driver and its net driver."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from lib.axi_frames import AxiFrameSink, AxiFrameSource
from lib.device_system import MESSAGE_ADDRESS, DeviceSystem, small_config
from lib.net_features import ALL_FEATURES, wanted_features
from lib.net_traffic import exchange, random_cuts, random_frame
from lib.queue_pair import QueuePair
from virtio_model.driver.make import Queue
from virtio_model.driver.net import NetDriver, Received
from virtio_model.spec import net
from virtio_rtl.config import DeviceConfig

__all__ = [
    "ALL_FEATURES",
    "MESSAGE_ADDRESS",
    "NetSystem",
    "exchange",
    "random_cuts",
    "random_frame",
    "small_config",
    "wanted_features",
]


class NetSystem(DeviceSystem):
    """Brings a net device up and keeps its driver.

    Parameters
    ----------
    dut, config
        `VirtioDevice(config)` and its configuration.
    rx_size, tx_size
        Virtqueue sizes.
    ring, features
        Ring format and ring features to negotiate, as for `wanted_features`.
    stall
        Chance of a stall per cycle on TLP and AXI streams.
    more
        See `DeviceSystem`.
    """

    DEPENDENCIES = net.DEPENDENCIES

    def __init__(
        self,
        dut: Any,
        config: DeviceConfig,
        *,
        rx_size: int = 64,
        tx_size: int = 64,
        stall: float = 0.0,
        ring: str = "packed",
        features: Collection[str] = ("indirect_desc",),
        **more: Any,
    ):
        super().__init__(
            dut,
            config,
            sizes=(rx_size, tx_size) * config.queue_pairs,
            stall=stall,
            **more,
        )
        self.wanted = wanted_features(ring, features)
        self.sink = AxiFrameSink(dut, "net_tx", stall=stall)
        self.source = AxiFrameSource(dut, "net_rx", config.width, stall=stall)
        self.pairs: list[QueuePair] = []

    async def bring_up(self, features: int | None = None, *, msix: bool = True) -> None:
        """As of `DeviceSystem`, with the link up."""
        self.dut.link_up.value = 1
        await super().bring_up(features, msix=msix)

    def make_drivers(self) -> None:
        """One net driver a queue pair."""
        self.pairs = [
            QueuePair(NetDriver(self.memory, self.allocator, rx, tx, features=self.accepted))
            for rx, tx in zip(self.queues[::2], self.queues[1::2], strict=True)
        ]

    def close(self) -> None:
        """Take back all buffers and virtqueues."""
        for pair in self.pairs:
            pair.net.take_back(pair.net.rx)
            pair.net.take_back(pair.net.tx)
        super().close()

    def take_back(self, index: int) -> list[Any]:
        """Cookies of frames not transmitted."""
        driver = self.pairs[index // 2].net
        return driver.take_back(driver.tx if index % 2 else driver.rx)

    def queue_replaced(self, index: int) -> None:
        """The driver goes on with the new one."""
        queue: Queue = self.queues[index]
        driver = self.pairs[index // 2].net
        if index % 2:
            driver.tx = queue
        else:
            driver.rx = queue

    @property
    def net(self) -> NetDriver:
        """Driver of the first queue pair."""
        return self.pairs[0].net

    @property
    def received(self) -> list[Received]:
        """Frames that the first queue pair has received."""
        return self.pairs[0].received

    def poll(self) -> list[Any]:
        """Reap the virtqueues of the first pair; cookies of transmitted frames."""
        return self.pairs[0].poll()
