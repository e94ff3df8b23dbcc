"""``python -m virtio_rtl``."""

from .cli import main

main()
