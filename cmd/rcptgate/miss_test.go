// SPDX-License-Identifier: BSD-2-Clause

package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"strconv"
	"testing"

	"rcptgate"
	"rcptgate/address"
	"rcptgate/unit"
)

// frugal is a mail server that allocates nothing for a recipient, so that what a test counts
// is the gate's. It knows user0, user1 and so on, except for every twentieth of them.
type frugal struct{ net.Listener }

func startFrugal(tb testing.TB) *frugal {
	tb.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = ln.Close() })
	s := &frugal{ln}
	go func() {
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			go serveFrugal(nc)
		}
	}()
	return s
}

func serveFrugal(nc net.Conn) {
	defer nc.Close() //nolint:errcheck // the test has ended, or QUIT was said
	in, out := make([]byte, 4096), make([]byte, 0, 4096)
	out = append(out, "220 mx.test ESMTP\r\n"...)
	for {
		if _, err := nc.Write(out); err != nil || bytes.HasPrefix(out, []byte("221")) {
			return
		}
		n, err := nc.Read(in) // what the gate says together arrives together: it is short
		if err != nil {
			return
		}
		out = out[:0]
		for rest := in[:n]; len(rest) > 0; {
			end := bytes.IndexByte(rest, '\n') + 1
			out = appendFrugal(out, rest[:end])
			rest = rest[end:]
		}
	}
}

func appendFrugal(out, line []byte) []byte {
	switch {
	case bytes.HasPrefix(line, []byte("EHLO")):
		return append(out, "250-mx.test\r\n250-PIPELINING\r\n250 ENHANCEDSTATUSCODES\r\n"...)
	case bytes.HasPrefix(line, []byte("QUIT")):
		return append(out, "221 2.0.0 Bye\r\n"...)
	case bytes.HasPrefix(line, []byte("RCPT TO:<user")):
		name, _, _ := bytes.Cut(line[len("RCPT TO:<user"):], []byte{'@'})
		if n, err := strconv.Atoi(string(name)); err == nil && n%20 != 19 {
			return append(out, "250 2.1.5 Ok\r\n"...)
		}
		fallthrough
	case bytes.HasPrefix(line, []byte("RCPT")):
		return append(out, "550 5.1.1 Recipient address rejected: User unknown in relay recipient table\r\n"...)
	}
	return append(out, "250 2.0.0 Ok\r\n"...)
}

// missGate is the gate of a daemon as configured by default, which remembers nobody yet. With
// disk it writes what it learns to a file.
func missGate(tb testing.TB, disk bool) *rcptgate.Gate {
	tb.Helper()
	entries := ""
	if !disk {
		entries = "disk_entries = 0"
	}
	p, c := testConfig(tb, fmt.Sprintf("state = %q\nenforce = true\n[cache]\n%s\n[[domain]]\nname = \"example.com\"\nbackend = [\"smtp:[127.0.0.1]:%d\"]\n",
		tb.TempDir(), entries, startFrugal(tb).Addr().(*net.TCPAddr).Port))
	h, err := unit.Open(tb.Context(), p.units, c, unit.Options{Stderr: io.Discard, Disk: openDisk})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(h.Stop)
	return &h.Gate
}

// misses asks about n recipients that nobody has asked about before.
func misses(tb testing.TB, gate *rcptgate.Gate, people []rcptgate.Mailbox) {
	q := new(rcptgate.Query)
	for i := range people {
		if v := ask(gate, q, &people[i]); v.Source != rcptgate.SourceProbe {
			tb.Fatalf("%s: not the answer of a probe: %+v", people[i].Path, v)
		}
	}
}

func strangers(from, n int) []rcptgate.Mailbox {
	list := make([]rcptgate.Mailbox, n)
	for i := range list {
		list[i] = address.Parse(fmt.Sprintf("user%d@example.com", from+i))
	}
	return list
}

// BenchmarkMiss is what a recipient costs that has to be asked about, with the mail server's
// and both sides' system calls.
func BenchmarkMiss(b *testing.B) {
	for _, disk := range []bool{false, true} {
		b.Run(fmt.Sprintf("disk=%v", disk), func(b *testing.B) {
			gate := missGate(b, disk)
			misses(b, gate, strangers(0, 100))
			people := strangers(100, b.N)
			b.ReportAllocs()
			b.ResetTimer()
			misses(b, gate, people)
		})
	}
}

// What a miss allocates, the mail server's connections included, is what it costs the
// collector; it is held as a count, since times are for benchmarks.
func TestAMissAllocatesLittle(t *testing.T) {
	gate := missGate(t, false)
	people := strangers(0, 1200)
	misses(t, gate, people[:100]) // the first ones find out how the server says unknown
	q, next := new(rcptgate.Query), 100
	n := testing.AllocsPerRun(1000, func() {
		ask(gate, q, &people[next])
		next++
	})
	if n > 33 {
		t.Errorf("a miss allocates %v times, at most 33 times is allowed", n)
	}
}
