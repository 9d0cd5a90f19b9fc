// SPDX-License-Identifier: BSD-2-Clause

package report

import (
	"errors"
	"io"
	"testing"

	"rcptgate/kit/exit"
	"rcptgate/report/arf"
)

// TestPatternsOfReversePaths: one that can find nobody is a mistake of the command line, and
// none ends the process.
func TestPatternsOfReversePaths(t *testing.T) {
	for _, verp := range []string{"bounces@example.org", "b-{local}@example.org", "{local}-{local}={domain}@example.org", "\xff"} {
		arf.ParseVERP(verp)
		cmd := arfCommand()
		cmd.SetArgs([]string{"--verp", verp, "/dev/null"})
		cmd.SetOut(io.Discard)
		cmd.SetErr(io.Discard)
		err := cmd.Execute()
		var coded *exit.Error
		if !errors.As(err, &coded) || coded.Code != exit.Usage {
			t.Errorf("%q: %v", verp, err)
		}
	}
}
