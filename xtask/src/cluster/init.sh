# The first process inside a cluster's namespaces. Its end is the end of everything inside.
set -eu
state=$1

mount -t proc proc /proc

# Sockets, locks and network namespaces of the runtime stay inside and vanish with it.
mount -t tmpfs -o mode=755 run /run
mkdir -p /run/lock /run/netns

# Places that the kubelet and CNI do not let one choose.
for path in /var/lib/kubelet /var/lib/cni /var/log/containers /var/log/pods; do
    mkdir -p "$path" "$state/node$path"
    mount --bind "$state/node$path" "$path"
done

# The kubelet sets these for the whole machine unless it finds them as it wants them.
mkdir -p "$state/node/sysctl"
for setting in vm/overcommit_memory=1 vm/panic_on_oom=0 kernel/panic=10 kernel/panic_on_oops=1 \
    kernel/keys/root_maxkeys=1000000 kernel/keys/root_maxbytes=25000000; do
    file="$state/node/sysctl/$(echo "${setting%=*}" | tr / .)"
    echo "${setting#*=}" >"$file"
    mount --bind "$file" "/proc/sys/${setting%=*}"
done

# Volumes that are mounted later must reach containers that run already.
mount --make-rshared /

echo 1 >/proc/sys/net/ipv4/ip_forward
ip link set lo up

: >"$state/inside"

# A shell that waits also reaps the orphans that end up with it.
while :; do
    sleep 2147483647 &
    wait $! || :
done
