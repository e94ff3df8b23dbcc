# A driver in user space: testpmd of DPDK takes the network device over uio_pci_generic. What it
# sends comes back from the peer by UDP echo, and testpmd sends it again.
MODULE=uio_pci_generic
LOG=/tmp/testpmd.log
PROCESSOR=/proc/cpuinfo

# The function goes from the kernel's driver to uio.
present() {
    local address
    address=$(function_address) || return 1
    local function=/sys/bus/pci/devices/$address
    [ "$(driver_of "$function")" = uio_pci_generic ] && return 0
    echo uio_pci_generic >"$function/driver_override"
    [ ! -e "$function/driver" ] || echo "$address" >"$function/driver/unbind"
    echo "$address" >/sys/bus/pci/drivers_probe
    [ "$(driver_of "$function")" = uio_pci_generic ]
}

driver_of() {
    basename "$(readlink "$1/driver")"
}

work() {
    # DPDK opens no library below a folder that everybody may write to.
    chmod 755 /
    mkdir -p /dev/hugepages /var/run
    mount -t hugetlbfs hugetlbfs /dev/hugepages
    echo 64 >/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages
    testpmd >$LOG 2>&1
    cat $LOG
    local features
    features=$(sed -n 's/.*features after negotiate = \([0-9a-f]*\).*/\1/p' $LOG | tail -n 1)
    note "features $(bits "0x${features:-0}")"
    check dpdk-path "$(paths)" takes "$(wanted_paths "0x${features:-0}")"
    check dpdk-echo "frames out and back: $(counter RX), $(counter TX)" many_frames
}

# Both lcores share what processors there are. The vectorised code is asked for: for packed rings it
# wants vectors of 512 bits to be allowed.
testpmd() {
    {
        echo "start tx_first 1"
        sleep 10
        echo "stop"
        echo "show port stats 0"
        echo "quit"
    } | dpdk-testpmd --lcores 0@0,1@0 --no-telemetry -m 96 --force-max-simd-bitwidth=512 \
        -d /lib/x86_64-linux-gnu/librte_net_virtio.so.25 \
        -d /lib/x86_64-linux-gnu/librte_mempool_ring.so.25 \
        -a "$(function_address),vectorized=1" --log-level 'pmd.net.virtio.*:debug' -- \
        -i --total-num-mbufs=4096 --forward-mode=5tswap --tx-ip=10.0.0.1,10.0.0.2 --tx-udp=9,7
}

# The code that the driver has chosen to receive and to transmit with.
paths() {
    sed -n 's/.*: virtio: using \(.*\) path on port 0.*/\1/p' $LOG | sort | tr '\n' ',' | sed 's/,$//'
}

# wanted_paths 0xHEX: what it has to choose for these features. For packed rings its vectorised code
# takes AVX-512 besides IN_ORDER; for split rings it receives only, and not with IN_ORDER.
wanted_paths() {
    local packed=$(($1 >> 34 & 1)) in_order=$(($1 >> 35 & 1)) wide=0
    ! grep -qw avx512f $PROCESSOR || wide=1
    case $packed$in_order$wide in
        111) echo "packed ring vectorized Rx,packed ring vectorized Tx" ;;
        1*) echo "packed ring standard Rx,packed ring standard Tx" ;;
        01*) echo "inorder Rx,inorder Tx" ;;
        *) echo "standard Tx,vectorized Rx" ;;
    esac
}

takes() {
    [ "$(paths)" = "$1" ] || { echo "expected: $1"; return 1; }
}

counter() {
    sed -n "s/^ *$1-packets: *\([0-9]*\).*/$1 \1/p" $LOG | tail -n 1
}

many_frames() {
    local received
    received=$(counter RX)
    received=${received#RX }
    [ "${received:-0}" -ge 64 ] || { echo "too few: a burst of 32 goes round and round"; return 1; }
}

# bits 0xHEX: as Linux shows features, the lowest first.
bits() {
    local value=$(($1)) text= place=0
    while [ $place -lt 63 ]; do
        text=$text$((value >> place & 1))
        place=$((place + 1))
    done
    echo "$text"
}
