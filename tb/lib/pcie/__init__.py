"""A simulated PCIe host for the device under test: root complex, link and TLP-level endpoint.

`host.HostRootComplex` is the host, `endpoint.RtlEndpoint` joins it to the RTL's TLP streams,
`access.PciAccess` is what a driver uses, `monitor.LinkMonitor` counts what crosses the link.
"""

import logging

# The root complex logs every TLP; routing failures are normal while a bus is enumerated.
logging.getLogger("cocotb.pcie").setLevel(logging.ERROR)
