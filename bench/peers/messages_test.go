// SPDX-License-Identifier: BSD-2-Clause

//go:build peers

package peers

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"rcptgate/bench"
	"rcptgate/config/setting"
	"rcptgate/front/milter/mta"
	"rcptgate/test/lab"
)

// namesFilter refuses messages by the names of their attachments, and marks the others: in MIMEDefang's language and in
// rcptgate's.
const (
	namesFilter = `
sub filter { my ($entity) = @_; action_bounce('Programs are not taken.', 550, '5.7.1') if re_match($entity, '\.(exe|scr|pif|bat)\.*$'); return action_accept(); }
sub filter_multipart { my ($entity) = @_; return filter($entity); }
sub filter_end { my ($entity) = @_; action_add_header('X-Checked', 'yes') if defined $entity->head->get('Subject'); return; }
1;
`
	namesScript = `
bad = re(r"(?i)\.(exe|scr|pif|bat)\.*$")

def message(msg):
    for part in msg.parts:
        for name in part.names:
            if bad.search(name):
                return reject("Programs are not taken.")
    if msg.header("Subject") != None:
        msg.add_header("X-Checked", "yes")
`
)

// tenKB is a message of 10 KB with a text and two attachments; every tenth has a program.
func tenKB(n int) (header [][2]string, body []byte, bad bool) {
	bad = n%10 == 9
	name := "report.pdf"
	if bad {
		name = "report.exe"
	}
	part := func(head, text string) string { return "--b\r\n" + head + "\r\n\r\n" + text + "\r\n" }
	data := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("data", 13)))
	attached := func(name string) string {
		return part("Content-Type: application/octet-stream; name=\""+name+"\"\r\nContent-Transfer-Encoding: base64\r\nContent-Disposition: attachment; filename=\""+name+"\"",
			strings.TrimSuffix(strings.Repeat(data+"\r\n", 55), "\r\n"))
	}
	text := part("Content-Type: text/plain; charset=utf-8", strings.Repeat("a line of text as people write it to each other\r\n", 40)) +
		attached("photo.jpg") + attached(name) + "--b--\r\n"
	return [][2]string{
		{"Received", " from a.example by b.example; Sat, 28 Nov 2026 15:00:00 +0000"}, {"From", " s@example.net"}, {"To", " a@example.com"},
		{"Subject", " a message like others"}, {"Message-Id", fmt.Sprintf(" <%d@example.net>", n)}, {"Date", " Sat, 28 Nov 2026 15:00:00 +0000"},
		{"Mime-Version", " 1.0"}, {"Content-Type", " multipart/mixed; boundary=\"b\""},
	}, []byte(text), bad
}

// TestMessagesBesideMIMEDefang measures how many messages of 10 KB a second rcptgate and MIMEDefang look at, in turns on one
// machine: header fields and the names of attachments.
func TestMessagesBesideMIMEDefang(t *testing.T) {
	dir := lab.NewDir(t, "rcptgate")
	socket := filepath.Join(dir, "milter.sock")
	conf := writeFile(t, filepath.Join(dir, "rcptgate.toml"), fmt.Sprintf("enforce = true\nhostname = \"mx.gate.test\"\nstate = %q\n[listen]\nmilter = [%q]\n[script]\nfile = %q\n",
		filepath.Join(dir, "state"), "unix:"+socket, writeFile(t, filepath.Join(dir, "names.star"), namesScript)))
	gate := startMilter(t, "rcptgate", dir, socket, exec.Command(binary(t), "serve", "-c", conf))
	defang := lab.StartMIMEDefang(t, namesFilter, workers)
	sides := []struct {
		name   string
		socket setting.Socket
		rates  []float64
	}{
		{name: "rcptgate", socket: setting.Socket{Network: "unix", Address: socket}},
		{name: "MIMEDefang", socket: setting.Socket{Network: "tcp", Address: fmt.Sprintf("127.0.0.1:%d", defang.Port)}},
	}
	for n := range 2 * rounds {
		side := &sides[(n+n/2)%2] // A B, B A, A B, ...
		rate, err := sendMessages(t.Context(), side.socket, turn(t))
		if err != nil {
			t.Fatalf("%s: %v", side.name, err)
		}
		side.rates = append(side.rates, rate)
	}
	times, peak := bench.MedianRatio(sides[0].rates, sides[1].rates), peakMemory(t, gate.Pid())
	table := new(bench.Table)
	table.Bar("messages of 10 KB, header and names of attachments", fmt.Sprintf("rcptgate %.0f/s, MIMEDefang %.0f/s with %d workers: %.0f x; rcptgate took %d MiB at most",
		bench.Median(sides[0].rates), bench.Median(sides[1].rates), workers, times, peak>>20), "10 x MIMEDefang, 100 MiB", times >= 10 && peak <= 100<<20,
		map[string]float64{"rate": bench.Median(sides[0].rates), "defang": bench.Median(sides[1].rates), "times": times, "peak": float64(peak)})
	table.Note("%d turns of %v each, %d connections.", rounds, turn(t), connections)
	if err := table.Write(os.Stdout); err != nil {
		t.Fatal(err)
	}
}

// sendMessages sends messages over all connections for a turn, and gives their rate. A wrong answer is an error.
func sendMessages(ctx context.Context, socket setting.Socket, length time.Duration) (float64, error) {
	var sent atomic.Int64
	var senders sync.WaitGroup
	failed := make([]error, connections)
	start := time.Now()
	for i := range failed {
		senders.Go(func() {
			c, err := mta.Dial(ctx, socket, mta.Options{})
			if err != nil {
				failed[i] = err
				return
			}
			defer c.Close() //nolint:errcheck // it has quit
			if _, failed[i] = c.Connect("client.example.net", netip.MustParseAddrPort("192.0.2.25:45678")); failed[i] != nil {
				return
			}
			for n := 0; time.Since(start) < length && failed[i] == nil && ctx.Err() == nil; n++ {
				failed[i] = sendOne(c, n)
				sent.Add(1)
			}
		})
	}
	senders.Wait()
	return float64(sent.Load()) / time.Since(start).Seconds(), errors.Join(failed...)
}

func sendOne(c *mta.Client, n int) error {
	header, body, bad := tenKB(n)
	var failed error
	say := func(_ mta.Response, err error) { failed = errors.Join(failed, err) }
	say(c.Mail("s@example.net", nil))
	say(c.Rcpt("a@example.com"))
	say(c.Data())
	for _, f := range header {
		say(c.Header(f[0], f[1]))
	}
	say(c.EndOfHeader())
	say(c.Body(body))
	r, err := c.EndOfMessage()
	if failed = errors.Join(failed, err); failed == nil && r.Action.Refuses() != bad {
		failed = fmt.Errorf("message %d: %d %s", n, r.Code, r.Text)
	}
	return failed
}

// peakMemory is the most memory that a process has had, in octets.
func peakMemory(t testing.TB, pid int) int64 {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "VmHWM:")
	fields := strings.Fields(rest)
	if len(fields) == 0 {
		t.Fatalf("the system does not say how much memory %d has had", pid)
	}
	kib, err := strconv.ParseInt(fields[0], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return kib << 10
}
