// SPDX-License-Identifier: BSD-2-Clause

package unsteady

import (
	"os"
	"path/filepath"
	"testing"
)

// TestOnce fails when it runs for the first time.
func TestOnce(t *testing.T) {
	was := filepath.Join(os.Getenv("RCPTGATE_UNSTEADY_DIR"), "was")
	if _, err := os.Stat(was); err == nil {
		return
	}
	if err := os.WriteFile(was, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Error("the first time")
}

func TestAlways(t *testing.T) {
	if os.Getenv("RCPTGATE_UNSTEADY") == "always" {
		t.Error("every time")
	}
}

func TestMain(m *testing.M) {
	code := m.Run()
	if os.Getenv("RCPTGATE_UNSTEADY") == "exit" {
		code = 3
	}
	os.Exit(code)
}

func FuzzAny(f *testing.F) {
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 0 {
			t.Error("too long")
		}
	})
}
