# Entropy device: blocks of /dev/hwrng.
MODULE=virtio_rng
DRIVER=virtio_rng

present() {
    [ -c /dev/hwrng ] && grep -q virtio_rng /sys/class/misc/hw_random/rng_available
}

# read_block FILE BYTES: what was read is told, to be held against the source outside.
read_block() {
    timeout 120 dd if=/dev/hwrng of="$1" bs="$2" count=1 iflag=fullblock 2>/dev/null
    [ "$(wc -c <"$1")" = "$2" ] || { echo "$(wc -c <"$1") of $2 bytes"; return 1; }
    tell "bytes $(xxd -p "$1" | tr -d '\n')"
}

quick() {
    echo virtio_rng.0 >/sys/class/misc/hw_random/rng_current
    check entropy-read "two blocks of 256 bytes" read_blocks 256 || return 1
    check entropy-differ "no two blocks are alike" all_differ 256
}

read_blocks() {
    read_block /tmp/block1 "$1" && read_block /tmp/block2 "$1"
}

# Every 16 bytes of the two blocks occur once.
all_differ() {
    local count
    count=$(cat /tmp/block1 /tmp/block2 | xxd -p -c 16 | sort -u | wc -l)
    [ "$count" = $(($1 / 8)) ] || { echo "$count different of $(($1 / 8))"; return 1; }
}

work() {
    check entropy-long "two blocks of 4 KiB" read_blocks 4096 || return 1
    check entropy-long-differ "no 16 bytes of them are alike" all_differ 4096
    check entropy-small "65 reads of 1 to 64 bytes" small_reads
}

# The last one takes what the kernel's buffer of 64 bytes still has, so that it does not matter
# whether the kernel keeps it while the driver is away.
small_reads() {
    local size
    for size in $(seq 64) 32; do
        read_block /tmp/small "$size" || return 1
    done
}

traffic() {
    while :; do cat /dev/hwrng >/dev/null 2>&1 || usleep 50000; done
}
