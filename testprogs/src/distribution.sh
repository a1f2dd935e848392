# distribution.sh ROOT DIR... -- COMMAND...: runs COMMAND in the root directory ROOT, in which each
# DIR is mounted read-only under the same path. Must be run in its own mount and PID namespace;
# these end with it, and with them all mounts and processes.
set -eu
root=$1
shift
mount --make-rprivate /
# Programs may change the propagation of the mount at /, so it must be a mount point.
mount --bind "$root" "$root"
while [ "$1" != -- ]; do
    mkdir -p "$root$1"
    mount --bind "$1" "$root$1"
    mount -o remount,bind,ro "$root$1"
    shift
done
shift
mount --rbind /dev "$root/dev"
mount -t proc proc "$root/proc"
# Does not use exec, because this shell is the first process of the namespace and reaps orphans.
chroot "$root" "$@"
