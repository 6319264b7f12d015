# Members, one a line of data/members: name:plan

members() {
    cat "$here/data/members"
}

# The plan of a member. Fails when there is no such member.
plan_of() { # NAME
    line=$(members | grep -i "^$1") || return 1
    echo "${line#*:}"
}

page_members() {
    members | cut -d: -f1
}
