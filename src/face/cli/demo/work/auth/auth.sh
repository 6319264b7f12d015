# Who is there: a login gives a token, and a token tells a name. Nobody has to get capitals right.

exact() { # NAME
    echo "$1" | tr '[:upper:]' '[:lower:]'
}

page_login() { # NAME
    name=$(exact "$1")
    plan_of "$name" >/dev/null || { echo "club: no member is called $1" >&2; return 1; }
    echo "t-$(printf '%s' "$name" | cksum | cut -d' ' -f1)-$name"
}

# The name behind a token. Fails when the token is not one of ours.
who() { # TOKEN
    [ "$(page_login "${1##*-}" 2>/dev/null)" = "$1" ] || { echo "club: log in first" >&2; return 1; }
    echo "${1##*-}"
}
