// SPDX-License-Identifier: BSD-2-Clause

package lab

import (
	"path/filepath"
	"testing"
)

// Miltertest runs a Lua script with miltertest(8), a client of the milter protocol written by others. The script finds
// the socket in the variable "socket" (in Sendmail's spelling) and fails by error(); its output is returned.
func Miltertest(t testing.TB, socket, script string) string {
	t.Helper()
	Need(t, MiltertestKit)
	dir := NewDir(t, "miltertest")
	write(t, dir, "script.lua", script)
	return run(t, MiltertestKit, dir, MiltertestKit.Path("usr/bin/miltertest"), "-D", "socket="+socket,
		"-s", filepath.Join(dir, "script.lua"))
}
