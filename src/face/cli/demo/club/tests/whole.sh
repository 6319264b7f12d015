#!/bin/sh
# Walks through the club as a member would, over every page there is so far: the integration check.
set -eu
cd "$(dirname "$0")/.."
has() { [ -f "lib/$1.sh" ]; }
pages=members
./club members | grep -qx ada
if has landing; then
    pages="$pages, home"
    ./club home | grep -q members
fi
if has auth; then
    pages="$pages, login"
    token=$(./club login ada)
    ! ./club login nobody 2>/dev/null
fi
if has dashboard; then
    pages="$pages, dashboard"
    ./club dashboard "$token" | grep -q 'Hello ada'
    ./club home | grep -qx -- '- dashboard'
fi
if has billing; then
    pages="$pages, bill"
    ./club bill "$token" | grep -q 120
    ./club home | grep -qx -- '- bill'
fi
if has settings; then
    pages="$pages, settings"
    ./club home | grep -q "$(./club settings name)"
fi
echo "walked through: $pages"
