"""A passive checker of what a driver does to the registers of a virtio-pci function."""

from lib.register_monitor.monitor import RegisterMonitor
from lib.register_monitor.view import Breach

__all__ = ["Breach", "RegisterMonitor"]
