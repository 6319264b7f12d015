# What a member sees first: a greeting and their plan.

page_dashboard() { # TOKEN
    name=$(who "${1:-}") || return 1
    echo "Hello $name, your plan: $(plan_of "$name")"
    menu | sed 's/^/- /'
}
