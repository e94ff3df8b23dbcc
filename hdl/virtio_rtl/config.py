"""Device configurations: frozen, validated, named."""

from dataclasses import dataclass, field, replace
from math import ceil

from .config_blk import BlkConfig
from .config_entropy import EntropyConfig
from .device.kind import device_names, device_type

__all__ = ["NAMED_CONFIGS", "ConfigError", "DeviceConfig", "named_config"]


class ConfigError(ValueError):
    """A configuration value that cannot be built; the message names the field."""


def _require(condition: bool, field: str, value: object, rule: str) -> None:
    if not condition:
        raise ConfigError(f"{field} = {value!r}: {rule}")


@dataclass(frozen=True)
class DeviceConfig:
    """Everything that is fixed when the RTL is generated.

    Parameters
    ----------
    name
        Name of the configuration, as in ``make demo CONFIG=name``.
    device
        Device type, by the name under which it is registered; see ``device.kind``.
    width
        Data bits of the TLP streams and of the datapath: 64, 128, 256 or 512.
    clock_mhz
        Clock of the core, in MHz; used for rates and time-outs, never for logic.
    lanes, generation
        The PCIe link that the configuration is meant for.
    queue_pairs
        Net device: receive and transmit virtqueue pairs, 1 to 256.
    queue_size_max
        Largest virtqueue size, 1 to 32768; a power of two if split virtqueues are built.
    msix_vectors
        MSI-X table size, 2 to 1024 (what BAR 0 has room for). More than one for configuration
        changes and one a virtqueue are of no use; with fewer, virtqueues share.
    read_tags
        Reads in flight, 8 to 256, a power of two; each owns ``read_slot_bytes`` of reassembly
        memory.
    read_slot_bytes
        Largest single read request; MRRS is obeyed up to this.
    fetch_batch
        Descriptors per fetch, at most 16.
    read_ahead
        Descriptors kept ahead per virtqueue, a power of two and at least two fetches.
    completion_timeout_us
        Time after which a read without a completion is given up.
    max_frame
        Longest Ethernet frame without FCS, in bytes.
    receive_wait_us
        Several queue pairs only: how long a received frame waits for a buffer of its virtqueue,
        and all frames behind it, before it is dropped. With one pair it waits for ever.
    mac, mtu
        Net device: address, and the MTU offered to the driver.
    rings
        Ring formats that are built, ``"split"`` and ``"packed"`` or one of them; which one is used
        is negotiated.
    indirect, event_idx, in_order, notification_data, notif_config_data, ring_reset, suspend
        Ring features that are built and offered; one that is left out costs nothing.
        [virtio 1.4 §6]
    blk
        Of a block device; see ``BlkConfig``.
    entropy
        Of an entropy device; see ``EntropyConfig``.
    """

    name: str
    device: str = "net"
    width: int = 256
    clock_mhz: float = 250.0
    lanes: int = 8
    generation: int = 3
    queue_pairs: int = 1
    queue_size_max: int = 1024
    msix_vectors: int = 3
    read_tags: int = 128
    read_slot_bytes: int = 512
    fetch_batch: int = 16
    read_ahead: int = 256
    completion_timeout_us: float = 50_000.0
    max_frame: int = 9018
    receive_wait_us: float = 4.0
    mac: str = "02:00:00:00:00:01"
    mtu: int = 9000
    rings: tuple[str, ...] = ("split", "packed")
    indirect: bool = True
    event_idx: bool = True
    in_order: bool = True
    notification_data: bool = True
    notif_config_data: bool = True
    ring_reset: bool = True
    suspend: bool = True
    blk: BlkConfig = field(default_factory=BlkConfig)
    entropy: EntropyConfig = field(default_factory=EntropyConfig)

    def __post_init__(self) -> None:
        _require(
            self.device in device_names(),
            "device",
            self.device,
            f"one of {', '.join(device_names())}",
        )
        _require(self.width in (64, 128, 256, 512), "width", self.width, "64, 128, 256 or 512")
        _require(1 <= self.queue_pairs <= 256, "queue_pairs", self.queue_pairs, "1 to 256")
        _require(
            1 <= self.queue_size_max <= 32768, "queue_size_max", self.queue_size_max, "1 to 32768"
        )
        _require(2 <= self.msix_vectors <= 1024, "msix_vectors", self.msix_vectors, "2 to 1024")
        _require(
            self.read_tags in (8, 16, 32, 64, 128, 256),
            "read_tags",
            self.read_tags,
            "a power of two from 8 to 256",
        )
        _require(
            self.read_slot_bytes in (128, 256, 512, 1024, 2048, 4096),
            "read_slot_bytes",
            self.read_slot_bytes,
            "a power of two from 128 to 4096",
        )
        _require(
            self.fetch_batch in (1, 2, 4, 8, 16), "fetch_batch", self.fetch_batch, "1, 2, 4, 8, 16"
        )
        _require(
            self.read_slot_bytes >= 16 * self.fetch_batch,
            "read_slot_bytes",
            self.read_slot_bytes,
            "room for a fetch of fetch_batch descriptors of 16 bytes",
        )
        _require(
            self.read_ahead >= 2 * self.fetch_batch and self.read_ahead.bit_count() == 1,
            "read_ahead",
            self.read_ahead,
            "a power of two, at least two fetches",
        )
        _require(
            0 < self.receive_wait_us <= 1000, "receive_wait_us", self.receive_wait_us, "up to 1000"
        )
        _require(68 <= self.mtu <= 65521, "mtu", self.mtu, "68 to 65521")
        _require(
            self.mtu + 18 <= self.max_frame <= 65535,
            "max_frame",
            self.max_frame,
            "at least mtu + 18 (Ethernet header and VLAN tag), at most 65535",
        )
        _require(
            self.rings in (("split", "packed"), ("split",), ("packed",)),
            "rings",
            self.rings,
            '("split", "packed"), ("split",) or ("packed",)',
        )
        _require(
            "split" not in self.rings or self.queue_size_max.bit_count() == 1,
            "queue_size_max",
            self.queue_size_max,
            "a power of two, for a split virtqueue starts with it",
        )
        _require(
            self.entropy.word_bits <= self.width,
            "entropy.word_bits",
            self.entropy.word_bits,
            "at most the width",
        )
        self._require_patience()
        octets = self.mac.split(":")
        _require(
            len(octets) == 6 and all(len(o) == 2 for o in octets) and not int(octets[0], 16) & 1,
            "mac",
            self.mac,
            "a unicast address such as 02:00:00:00:00:01",
        )

    def _require_patience(self) -> None:
        """Rings that start up must not be taken for a source that has failed."""
        entropy = self.entropy
        if entropy.source != "ring_oscillator" or entropy.stand_in:
            return
        first = entropy.first_beat_us(self.width, self.clock_mhz)
        _require(
            entropy.dry_after_us >= 1.5 * first,
            "entropy.dry_after_us",
            entropy.dry_after_us,
            f"at least {ceil(1.5 * first)}, for rings with these sample_cycles need {ceil(first)} "
            "for their first beat",
        )

    @property
    def num_queues(self) -> int:
        """Virtqueues of the device; its type says how many."""
        return device_type(self.device).queues(self)

    @property
    def pair_bits(self) -> int:
        """Bits of a queue pair's number; 0 for one pair, which needs none."""
        return (self.queue_pairs - 1).bit_length()

    @property
    def mac_bytes(self) -> bytes:
        """The address in the order in which it stands in the configuration space."""
        return bytes(int(o, 16) for o in self.mac.split(":"))

    @property
    def timeout_cycles(self) -> int:
        """Completion time-out in cycles of the core's clock."""
        return round(self.completion_timeout_us * self.clock_mhz)

    @property
    def receive_wait_cycles(self) -> int:
        """``receive_wait_us`` in cycles of the core's clock."""
        return max(round(self.receive_wait_us * self.clock_mhz), 1)


