#!/bin/busybox sh
# The first process of the guest. The kernel's command line says which device there is
# (guest.device=NAME) and what to do with it (guest.run=STEP,STEP): steps are functions of
# DEVICE.sh or of life.sh.
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sysfs /sys
/bin/busybox mount -t devtmpfs devtmpfs /dev
/bin/busybox --install -s /bin
export PATH=/bin
. /scripts/library.sh
. "/scripts/$(argument device).sh"
. /scripts/life.sh

load virtio_pci "$MODULE"
result boot ok "$(uname -r)"
if wait_for 20 present; then
    features=/sys/bus/virtio/devices/virtio0/features
    [ ! -e $features ] || note "features $(cat $features)"
    for step in $(argument run | tr , ' '); do
        note "step $step"
        $step
    done
else
    result present fail "the driver did not take the device"
fi
say END
sync
poweroff -f
