#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
#
# Runs every fuzz target of the tree, one after the other, for the time given each.
# What fuzzing finds is written by the Go tool to the package's testdata/fuzz: commit it.
#
# Usage: test/fuzz.sh 2s            (make test)
#        test/fuzz.sh 10m           (make fuzz)
set -euo pipefail
cd "$(dirname "$0")/.."
time=${1:?usage: test/fuzz.sh TIME}
count=0
failed=0
while IFS=: read -r file target; do
	dir=$(dirname "$file")
	count=$((count + 1))
	printf 'fuzz %-28s %s for %s\n' "$target" "$dir" "$time"
	if ! out=$(go test -run '^$' -fuzz "^$target\$" -fuzztime "$time" -fuzzminimizetime 20x "./$dir" 2>&1); then
		# A machine so busy that the time ran out while a worker was still starting is no finding.
		if grep -q 'context deadline exceeded' <<<"$out" && ! grep -q 'Failing input' <<<"$out"; then
			continue
		fi
		failed=$((failed + 1))
		printf '%s\n' "$out"
	fi
done < <(grep -rnoE --include='*_test.go' '^func Fuzz[A-Za-z0-9_]+' . | sed -E 's/:[0-9]+:func /:/')
echo "fuzz: $count targets, $failed with findings"
[ "$count" -gt 0 ] && [ "$failed" -eq 0 ]
