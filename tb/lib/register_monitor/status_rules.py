"""Rules of device status, features and suspend [virtio 1.4 §2.1, §2.2, §3.1, §3.4, §6]."""

from __future__ import annotations

from collections.abc import Iterator

from lib.register_monitor.view import Access, Breach, View
from virtio_model.spec import features as feat
from virtio_model.spec import pci
from virtio_model.spec.features import Feature
from virtio_model.spec.status import DeviceStatus

_S = DeviceStatus
_NEEDS = {
    _S.DRIVER: _S.ACKNOWLEDGE,
    _S.FEATURES_OK: _S.ACKNOWLEDGE | _S.DRIVER,
    _S.DRIVER_OK: _S.ACKNOWLEDGE | _S.DRIVER | _S.FEATURES_OK,
}
_DRIVER_BITS = _S.ACKNOWLEDGE | _S.DRIVER | _S.FEATURES_OK | _S.DRIVER_OK | _S.FAILED


def status_rules(access: Access, view: View, dependencies: feat.Dependencies) -> Iterator[Breach]:
    """Judge an access by the device status."""
    if access.kind is not pci.CfgType.COMMON or not access.write:
        return
    if access.name == "device_status":
        yield from _status(DeviceStatus(access.value), view, dependencies)
        return
    if view.resetting:
        yield Breach("drv-basic-reset-01", f"{access.name} written before the status reads 0")
        yield Breach("drv-pci-common-cfg-05", f"{access.name} written before the status reads 0")
    if access.name == "driver_feature":
        yield from _features(access.value, view)
    if access.name.startswith("queue_") and access.name != "queue_select":
        if not view.features_ok_read:
            yield Breach("drv-init-seq-01", f"{access.name} written before FEATURES_OK reads 1")


def _status(value: DeviceStatus, view: View, dependencies: feat.Dependencies) -> Iterator[Breach]:
    if value == 0:
        return
    if view.resetting:
        yield Breach("drv-basic-reset-01", f"status {value!r} before the status reads 0")
        yield Breach("drv-pci-common-cfg-05", f"status {value!r} before the status reads 0")
        return
    if view.status & _S.FAILED:
        yield Breach("drv-basic-status-03", f"status {value!r} after FAILED, without a reset")
    # The device itself takes DRIVER_OK away while it is suspended.
    if lost := view.status & ~value & _DRIVER_BITS:
        yield Breach("drv-basic-status-02", f"status {value!r} takes {lost!r} away")
    new = value & ~view.status
    for bit, needed in _NEEDS.items():
        if new & bit and needed & ~view.status:
            yield Breach("drv-basic-status-01", f"{bit!r} before {needed & ~view.status!r}")
    if new & _S.FEATURES_OK:
        yield from _feature_set(view, dependencies)
    if new & _S.DRIVER_OK and not view.features_ok_read:
        yield Breach("drv-init-seq-01", "DRIVER_OK without a look at FEATURES_OK")
    if new & _S.DRIVER_OK and view.unread_vectors:
        text = f"not read back: {', '.join(sorted(view.unread_vectors))}"
        yield Breach("drv-pci-msix-05", text)
    yield from _suspend(value, new, view)


def _suspend(value: DeviceStatus, new: DeviceStatus, view: View) -> Iterator[Breach]:
    if new & _S.SUSPEND and not (view.status & _S.DRIVER_OK and view.has(Feature.SUSPEND)):
        yield Breach("drv-init-suspend-01", "SUSPEND before DRIVER_OK or without the feature")
    if value & _S.DRIVER_OK and view.suspending and not view.suspend_read:
        yield Breach("drv-init-suspend-02", "DRIVER_OK before SUSPEND was seen without DRIVER_OK")


def _features(value: int, view: View) -> Iterator[Breach]:
    word = view.selects["driver_feature_select"]
    bits = value << 32 * min(word, feat.FEATURE_BITS_END)
    if view.status & _S.FEATURES_OK and value & ~view.accepted.get(word, 0):
        yield Breach("drv-init-seq-04", f"features {bits:#x} after FEATURES_OK")
    if value & ~view.offered.get(word, 0):
        yield Breach("drv-basic-features-01", f"features {bits:#x} are not offered")
    if found := feat.reserved(bits):
        yield Breach("drv-basic-features-05", f"feature bits {found} are reserved")


def _feature_set(view: View, dependencies: feat.Dependencies) -> Iterator[Breach]:
    for feature, alternatives in feat.unmet(view.features, dependencies):
        text = f"feature {feature} without any of {sorted(alternatives)}"
        yield Breach("drv-basic-features-02", text)
    version = int(Feature.VERSION_1)
    if feat.has(view.all_offered, version) and not view.has(version):
        yield Breach("drv-resv-feat-01", "VERSION_1 is offered and not accepted")


def suspend_rules(access: Access, view: View) -> Iterator[Breach]:
    """Judge an access by whether a suspend was asked for."""
    if not view.suspending or not access.write or access.name == "device_status":
        return
    where = f"{access.kind.name} offset {access.offset:#x} written"
    if view.resuming:
        yield Breach("drv-init-suspend-06", f"{where} before the device has resumed")
    elif access.kind is pci.CfgType.NOTIFY:
        yield Breach("drv-init-suspend-04", f"{where} after asking for suspend")
    elif access.kind in (pci.CfgType.COMMON, pci.CfgType.DEVICE):
        yield Breach("drv-init-suspend-05", f"{where} after asking for suspend")
