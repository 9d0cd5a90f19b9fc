// SPDX-License-Identifier: BSD-2-Clause

package quotad

import (
	"fmt"
	"net"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// BenchmarkPlainUDP asks over UDP, sixteen questions in flight, about as many mailboxes as a
// store has at work. It measures client and agent on the same processors.
func BenchmarkPlainUDP(b *testing.B) {
	root := b.TempDir()
	for i := range 1000 {
		put(b, filepath.Join(root, fmt.Sprint("user", i)), "x")
	}
	c, err := configure(b, anywhere+"rate = 1000000\n"+section("mbox", root, "{local}", `limit = "1MB"`))
	if err != nil {
		b.Fatal(err)
	}
	a, _, _ := open(b, anywhere+"rate = 1000000\n"+section("mbox", root, "{local}", `limit = "1MB"`))
	a.now = time.Now
	if err := a.Adopt(c); err != nil {
		b.Fatal(err)
	}
	udp, _, _ := serve(b, a)
	conn, err := net.Dial("udp", udp)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	b.ReportAllocs()
	buf := make([]byte, 100)
	n, in, before := 0, 0, cpuTime(b)
	for b.Loop() {
		if _, err := fmt.Fprintf(conn, "CHECK_QUOTA user%d", n%1000); err != nil {
			b.Fatal(err)
		}
		if n++; n-in >= 16 {
			_ = conn.SetReadDeadline(time.Now().Add(time.Second))
			if _, err := conn.Read(buf); err != nil {
				b.Fatalf("after %d: %v", n, err)
			}
			in++
		}
	}
	b.ReportMetric(float64(in)/b.Elapsed().Seconds(), "answers/s")
	b.ReportMetric(float64(in)/(cpuTime(b)-before).Seconds(), "answers/cpu-s")
}

// cpuTime is what the process has used of its processors.
func cpuTime(b *testing.B) time.Duration {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		b.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// BenchmarkMaildir100000 asks about a Maildir of 100,000 messages that does not change.
func BenchmarkMaildir100000(b *testing.B) {
	root := b.TempDir()
	box(b, filepath.Join(root, "ann"), 100_000)
	age(b, filepath.Join(root, "ann/cur"), time.Minute)
	age(b, filepath.Join(root, "ann/new"), time.Minute)
	a, at, _ := open(b, section("maildir", root, "{local}", ""))
	begin := time.Now()
	one(a, "ann")
	first := time.Since(begin)
	for b.Loop() {
		at.add(keepFor)
		if got := one(a, "ann"); got.Used != 10_000_000 {
			b.Fatalf("%+v", got)
		}
	}
	b.ReportMetric(float64(first.Milliseconds()), "first-ms")
	b.ReportMetric(float64(a.counts.scanned.Load()), "names")
}
