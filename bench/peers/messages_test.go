// SPDX-License-Identifier: BSD-2-Clause

//go:build peers

package peers

import (
	"encoding/base64"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

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
	inTurns([]int{0, 1}, "messages", func(_, i int) {
		rate, err := bench.SendMessages(t.Context(), sides[i].socket, connections, turn(t), sendOne)
		if err != nil {
			t.Fatalf("%s: %v", sides[i].name, err)
		}
		sides[i].rates = append(sides[i].rates, rate)
	})
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

// sendOne sends message n, which is refused if it is bad.
func sendOne(c *mta.Client, n int) error {
	header, body, bad := tenKB(n)
	r, err := bench.SendMessage(c, header, body)
	if err == nil && r.Action.Refuses() != bad {
		err = fmt.Errorf("message %d: %d %s", n, r.Code, r.Text)
	}
	return err
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
