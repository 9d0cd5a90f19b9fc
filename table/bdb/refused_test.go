// SPDX-License-Identifier: BSD-2-Clause

package bdb_test

import (
	"bytes"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"rcptgate/kit/testkit"
)

// TestRefusedFiles makes each kind of file that is refused with the real library.
func TestRefusedFiles(t *testing.T) {
	loader := dbLoad(t)
	for _, c := range []struct {
		name   string
		header []string
		args   []string
		pairs  []pair
		want   string
	}{
		{"encrypted hash", []string{"type=hash"}, []string{"-P", "secret"}, plain(3)(), "bdb: the file is encrypted (algorithm 1), at offset 24"},
		{"encrypted btree", []string{"type=btree", "db_lorder=4321"}, []string{"-P", "secret"}, plain(3)(), "the file is encrypted"},
		{"compressed", []string{"type=btree", "compressed=1"}, nil, plain(3)(), "a compressed btree is not read"},
		{"queue", []string{"type=queue", "re_len=20"}, nil, nil, "a queue file"},
		{"recno", []string{"type=recno"}, nil, nil, "a recno file"},
		{"heap", []string{"type=heap"}, nil, nil, "a heap file"},
		{"several", []string{"type=hash", "database=aliases"}, nil, plain(3)(), "the file holds several databases"},
	} {
		t.Run(c.name, func(t *testing.T) {
			name := filepath.Join(testkit.Dir(t), "x.db")
			cmd := exec.Command(loader.path, append(c.args, name)...)
			cmd.Stdin, cmd.Dir = bytes.NewReader(dumpText(c.header, c.pairs)), filepath.Dir(name)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("db_load: %v: %s", err, out)
			}
			_, err := hostile(t, mustRead(t, name))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}
