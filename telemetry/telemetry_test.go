// SPDX-License-Identifier: BSD-2-Clause

package telemetry

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"rcptgate"
	"rcptgate/kit/testkit"
)

func TestMain(m *testing.M) {
	if os.Getenv("TELEMETRY_CHILD") != "" {
		child()
		return
	}
	testkit.Overlap(4)
	goleak.VerifyTestMain(m)
}

// child logs to a standard error that nobody reads.
func child() {
	s, err := New(Defaults(), Options{Stderr: os.Stderr})
	if err != nil {
		os.Exit(2)
	}
	s.Logger().Error("lost")
	s.Flush(10 * time.Second)
	_ = s.Close(10 * time.Second)
	if s.Dropped() == 0 {
		os.Exit(3)
	}
}

func TestAClosedStandardErrorEndsNothing(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	_ = r.Close()
	defer func() { _ = w.Close() }()
	cmd := exec.Command(os.Args[0])
	cmd.Env, cmd.Stderr = append(os.Environ(), "TELEMETRY_CHILD=1"), w
	if err := cmd.Run(); err != nil {
		t.Errorf("the process that logs ended with %v", err)
	}
}

// buffer is a target that can be stopped.
type buffer struct {
	mu     sync.Mutex
	data   bytes.Buffer
	writes int
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.writes++
	return b.data.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.data.String()
}

func start(t testing.TB, change func(*Config), o Options) *Telemetry {
	t.Helper()
	c := Defaults()
	if change != nil {
		change(&c)
	}
	s, err := New(c, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(10 * time.Second); err != nil {
			t.Error(err)
		}
	})
	return s
}

func sample() (*rcptgate.Query, *rcptgate.Verdict) {
	q := &rcptgate.Query{
		Stage:     rcptgate.StageRcpt,
		Recipient: rcptgate.Mailbox{Path: "c@d.example", Local: "c", Domain: "d.example"},
		Sender:    "a@b.example", Client: netip.MustParseAddr("192.0.2.1"), QueueID: "4F1a",
	}
	q.Target = q.Recipient
	q.Trace.Started = time.Date(2026, 11, 21, 1, 51, 45, 123e6, time.UTC)
	q.Trace.Elapsed = 21 * time.Microsecond
	return q, &rcptgate.Verdict{
		Action: rcptgate.Reject, Code: 550, Enhanced: "5.1.1", Text: "No such user", Reason: rcptgate.ReasonUnknownUser,
		Source: rcptgate.SourceRAM, Backend: "smtp:[10.0.0.5]:25",
	}
}

