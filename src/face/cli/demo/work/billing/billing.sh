# What a member owes in a year, by plan.

fee() { # PLAN
    case $1 in
    yearly) echo 120 ;;
    monthly) echo 144 ;;
    *) echo 0 ;;
    esac
}

page_bill() { # TOKEN
    name=$(who "${1:-}") || return 1
    echo "$name owes $(fee "$(plan_of "$name")") a year"
}
