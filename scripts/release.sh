#!/usr/bin/env bash
# Releases a version of the root module and of the nested modules that users
# import:
#
#	scripts/release.sh v0.1.0          rehearse, in a temporary folder
#	scripts/release.sh --tag v0.1.0    rehearse, then leave the tags here
#
# In the tree the nested modules replace the root module by a relative path. A
# user's build ignores a dependency's replacements, so each nested module is
# tagged on a commit of its own in which they are gone and the requirements are
# real. The rehearsal makes these commits in a clone, lets Go fetch them as it
# would from the network, and builds programs that use them from what it
# fetched. Nothing is pushed: the last lines say how to.
set -euo pipefail
cd "$(dirname "$0")/.."

MODULE=github.com/consignq/consign
# Nested modules that users import, each after those that it needs, and those
# that are only for us. Together with the root they must be all of them.
RELEASED=(store/sqlite store/postgres worker/task worker/openai examples)
OURS=(bench internal/conformance internal/faults)

main() {
  local keep=no
  if [ "${1:-}" = --tag ]; then keep=yes; shift; fi
  VERSION=${1:?usage: scripts/release.sh [--tag] VERSION}
  [[ $VERSION =~ ^v[0-9]+\.[0-9]+\.[0-9]+(-[0-9a-z.-]+)?$ ]] || die "$VERSION is not a version: vMAJOR.MINOR.PATCH[-PRE]"
  check_modules
  if [ "$keep" = yes ]; then check_ready; fi

  TEMP=$(mktemp -d)
  trap 'chmod -R u+w "$TEMP"; rm -rf "$TEMP"' EXIT
  clone
  tag_root
  local module
  for module in "${RELEASED[@]}"; do
    if has_packages "$module"; then tag_nested "$module"; else echo "-- $module has no packages yet: not tagged"; fi
  done
  use_them
  if [ "$keep" = yes ]; then bring_tags_home; fi
}

die() { echo "release: $*" >&2; exit 1; }

# check_modules sees to it that no module is forgotten.
check_modules() {
  local known found
  known=$(printf '%s\n' "${RELEASED[@]}" "${OURS[@]}" | sort)
  found=$(git ls-files '*/go.mod' | xargs -n1 dirname | grep -v testdata | sort)
  [ "$known" = "$found" ] || die "the modules of the tree and of this script differ:
$(diff <(echo "$found") <(echo "$known"))"
}

# check_ready keeps a release from a tree that nobody can see.
check_ready() {
  [ -z "$(git status --porcelain)" ] || die "the tree has changes that are not committed"
  [ "$(git rev-parse --abbrev-ref HEAD)" = main ] || die "releases are tagged on main"
  [ -z "$(git tag --list "$VERSION" "*/$VERSION")" ] || die "$VERSION is tagged already"
  grep -q "^## \[${VERSION#v}\]" CHANGELOG.md || die "CHANGELOG.md has no section for ${VERSION#v}"
}

# clone copies the last commit, and makes Go take the clone for the module's
# home. Its module cache is also the file proxy that users are served from.
clone() {
  REPO=$TEMP/repo
  git clone --quiet --no-tags "file://$PWD" "$REPO"
  git -C "$REPO" checkout --quiet --detach "$(git rev-parse HEAD)"
  git -C "$REPO" config user.name "$(git config user.name || echo release)"
  git -C "$REPO" config user.email "$(git config user.email || echo release@localhost)"
  HOME_PROXY=file://$TEMP/home/cache/download
  # What this machine has fetched before need not cross the network again.
  PROXIES=$HOME_PROXY,file://$(go env GOMODCACHE)/cache/download,$(go env GOPROXY)
}

# publish MODULE puts a tagged module into the file proxy, the way Go itself
# packs it.
publish() {
  echo "-- $1@$VERSION"
  (cd "$TEMP" && GOMODCACHE=$TEMP/home GOFLAGS=-modcacherw GOPROXY=direct GONOSUMDB=$MODULE GOWORK=off \
    GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0="url.file://$REPO.insteadOf" GIT_CONFIG_VALUE_0="https://$MODULE" \
    go mod download "$1@$VERSION")
}

tag_root() {
  git -C "$REPO" tag "$VERSION"
  publish "$MODULE"
}

has_packages() { git -C "$REPO" ls-files "$1/*.go" | grep -q .; }

# tag_nested DIR commits the nested module as users will see it.
tag_nested() {
  (
    cd "$REPO/$1"
    local needs
    while read -r needs; do go mod edit -dropreplace "$needs"; done < <(ours_replaced)
    while read -r needs; do go mod edit -require "$needs@$VERSION"; done < <(ours_required)
    GOWORK=off GOPROXY=$PROXIES GONOSUMDB=$MODULE GOMODCACHE=$TEMP/user GOFLAGS=-modcacherw go mod tidy 2>"$TEMP/tidy.log" || { cat "$TEMP/tidy.log" >&2; die "go mod tidy in $1"; }
    grep -q '^replace' go.mod && die "$1/go.mod still replaces something"
    git add -A .
    git diff --cached --quiet || git commit --quiet -m "$1 $VERSION: real requirements"
    git tag "$1/$VERSION"
  )
  publish "$MODULE/$1"
}

# ours_replaced and ours_required list modules of this repository in ./go.mod.
ours_replaced() { sed -n "s#^\(replace\)\{0,1\}[[:space:]]*\($MODULE[^ ]*\) =>.*#\2#p" go.mod; }
ours_required() { sed -n "s#^\(require\)\{0,1\}[[:space:]]*\($MODULE[^ ]*\) v.*#\2#p" go.mod; }

# use_them is the user: an empty module that gets every released one, and
# builds all that is in them.
use_them() {
  mkdir "$TEMP/app"
  cd "$TEMP/app"
  export GOPROXY=$PROXIES GONOSUMDB=$MODULE GOMODCACHE=$TEMP/user GOFLAGS=-modcacherw GOWORK=off
  go mod init example.com/app 2>/dev/null
  local module all=("$MODULE")
  for module in "${RELEASED[@]}"; do
    if has_packages "$module"; then all+=("$MODULE/$module"); fi
  done
  for module in "${all[@]}"; do
    echo "-- go get $module@$VERSION"
    go get "$module/...@$VERSION" 2>"$TEMP/get.log" || { cat "$TEMP/get.log" >&2; die "go get $module"; }
  done
  for module in "${all[@]}"; do
    go build "$module/..."
  done
  cat > main.go <<'GO'
package main

import (
	"fmt"

	"github.com/consignq/consign"
	"github.com/consignq/consign/store/memdb"
)

func main() {
	q, err := consign.New(consign.Config{Store: memdb.New()})
	if err != nil {
		panic(err)
	}
	fmt.Println("a queue from the released modules:", q.ID())
}
GO
  go run .
  cd "$OLDPWD"
}

# bring_tags_home copies the rehearsed tags into this repository.
bring_tags_home() {
  local tags=() tag
  while read -r tag; do tags+=("$tag"); done < <(git -C "$REPO" tag --list)
  for tag in "${tags[@]}"; do git fetch --quiet "$REPO" "refs/tags/$tag:refs/tags/$tag"; done
  echo "tagged: ${tags[*]}"
  echo "to publish: git push origin ${tags[*]}"
}

main "$@"
