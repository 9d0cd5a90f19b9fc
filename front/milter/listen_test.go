// SPDX-License-Identifier: BSD-2-Clause

package milter_test

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"rcptgate/config/setting"
	"rcptgate/front/listen"
	"rcptgate/front/milter"
	"rcptgate/kit/testkit"
)

func listenOn(path string, mode setting.FileMode, group string) (net.Listener, error) {
	return milter.Listen(context.Background(), setting.Socket{Network: "unix", Address: path}, mode, group)
}

func TestListenUnix(t *testing.T) {
	path := filepath.Join(testkit.Dir(t), "made", "m.sock")
	ln, err := listenOn(path, 0o620, strconv.Itoa(os.Getgid()))
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o620 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if _, err := listenOn(path, 0, ""); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Errorf("a socket in use was taken: %v", err)
	}
	// A process that is killed leaves its socket.
	_ = ln.(*listen.Socket).UnixListener.Close()
	if ln, err = listenOn(path, 0, ""); err != nil {
		t.Fatalf("a stale socket is in the way: %v", err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o660 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	_ = ln.Close()
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("the socket is left behind: %v", err)
	}
}

func TestListenRefuses(t *testing.T) {
	dir := testkit.Dir(t)
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct{ path, group, want string }{
		{file, "", "not a socket"},
		{filepath.Join(dir, "a", "b", "m.sock"), "", "folder"},
		{filepath.Join(dir, "m.sock"), "no-such-group-here", "no-such-group-here"},
	} {
		ln, err := listenOn(tc.path, 0, tc.group)
		if err == nil {
			_ = ln.Close()
		}
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: error %v, want one with %q", tc.path, err, tc.want)
		}
	}
	if content, err := os.ReadFile(file); err != nil || string(content) != "precious" {
		t.Errorf("the file in the way: %q, %v", content, err)
	}
}
