"""The numbers of virtio 1.4 as plain data: offsets, bits, structures and their sections.

Read by the models and by the register maps of the RTL; compared with the kernel's own headers
in `tb/models/test_kernel_headers.py`.
"""
