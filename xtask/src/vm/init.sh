#!/bin/sh
# The first program of the virtual machine: mounts what the probes need, runs the tests, turns the machine off.
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t tmpfs tmp /tmp
mount -t tmpfs tmp /var/tmp
mount -t tracefs trace /sys/kernel/tracing
mount -t cgroup2 cgroup /sys/fs/cgroup
ip link set lo up
tests --nocapture --test-threads 1 FILTERS
echo "VERDICT$?"
poweroff -f