func TestDecisionLine(t *testing.T) {
	out := &buffer{}
	s := start(t, nil, Options{Stderr: out})
	q, v := sample()
	s.Observe(q, v)
	q, v = sample()
	q.Sender, q.QueueID, q.Client = "", "", netip.Addr{}
	q.Target.Path = "real@d.example"
	q.Trace.Started = q.Trace.Started.Add(time.Second)
	q.Trace.Steps = []rcptgate.TraceStep{{Err: errors.New("dial: refused")}}
	*v = rcptgate.Verdict{Action: rcptgate.Continue, Would: rcptgate.Tempfail, Code: 451, Reason: rcptgate.ReasonUnreachable}
	s.Observe(q, v)
	s.Flush(10 * time.Second)
	want := `time=2026-11-21T01:51:45.123Z level=info msg=decision queue=4F1a client=192.0.2.1 sender=a@b.example recipient=c@d.example action=reject code=550 enhanced=5.1.1 reason=unknown-user source=ram backend=smtp:[10.0.0.5]:25 elapsed=0.021ms text="No such user"
time=2026-11-21T01:51:46.123Z level=info msg=decision sender=<> recipient=c@d.example target=real@d.example action=continue would=tempfail code=451 reason=unreachable elapsed=0.021ms text="" error="dial: refused"
`
	if got := out.String(); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

func TestDecisionJSON(t *testing.T) {
	out := &buffer{}
	s := start(t, func(c *Config) { c.Format = "json" }, Options{Stderr: out})
	q, v := sample()
	q.Sender = "x\"\\\n\u202e\xff\x00ü\U000e0001"
	s.Observe(q, v)
	s.Logger().With("n", 1).Warn("a \"b\"", "group", slog.GroupValue(slog.Int("x", 1)))
	s.Flush(10 * time.Second)
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 2 {
		t.Fatalf("%q", lines)
	}
	var got map[string]any
	if err := json.Unmarshal([]byte(lines[0]), &got); err != nil {
		t.Fatalf("%v: %s", err, lines[0])
	}
	for key, want := range map[string]any{
		"time": "2026-11-21T01:51:45.123Z", "queue": "4F1a", "client": "192.0.2.1", "recipient": "c@d.example", "action": "reject",
		"code": 550.0, "enhanced": "5.1.1", "elapsed_ms": 0.021, "sender": "x\"\\\n\u202e\ufffd\x00ü\ufffd",
	} {
		if got[key] != want {
			t.Errorf("%s: %q, want %q", key, got[key], want)
		}
	}
	if strings.Contains(lines[0], "\u202e") {
		t.Error("a character that turns the line around is not escaped")
	}
	if err := json.Unmarshal([]byte(lines[1]), &got); err != nil || got["msg"] != `a "b"` || got["n"] != "1" || got["group.x"] != "1" || got["level"] != "warn" {
		t.Errorf("%v: %s", err, lines[1])
	}
}

var pair = regexp.MustCompile(`^([a-z_]+)=([!#-<>-\[\]-~]+|"(?:[^"\\]|\\.)*")(?: |$)`)

// parseLine takes a line apart as a log reader does; ok is false when it does not
// consist of pairs.
func parseLine(line string) (map[string]string, bool) {
	out := map[string]string{}
	for line != "" {
		m := pair.FindStringSubmatch(line)
		if m == nil {
			return nil, false
		}
		value := m[2]
		if value[0] == '"' {
			unquoted, err := strconv.Unquote(value)
			if err != nil {
				return nil, false
			}
			value = unquoted
		}
		if _, twice := out[m[1]]; twice {
			return nil, false
		}
		out[m[1]], line = value, line[len(m[0]):]
	}
	return out, true
}

func FuzzNoTextBreaksALine(f *testing.F) {
	for _, s := range []string{
		"a b", "x\naction=continue", "\" action=continue", "=", "\x1b[2J", "\xff\xfe", "\u202eevil", "", strings.Repeat("ü", 300), "<>", `\`, "a=b", "\u2028", "\x00",
	} {
		f.Add(s, s)
	}
	f.Fuzz(func(t *testing.T, sender, text string) {
		q, v := sample()
		q.Sender, q.Recipient.Path, q.QueueID, v.Text, v.Backend = sender, text, sender, text, sender
		q.Target = q.Recipient
		var sh shard
		for _, f := range []form{{stamped: true}, {json: true}, {fielded: true}} {
			line := string(appendDecision(nil, &f, &sh, q, v, text, q.Trace.Started))
			if len(line) > recordMax {
				t.Fatalf("%d octets", len(line))
			}
			checkLine(t, line, f.fielded, f.json, v)
			if again := string(appendDecision(nil, &f, &sh, q, v, text, q.Trace.Started)); again != line {
				t.Fatalf("%q, then %q", line, again)
			}
		}
	})
}

func checkLine(t *testing.T, line string, journal, isJSON bool, v *rcptgate.Verdict) {
	line = strings.TrimSuffix(line, "\n")
	if journal {
		fields := strings.Split(line, "\n")
		for _, f := range fields {
			if !regexp.MustCompile(`^[A-Z_]+=`).MatchString(f) {
				t.Fatalf("a line that is no field: %q", f)
			}
		}
		line = strings.TrimPrefix(fields[len(fields)-1], "MESSAGE=")
	}
	for i := range len(line) {
		if line[i] < ' ' || line[i] == 0x7f {
			t.Fatalf("control character in %q", line)
		}
	}
	if isJSON {
		var got map[string]any
		if err := json.Unmarshal([]byte(line), &got); err != nil || got["action"] != "reject" {
			t.Fatalf("%v in %s", err, line)
		}
		return
	}
	got, ok := parseLine(line)
	if !ok || got["action"] != "reject" || got["code"] != "550" {
		t.Fatalf("%q is taken apart as %v", line, got)
	}
	if len(v.Text) <= textMax && got["text"] != v.Text && got["text"] != strings.ToValidUTF8(v.Text, "\ufffd") {
		t.Fatalf("text %q is read as %q", v.Text, got["text"])
	}
}

func TestOrderAndNothingLost(t *testing.T) {
	out := &buffer{}
	s := start(t, nil, Options{Stderr: out})
	const each, writers = 300, 8
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				q, v := sample()
				q.Trace.Started = time.Now()
				q.QueueID = strconv.Itoa(w*each + i)
				s.Observe(q, v)
			}
		})
	}
	wg.Wait()
	s.Flush(10 * time.Second)
	seen := map[string]bool{}
	for line := range strings.Lines(out.String()) {
		got, ok := parseLine(strings.TrimSpace(line))
		if !ok {
			t.Fatalf("%q", line)
		}
		seen[got["queue"]] = true
	}
	if len(seen) != each*writers {
		t.Errorf("%d of %d lines", len(seen), each*writers)
	}
	if out.writes > each {
		t.Errorf("%d writes for %d lines", out.writes, each*writers)
	}
	total := uint64(0)
	for _, c := range s.Counts() {
		total += c.N
	}
	if total != each*writers {
		t.Errorf("counted %d", total)
	}
}

func TestLinesAreMergedByTime(t *testing.T) {
	out := &buffer{}
	s := start(t, nil, Options{Stderr: out})
	base := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for i := range 20 { // put by hand into different shards, the later ones first
		sh := s.shards[(20-i)%len(s.shards)]
		sh.mu.Lock()
		sh.begin(base.Add(time.Duration(i)*time.Millisecond), priorityInfo)
		sh.buf = append(sh.buf, strconv.Itoa(i)+"\n"...)
		sh.end()
		sh.mu.Unlock()
	}
	s.Flush(10 * time.Second)
	want := ""
	for i := range 20 {
		want += strconv.Itoa(i) + "\n"
	}
	if out.String() != want {
		t.Errorf("got %q", out.String())
	}
}

// TestATargetThatHangs holds three promises: nobody waits, what is dropped is
// counted, and the log tells of it once it flows again.
func TestATargetThatHangs(t *testing.T) {
	r, w := io.Pipe() // a write waits for a read
	c := Defaults()
	s, err := New(c, Options{Stderr: w})
	if err != nil {
		t.Fatal(err)
	}
	for _, sh := range s.shards { // so that few lines fill them
		sh.mu.Lock()
		sh.limit = 4 * recordMax
		sh.mu.Unlock()
	}
	q, v := sample()
	began := time.Now()
	for range 20_000 {
		s.Observe(q, v)
	}
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("observing took %v", took)
	}
	if err := s.Close(10 * time.Millisecond); err == nil {
		t.Error("closing a log that hangs gave no error")
	}
	data := make(chan string)
	go func() {
		all, _ := io.ReadAll(r)
		data <- string(all)
	}()
	if err := s.Close(20 * time.Second); err != nil {
		t.Error(err)
	}
	_ = w.Close()
	got := <-data
	dropped := s.Dropped()
	written := strings.Count(got, "msg=decision")
	if dropped == 0 || written+int(dropped) != 20_000 {
		t.Errorf("%d written and %d dropped of 20000", written, dropped)
	}
	if !strings.Contains(got, "log lines were dropped") {
		t.Error("the log does not tell of dropped lines")
	}
	s.Observe(q, v) // after the end: no panic, dropped
}

func TestLogger(t *testing.T) {
	out := &buffer{}
	s := start(t, nil, Options{Stderr: out})
	log := s.Logger().With("unit", "store").WithGroup("disk").With("file", "a b")
	log.Debug("not shown")
	log.Info("opened", "entries", 5, "err", errors.New("x\ny"), slog.Group("g", slog.Duration("d", time.Second)), "v", slog.AnyValue(nil))
	if restart := s.Configure(Config{Target: "stderr", Format: "text", Level: "debug"}); restart {
		t.Error("a change of level wants a restart")
	}
	log.Debug("shown")
	q, v := sample()
	s.Observe(q, v) // decisions = false
	s.Flush(10 * time.Second)
	got := regexp.MustCompile(`time=\S+`).ReplaceAllString(out.String(), "time=T")
	want := `time=T level=info msg=opened unit=store disk.file="a b" disk.entries=5 disk.err="x\ny" disk.g.d=1s disk.v=<nil>
time=T level=debug msg=shown unit=store disk.file="a b"
`
	if got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	if restart := s.Configure(Config{Target: "syslog", Format: "text", Level: "info"}); !restart {
		t.Error("a change of target wants no restart")
	}
	log.Info("still here") // lines keep the form of the target that is in use
	s.Flush(10 * time.Second)
	if got := out.String(); !regexp.MustCompile(`\ntime=\S+ level=info msg="still here"`).MatchString(got) {
		t.Errorf("after a change of target: %s", got)
	}
}

func TestSyslogAndJournald(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"syslog":   `^<22>[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d rcptgate\[\d+\]: msg=decision queue=4F1a .*text="No such user"$`,
		"journald": `^SYSLOG_IDENTIFIER=rcptgate\nSYSLOG_FACILITY=2\nPRIORITY=6\nRCPTGATE_QUEUE=4F1a\n(?s:.*)RCPTGATE_ACTION=reject\n(?s:.*)\nMESSAGE=msg=decision queue=4F1a .*\n$`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(testkit.Dir(t), "log")
			s := start(t, func(c *Config) { c.Target = name }, Options{Socket: path})
			q, v := sample()
			s.Observe(q, v) // nobody listens yet
			s.Flush(10 * time.Second)
			if s.Dropped() != 1 {
				t.Errorf("dropped %d", s.Dropped())
			}
			conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close() }()
			time.Sleep(retryAfter)
			s.Observe(q, v)
			s.Flush(10 * time.Second)
			first, second := receive(t, conn), receive(t, conn)
			if !strings.Contains(first, "log lines were dropped") || !strings.Contains(first, "count=1") {
				t.Errorf("the drop is not told: %q", first)
			}
			if !regexp.MustCompile(want).MatchString(second) {
				t.Errorf("got %q", second)
			}
			v.Action, v.Would = rcptgate.Continue, rcptgate.Reject
			s.Observe(q, v)
			s.Notices().Warn("matter", "something to look at")
			s.Flush(10 * time.Second)
			rehearsed, warned := receive(t, conn), receive(t, conn)
			if name == "journald" && !strings.Contains(rehearsed, "\nRCPTGATE_WOULD=reject\nRCPTGATE_CODE=550\nRCPTGATE_ENHANCED=5.1.1\n") {
				t.Errorf("the fields of a rehearsal: %q", rehearsed)
			}
			if priority := map[string]string{"journald": "\nPRIORITY=4\n", "syslog": "<20>"}[name]; !strings.Contains(warned, priority) {
				t.Errorf("the priority of a warning: %q", warned)
			}
		})
	}
}

func TestSyslogOnAStream(t *testing.T) {
	path := filepath.Join(testkit.Dir(t), "log")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	s := start(t, func(c *Config) { c.Target = "syslog" }, Options{Socket: path})
	s.Logger().Error("x")
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	buf := make([]byte, 1000)
	n, err := conn.Read(buf)
	if err != nil || !strings.HasPrefix(string(buf[:n]), "<19>") || !strings.HasSuffix(string(buf[:n]), "msg=x\x00") {
		t.Errorf("%q, %v", buf[:n], err)
	}
}

func receive(t *testing.T, conn net.Conn) string {
	t.Helper()
	_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	buf := make([]byte, 1<<16)
	n, err := conn.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	return string(buf[:n])
}

func TestConfigErrors(t *testing.T) {
	for key, change := range map[string]func(*Config){
		"target": func(c *Config) { c.Target = "x" }, "format": func(c *Config) { c.Format = "x" }, "level": func(c *Config) { c.Level = "x" },
	} {
		c := Defaults()
		change(&c)
		if _, err := New(c, Options{}); err == nil || !strings.Contains(err.Error(), key+": \"x\"") {
			t.Errorf("%s: %v", key, err)
		}
	}
}
