#!/usr/bin/env bash
# Runs every fuzz target of every module for the time given, one after another:
#
#	scripts/fuzz.sh 20s
#
# What a target finds is kept in the package's testdata/fuzz: commit it, and
# `go test` runs it from then on.
set -euo pipefail
cd "$(dirname "$0")/.."
time=${1:?usage: scripts/fuzz.sh DURATION}

found=0
while IFS=: read -r file target; do
  found=1
  dir=$(dirname "$file")
  echo "== $dir $target"
  (cd "$dir" && go test -run '^$' -fuzz "^$target\$" -fuzztime "$time" .)
done < <(git grep -o -E '^func Fuzz[A-Za-z0-9_]+' -- '*_test.go' | sed 's/func //')

[ "$found" = 1 ] || { echo "no fuzz targets" >&2; exit 1; }
