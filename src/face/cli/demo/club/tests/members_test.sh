# The members, as every other part of the club knows them.
ok "members are listed in the order of the file" is "ada
bo
cy" "$(page_members)"
ok "a member has a plan" is yearly "$(plan_of ada)"
ok "another has another" is monthly "$(plan_of bo)"
ok "a plan may be none" is none "$(plan_of cy)"
ok "who is not in the file is no member" fails plan_of dora
ok "names are exact: ADA is not ada" fails plan_of ADA
ok "a part of a name is no name" fails plan_of ad
