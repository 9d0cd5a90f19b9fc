// SPDX-License-Identifier: BSD-2-Clause

package e2e

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"rcptgate"
	"rcptgate/config/setting"
	"rcptgate/front/milter/mta"
	"rcptgate/front/milter/wire"
	"rcptgate/kit/testkit"
	"rcptgate/test/lab"
)

// countingScanner speaks clamd's protocol, and compares each body with the sum that the header
// names: "Damaged" is found in one that differs. It answers when so many scans wait.
type countingScanner struct {
	socket  string
	barrier int64
	waiting atomic.Int64
	met     chan struct{} // closed when barrier scans wait
}

func startCountingScanner(t *testing.T, barrier int64) *countingScanner {
	t.Helper()
	s := &countingScanner{socket: filepath.Join(t.TempDir(), "clamd"), barrier: barrier, met: make(chan struct{})}
	ln, err := net.Listen("unix", s.socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go s.serve(c)
		}
	}()
	return s
}

func (s *countingScanner) serve(c net.Conn) {
	defer c.Close() //nolint:errcheck // a test's
	in := bufio.NewReaderSize(c, 64<<10)
	switch cmd, err := in.ReadString(0); {
	case err != nil:
	case cmd == "zVERSION\x00":
		_, _ = io.WriteString(c, "Counting 1\x00")
	default:
		_, _ = io.WriteString(c, s.scan(in))
	}
}

var wantedSum = regexp.MustCompile(`\r\nX-Sum: ([0-9]+)\r\n`)

func (s *countingScanner) scan(in *bufio.Reader) string {
	var head []byte
	inBody, sum, part := false, crc32.NewIEEE(), make([]byte, 64<<10)
	for {
		var n [4]byte
		if _, err := io.ReadFull(in, n[:]); err != nil {
			return ""
		}
		size := binary.BigEndian.Uint32(n[:])
		if size == 0 {
			break
		}
		if _, err := io.ReadFull(in, part[:size]); err != nil {
			return ""
		}
		if inBody {
			_, _ = sum.Write(part[:size])
			continue
		}
		head = append(head, part[:size]...)
		if at := strings.Index(string(head), "\r\n\r\n"); at >= 0 {
			inBody = true
			_, _ = sum.Write(head[at+4:])
		}
	}
	if s.waiting.Add(1) == s.barrier {
		close(s.met)
	}
	if s.barrier > 0 {
		<-s.met
	}
	if m := wantedSum.FindSubmatch(head); m == nil || string(m[1]) != strconv.FormatUint(uint64(sum.Sum32()), 10) {
		return "stream: Damaged FOUND\x00"
	}
	return "stream: OK\x00"
}

// bodyPart is what bodies are made of.
var bodyPart = []byte(strings.Repeat("a line of a message that is rather long, and not the only one\r\n", 1100)[:wire.BodyMax])

// sendOf plays a message with a body of a size.
func sendOf(c *mta.Client, size int) (last mta.Response, err error) {
	sum := crc32.NewIEEE()
	for left := size; left > 0; left -= len(bodyPart) {
		_, _ = sum.Write(bodyPart[:min(left, len(bodyPart))])
	}
	steps := []func() (mta.Response, error){
		func() (mta.Response, error) { return c.Connect("client.test", netip.MustParseAddrPort("192.0.2.7:25")) },
		func() (mta.Response, error) { return c.Mail("x@client.test", nil) },
		func() (mta.Response, error) { return c.Rcpt("a@in.test") },
		func() (mta.Response, error) { return c.Data() },
		func() (mta.Response, error) { return c.Header("Subject", " x") },
		func() (mta.Response, error) { return c.Header("X-Sum", fmt.Sprintf(" %d", sum.Sum32())) },
		c.EndOfHeader,
	}
	for left := size; left > 0; left -= len(bodyPart) {
		part := bodyPart[:min(left, len(bodyPart))]
		steps = append(steps, func() (mta.Response, error) { return c.Body(part) })
	}
	for _, step := range append(steps, func() (mta.Response, error) { return c.EndOfMessage() }) {
		if last, err = step(); err != nil {
			return last, err
		}
	}
	return last, nil
}

