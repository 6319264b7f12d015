# The members, as every other part of the club knows them.
ok "a member has a plan" is yearly "$(plan_of ada)"
