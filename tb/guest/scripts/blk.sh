# Block device: raw writes, a file system, fio, discard.
MODULE=virtio_blk
DRIVER=virtio_blk
DISK=/dev/vda

present() {
    [ -b $DISK ]
}

capacity() {
    echo $(($(cat /sys/block/vda/size) * 512))
}

# write_and_verify BYTES: random data, past the cache of the kernel both ways.
write_and_verify() {
    head -c "$1" /dev/urandom >/tmp/written
    dd if=/tmp/written of=$DISK bs="$1" count=1 oflag=direct conv=fsync 2>/dev/null || return 1
    dd if=$DISK of=/tmp/read bs="$1" count=1 iflag=direct 2>/dev/null || return 1
    cmp /tmp/written /tmp/read
}

quick() {
    check blk-verify "64 KiB written and read back" write_and_verify 65536
}

work() {
    note "disk of $(capacity) bytes, id $(cat /sys/block/vda/serial)"
    check blk-start "the first 4 MiB written and read back" first_part
    check blk-ext4 "mkfs, mount, copy, compare" file_system || return 1
    check blk-fsck "e2fsck finds nothing" e2fsck -fn $DISK
    check blk-fio "random writes, crc32c, 16 at a time" fio --name=verify --filename=$DISK \
        --rw=randwrite --bsrange=512-64k --size="$(fio_size)" --direct=1 --ioengine=libaio \
        --iodepth=16 --verify=crc32c --verify_fatal=1 --do_verify=1 --allow_file_create=0 \
        --numjobs="$(nproc)" --offset_increment="$(fio_size)" --cpus_allowed_policy=split \
        --cpus_allowed=0-$(($(nproc) - 1)) --minimal
    check blk-queues "a virtqueue with interrupts for each processor" queues
    check blk-discard "the whole disk, and 64 KiB written after it" discard
    check blk-end "the last sector; the kernel knows where the end is" last_sector
}

# In pieces: the disk may be as large as the guest's memory. A smaller disk is written whole.
first_part() {
    local piece=262144 place=0 pieces
    pieces=$(($(capacity) / piece))
    [ $pieces -le 16 ] || pieces=16
    head -c $piece /dev/urandom >/tmp/piece
    while [ $place -lt $pieces ]; do
        (echo "piece $place"; cat /tmp/piece) | head -c $piece >/tmp/numbered
        dd if=/tmp/numbered of=$DISK bs=$piece seek=$place oflag=direct 2>/dev/null || return 1
        place=$((place + 1))
    done
    while [ $place -gt 0 ]; do
        place=$((place - 1))
        (echo "piece $place"; cat /tmp/piece) | head -c $piece >/tmp/numbered
        dd if=$DISK of=/tmp/read bs=$piece skip=$place count=1 iflag=direct 2>/dev/null || return 1
        cmp /tmp/numbered /tmp/read || return 1
    done
}

file_system() {
    # By its path: the shell would take the smaller one of busybox.
    /bin/mke2fs -q -F -t ext4 $DISK || return 1
    mount -t ext4 $DISK /mnt || return 1
    cp /bin/busybox /mnt/program || return 1
    mkdir /mnt/scripts && cp /scripts/*.sh /mnt/scripts || return 1
    umount /mnt || return 1
    echo 3 >/proc/sys/vm/drop_caches
    mount -t ext4 $DISK /mnt || return 1
    cmp /bin/busybox /mnt/program && diff -r /scripts /mnt/scripts
    local status=$?
    umount /mnt
    return $status
}

# Bytes for each processor.
fio_size() {
    local size=4194304 most
    most=$(($(capacity) / $(nproc)))
    [ $most -ge $size ] || size=$most
    echo $size
}

queues() {
    grep -E 'virtio[0-9]+-req' /proc/interrupts
    [ "$(ls /sys/block/vda/mq | wc -l)" = "$(nproc)" ] || { echo "other queues"; return 1; }
    awk -v want="$(nproc)" '
        /virtio[0-9]+-req/ {
            count = 0
            for (at = 2; $at ~ /^[0-9]+$/; at++) count += $at
            if (count) busy++
        }
        END { if (busy != want) { print busy + 0 " of them busy"; exit 1 } }' /proc/interrupts
}

discard() {
    blkdiscard $DISK && write_and_verify 65536
}

# The kernel itself refuses what begins behind the end: no request reaches the device.
last_sector() {
    local last=$(($(capacity) / 512 - 1))
    head -c 512 /dev/urandom >/tmp/written
    dd if=/tmp/written of=$DISK bs=512 seek=$last oflag=direct 2>/dev/null || return 1
    dd if=$DISK of=/tmp/read bs=512 skip=$last iflag=direct 2>/dev/null || return 1
    cmp /tmp/written /tmp/read || return 1
    ! dd if=/tmp/written of=$DISK bs=512 seek=$((last + 1)) oflag=direct 2>/dev/null
}

# The machine is reset while requests are under way, by its reset line: the driver gets no word of it.
# The next boot comes here again, finds a disk that is not empty, and looks at what is there: when the
# reset came, four writers filled the MiB at 4 MiB with a letter, over and over.
machine_reset() {
    beginning >/tmp/beginning
    dd if=$DISK of=/tmp/read bs=64k count=1 iflag=direct 2>/dev/null
    if [ "$(tr -d '\0' </tmp/read | wc -c)" != 0 ]; then
        check machine-reset "the disk is right after it" after_reset
        return
    fi
    dd if=/tmp/beginning of=$DISK bs=64k oflag=direct conv=fsync 2>/dev/null
    head -c 262144 /dev/zero | tr '\0' U >/tmp/letters
    dd if=/tmp/letters of=$DISK bs=256k seek=16 oflag=direct 2>/dev/null
    local each count
    for each in 16 17 18 19; do
        while :; do dd if=/tmp/letters of=$DISK bs=256k seek=$each oflag=direct 2>/dev/null; done &
    done
    usleep 200000
    if wait_for 10 under_way; then
        note "$count requests under way: reset"
        echo b >/proc/sysrq-trigger
        sleep 20
    fi
    result machine-reset fail "no reset, or no request under way"
}

beginning() {
    echo "before the reset"
    head -c 65519 /bin/busybox
}

under_way() {
    count=$(awk '{ print $1 + $2 }' /sys/block/vda/inflight)
    [ "$count" -gt 0 ]
}

# The beginning; letters where they were written, one writer's at least; zeros around them and where
# none were yet.
after_reset() {
    local letters others
    cmp /tmp/beginning /tmp/read || return 1
    dd if=$DISK of=/tmp/read bs=256k skip=16 count=4 iflag=direct 2>/dev/null || return 1
    letters=$(tr -dc U </tmp/read | wc -c)
    others=$(tr -d '\0U' </tmp/read | wc -c)
    dd if=$DISK of=/tmp/before bs=256k skip=15 count=1 iflag=direct 2>/dev/null || return 1
    dd if=$DISK of=/tmp/after bs=256k skip=20 count=1 iflag=direct 2>/dev/null || return 1
    others=$((others + $(cat /tmp/before /tmp/after | tr -d '\0' | wc -c)))
    [ "$letters" -ge 262144 ] && [ "$others" = 0 ] || { echo "$letters letters, $others others"; return 1; }
}

traffic() {
    while :; do dd if=$DISK of=/dev/null bs=16k count=64 iflag=direct 2>/dev/null || usleep 50000; done
}
