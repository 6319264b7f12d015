ok "AC-1 a setting is read from the file" is "Rowing Club" "$(page_settings name)"
ok "AC-1 what is not set says so" is "(not set)" "$(page_settings colour)"
named() { page_home | grep -q "Rowing Club"; }
ok "AC-2 the home page greets with the name that is set" named
