token=$(page_login bo)
ok "AC-1 a member is greeted with the plan" is "Hello bo, your plan: monthly" "$(page_dashboard "$token" | head -n 1)"
ok "AC-1 without a login there is no dashboard" fails page_dashboard nothing
offered() { menu | grep -qx dashboard; }
ok "AC-2 the menu offers the dashboard" offered
