// SPDX-License-Identifier: BSD-2-Clause

package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"rcptgate/kit/exit"
	"rcptgate/kit/testkit"
)

// TestServeOnAnUnwritableState: the daemon ends with 78 and says what to do. Started again,
// it would not do better.
func TestServeOnAnUnwritableState(t *testing.T) {
	dir := testkit.Dir(t)
	file := filepath.Join(dir, "rcptgate.toml")
	if err := errors.Join(os.Chmod(dir, 0o755), os.WriteFile(file, []byte(smallText(dir, "", "")), 0o644)); err != nil {
		t.Fatal(err)
	}
	testkit.Unprivileged(t)
	interruptLater(t)
	var out, errs locked
	if code := run(t.Context(), units(), []string{"serve", "-c", file}, &out, &errs); code != exit.Config || !strings.Contains(errs.String(), "give the directory to the user") {
		t.Errorf("exit code %d: %s", code, errs.String())
	}
}
