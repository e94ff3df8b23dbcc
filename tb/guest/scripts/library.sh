# What the scripts share. Results go to the second serial port, where no kernel message can break a
# line in two, and to the console for people.

say() {
    echo "$*" >/dev/ttyS1
    echo "$*"
}

# result NAME ok|fail DETAIL...
result() {
    say "RESULT $*"
}

# A note to people: shown as progress.
note() {
    say "NOTE $*"
}

# A note that is not for people.
tell() {
    echo "NOTE $*" >/dev/ttyS1
}

# check NAME DETAIL COMMAND...: ok if the command succeeds; its last line tells why if it does not.
check() {
    local name=$1 detail=$2 output
    shift 2
    if output=$("$@" 2>&1); then
        result "$name" ok "$detail"
    else
        echo "$output"
        result "$name" fail "$detail: $(echo "$output" | tail -n 1)"
        return 1
    fi
}

# argument NAME: the value of guest.NAME=... on the kernel's command line.
argument() {
    sed -n "s/.*\bguest\.$1=\([^ ]*\).*/\1/p" /proc/cmdline
}

load() {
    local module
    for module in "$@"; do
        modprobe "$module" || { result "load-$module" fail "modprobe $module"; return 1; }
    done
}

# By rmmod: busybox' modprobe -r also takes what the module needed, and fails where that has other
# users.
unload() {
    rmmod "$1" && ! grep -q "^$1 " /proc/modules
}

# wait_for SECONDS TEST...: until it succeeds.
wait_for() {
    local left=$(($1 * 10))
    shift
    until "$@" 2>/dev/null; do
        [ $left -gt 0 ] || return 1
        left=$((left - 1))
        usleep 100000
    done
}

# The PCI address of the device's function: the one that a virtio driver could bind.
function_address() {
    local path
    for path in /sys/bus/pci/devices/*; do
        [ "$(cat "$path/vendor")" = 0x1af4 ] && basename "$path" && return 0
    done
    return 1
}