// sendAll sends messages of sizes over as many connections at one time, and wants each taken.
func sendAll(t *testing.T, g *lab.Gate, connections int, sizes []int) {
	t.Helper()
	var next atomic.Int64
	var all sync.WaitGroup
	for range connections {
		c, err := mta.Dial(t.Context(), setting.Socket{Network: "unix", Address: g.Unix}, mta.Options{})
		if err != nil {
			t.Fatal(err)
		}
		all.Go(func() {
			defer c.Close() //nolint:errcheck // nothing is pending
			for i := next.Add(1); int(i) <= len(sizes); i = next.Add(1) {
				if r, err := sendOf(c, sizes[i-1]); err != nil || r.Action != rcptgate.Continue {
					t.Errorf("message %d, %d octets: %+v, %v", i, sizes[i-1], r, err)
				}
			}
		})
	}
	all.Wait()
	if err := g.Metric("rcptgate_milter_spool_bytes", "0"); err != nil {
		t.Error(err)
	}
	if list, err := os.ReadDir(filepath.Join(g.Dir, "state", "spool")); len(list) > 0 {
		t.Errorf("left in the spool: %v, %v", list, err)
	}
}

// peak is the most memory that a process has had, in MiB.
func peak(t *testing.T, pid int) (mib int) {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`VmHWM:\s+([0-9]+) kB`).FindSubmatch(text)
	if m == nil {
		t.Fatalf("no VmHWM in %s", text)
	}
	kib, err := strconv.Atoi(string(m[1]))
	if err != nil {
		t.Fatal(err)
	}
	return kib >> 10
}

func messagesGate(t *testing.T, scanner *countingScanner) *lab.Gate {
	t.Helper()
	return lab.StartGate(t, fmt.Sprintf("message_deadline = \"5m\"\n[milter]\nspool = \"8GB\"\n[antivirus]\nclamd = [\"unix:%s\"]\nmax_size = \"60MB\"\nselftest = false\ntimeout = \"2m\"\nconnections = 400\n", scanner.socket))
}

// TestManyMessages sends messages of 0 to 50 MB, 100 at one time: each arrives at the scanner
// octet by octet.
func TestManyMessages(t *testing.T) {
	if testing.Short() {
		t.Skip("takes minutes on a busy machine")
	}
	const most = 50 << 20
	g := messagesGate(t, startCountingScanner(t, 0))
	rng := rand.New(rand.NewPCG(1, 2))
	sizes := []int{0, 1, most, 256 << 10, 256<<10 + 1}
	for range testkit.Rounds(100, 500) - len(sizes) { // most are small, as in life
		sizes = append(sizes, int(math.Exp(rng.Float64()*math.Log(most))))
	}
	start := time.Now()
	sendAll(t, g, 100, sizes)
	sum := 0
	for _, size := range sizes {
		sum += size
	}
	t.Logf("%d messages, %d MiB in %v; the gate took %d MiB of memory", len(sizes), sum>>20, time.Since(start).Round(time.Millisecond), peak(t, g.Pid()))
}

// TestMemoryOfMessages has 100 MiB of mail in flight at one time, in messages of several sizes:
// the gate stays within 150 MiB.
func TestMemoryOfMessages(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a while on a busy machine")
	}
	for _, size := range []int{2 << 20, 1 << 20, 256 << 10} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			messages := 100 << 20 / size
			g := messagesGate(t, startCountingScanner(t, int64(messages)))
			sizes := make([]int, messages)
			for i := range sizes {
				sizes[i] = size
			}
			sendAll(t, g, messages, sizes)
			if got := peak(t, g.Pid()); got > 150 {
				t.Errorf("%d messages of %d octets at one time took %d MiB of memory", messages, size, got)
			} else {
				t.Logf("%d messages of %d octets at one time: %d MiB of memory", messages, size, got)
			}
		})
	}
}
