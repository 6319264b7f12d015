# The home page: whose club it is, and where one can go.

club_name() {
    echo "The Club"
}

page_home() {
    echo "Welcome to $(club_name), $(members | wc -l | tr -d ' ') members"
    menu | sed 's/^/- /'
}
