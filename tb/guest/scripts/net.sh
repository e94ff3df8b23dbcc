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

# answered COUNT SIZE: every one of the echo requests.
answered() {
    ping -c "$1" -s "$2" -W 20 -i 0.05 -q $PEER | grep -q ", $1 packets received"
}

quick() {
    echo 1 >/proc/sys/net/ipv6/conf/eth0/disable_ipv6
    check net-up "address and link" up || return 1
    check net-ping "3 echo requests of 56 bytes" answered 3 56
}

work() {
    local size
    for size in 1 18 64 255 256 511 1000 1472; do
        check "net-ping-$size" "5 echo requests" answered 5 $size
    done
    check net-fragments "5 echo requests of 6,000 bytes, in fragments" answered 5 6000
    check net-tcp "128 KiB there and back by TCP" tcp_echo 131072
    check net-statistics "ethtool -S counts doorbells" statistics
    check net-mtu "MTU 600 and back" mtu
    check net-down-up "link down and up" down_up
}

tcp_echo() {
    head -c "$1" /dev/urandom >/tmp/sent
    # nc ends with the connection: the peer closes it when it has sent all back.
    timeout 300 nc $PEER 7 </tmp/sent >/tmp/back
    cmp /tmp/sent /tmp/back
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

mtu() {
    ip link set eth0 mtu 600 || return 1
    answered 3 1000 || { ip link set eth0 mtu 1500; return 1; }
    ip link set eth0 mtu 1500 && answered 3 1400
}

down_up() {
    ip link set eth0 down || return 1
    ! answered 1 56 || return 1
    up && answered 3 56
}

traffic() {
    while :; do ping -c 20 -i 0.01 -s 1000 -W 1 -q $PEER >/dev/null 2>&1; usleep 20000; done
}
