#!/usr/bin/env bash
# Runs the tests that import rapid, and only those, with whatever depth
# RAPID_CHECKS and RAPID_STEPS ask for. Arguments go to go test.
set -euo pipefail
cd "$(dirname "$0")/.."

# tests_with_rapid DIR lists the Test functions of the files that import it.
tests_with_rapid() {
  local files
  files=$(grep -l '"pgregory.net/rapid"' "$1"/*_test.go)
  # shellcheck disable=SC2086 # file names of ours, without spaces
  sed -n 's/^func \(Test[A-Za-z0-9_]*\)(.*/\1/p' $files | paste -sd '|'
}

found=0
while read -r dir; do
  tests=$(tests_with_rapid "$dir")
  [ -n "$tests" ] || continue
  found=1
  echo "== $dir: ${tests//|/ }"
  go test -count=1 -timeout 15m -run "^($tests)\$" "$@" "./$dir"
done < <(git grep -l '"pgregory.net/rapid"' -- '*_test.go' | xargs -n1 dirname | sort -u)

[ "$found" = 1 ] || { echo "no test imports rapid" >&2; exit 1; }
