ok "AC-1 a member logs in and is known by the token" is ada "$(who "$(page_login ada)")"
ok "AC-2 nobody else logs in" fails page_login dora
ok "AC-2 a made-up token is worth nothing" fails who t-1-ada
ok "AC-3 capitals do not matter at the door" is ada "$(who "$(page_login ADA)")"
