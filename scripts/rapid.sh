#!/usr/bin/env bash
# Runs the tests of files that draw with rapid, and only those, with whatever
# depth RAPID_CHECKS and RAPID_STEPS ask for. Arguments go to go test.
set -euo pipefail
cd "$(dirname "$0")/.."

# A file that imports it, or holds a store against models that do.
draws='^[[:space:]]*(import )?"pgregory\.net/rapid"$|storetest\.Model\(|queuetest\.Suite'

# tests_with_rapid DIR lists the Test functions of such files, in one pattern.
tests_with_rapid() {
  local files
  files=$(grep -lE "$draws" "$1"/*_test.go)
  # shellcheck disable=SC2086 # file names of ours, without spaces
  sed -n 's/^func \(Test[A-Za-z0-9_]*\)(.*/\1/p' $files | paste -sd '|'
}

found=0
while read -r dir; do
  tests=$(tests_with_rapid "$dir")
  [ -n "$tests" ] || continue
  found=1
  echo "== $dir: ${tests//|/ }"
  checks=${RAPID_CHECKS:-100}
  case $dir in # each step of theirs waits for a disk
    store/sqlite | store/postgres) checks=$(((checks + 9) / 10)) ;;
  esac
  RAPID_CHECKS=$checks go test -count=1 -timeout 15m -run "^($tests)\$" "$@" "./$dir"
done < <(git grep -lE "$draws" -- '*_test.go' | xargs -n1 dirname | sort -u)

[ "$found" = 1 ] || { echo "no test draws with rapid" >&2; exit 1; }
