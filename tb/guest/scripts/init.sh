#!/bin/busybox sh
# The first process of the guest: devices, modules, then the scripts that the command line names
# (guest.run=name,name,...), and off.
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sysfs /sys
/bin/busybox mount -t devtmpfs devtmpfs /dev
/bin/busybox --install -s /bin
export PATH=/bin
. /scripts/library.sh

load virtio_pci
result boot ok "$(uname -r)"
for script in $(argument run | tr , ' '); do
    say "BEGIN $script"
    sh "/scripts/$script.sh" || result "$script" fail "the script ended with status $?"
done
say END
sync
poweroff -f
