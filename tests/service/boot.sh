#!/bin/sh
# Becomes a systemd that sees this machine's file system, with /etc, /opt, /var/lib and /run of its own.
# $1 is the folder for those.
# Runs in mount, process, control group, IPC and host name namespaces of its own, as root.
set -eu
folder=$1
mount --make-rprivate /

cp -a /etc "$folder/etc"
cp --remove-destination -L /etc/resolv.conf "$folder/etc/resolv.conf" 2>/dev/null || true # often a link into /run
rm -rf "$folder/etc/systemd/system"
mkdir -p "$folder/etc/systemd/system" "$folder/opt" "$folder/lib"
cp "$folder"/units/* "$folder/etc/systemd/system"
mount --bind "$folder/etc" /etc
mount --bind "$folder/opt" /opt
mount --bind "$folder/lib" /var/lib
mount -t tmpfs -o mode=755 tmpfs /run
mkdir /run/lock

# Control groups as seen from here. Processes are grouped; what groups may use up is left to the machine.
if [ "$(stat -f -c %T /sys/fs/cgroup)" = cgroup2fs ]; then
    mount -t cgroup2 cgroup2 /sys/fs/cgroup
else
    mount -t tmpfs -o mode=755 tmpfs /sys/fs/cgroup
    mkdir /sys/fs/cgroup/systemd /sys/fs/cgroup/unified
    mount -t cgroup -o none,name=systemd,xattr cgroup /sys/fs/cgroup/systemd
    mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified
fi

# Credentials are mounted in a namespace of their own and have to show here. In a container systemd leaves that to whoever
# made it.
mount --make-rshared /

# No watchdog device, no kernel modules, no devices: what a container's systemd leaves alone.
exec env -i container=tests PATH="$PATH" SYSTEMD_UNIT_PATH=/etc/systemd/system \
    /usr/lib/systemd/systemd --system --unit=tests.target --log-target=console
