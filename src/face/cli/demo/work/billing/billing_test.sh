ok "AC-1 a yearly member owes 120" is "ada owes 120 a year" "$(page_bill "$(page_login ada)")"
ok "AC-1 a monthly member owes 144" is "bo owes 144 a year" "$(page_bill "$(page_login bo)")"
ok "AC-2 nobody sees a bill without a login" fails page_bill nothing
offered() { menu | grep -qx bill; }
ok "AC-3 the menu offers the bill" offered
