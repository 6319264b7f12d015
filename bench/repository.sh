# Read by the benchmarks that need a repository with stories: an empty one in a world of its own, which goes with the script.
# Leaves `program` and `work`, and stands in the repository.

program=$(realpath "${COFFERDAM:-target/release/cofferdam}")
work=$(mktemp -d "${WORK:-/var/tmp}/cofferdam-bench-XXXXXX")
trap 'chmod -R u+rwx "$work"; rm -rf "$work"' EXIT
export HOME=$work/home XDG_STATE_HOME=$work/state GIT_CONFIG_NOSYSTEM=1
export GIT_AUTHOR_NAME=bench GIT_AUTHOR_EMAIL=bench@example.org GIT_COMMITTER_NAME=bench GIT_COMMITTER_EMAIL=bench@example.org
mkdir -p "$HOME" "$work/repository/stories"
cd "$work/repository"
git init -q -b main
