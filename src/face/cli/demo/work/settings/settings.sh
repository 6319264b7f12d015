# What the club can set for itself: data/settings, one name=value a line. The home page follows.

setting() { # NAME DEFAULT
    line=$(grep "^$1=" "$here/data/settings" 2>/dev/null | tail -n 1) || line=
    if [ -n "$line" ]; then echo "${line#*=}"; else echo "$2"; fi
}

club_name() {
    setting name "The Club"
}

page_settings() { # NAME
    setting "$1" "(not set)"
}
