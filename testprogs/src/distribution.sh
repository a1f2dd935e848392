# distribution.sh ROOT DIR... -- COMMAND...: runs COMMAND in the root directory ROOT, where each DIR is found under its own
# path, read-only. To be run in a mount and a PID namespace of its own: these end with it, and all mounts and processes too.
set -eu
root=$1
shift
mount --make-rprivate /
# Programs may change how the mount at / propagates, so there has to be one.
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
# Without exec: this shell is the namespace's first process, and reaps the orphans.
chroot "$root" "$@"
