#!/usr/bin/env bash
# Runs internal/faults: each kind of fault CONSIGN_FAULTS times (see
# docs/reliability.md), and the bugs that they have to find. A test that skips
# fails, since it is the only one of its kind.
set -euo pipefail
cd "$(dirname "$0")/../internal/faults"

export GOWORK=off
LOG=$(mktemp)
trap 'rm -f "$LOG"' EXIT

go test -count=1 -timeout 6h -parallel 4 -v "$@" . 2>&1 | tee "$LOG" | grep -vE '^ *=== '
if grep -E '^ *--- SKIP: ' "$LOG"; then
  echo "faults: a test skipped" >&2
  exit 1
fi
