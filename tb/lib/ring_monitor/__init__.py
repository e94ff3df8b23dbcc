"""A passive checker of virtqueues: `RingMonitor`."""

from lib.ring_monitor.breach import DEVICE, DRIVER, Breach, Report
from lib.ring_monitor.monitor import RingMonitor

__all__ = ["DEVICE", "DRIVER", "Breach", "Report", "RingMonitor"]
