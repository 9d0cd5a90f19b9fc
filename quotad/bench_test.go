// SPDX-License-Identifier: BSD-2-Clause

package quotad

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// askerVariable has the test binary ask an agent at that address so many plain questions, sixteen
// of them in flight, about as many mailboxes as a store has at work.
const askerVariable = "RCPTGATE_TEST_ASK"

// TestPlainAsker is the client of BenchmarkPlainUDP, which runs it as a process of its own.
func TestPlainAsker(t *testing.T) {
	address, number, ok := strings.Cut(os.Getenv(askerVariable), " ")
	if !ok {
		t.Skip("a client for BenchmarkPlainUDP")
	}
	left, err := strconv.Atoi(number)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("udp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	buf := make([]byte, 100)
	for sent, received := 0, 0; received < left; {
		if sent < left && sent-received < 16 {
			sent++
			if _, err := fmt.Fprintf(conn, "CHECK_QUOTA user%d", sent%1000); err != nil {
				t.Fatal(err)
			}
			continue
		}
		_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
		if _, err := conn.Read(buf); err != nil {
			t.Fatalf("after %d: %v", received, err)
		}
		received++
	}
}

// BenchmarkPlainUDP measures the agent: answers a second by the clock, which depend on the
// client as well, and answers a second of the agent's processor time.
func BenchmarkPlainUDP(b *testing.B) {
	root := b.TempDir()
	for i := range 1000 {
		put(b, filepath.Join(root, fmt.Sprint("user", i)), "x")
	}
	config := anywhere + "rate = 1000000\n" + section("mbox", root, "{local}", `limit = "1MB"`)
	a, _, _ := open(b, config)
	c, err := configure(b, config)
	if err != nil {
		b.Fatal(err)
	}
	a.now = time.Now
	if err := a.Adopt(c); err != nil {
		b.Fatal(err)
	}
	udp, _, _ := serve(b, a)
	client := exec.Command(os.Args[0], "-test.run=^TestPlainAsker$", "-test.count=1") // #nosec G204 G702 -- ourselves
	client.Env = append(os.Environ(), askerVariable+"="+udp+" "+strconv.Itoa(b.N))
	before := cpuTime(b)
	b.ResetTimer()
	if out, err := client.CombinedOutput(); err != nil {
		b.Fatalf("%v\n%s", err, out)
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "answers/s")
	b.ReportMetric(float64(b.N)/(cpuTime(b)-before).Seconds(), "answers/cpu-s")
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
