#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
#
# Runs every fuzz target below a folder, one after the other, for TIME each. The Go tool writes findings to the package's
# testdata/fuzz. Commit them: from there they are tests in every later run.
# `find` fails if there is a finding. `explore` only lists it in .cache/noted, because another run of the same commit
# might not find it (docs/decisions/0701-steady-tests.md).
#
# Usage: test/fuzz.sh TIME explore|find [FOLDER]
set -euo pipefail
cd "$(dirname "$0")/.."
usage='usage: test/fuzz.sh TIME explore|find [FOLDER]'
time=${1:?$usage}
purpose=${2:?$usage}
folder=${3:-.}
noted=${RCPTGATE_NOTED:-.cache/noted}
mkdir -p "$(dirname "$noted")"
count=0
found=0
failed=0
while IFS=: read -r file target; do
	dir=$(dirname "$file")
	count=$((count + 1))
	printf 'fuzz %-28s %s for %s\n' "$target" "$dir" "$time"
	out=$(go test -run '^$' -fuzz "^$target\$" -fuzztime "$time" -fuzzminimizetime 20x "./${dir#./}" 2>&1) && continue
	input=$(sed -n 's/.*Failing input written to //p' <<<"$out" | head -1)
	# If the time ran out on a busy machine while a worker was still starting, this is not a finding.
	[ -z "$input" ] && grep -q 'context deadline exceeded' <<<"$out" && continue
	printf '%s\n' "$out"
	if [ -n "$input" ] && [ "$purpose" = explore ]; then
		found=$((found + 1))
		echo "found by fuzzing: $target in $dir, with $dir/$input" >>"$noted"
	else # also a target that does not build, or that fails with the existing inputs
		failed=$((failed + 1))
	fi
done < <(grep -rnoE --include='*_test.go' --exclude-dir=testdata '^func Fuzz[A-Za-z0-9_]+' "$folder" | sed -E 's/:[0-9]+:func /:/')
echo "fuzz: $count targets, $((found + failed)) with findings"
[ "$count" -gt 0 ] && [ "$failed" -eq 0 ]
