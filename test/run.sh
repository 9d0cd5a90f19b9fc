#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
#
# Runs Go tests. A failed test is run once more, by itself, because a busy machine may have starved it. If it passes then,
# it is written to .cache/noted, which `make test` lists at its end. Some failures are final: a data race, a package that
# does not build, a package that fails without a failing test, and more than five failing tests
# (docs/decisions/0701-steady-tests.md).
#
# Usage: test/run.sh PACKAGES [FLAG OF GO TEST...]
set -euo pipefail
cd "$(dirname "$0")/.."
[ $# -ge 1 ] || { echo "usage: test/run.sh PACKAGES [FLAG OF GO TEST...]" >&2; exit 2; }
packages=$1
shift
sum=$PWD/.cache/bin/gotestsum
mkdir -p .cache/bin
CGO_ENABLED=0 go -C test/tools build -o "$sum" gotest.tools/gotestsum
report=$(mktemp .cache/again.XXXXXX)
trap 'rm -f "$report"' EXIT
status=0
"$sum" --format standard-quiet --hide-summary skipped --no-color --rerun-fails=1 --rerun-fails-max-failures 5 \
	--rerun-fails-run-root-test --rerun-fails-abort-on-data-race --rerun-fails-report "$report" \
	--packages "$packages" -- "$@" || status=$?
if [ "$status" = 0 ] && [ -s "$report" ]; then
	sed 's/^/passed when run again: /' "$report" >>"${RCPTGATE_NOTED:-.cache/noted}"
fi
exit "$status"
