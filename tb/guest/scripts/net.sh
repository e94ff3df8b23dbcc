# Network device: a peer outside at 10.0.0.2 answers ARP, ICMP echo and TCP echo.
MODULE=virtio_net
DRIVER=virtio_net
PEER=10.0.0.2

present() {
    [ -d /sys/class/net/eth0 ]
}

up() {
    ip address show eth0 | grep -q 10.0.0.1/24 || ip address add 10.0.0.1/24 dev eth0
    ip link set eth0 up
    wait_for 10 carrier
}

carrier() {
    [ "$(cat /sys/class/net/eth0/carrier)" = 1 ]
}

# answered COUNT SIZE: echo requests one after the other, each by a ping of its own. Where the device is
# a simulation, a ping of many gives up too early (a second after its last request, once it had a
# reply), and replies that it has not read yet fill its socket, which then drops the next ones.
answered() {
    local each
    for each in $(seq "$1"); do
        ping -c 1 -s "$2" -W 20 -q $PEER >/dev/null 2>&1 || { echo "no reply to $each of $1"; return 1; }
    done
}

quick() {
    echo 1 >/proc/sys/net/ipv6/conf/eth0/disable_ipv6
    check net-up "address and link" up || return 1
    check net-ping "3 echo requests of 56 bytes" answered 3 56
}

work() {
    local size
    for size in 1 18 64 255 256 511 1000 1472 6000; do
        check "net-ping-$size" "5 echo requests" answered 5 $size
    done
    check net-fragments "5 echo requests of 6,000 bytes, in fragments" with_mtu 1500 6000
    check net-tcp "128 KiB there and back by TCP" tcp_echo 8 16384
    check net-statistics "ethtool -S counts doorbells" statistics
    check net-mtu "MTU 600 and back" with_mtu 600 1000
    check net-down-up "link down and up" down_up
    check net-checksums "the kernel found no wrong one" checksums
}

# tcp_echo COUNT SIZE: connections at once, each with as much as the kernel's buffers hold. With more,
# nc may wait for room to send while what came back waits for it, and neither gets on.
tcp_echo() {
    local each failed=0
    for each in $(seq "$1"); do
        head -c "$2" /dev/urandom >/tmp/sent$each
        # nc ends with the connection: the peer closes it when it has sent all back.
        timeout 100 nc $PEER 7 </tmp/sent$each >/tmp/back$each &
    done
    wait
    for each in $(seq "$1"); do
        cmp /tmp/sent$each /tmp/back$each || failed=1
    done
    return $failed
}

# Doorbells that the driver counts for its queues; each kernel has other names for them.
kicks() {
    ethtool -S eth0 | awk '/_kicks:/ { sum += $2 } END { print sum + 0 }'
}

statistics() {
    local before
    before=$(kicks)
    answered 3 56 || return 1
    ethtool -S eth0 | grep -q drops || { echo "no counters"; return 1; }
    [ "$(kicks)" -gt "$before" ] || { echo "no doorbells counted"; return 1; }
    ethtool -i eth0 | grep -q virtio || { echo "another driver"; return 1; }
    [ "$(cat /sys/class/net/eth0/statistics/rx_errors)" = 0 ] || { echo "receive errors"; return 1; }
}

# with_mtu MTU SIZE: echo requests in fragments, and one that needs none.
with_mtu() {
    local before failed=0
    before=$(cat /sys/class/net/eth0/mtu)
    ip link set eth0 mtu "$1" || return 1
    answered 5 "$2" && answered 3 $(($1 - 100)) || failed=1
    ip link set eth0 mtu "$before" && answered 3 "$2" && return $failed
}

down_up() {
    ip link set eth0 down || return 1
    ! answered 1 56 || return 1
    up && answered 3 56
}

# What TCP would hide: the other side sends again what was damaged on its way in.
checksums() {
    awk '
        $1 in names {
            split(names[$1], name)
            for (at = 2; at <= NF; at++)
                if (name[at] ~ /InCsumErrors|InHdrErrors/ && $at) { print $1, name[at], $at; wrong = 1 }
        }
        { names[$1] = $0 }
        END { exit wrong }' /proc/net/snmp
}

traffic() {
    while :; do ping -c 20 -i 0.01 -s 1000 -W 1 -q $PEER >/dev/null 2>&1; usleep 20000; done
}
