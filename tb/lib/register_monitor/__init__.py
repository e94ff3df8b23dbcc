"""A passive checker of what a driver does to the registers of a virtio-pci function."""

from lib.register_monitor.device_types import BLK, ENTROPY, NET, DeviceRules
from lib.register_monitor.monitor import RegisterMonitor
from lib.register_monitor.view import Breach

__all__ = ["BLK", "ENTROPY", "NET", "Breach", "DeviceRules", "RegisterMonitor"]
