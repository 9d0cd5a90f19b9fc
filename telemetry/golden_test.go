// SPDX-License-Identifier: BSD-2-Clause

package telemetry

import (
	"errors"
	"flag"
	"log/slog"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"rcptgate"
)

var update = flag.Bool("update", false, "write testdata/lines.txt anew")

// TestGoldenLines holds the exact lines of every kind of decision and message, in every
// form: people and programs read them, and their readers are not ours to change.
func TestGoldenLines(t *testing.T) {
	var b strings.Builder
	for _, f := range []struct {
		name string
		form form
	}{
		{"text to standard error", form{stamped: true}},
		{"text to standard error that is the journal's", form{prefixed: true}},
		{"text to syslog (its head is the target's)", form{}},
		{"JSON to standard error", form{json: true, stamped: true}},
		{"JSON to syslog", form{json: true}},
		{"journald's fields", form{fielded: true}},
		{"journald's fields with JSON", form{fielded: true, json: true}},
	} {
		b.WriteString("# " + f.name + "\n")
		s, sh := &Telemetry{}, new(shard)
		s.settings.Store(&settings{form: f.form})
		for _, d := range decisions() {
			cause := ""
			if refused(&d.v) && len(d.q.Trace.Steps) > 0 {
				cause = d.q.Trace.Steps[0].Err.Error()
			}
			b.Write(appendDecision(nil, &f.form, sh, &d.q, &d.v, cause, at))
		}
		b.Write(s.appendMessage(nil, at, slog.LevelInfo, "ready", []slog.Attr{slog.String("version", "1.0")}))
		b.Write(s.appendMessage(nil, at, slog.LevelWarn, "milter connection ended", []slog.Attr{slog.String("peer", "192.0.2.1:4711"), slog.Any("error", errors.New("bad frame"))}))
		b.Write(s.appendMessage(nil, at, slog.LevelError, "disk store unavailable", nil))
		b.WriteString("\n")
	}
	if *update {
		if err := os.WriteFile("testdata/lines.txt", []byte(b.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile("testdata/lines.txt")
	if err != nil {
		t.Fatal(err)
	}
	got, wanted := strings.Split(b.String(), "\n"), strings.Split(string(want), "\n")
	for i := range max(len(got), len(wanted)) {
		if i >= len(got) || i >= len(wanted) || got[i] != wanted[i] {
			t.Fatalf("line %d:\n got %s\nwant %s", i+1, append(got, "")[min(i, len(got))], append(wanted, "")[min(i, len(wanted))])
		}
	}
}

var at = time.Date(2026, 11, 21, 1, 51, 45, 123e6, time.UTC)

type decision struct {
	q rcptgate.Query
	v rcptgate.Verdict
}

// decisions are one of each kind.
func decisions() (list []decision) {
	base, _ := sample()
	add := func(v rcptgate.Verdict, change func(q *rcptgate.Query)) {
		q := *base
		if change != nil {
			change(&q)
		}
		list = append(list, decision{q, v})
	}
	valid := rcptgate.Verdict{
		Code: 250, Enhanced: "2.1.5", Text: "Ok", Reason: rcptgate.ReasonValid, Source: rcptgate.SourceRAM, Backend: "smtp:[10.0.0.5]:25",
	}
	unknown := rcptgate.Verdict{
		Action: rcptgate.Reject, Code: 550, Enhanced: "5.1.1", Text: "No such user <c@d.example>\nReally", Reason: rcptgate.ReasonUnknownUser,
		Source: rcptgate.SourceProbe, Backend: "smtp:[10.0.0.5]:25",
	}
	add(valid, nil)
	add(valid, nil) // as the one before: the same line
	add(valid, func(q *rcptgate.Query) { q.Sender, q.QueueID, q.Client = "", "", netip.Addr{} })
	add(valid, func(q *rcptgate.Query) {
		q.Target.Path = "real@d.example"
		q.Client = netip.MustParseAddr("2001:db8::1")
	})
	add(rcptgate.Verdict{Reason: rcptgate.ReasonNotRouted}, func(q *rcptgate.Query) { q.Sender = "<>" })
	add(rcptgate.Verdict{Action: rcptgate.Accept, Reason: rcptgate.ReasonTrusted, Source: rcptgate.SourceConfig}, nil)
	add(unknown, nil)
	rehearsed := unknown
	rehearsed.Would, rehearsed.Action = rcptgate.Reject, rcptgate.Continue
	add(rehearsed, nil)
	add(rcptgate.Verdict{
		Action: rcptgate.Tempfail, Code: 451, Enhanced: "4.4.1", Text: rcptgate.TextUnverified, Reason: rcptgate.ReasonUnreachable, Source: rcptgate.SourceProbe,
	}, func(q *rcptgate.Query) {
		q.Trace.Steps = []rcptgate.TraceStep{{Err: errors.New("dial tcp 10.0.0.5:25: connection refused")}}
		q.Trace.Elapsed = 8*time.Second + 42*time.Microsecond
	})
	add(rcptgate.CouldNotFindOut, func(q *rcptgate.Query) {
		q.Trace.Steps = []rcptgate.TraceStep{{Err: &rcptgate.PanicError{Value: "index out of range"}}}
	})
	add(rcptgate.Verdict{Action: rcptgate.DiscardRecipient, Reason: "rule", Source: "rule"}, nil)
	add(rcptgate.Verdict{Action: rcptgate.Reject, Code: 554, Enhanced: "5.7.1", Text: "Listed", Reason: "blocklist", Source: "blocklist"}, func(q *rcptgate.Query) {
		q.Stage, q.Recipient, q.Target, q.Sender, q.QueueID = rcptgate.StageConnect, rcptgate.Mailbox{}, rcptgate.Mailbox{}, "", ""
	})
	add(rcptgate.Verdict{Action: rcptgate.Hold, Reason: "rule", Source: "rule"}, func(q *rcptgate.Query) {
		q.Stage, q.Recipient, q.Target = rcptgate.StageMessage, rcptgate.Mailbox{}, rcptgate.Mailbox{}
		q.Message = rcptgate.NewMessage(rcptgate.EditHeader)
		if q.Message.Size = 10240; q.Message.AddHeader("X-Seen", "yes") != nil {
			panic("a field that is refused")
		}
	})
	add(valid, func(q *rcptgate.Query) { // what a stranger can send
		q.Sender, q.QueueID = "a b\"=\\\n\x1b[2J\u202e\xff", strings.Repeat("q", 300)
		q.Recipient.Path = strings.Repeat("ü", 200) + "@d.example"
		q.Target = q.Recipient
	})
	return list
}
