// SPDX-License-Identifier: BSD-2-Clause

package lab

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// A Tap stands between the gate and a real server behind it: it passes everything on unchanged, counts connections and
// commands, and can be cut off and joined again as if the server were stopped. It listens on a loopback address of its
// own, port 25 where the test may (root), because that is the only port a bracketed host of Sendmail's mailertable has.
type Tap struct {
	// Host and Port are where the tap listens.
	Host string
	Port int

	t               testing.TB
	network, target string

	mu       sync.Mutex
	listener net.Listener // nil while cut
	conns    map[net.Conn]bool
	opened   int
	commands []string
	times    []time.Time // of the commands
	began    time.Time   // when counting began
	wait     sync.WaitGroup
}

// NewTap starts a tap in front of a server, given as for net.Dial. It ends with the test.
func NewTap(t testing.TB, network, target string) *Tap {
	t.Helper()
	tap := &Tap{t: t, network: network, target: target, conns: map[net.Conn]bool{}, began: time.Now()}
	tap.Host, tap.Port = freeHost(t)
	tap.Join()
	t.Cleanup(tap.Cut)
	return tap
}

// Addr returns the address of the tap as host:port.
func (tap *Tap) Addr() string { return fmt.Sprintf("%s:%d", tap.Host, tap.Port) }

// Hop returns the next hop as transport tables and the gate's configuration write it: [host]:port.
func (tap *Tap) Hop() string { return fmt.Sprintf("[%s]:%d", tap.Host, tap.Port) }

// freeHost returns a loopback address whose port 25 is free, or a free port of 127.0.0.1 where 25 is not allowed.
func freeHost(t testing.TB) (host string, port int) {
	t.Helper()
	pid := os.Getpid()
	for n := 1; n < 255; n++ {
		host := fmt.Sprintf("127.%d.%d.%d", 64+pid%128, pid>>7&0xff, n)
		l, err := net.Listen("tcp", host+":25")
		if err == nil {
			_ = l.Close()
			return host, 25
		}
	}
	return "127.0.0.1", FreePort(t)
}

// Join listens again after a Cut.
func (tap *Tap) Join() {
	tap.t.Helper()
	tap.mu.Lock()
	defer tap.mu.Unlock()
	if tap.listener != nil {
		return
	}
	l, err := net.Listen("tcp", tap.Addr())
	if err != nil {
		tap.t.Fatalf("listening before %s: %v", tap.target, err)
	}
	tap.listener = l
	tap.wait.Add(1)
	go tap.accept(l)
}

// Cut closes the listener and every connection: further clients are refused, as by a machine without the server.
func (tap *Tap) Cut() {
	tap.mu.Lock()
	if tap.listener != nil {
		_ = tap.listener.Close()
		tap.listener = nil
	}
	for c := range tap.conns {
		_ = c.Close()
	}
	tap.mu.Unlock()
	tap.wait.Wait()
}

// Connections returns how many connections were made through the tap.
func (tap *Tap) Connections() int {
	tap.mu.Lock()
	defer tap.mu.Unlock()
	return tap.opened
}

// Asked returns how often RCPT was sent for the address, whatever its case.
func (tap *Tap) Asked(address string) int {
	want := "RCPT TO:<" + strings.ToUpper(address) + ">"
	n := 0
	for _, c := range tap.Commands() {
		if strings.HasPrefix(strings.ToUpper(c), want) {
			n++
		}
	}
	return n
}

// Commands returns every line the gate has sent.
func (tap *Tap) Commands() []string {
	tap.mu.Lock()
	defer tap.mu.Unlock()
	return append([]string(nil), tap.commands...)
}

// Transcript returns the lines with the time at which each was sent, for a test that has failed.
func (tap *Tap) Transcript() string {
	tap.mu.Lock()
	defer tap.mu.Unlock()
	var b strings.Builder
	for i, c := range tap.commands {
		fmt.Fprintf(&b, "\n%8.3fs %s", tap.times[i].Sub(tap.began).Seconds(), c)
	}
	return b.String()
}

// Forget empties the counts.
func (tap *Tap) Forget() {
	tap.mu.Lock()
	defer tap.mu.Unlock()
	tap.opened, tap.commands, tap.times, tap.began = 0, nil, nil, time.Now()
}

func (tap *Tap) accept(l net.Listener) {
	defer tap.wait.Done()
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		tap.wait.Add(1)
		go tap.serve(c)
	}
}

// hold notes an open connection; it reports false when the tap has been cut meanwhile.
func (tap *Tap) hold(c net.Conn) bool {
	tap.mu.Lock()
	defer tap.mu.Unlock()
	if tap.listener == nil {
		_ = c.Close()
		return false
	}
	tap.conns[c] = true
	return true
}

func (tap *Tap) drop(c net.Conn) {
	tap.mu.Lock()
	defer tap.mu.Unlock()
	delete(tap.conns, c)
	_ = c.Close()
}

// serve passes one connection on until either side closes.
func (tap *Tap) serve(client net.Conn) {
	defer tap.wait.Done()
	if !tap.hold(client) {
		return
	}
	defer tap.drop(client)
	server, err := tap.dial()
	if err != nil || !tap.hold(server) {
		return
	}
	defer tap.drop(server)
	tap.mu.Lock()
	tap.opened++
	tap.mu.Unlock()
	back := make(chan struct{})
	go func() {
		defer close(back)
		_, _ = io.Copy(client, server)
		_ = client.Close()
	}()
	r := bufio.NewReaderSize(client, 64<<10)
	for {
		line, err := r.ReadString('\n')
		tap.note(line)
		if _, werr := io.WriteString(server, line); err != nil || werr != nil {
			break
		}
	}
	_ = server.Close()
	<-back
}

// dial connects to the server, over TCP from ClientHost.
func (tap *Tap) dial() (net.Conn, error) {
	var dialer net.Dialer
	if tap.network == "tcp" {
		dialer.LocalAddr = &net.TCPAddr{IP: net.ParseIP(ClientHost)}
	}
	return dialer.Dial(tap.network, tap.target)
}

// note keeps a command line.
func (tap *Tap) note(line string) {
	line = strings.TrimRight(line, "\r\n")
	if line == "" {
		return
	}
	tap.mu.Lock()
	defer tap.mu.Unlock()
	tap.commands = append(tap.commands, line)
	tap.times = append(tap.times, time.Now())
}
