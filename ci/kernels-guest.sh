#!/bin/bash
# One case of ci/kernels.sh, inside the virtual machine: guest.sh CHECK [ARGUMENTS…]
set -u
C=/share/cofferdam
work=$(mktemp -d /var/tmp/kernels.XXXXXX) || exit 1
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
mkdir home tree
export HOME=$work/home
cd tree || exit 1
bad=0
# Who runs it, when not the caller.
as=(env)

check() { # WHAT WANTED GOT
    if [ "$2" = "$3" ]; then echo "  ok   $1: $3"; else
        echo "  FAIL $1: wanted '$2', got '$3'"
        bad=1
    fi
}
has() { # WHAT PATTERN TEXT
    if grep -q -e "$2" <<<"$3"; then echo "  ok   $1"; else
        printf '  FAIL %s: no "%s" in:\n%s\n' "$1" "$2" "$3"
        bad=1
    fi
}
# A value of the outcome: out.json is written by the last run.
of() { python3 -c 'import json,sys
try:
    value = json.load(open(sys.argv[1]))
    for key in sys.argv[2].split("."): value = value[key]
except (ValueError, KeyError): value = "no outcome"
print(value)' ../out.json "$1"; }
run() { # OPTIONS… -- COMMAND: sets $status
    "${as[@]}" "$C" exec --outcome ../out.json "$@" >../stdout 2>../stderr </dev/null
    status=$?
}
groups() { find /sys/fs/cgroup -type d -name 'cofferdam-*-*' 2>/dev/null | wc -l; }

# The whole machine holds: limits in MODE, Landlock's version ABI.
full() {
    local mode=$1 abi=$2
    run -- true
    check "true ends with" 0 "$status"
    if [ "$status" != 0 ]; then
        # Nothing below could hold either.
        cat ../stderr
        bad=1
        return
    fi
    check "limits" "$mode" "$(of receipt.limits)"
    # The newest kernel is a newer one each month: from this one on.
    got=$(of receipt.landlock_abi)
    case $abi in
        *+) [ "$got" -ge "${abi%+}" ] 2>/dev/null && abi=$got || abi="${abi%+} or more" ;;
    esac
    check "Landlock ABI" "$abi" "$got"
    check "tier" full "$(of receipt.tier)"
    check "layers missing or not holding" "[]" "$(python3 -c 'import json
print([l["name"] for l in json.load(open("../out.json"))["receipt"]["layers"] if l["wanted"] and (not l["enforced"] or l["probed"] is False)])')"

    run --memory 64MiB -- python3 -c 'x = bytearray(1 << 30)'
    check "1 GiB in 64 MiB ends with" 137 "$status"
    check "its cause" memory "$(of cause)"
    run --memory 64MiB -- python3 -c 'x = bytearray(8 << 20)'
    check "8 MiB in 64 MiB ends with" 0 "$status"
    # Together too much, each alone not.
    run --memory 96MiB -- sh -c 'for i in 1 2 3 4 5 6 7 8; do python3 -c "import time; x = bytearray(20 << 20); time.sleep(20)" & done; wait'
    check "8 times 20 MiB in 96 MiB: cause" memory "$(of cause)"

    run --pids 32 -- sh -c 'while :; do sleep 60 & done'
    check "a fork bomb in 32 processes: cause" pids "$(of cause)"
    run --pids 32 -- sh -c 'for i in 1 2 3 4 5; do sleep 0.1 & done; wait'
    check "6 of 32 processes end with" 0 "$status"

    run --wall 2s -- sh -c 'setsid sleep 600 & sleep 600'
    check "wall clock ends with" 124 "$status"
    check "processes left" 0 "$(of processes_left)"
    check "sleepers left" 0 "$(pgrep -c -x sleep)"
    if [ "$mode" != supervised ]; then
        run --cpus 0.2 --wall 5s -- sh -c 'while :; do :; done'
        check "a fifth of a processor is used, no more" True "$(python3 -c "print(300 < $(of cpu_ms) < 1900)")"
    fi

    # The supervisor is killed: everything inside ends with it, and the next start takes its group away.
    "$C" exec -- sleep 601 >/dev/null 2>&1 </dev/null &
    local supervisor=$! i
    for i in $(seq 200); do pgrep -x sleep >/dev/null && break; sleep 0.1; done
    check "a sleeper runs" 1 "$(pgrep -c -x sleep)"
    kill -9 $supervisor
    wait $supervisor 2>/dev/null
    for i in $(seq 100); do pgrep -x sleep >/dev/null || break; sleep 0.1; done
    check "sleepers after the supervisor's death" 0 "$(pgrep -c -x sleep)"
    run -- true
    check "groups left after the next start" 0 "$(groups)"

    local report
    report=$("$C" doctor)
    check "doctor ends with" 0 $?
    if [ "$mode" = supervised ]; then has "doctor names what is less" 'less  *limits' "$report"; else
        has "doctor finds everything" '^ready: ' "$report"
    fi
}

