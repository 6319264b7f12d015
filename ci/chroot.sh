#!/bin/bash
# Installs the Debian package on a Debian 12 that has nothing but its base system, and uses it there as root and as an ordinary user.
#
# usage: ci/chroot.sh PACKAGE.deb          makes the system with mmdebstrap or debootstrap from the archive that this host uses
#        COFFERDAM_ROOT_TAR=FILE …         takes it from this archive, and keeps it there when it does not exist yet
#
# Everything happens in a mount and process namespace of its own, below a temporary folder, without a network: nothing is left.
set -eu
. "$(dirname "$0")/system.sh"

if [ "${1:-}" = --inside ]; then
    mount -t tmpfs -o mode=755 cofferdam-chroot "$2"
    tar -C "$2" -xf "$4"
    cp "$3" "$2/cofferdam.deb"
    enter_system "$2"
    clean /bin/bash /inside.sh
fi

package=$(realpath "${1:?usage: ci/chroot.sh PACKAGE.deb}")
[ "$(id -u)" = 0 ] || fail "only root can install packages into a new system; run it with sudo, or in a virtual machine"
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
mkdir "$place/root"

tar=${COFFERDAM_ROOT_TAR:-$place/root.tar}
make_system "$tar" "$place"

# What is done inside. It is added to the system's archive, because nothing of this host is visible there.
cp "$tar" "$place/system.tar"
cat >"$place/inside.sh" <<'INSIDE'
set -eu
say() { printf '\n== %s\n' "$*"; }
say "installed packages: $(dpkg-query -W | wc -l); git: $(command -v git || echo none); perl: $(command -v perl || echo none)"
dpkg -i /cofferdam.deb
dpkg -V cofferdam
test -s /usr/share/man/man1/cofferdam-exec.1.gz
bash -n /usr/share/bash-completion/completions/cofferdam
useradd --create-home tester
mkdir /work && chown tester /work
cat >/try.sh <<'TRY'
set -u
cd "$1"
failed=0
try() { # CODE COMMAND…
    wanted=$1
    shift
    printf '\n-- %s: %s\n' "$(id -un)" "$*"
    code=0
    "$@" || code=$?
    [ "$code" = "$wanted" ] || { printf 'FAILED: exit code %s, and not %s\n' "$code" "$wanted"; failed=1; }
}
try 0 cofferdam --version
try 0 cofferdam doctor
try 0 cofferdam exec -- true
try 7 cofferdam exec -- sh -c 'exit 7'
try 1 cofferdam -q exec -- cat /etc/shadow
try 0 cofferdam probe
try 2 cofferdam init
try 0 cofferdam init --dry-run
if cofferdam demo --help >/dev/null 2>&1; then
    try 0 cofferdam demo
fi
exit "$failed"
TRY
status=0
mkdir /root/project
bash /try.sh /root/project || status=1
setpriv --reuid tester --regid tester --init-groups --inh-caps=-all --bounding-set=-all \
    env HOME=/home/tester USER=tester bash /try.sh /work || status=1
say "removing it"
dpkg --purge cofferdam
left=$(find / -xdev -name '*cofferdam*' -not -path '/proc/*' -not -path '/root/.local/*' -not -path '/home/tester/.local/*' \
    -not -name cofferdam.deb 2>/dev/null || true)
[ -z "$left" ] || { printf 'FAILED: left behind:\n%s\n' "$left"; status=1; }
# The root itself is one; nothing else may be called so.
mounts=$(grep cofferdam /proc/mounts | grep -v ' / ' || true)
[ -z "$mounts" ] || { printf 'FAILED: mounts are left:\n%s\n' "$mounts"; status=1; }
for process in /proc/[0-9]*; do
    case $(tr '\0' ' ' <"$process/cmdline" 2>/dev/null || true) in
        *cofferdam*) echo "FAILED: a process is left: $process"; status=1 ;;
    esac
done
[ "$status" = 0 ] || { echo 'FAILED: see above'; exit 1; }
say "all is well"
INSIDE
tar -C "$place" --owner=0 --group=0 --mode=755 -rf "$place/system.tar" inside.sh

say "using it there"
unshare --mount --propagation private --pid --fork --kill-child --net --uts --ipc \
    "$0" --inside "$place/root" "$package" "$place/system.tar"
