// SPDX-License-Identifier: BSD-2-Clause

package lab

import (
	"bytes"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"
)

// A MemcachedPool lends running memcached servers to the tests of a package, one after the other:
// starting and ending a server takes the processor longer than most tests use it. A test has its
// servers to itself, and they are empty. The zero value is ready. Close it in TestMain.
type MemcachedPool struct {
	mu   sync.Mutex
	idle []*pooled
}

// pooled is a server of a pool. It is a test to the server's directory, port and processes:
// they are its own for longer than one test.
type pooled struct {
	testing.TB // the test that has it now, nil between tests
	server     *Memcached
	quiet      string // its number of connections when none is a test's
	mu         sync.Mutex
	ends       []func()
}

// Cleanup has f called when the server leaves the pool.
func (p *pooled) Cleanup(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ends = append(p.ends, f)
}

// Failed reports whether the test that has the server has failed.
func (p *pooled) Failed() bool { return p.TB != nil && p.TB.Failed() }

// end ends the server and removes what it had.
func (p *pooled) end() {
	for i := len(p.ends) - 1; i >= 0; i-- {
		p.ends[i]()
	}
}

// Take gives the test n servers with the default options. They may be killed, stopped and
// restarted: the next test gets others then.
func (l *MemcachedPool) Take(t testing.TB, n int) []*Memcached {
	t.Helper()
	list := make([]*Memcached, n)
	for i := range list {
		p := l.take(t)
		t.Cleanup(func() { l.put(p) })
		if p.server == nil {
			p.server = StartMemcached(p, MemcachedOptions{Name: fmt.Sprintf("memcached%d", i+1)})
			p.quiet = p.server.Stats()["curr_connections"]
		}
		list[i] = p.server
	}
	return list
}

// take gives an idle server or, if there is none, one that has yet to be started.
func (l *MemcachedPool) take(t testing.TB) *pooled {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := new(pooled)
	if last := len(l.idle) - 1; last >= 0 {
		p = l.idle[last]
		l.idle = l.idle[:last]
	}
	p.TB = t
	return p
}

// put takes a server back at the end of a test, and ends it if another test could tell.
func (l *MemcachedPool) put(p *pooled) {
	if p.server == nil || p.Failed() || !p.unused() {
		p.end()
		return
	}
	p.TB = nil
	l.mu.Lock()
	defer l.mu.Unlock()
	l.idle = append(l.idle, p)
}

// unused empties a server that runs and to which nobody is connected any more.
func (p *pooled) unused() bool {
	select {
	case <-p.server.Done():
		return false
	default:
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.server.Pid()))
	if _, state, _ := bytes.Cut(stat, []byte(") ")); err != nil || bytes.HasPrefix(state, []byte("T")) {
		return false
	}
	for end := time.Now().Add(time.Second); p.server.Stats()["curr_connections"] != p.quiet; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			return false
		}
	}
	p.server.Flush()
	return true
}

// Close ends all servers.
func (l *MemcachedPool) Close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range l.idle {
		p.end()
	}
	l.idle = nil
}
