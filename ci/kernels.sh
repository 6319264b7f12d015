#!/bin/bash
# Shows on other kernels what the sandbox promises: in virtual machines with Linux 5.10, 6.1, 6.12 and the newest, real systemd, cgroup v2
# and an ordinary user `dev`, with and without a delegated control group.
#
#   COFFERDAM_VM_RUN=path/to/vm-run ci/kernels.sh [WORD…]     only the cases whose name has one of the words
#
# The runner boots a throw-away machine and runs one command in it:
#   vm-run --kernel 5.10|6.1|backports|newest --user dev|root [--delegate] [--append KERNEL_ARGS] --share DIR -- COMMAND
# DIR is /share inside, the exit status is the command's. COFFERDAM_BINARY names a static binary; without it one is built.
set -u
cd "$(dirname "$0")/.." || exit 1

if [ -z "${COFFERDAM_VM_RUN:-}" ]; then
    echo "SKIPPED kernels: COFFERDAM_VM_RUN names no program that runs a command in a virtual machine" >&2
    exit 0
fi

binary=${COFFERDAM_BINARY:-}
if [ -z "$binary" ]; then
    # The guest's C library is older than this machine's, so nothing is shared with it.
    RUSTFLAGS="-C target-feature=+crt-static" cargo build --release --target x86_64-unknown-linux-gnu --target-dir target-static || exit 1
    binary=target-static/x86_64-unknown-linux-gnu/release/cofferdam
fi

share=$(mktemp -d) || exit 1
trap 'rm -rf "$share"' EXIT
cp "$binary" "$share/cofferdam" && cp ci/kernels-guest.sh "$share/guest.sh" || exit 1

failed=()
ran=0
# case NAME CHECK RUNNER-OPTIONS…
case_() {
    local name=$1 check=$2
    shift 2
    if [ ${#words[@]} -gt 0 ]; then
        local word wanted=
        for word in "${words[@]}"; do [[ $name == *"$word"* ]] && wanted=1; done
        [ -n "$wanted" ] || return 0
    fi
    ran=$((ran + 1))
    echo "== $name"
    # A machine in software emulation on a busy host: minutes, not seconds.
    "$COFFERDAM_VM_RUN" --timeout 600 --share "$share" "$@" -- "bash /share/guest.sh $check" || failed+=("$name")
}
words=("$@")

case_ "6.1 delegated" "full v2 2" --kernel 6.1 --user dev --delegate
case_ "6.12 delegated" "full v2 6" --kernel backports --user dev --delegate
case_ "newest delegated" "full v2 10+" --kernel newest --user dev --delegate
case_ "6.1 login session" "full supervised 2" --kernel 6.1 --user dev
case_ "6.12 login session" "full supervised 6" --kernel backports --user dev
case_ "newest login session" "full supervised 10+" --kernel newest --user dev
case_ "6.12 root" "full v2 6" --kernel backports --user root
case_ "newest root" "full v2 10+" --kernel newest --user root
case_ "newest root units" "units" --kernel newest --user root
case_ "5.10 refuses" "refuses-old" --kernel 5.10 --user dev --delegate
case_ "6.12 landlock switched off" "refuses-no-landlock" --kernel backports --user dev --append lsm=yama
case_ "6.12 namespaces switched off" "refuses-no-namespaces" --kernel backports --user root
case_ "6.12 hybrid cgroups" "full supervised 6" --kernel backports --user dev --append systemd.unified_cgroup_hierarchy=0
# Later Debian kernels have no memory controller on v1.
case_ "6.1 hybrid cgroups root" "full v1 2" --kernel 6.1 --user root --append systemd.unified_cgroup_hierarchy=0

if [ "$ran" -eq 0 ]; then
    echo "kernels: no case is called ${words[*]}" >&2
    exit 2
fi
if [ ${#failed[@]} -gt 0 ]; then
    printf 'kernels: FAILED: %s\n' "${failed[@]}" >&2
    exit 1
fi
echo "kernels: $ran cases hold"
