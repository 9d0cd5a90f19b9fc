// SPDX-License-Identifier: BSD-2-Clause

package listen

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"rcptgate/kit/testkit"
)

type lockedBuffer struct {
	mu sync.Mutex
	bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.Write(p)
}

func (b *lockedBuffer) count(s string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return strings.Count(b.String(), s)
}

// greet says hello to everybody until the listener ends.
func greet(ln net.Listener) (ended chan struct{}) {
	ended = make(chan struct{})
	go func() {
		defer close(ended)
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Write([]byte("hello"))
			_ = conn.Close()
		}
	}()
	return ended
}

func greeted(path string) bool {
	conn, err := net.Dial("unix", path)
	if err != nil {
		return false
	}
	defer func() { _ = conn.Close() }()
	n, _ := conn.Read(make([]byte, 5))
	return n == 5
}

func TestASocketIsMadeAgain(t *testing.T) {
	base := testkit.Dir(t)
	dir := filepath.Join(base, "state")
	path := filepath.Join(dir, "s")
	var log lockedBuffer
	open := func() (*Socket, error) {
		return Unix(context.Background(), path, Options{Mode: 0o660})
	}
	k, err := keep("admin socket", 5*time.Millisecond, slog.New(slog.NewTextHandler(&log, nil)), open)
	if !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("without its folder: %v", err)
	}
	ended := greet(k)
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "it is made when its folder is there", func() bool { return greeted(path) })
	if err := os.RemoveAll(dir); err != nil { // the folder goes, and stays away for a while
		t.Fatal(err)
	}
	testkit.Eventually(t, "the log says so", func() bool { return log.count("cannot re-create") == 1 })
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "it is made again", func() bool { return greeted(path) })
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "it is made again", func() bool { return greeted(path) })
	if n := log.count("removed or replaced"); n != 2 {
		t.Errorf("told %d times: %s", n, log.String())
	}
	_ = k.Close()
	<-ended
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	if _, err := k.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("accept on a closed one: %v", err)
	}
}

// A name that another process has taken is its own.
func TestASocketOfSomebodyElseIsLeftAlone(t *testing.T) {
	path := filepath.Join(testkit.Dir(t), "s")
	var log lockedBuffer
	k, err := keep("admin socket", 5*time.Millisecond, slog.New(slog.NewTextHandler(&log, nil)), func() (*Socket, error) {
		return Unix(context.Background(), path, Options{Mode: 0o660})
	})
	if err != nil {
		t.Fatal(err)
	}
	ended := greet(k)
	other, err := net.Listen("unix", path+".new")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Close() }()
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
	go func() { // it answers whoever looks
		for {
			conn, err := other.Accept()
			if err != nil {
				return
			}
			_ = conn.Close()
		}
	}()
	testkit.Eventually(t, "the log says so", func() bool { return log.count(ErrInUse.Error()) == 1 })
	_ = k.Close()
	<-ended
	if _, err := os.Lstat(path); err != nil {
		t.Errorf("the other's socket: %v", err)
	}
}