# Root in units of systemd that are not delegated: beside the units, unless one has a memory limit that would be escaped.
units() {
    local out
    out=$(systemd-run --pipe --wait -q "$C" doctor --json)
    has "a plain unit: beside the units" 'cgroup v2 in' "$out"
    out=$(systemd-run --pipe --wait -q -p MemoryMax=900M "$C" doctor --json)
    has "a limited unit: not escaped" 'has a memory limit of its own' "$out"
    out=$(systemd-run --pipe --wait -q -p MemoryMax=900M -p Delegate=yes "$C" doctor --json)
    has "a limited and delegated unit: inside it" 'cgroup v2 in' "$out"
    out=$(systemd-run --pipe --wait -q -p MemoryMax=900M unshare --cgroup --mount sh -c "umount /sys/fs/cgroup; mount -t cgroup2 cgroup2 /sys/fs/cgroup && $C doctor --json")
    has "a container's own hierarchy: inside it" 'cgroup v2 in /sys/fs/cgroup/cofferdam"' "$out"
    has "a container's own hierarchy: ready" '"verdict": "ready"' "$out"
    check "nothing of it is left" "" "$(find /sys/fs/cgroup -maxdepth 1 -name 'cofferdam*')"
}

# A refusal: exit 6, with what is needed, and nothing was run.
refused() { # TIER NEED
    run --require "$1" -- sh -c 'echo ran >ran'
    check "$1 ends with" 6 "$status"
    has "$1 says what it needs" "$2" "$(cat ../stderr)"
    check "$1 ran nothing" no "$([ -e ran ] && echo yes || echo no)"
}
sick() { # PATTERN…: doctor refuses and names the mend
    local report pattern
    report=$("${as[@]}" "$C" doctor)
    check "doctor ends with" 6 $?
    for pattern in "$@"; do has "doctor says $pattern" "$pattern" "$report"; done
    check "doctor --json" not-enforceable "$("${as[@]}" "$C" doctor --json | python3 -c 'import json,sys; print(json.load(sys.stdin)["verdict"])')"
}

case $1 in
full) full "$2" "$3" ;;
units) units ;;
refuses-old)
    refused full 'need: Landlock.*have: no Landlock (Linux 5.10'
    refused no-userns 'need: Landlock.*have: no Landlock (Linux 5.10'
    sick 'MISSING  landlock' 'update the kernel'
    ;;
refuses-no-landlock)
    refused full 'need: Landlock'
    refused no-userns 'need: Landlock'
    sick 'MISSING  landlock' 'lsm='
    ;;
refuses-no-namespaces)
    # Only root can switch them off; an ordinary user meets it.
    sysctl -q -w user.max_user_namespaces=0
    chmod 755 "$work" && chown -R dev: "$work"
    as=(setpriv --reuid=dev --regid=dev --clear-groups env "HOME=$HOME")
    refused full 'need: user namespaces'
    sick 'MISSING  namespaces' 'sysctl -w user.max_user_namespaces='
    run --require no-userns -- true
    check "no-userns works all the same" 0 "$status"
    check "its tier" no-userns "$(of receipt.tier)"
    ;;
*)
    echo "kernels-guest: no check is called $1" >&2
    exit 2
    ;;
esac
exit $bad
