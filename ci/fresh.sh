#!/bin/bash
# Runs the two commands of the README on a Debian 12 that has nothing but its base system, as an ordinary user and as root.
#
# usage: ci/fresh.sh [STEP…]       user-demo root-demo user-tests root-tests (all, in this order)
#        COFFERDAM_ROOT_TAR=FILE …  takes the base system from this archive, and keeps it there when it does not exist yet
#        COFFERDAM_FRESH=FOLDER …   the system is kept there, and a later run goes on with what an earlier one built and installed
#
# What a person has to bring is brought: this host's Rust toolchain (read-only), the crates it has downloaded, and a clone of the commit that is
# checked out here. Everything else comes from the network, by the commands that the README and ci/test.sh name. Two builds and two rounds
# of tests: an hour on two processors. Nothing is left that was not asked for.
set -eu
. "$(dirname "$0")/system.sh"

if [ "${1:-}" = --inside ]; then
    root=$2
    shift 2
    mount --bind "$root" "$root"
    mkdir -p "$root/usr/local/rustup"
    mount --bind "${RUSTUP_HOME:-$HOME/.rustup}" "$root/usr/local/rustup"
    mount -o remount,bind,ro "$root/usr/local/rustup"
    enter_system "$root"
    clean PATH=/usr/local/cargo/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin RUSTUP_HOME=/usr/local/rustup \
        CARGO_HOME=/usr/local/cargo /bin/bash /inside.sh "$@"
fi

[ "$(id -u)" = 0 ] || fail "only root can make a new system; run it with sudo, or in a virtual machine"
here=$(realpath "$(dirname "$0")/..")
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
root=${COFFERDAM_FRESH:-$place/root}
tar=${COFFERDAM_ROOT_TAR:-$place/root.tar}
[ $# -gt 0 ] || set -- user-demo root-demo user-tests root-tests

if [ ! -d "$root" ]; then
    make_system "$tar" "$place"
    mkdir -p "$root.part"
    tar -C "$root.part" -xf "$tar"
    # As the image of a container has it: one place. It belongs to whoever builds; what everybody can write to is shown to no sandbox.
    cp -a "${CARGO_HOME:-$HOME/.cargo}" "$root.part/usr/local/cargo"
    mv "$root.part" "$root"
fi
cp /etc/resolv.conf "$root/etc/resolv.conf"
# A network that has certificates of its own has them on this host.
mkdir -p "$root/usr/local/share/ca-certificates"
cp -r /usr/local/share/ca-certificates/. "$root/usr/local/share/ca-certificates"
mkdir -p "$root/etc/ssl/certs"
[ -e "$root/etc/ssl/certs/ca-certificates.crt" ] || cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/brought.crt"
if [ -d "$root/project" ]; then
    git -c safe.directory='*' -C "$root/project" fetch -q "$here" HEAD
    git -c safe.directory='*' -C "$root/project" reset -q --hard FETCH_HEAD
else
    git -c safe.directory='*' clone -q "$here" "$root/project"
fi

cat >"$root/inside.sh" <<'INSIDE'
set -u
say() { printf '\n== %s\n' "$*"; }
install() { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null; }
for bundle in /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/brought.crt; do
    [ ! -e "$bundle" ] || break
done
export SSL_CERT_FILE="$bundle" CARGO_HTTP_CAINFO="$bundle" PIP_CERT="$bundle" NODE_EXTRA_CA_CERTS="$bundle"

as() { # USER COMMAND…
    user=$1
    shift
    chown -R "$user:" /project /usr/local/cargo
    cd /project
    if [ "$user" = root ]; then
        "$@"
    else
        setpriv --reuid "$user" --regid "$user" --init-groups --inh-caps=-all env HOME=/home/"$user" USER="$user" "$@"
    fi
}
status=0
must() { # WHAT LOG COMMAND…
    what=$1 log=$2
    shift 2
    say "$what: $*"
    SECONDS=0
    "$@" >"$log" 2>&1
    code=$?
    tail -n "${SHOWN:-40}" "$log"
    say "$what: exit code $code after $SECONDS s (all of it: $log)"
    [ "$code" = 0 ] || status=1
    return "$code"
}
demo() {
    must "$1: demo" "/$1-demo.log" as "$1" cargo run --release --locked -- demo || return
    grep -q '^5 of 5 stories landed' "/$1-demo.log" || { echo "FAILED: no summary"; status=1; }
}
say "installed packages: $(dpkg-query -W | wc -l); cc: $(command -v cc || echo none); git: $(command -v git || echo none)"
id tester >/dev/null 2>&1 || useradd --create-home tester
# The README: a Rust toolchain and a C compiler.
command -v cc >/dev/null 2>&1 || install gcc libc6-dev
cargo --version
for step; do
    case $step in
        user-demo) demo tester ;;
        root-demo) demo root ;;
        user-tests)
            # What it names is a command, and that command is what is run.
            as tester ci/test.sh --missing
            packages=$(cd /project && ci/test.sh --missing | head -n 1)
            [ -z "$packages" ] || install $packages || status=1
            SHOWN=80 must "tester: tests" /tester-tests.log as tester ci/test.sh
            ;;
        root-tests) SHOWN=80 must "root: tests" /root-tests.log as root .ci/run ;;
        *) echo "unknown step: $step"; status=2 ;;
    esac
done
[ "$status" = 0 ] || { echo 'FAILED: see above'; exit "$status"; }
say "all is well"
INSIDE

unshare --mount --propagation private --pid --fork --kill-child --uts --ipc "$0" --inside "$root" "$@"
