#!/usr/bin/env bash
# Checks the model of leases and fences, docs/spec/lease.pml, in every order of
# its steps, and that it fails without each of the things that it rests on.
# It needs Spin 6 and a C compiler.
set -euo pipefail
cd "$(dirname "$0")/.."

MODEL=$PWD/docs/spec/lease.pml
MUTANTS=(NOFENCE BLIND NOGUARD EARLYACK STALE SELFISH RENAME)

# check ENDS DEFINES... prints what Spin's verifier says of the model. ENDS is
# -E where a run that cannot go on is no error.
check() {
  local ends=$1
  shift
  (cd "$TEMP" && spin -a "$@" "$MODEL" >spin.log && gcc -O2 -w -DCOLLAPSE -DMEMLIM=4096 -DSAFETY -o pan pan.c && ./pan -m2000000 $ends) ||
    { cat "$TEMP/spin.log" >&2; return 1; }
}

errors() { sed -n 's/.*errors: \([0-9]*\).*/\1/p' <<<"$1"; }

TEMP=$(mktemp -d)
trap 'rm -rf "$TEMP"' EXIT

for workers in 2 ${SPEC_WORKERS:-}; do
  said=$(check "" -DWORKERS="$workers")
  grep -E 'states, stored|errors:' <<<"$said"
  if [ "$(errors "$said")" != 0 ] || grep -q 'Search not completed\|max search depth too small' <<<"$said"; then
    echo "$said" >&2
    echo "spec: the model does not hold with $workers workers" >&2
    exit 1
  fi
done

caught=0
for mutant in "${MUTANTS[@]}"; do
  ends=-E
  [ "$mutant" != SELFISH ] || ends= # whose fault is that nobody goes on
  said=$(check "$ends" "-D$mutant")
  why=$(sed -n 's/^pan:1: \(.*\) (at depth.*/\1/p' <<<"$said")
  echo "$mutant: ${why:-holds}"
  [ "$(errors "$said")" = 0 ] || caught=$((caught + 1))
done
echo "$caught of ${#MUTANTS[@]} caught"
[ "$caught" = "${#MUTANTS[@]}" ]
