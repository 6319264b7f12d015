ok "AC-1 the home page names the club and counts its members" is "Welcome to $(club_name), 3 members" "$(page_home | head -n 1)"
home_links() { page_home | grep -qx -- '- members'; }
ok "AC-2 the home page links to the members" home_links
