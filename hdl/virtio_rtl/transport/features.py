"""Feature negotiation: what is offered, what the driver accepts, whether that can be served."""

from collections.abc import Mapping
from functools import reduce
from operator import or_

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from virtio_model.spec import features as spec
from virtio_model.spec.features import Feature
from virtio_rtl.config import ConfigError, DeviceConfig
from virtio_rtl.device.kind import device_type

__all__ = ["FEATURE_WORDS", "FeatureNegotiation", "dependencies", "offered", "required"]

FEATURE_WORDS = spec.FEATURE_BITS_END // 32
_ALWAYS = spec.mask((Feature.VERSION_1, Feature.ACCESS_PLATFORM, Feature.ORDER_PLATFORM))
_OF_TYPES = spec.mask((*range(24), *range(50, spec.FEATURE_BITS_END)))


def offered(config: DeviceConfig) -> int:
    """The feature set that a device of this configuration offers. [virtio 1.4 §2.2, §6]"""
    built = {
        Feature.RING_PACKED: "packed" in config.rings,
        Feature.INDIRECT_DESC: config.indirect,
        Feature.EVENT_IDX: config.event_idx,
        Feature.IN_ORDER: config.in_order,
        Feature.NOTIFICATION_DATA: config.notification_data,
        Feature.NOTIF_CONFIG_DATA: config.notif_config_data,
        Feature.RING_RESET: config.ring_reset,
        Feature.SUSPEND: config.suspend,
    }
    of_type = device_type(config.device).features(config)
    if others := of_type & ~_OF_TYPES:
        raise ConfigError(f"features of {config.device}: {others:#x} are not those of a type")
    return _ALWAYS | of_type | spec.mask(feature for feature, there in built.items() if there)


def required(config: DeviceConfig) -> int:
    """The features without which the device refuses FEATURES_OK.

    A driver may choose its ring format only if both are built.
    """
    needed = spec.mask([Feature.VERSION_1])
    return needed if "split" in config.rings else needed | spec.mask([Feature.RING_PACKED])


def dependencies(config: DeviceConfig) -> spec.Dependencies:
    """What each feature of a device of this configuration needs."""
    return {**spec.DEPENDENCIES, **device_type(config.device).dependencies}


class FeatureNegotiation(wiring.Component):
    """Offered and accepted feature bits, by words, and the verdict on the accepted set.

    [virtio 1.4 §2.2, §3.1.1, §4.1.4.3]

    Parameters
    ----------
    offered
        Feature set offered, bits 0 to 127; it satisfies its own dependencies.
    required
        Subset without which the device refuses to work.
    dependencies
        What each feature needs, as in ``virtio_model.spec``.

    Ports
    -----
    device_select, driver_select: In(32)
        Word indices; words from 4 on have no features. They count from the next cycle on.
    device_word, driver_word: Out(32)
        Offered and accepted bits of the selected words.
    write: In(1), write_data: In(32)
        Replace the accepted bits of the selected word.
    locked: In(1)
        Ignore ``write``.
    clear: In(1)
        Strobe: nothing accepted.
    accepted: Out(128)
        The bits as written, also those not offered.
    acceptable: Out(1)
        Two cycles after a write: all accepted bits are offered, all required ones and all
        dependencies are there, and the last write past word 3, if any, wrote 0.
    """

    device_select: In(32)
    driver_select: In(32)
    device_word: Out(32)
    driver_word: Out(32)
    write: In(1)
    write_data: In(32)
    locked: In(1)
    clear: In(1)
    accepted: Out(spec.FEATURE_BITS_END)
    acceptable: Out(1)

    def __init__(self, offered: int, required: int, dependencies: spec.Dependencies):
        if bits := spec.reserved(offered):
            raise ValueError(f"offered features: bits {bits} are reserved")
        if not spec.has(offered, spec.Feature.VERSION_1):
            raise ValueError("offered features: VERSION_1 is always offered")
        if missing := spec.unmet(offered, dependencies):
            raise ValueError(f"offered features: not without {_listed(missing)}")
        if required & ~offered:
            raise ValueError(f"required features: {required & ~offered:#x} are not offered")
        if missing := spec.unmet(required, dependencies):
            raise ValueError(f"required features: not without {_listed(missing)}")
        self.offered = offered
        self.required = required
        self.dependencies: Mapping = dependencies
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        accepted = self.accepted
        beyond = Signal()  # the driver has accepted features in words that have none
        device_at = Signal(FEATURE_WORDS)  # one bit a word, none for those beyond
        driver_at = Signal(FEATURE_WORDS)
        for index in range(FEATURE_WORDS):
            m.d.sync += [
                device_at[index].eq(self.device_select == index),
                driver_at[index].eq(self.driver_select == index),
            ]
        writing = self.write & ~self.locked
        driver_words = []
        for index in range(FEATURE_WORDS):
            with m.If(device_at[index]):
                m.d.comb += self.device_word.eq(spec.word(self.offered, index))
            word = accepted.word_select(index, 32)
            driver_words.append(Mux(driver_at[index], word, 0))
            with m.If(writing & driver_at[index]):
                m.d.sync += word.eq(self.write_data)
        m.d.comb += self.driver_word.eq(reduce(or_, driver_words))
        with m.If(writing & ~driver_at.any()):
            m.d.sync += beyond.eq(self.write_data != 0)
        with m.If(self.clear):
            m.d.sync += [accepted.eq(0), beyond.eq(0)]

        not_offered = accepted & Const(~self.offered & ((1 << len(accepted)) - 1), len(accepted))
        required = [accepted[bit] for bit in range(len(accepted)) if self.required >> bit & 1]
        unmet = [
            accepted[feature] & ~_any(accepted[other] for other in alternatives)
            for feature, needs in self.dependencies.items()
            if spec.has(self.offered, feature)
            for alternatives in needs
        ]
        m.d.sync += self.acceptable.eq(~not_offered.any() & ~beyond & _all(required) & ~_any(unmet))
        return m


def _any(bits):
    return Cat(*bits).any()


def _all(bits):
    return Cat(*bits).all()


def _listed(missing):
    return ", ".join(f"{feature!r}: one of {sorted(group)}" for feature, group in missing)
