#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
#
# Tests the Makefile and .ci/find-go with fake Go compilers and a fake binary. Nothing is built, and nothing is installed
# outside a temporary directory. Takes a second.
set -euo pipefail
cd "$(dirname "$0")/.."
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
failed=0
check() { # WHAT CONDITION...
	local what=$1
	shift
	"$@" || { echo "test/makefile.sh: $what" >&2; failed=1; }
}
has() { grep -qF -- "$2" <<<"$1"; }
no() { ! "$@"; }

pretend() { # DIR VERSION: a Go that reports its version and cannot do anything else
	mkdir -p "$1"
	printf '#!/bin/sh\n[ "$1" = version ] && echo "go version %s linux/amd64" && exit\necho "go: errors parsing go.mod: invalid go version" >&2; exit 1\n' "$2" >"$1/go"
	chmod +x "$1/go"
}
need=$(sed -n 's/^go \([0-9]*\.[0-9]*\).*/\1/p' go.mod)
pretend "$dir/old" go1.19.8
pretend "$dir/fetches" go1.21.0
pretend "$dir/good/bin" "go$need.1"
pretend "$dir/next" "devel go${need%.*}.$((${need#*.} + 1))-abcdef"
find_go() { # PATH-ENTRY USUAL-PLACE [VARIABLE=VALUE...]
	local path=$1 usual=$2
	shift 2
	env -u GO -u GOTOOLCHAIN PATH="$path:/usr/bin:/bin" RCPTGATE_GO_DIR="$usual" "$@" .ci/find-go 2>&1 || true
}

out=$(find_go "$dir/old" "$dir/nothing")
check "an old Go is not refused in a sentence: $out" has "$out" "needs Go $need or later"
check "the old Go is not named: $out" has "$out" "$dir/old/go is Go 1.19, which is too old"
check "the place to get Go is not named: $out" has "$out" "https://go.dev/dl/"
out=$(find_go "$dir/old" "$dir/good")
check "the Go next to an old one is not found: $out" [ "$out" = "$dir/good/bin/go" ]
out=$(find_go "$dir/nothing" "$dir/good")
check "the Go in its usual place is not found: $out" [ "$out" = "$dir/good/bin/go" ]
out=$(find_go "$dir/next" "$dir/good")
check "a later Go in the path is not taken: $out" [ "$out" = "$dir/next/go" ]
out=$(find_go "$dir/fetches" "$dir/nothing")
check "a Go that fetches the version by itself is not taken: $out" [ "$out" = "$dir/fetches/go" ]
out=$(find_go "$dir/fetches" "$dir/nothing" GOTOOLCHAIN=local)
check "a Go that may not fetch the version is taken: $out" has "$out" "which is too old"
out=$(find_go "$dir/old" "$dir/good" GO="$dir/next/go")
check "the Go of the variable is not taken: $out" [ "$out" = "$dir/next/go" ]

run_make() { env -u GO -u MAKEFLAGS -u MAKELEVEL -u MFLAGS PATH="$dir/old:/usr/bin:/bin" RCPTGATE_GO_DIR="$dir/nothing" make "$@" 2>&1; }
out=$(run_make -n build || true)
check "make runs an old Go: $out" has "$out" "needs Go $need or later"
check "make runs an old Go: $out" no has "$out" "invalid go version"

# Root in another user's clone: Go must not call git, which refuses to read such a clone.
out=$(RCPTGATE_GO_DIR="$dir/nothing" PATH="$dir/next:$PATH" make -n build 2>&1 || true)
check "the build asks git: $out" has "$out" "build -buildvcs=false"
if command -v git >/dev/null && [ "$(id -u)" = 0 ]; then
	mkdir -p "$dir/clone/test" "$dir/clone/bench"
	cp -r Makefile .ci go.mod "$dir/clone/"
	cp test/test.mk "$dir/clone/test/"
	cp bench/bench.mk "$dir/clone/bench/"
	git -C "$dir/clone" init -q
	git -C "$dir/clone" -c user.name=x -c user.email=x@x.example commit -q --allow-empty -m x
	git -C "$dir/clone" tag v1.2.3
	chown -R 65534 "$dir/clone"
	out=$(RCPTGATE_GO_DIR="$dir/nothing" PATH="$dir/next:$PATH" make -C "$dir/clone" -n build 2>&1 || true)
	check "the version of another user's clone is unknown: $out" has "$out" "main.version=v1.2.3"
fi

# Installation, in a copy of the tree, with a program that prints its arguments.
mkdir -p "$dir/tree"
cp -r Makefile .ci systemd go.mod "$dir/tree/"
mkdir -p "$dir/tree/docs" "$dir/tree/test" "$dir/tree/bench"
cp -r docs/man "$dir/tree/docs/"
cp test/test.mk "$dir/tree/test/"
cp bench/bench.mk "$dir/tree/bench/"
out=$(run_make -C "$dir/tree" install DESTDIR="$dir/root" || true)
check "installation without a binary does not say what to do: $out" has "$out" "run make first"
check "installation without a binary installs something" [ ! -e "$dir/root" ]
mkdir "$dir/tree/bin"
printf '#!/bin/sh\necho "asked for $*"\n' >"$dir/tree/bin/rcptgate"
chmod +x "$dir/tree/bin/rcptgate"
mkdir -p "$dir/root/usr/local/sbin"
touch "$dir/root/usr/local/sbin/rcptgate"
out=$(run_make -C "$dir/tree" install DESTDIR="$dir/root") || check "installation fails: $out" false
at() { [ -f "$dir/root$1" ]; }
check "the binary is not in bin" [ -x "$dir/root/usr/local/bin/rcptgate" ]
check "an earlier binary in sbin stays" no at /usr/local/sbin/rcptgate
check "the manual pages are missing" at /usr/local/share/man/man1/rcptgate.1
check "the manual page of the configuration is missing" at /usr/local/share/man/man5/rcptgate.toml.5
check "bash completion is missing" grep -qs "asked for completion bash" "$dir/root/usr/local/share/bash-completion/completions/rcptgate"
check "zsh completion is missing" grep -qs "asked for completion zsh" "$dir/root/usr/local/share/zsh/site-functions/_rcptgate"
check "fish completion is missing" grep -qs "asked for completion fish" "$dir/root/usr/local/share/fish/vendor_completions.d/rcptgate.fish"
check "the unit does not start the installed binary" grep -qs '^ExecStart=/usr/local/bin/rcptgate serve' "$dir/root/etc/systemd/system/rcptgate.service"
check "the unit names another binary" no grep -q '/usr/bin/rcptgate' "$dir/root/etc/systemd/system/rcptgate.service"
out=$(run_make -C "$dir/tree" uninstall DESTDIR="$dir/root") || check "removal fails: $out" false
check "removal leaves files: $(find "$dir/root" -type f)" [ -z "$(find "$dir/root" -type f)" ]

[ "$failed" = 0 ] && echo "test/makefile.sh: good"
exit "$failed"