_NET_X8 = DeviceConfig(name="net-x8")

NAMED_CONFIGS: dict[str, DeviceConfig] = {
    config.name: config
    for config in (
        _NET_X8,
        replace(_NET_X8, name="net-x1", width=64, clock_mhz=125.0, lanes=1, read_tags=32,
                read_ahead=32),
        replace(_NET_X8, name="net-x4", width=128, lanes=4, read_tags=64, read_ahead=64),
        replace(_NET_X8, name="net-x16", width=512, lanes=16, read_tags=256,
                read_ahead=512),
        replace(_NET_X8, name="net-x8-128", queue_pairs=128, queue_size_max=256,
                msix_vectors=257, read_ahead=32),
        # Room in a ring for 64 requests of 18 descriptors; a disk small enough for any chip.
        replace(_NET_X8, name="blk-x8", device="blk", queue_size_max=2048, msix_vectors=2,
                blk=BlkConfig(capacity_sectors=512)),
        # No driver wants random bytes faster than a lane carries them: the narrowest, and small.
        replace(_NET_X8, name="entropy-x1", device="entropy", width=64, clock_mhz=125.0, lanes=1,
                queue_size_max=64, msix_vectors=2, read_tags=8, read_ahead=32),
    )
}  # fmt: skip


def named_config(name: str) -> DeviceConfig:
    """Look a configuration up by name; raises ``ConfigError`` with the known names."""
    if name not in NAMED_CONFIGS:
        raise ConfigError(f"unknown configuration {name!r}; known: {', '.join(NAMED_CONFIGS)}")
    return NAMED_CONFIGS[name]
