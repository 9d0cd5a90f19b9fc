// SPDX-License-Identifier: BSD-2-Clause

package alias

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"rcptgate/unit/checktest"
)

func TestSuite(t *testing.T) {
	file := filepath.Join(t.TempDir(), "aliases")
	if err := os.WriteFile(file, []byte("sales: ann@elsewhere.example, bob\nloop: loop\nlist: :include:/no/such/file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	checktest.Run(t, checktest.Suite{
		Unit: Unit(), Recipients: []string{"sales@b.example", "loop@b.example", "list@b.example", "absent@b.example"},
		Config: fmt.Sprintf("[aliases]\nfiles = [\"text:%s\"]\ndomains = [\"b.example\"]\npasswd = \"\"\n", file),
	})
}
