#!/usr/bin/env bash
# A real Ollama with tiny models, for tests:
#
#	scripts/ollama.sh install          build it, once: about three minutes
#	scripts/ollama.sh start DIR [GGUF...]   start it, print its URL
#	scripts/ollama.sh stop DIR         stop it
#
# start serves each GGUF file as a model named after it ("stories260K-v3.gguf"
# is stories260k-v3) and keeps everything in DIR; where it runs already it only
# prints the URL. Nothing is downloaded but Ollama's source, by Go.
set -euo pipefail

VERSION=v0.6.5 # the last that a plain `go install` builds
CACHE=${CONSIGN_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/consign}/ollama-$VERSION
OLLAMA=$CACHE/ollama

die() { echo "ollama.sh: $*" >&2; exit 1; }

install() {
  [ -x "$OLLAMA" ] && return
  command -v g++ >/dev/null || die "Ollama needs a C++ compiler: apt-get install g++"
  mkdir -p "$CACHE"
  (cd / && GOWORK=off GOFLAGS= GOBIN=$CACHE nice -n 19 go install "github.com/ollama/ollama@$VERSION") >"$CACHE/build.log" 2>&1 ||
    { tail -n 20 "$CACHE/build.log" >&2; die "Ollama does not build"; }
}

# alive says whether the server that DIR names runs and answers.
alive() {
  [ -s "$DIR/pid" ] && kill -0 "$(cat "$DIR/pid")" 2>/dev/null &&
    OLLAMA_HOST=$(cat "$DIR/host") "$OLLAMA" ps >/dev/null 2>&1
}

start() {
  install
  mkdir -p "$DIR"/{home,models}
  if ! alive; then launch; fi
  local file
  for file in "$@"; do serve "$file"; done
  echo "http://$(cat "$DIR/host")"
}

# launch tries a few ports, since another process may take one first.
launch() {
  local try
  for try in 1 2 3 4 5; do
    echo "127.0.0.1:$((20000 + RANDOM % 20000))" >"$DIR/host"
    # Two at once, so that a test sees requests side by side; one model warm.
    HOME=$DIR/home OLLAMA_MODELS=$DIR/models OLLAMA_HOST=$(cat "$DIR/host") \
      OLLAMA_NUM_PARALLEL=2 OLLAMA_MAX_LOADED_MODELS=2 OLLAMA_NOPRUNE=1 \
      setsid nohup "$OLLAMA" serve >"$DIR/log" 2>&1 </dev/null &
    echo $! >"$DIR/pid"
    for _ in $(seq 100); do
      if alive; then return; fi
      kill -0 "$(cat "$DIR/pid")" 2>/dev/null || break
      sleep 0.1
    done
    stop
  done
  tail -n 20 "$DIR/log" >&2
  die "Ollama does not start"
}

# serve makes a model of a GGUF file, unless there is one of the name.
serve() {
  [ -f "$1" ] || die "$1 is not a file"
  local name host
  name=$(basename "$1" .gguf | tr '[:upper:]' '[:lower:]')
  host=$(cat "$DIR/host")
  if OLLAMA_HOST=$host "$OLLAMA" show "$name" >/dev/null 2>&1; then return; fi
  printf 'FROM %s\nTEMPLATE {{ .Prompt }}\n' "$(realpath "$1")" >"$DIR/Modelfile.$name"
  HOME=$DIR/home OLLAMA_HOST=$host "$OLLAMA" create "$name" -f "$DIR/Modelfile.$name" >"$DIR/create.log" 2>&1 ||
    { cat "$DIR/create.log" >&2; die "no model of $1"; }
}

stop() {
  [ -s "$DIR/pid" ] || return 0
  local pid
  pid=$(cat "$DIR/pid")
  # Its runners are in the session that setsid gave it.
  kill -- "-$pid" 2>/dev/null || true
  for _ in $(seq 50); do
    kill -0 "$pid" 2>/dev/null || break
    sleep 0.1
  done
  kill -9 -- "-$pid" 2>/dev/null || true
  rm -f "$DIR/pid"
}

command=${1:-}
case $command in
  install) install; echo "$OLLAMA" ;;
  start | stop)
    DIR=${2:?usage: scripts/ollama.sh $command DIR}
    [ -x "$OLLAMA" ] || [ "$command" = start ] || exit 0
    shift 2
    "$command" "$@" ;;
  *) die "usage: scripts/ollama.sh install | start DIR [GGUF...] | stop DIR" ;;
esac
