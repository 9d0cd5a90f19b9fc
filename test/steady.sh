#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
#
# Tests test/run.sh and test/fuzz.sh with tests that fail once, always, or only at the end. Takes a few seconds.
set -euo pipefail
cd "$(dirname "$0")/.."
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
export RCPTGATE_UNSTEADY_DIR=$dir RCPTGATE_NOTED=$dir/noted
package=./test/house/testdata/unsteady
failed=0
check() { # WHAT CONDITION...
	local what=$1
	shift
	"$@" || { echo "test/steady.sh: $what" >&2; failed=1; }
}
no() { ! "$@"; }
run() { rm -f "$dir/was" "$dir/noted"; "$@" >"$dir/out" 2>&1; }

check "a test that fails once ends the run" run test/run.sh "$package" -count=1
check "a test that passed only when run again is not listed" grep -q 'again: .*unsteady.TestOnce' "$dir/noted"
check "its failure is not shown" grep -q 'the first time' "$dir/out"
check "a test that always fails passes" no run env RCPTGATE_UNSTEADY=always test/run.sh "$package" -count=1
check "a package that fails without a test passes" no run env RCPTGATE_UNSTEADY=exit test/run.sh "$package" -count=1
check "a package that does not build passes" no run test/run.sh ./test/house/testdata/missing -count=1
touch "$dir/was"
check "a good run fails" test/run.sh "$package" -count=1 -run TestOnce >"$dir/out"
check "a good run lists something" no test -e "$dir/noted"

corpus=$package/testdata
trap 'rm -rf "$dir" "$corpus"' EXIT # fuzzing writes its findings next to the test
check "an exploration ends the run" run test/fuzz.sh 30s explore "$package"
check "the finding of an exploration is not listed" grep -q 'fuzzing: FuzzAny .*testdata/fuzz/FuzzAny/' "$dir/noted"
check "a finding is not shown" grep -q 'too long' "$dir/out"
rm -rf "$corpus"
check "a finding passes" no run test/fuzz.sh 30s find "$package"
exit "$failed"
