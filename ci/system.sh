# Sourced by the scripts that try cofferdam on a new Debian 12: makes the system, and enters it.
#
# A real root (pivot_root) and not a chroot: the kernel makes no user namespaces for processes in a chroot.

say() { printf '\n== %s\n' "$*"; }
fail() { printf '%s: %s\n' "$(basename "$0" .sh)" "$*" >&2; exit 1; }

# The archive of a Debian 12 with its base system alone. Kept where it is, when it is there already.
make_system() { # ARCHIVE WORKPLACE
    [ ! -s "$1" ] || return 0
    say "making a Debian 12 with its base system alone"
    if command -v mmdebstrap >/dev/null 2>&1; then
        mmdebstrap --quiet --variant=minbase bookworm "$1"
        return 0
    fi
    if ! command -v debootstrap >/dev/null 2>&1; then
        command -v apt-get >/dev/null 2>&1 || fail "neither mmdebstrap nor debootstrap is here: install one of them"
        apt-get update -qq && apt-get install -y -qq --no-install-recommends debootstrap >/dev/null
    fi
    debootstrap --variant=minbase bookworm "$2/made" >/dev/null
    tar -C "$2/made" -cf "$1" .
    rm -rf "$2/made"
}

# Makes a folder the root, with devices and kernel file systems of its own; the old root is gone. In own mount and process namespaces, and the
# folder is a mount.
enter_system() { # ROOT
    cd "$1"
    mount -t proc proc proc
    mount -t tmpfs -o mode=755 dev dev
    for name in null zero full random urandom tty; do
        touch "dev/$name"
        mount --bind "/dev/$name" "dev/$name"
    done
    # As every machine and every container has one.
    mknod dev/console c 5 1
    mkdir -p dev/shm dev/pts old
    mount -t tmpfs shm dev/shm
    mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
    ln -s pts/ptmx dev/ptmx
    ln -s /proc/self/fd dev/fd
    mount -t sysfs -o ro sys sys
    ip link set lo up 2>/dev/null || true
    pivot_root . old
    cd /
    umount -l /old
    rmdir /old
}

# The environment of a new login there, and nothing of this host's.
clean() { # COMMAND…
    exec env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 TERM=dumb "$@"
}
