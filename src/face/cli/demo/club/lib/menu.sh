# What the home page links to, in this order.
menu() {
    echo members
}
