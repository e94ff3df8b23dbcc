# The life of a device of any kind: driver and module gone and back, reset while traffic runs.
# Each ends with the device's own quick check.

life() {
    reload && rebind && rebind_function && reset_in_traffic
}

reload() {
    check unload "module $MODULE" unload "$MODULE" || return 1
    ! present || { result unload-gone fail "the device is still there"; return 1; }
    load "$MODULE"
    back reload
}

# back NAME: the device works again.
back() {
    if wait_for 20 present; then
        result "$1" ok "the device is back"
        quick
    else
        result "$1" fail "the device did not come back"
        return 1
    fi
}

rebind() {
    echo virtio0 >/sys/bus/virtio/drivers/$DRIVER/unbind
    echo virtio0 >/sys/bus/virtio/drivers/$DRIVER/bind
    back rebind
}

rebind_function() {
    local address
    address=$(function_address) || { result rebind-function fail "no function"; return 1; }
    echo "$address" >/sys/bus/pci/drivers/virtio-pci/unbind
    echo "$address" >/sys/bus/pci/drivers/virtio-pci/bind
    back rebind-function
}

# The driver resets the device while requests are under way, three times.
reset_in_traffic() {
    local round=1 noise
    while [ $round -le 3 ]; do
        traffic &
        noise=$!
        usleep 400000
        echo virtio0 >/sys/bus/virtio/drivers/$DRIVER/unbind
        { kill $noise; wait $noise; } 2>/dev/null
        echo virtio0 >/sys/bus/virtio/drivers/$DRIVER/bind
        back "reset-in-traffic-$round" || return 1
        round=$((round + 1))
    done
}
