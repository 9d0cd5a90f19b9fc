// SPDX-License-Identifier: BSD-2-Clause

package telemetry

import (
	"bytes"
	"errors"
	"log/slog"
	"net/netip"
	"strconv"
	"time"

	"rcptgate"
)

// appendDecision writes the line of one decision.
func appendDecision(b []byte, f *form, sh *shard, q *rcptgate.Query, v *rcptgate.Verdict, cause string, at time.Time) []byte {
	msg := "decision"
	if q.Inquiry {
		msg = "check"
	}
	if f.fielded {
		b = appendFieldHead(b, priorityInfo)
		if !q.Inquiry {
			b = appendFields(b, q, v)
		}
	}
	b = f.begin(b, &sh.stamp, at, priorityInfo, msg)
	if q.Stage != rcptgate.StageRcpt {
		b = f.pair(b, "stage", q.Stage.String(), valueMax)
	}
	b = sh.who.append(b, f, q)
	if q.Recipient.Path != "" || q.Stage == rcptgate.StageRcpt {
		b = f.pair(b, "recipient", q.Recipient.Path, valueMax)
	}
	if q.Target.Path != q.Recipient.Path {
		b = f.some(b, "target", q.Target.Path)
	}
	b = sh.what.append(b, f, v)
	if m := q.Message; m != nil {
		b = f.number(b, "size", int(m.Size))
		b = f.some(b, "virus", m.Virus)
		b = f.some(b, "unscanned", m.Unscanned)
		if n := len(m.Proposed()); n > 0 {
			b = f.number(b, "edits", n)
		}
	}
	if f.json {
		b = appendMillis(append(b, `,"elapsed_ms":`...), q.Trace.Elapsed)
	} else {
		b = append(appendMillis(append(b, " elapsed="...), q.Trace.Elapsed), "ms"...)
	}
	if refused(v) {
		b = f.pair(b, "text", v.Text, textMax)
		if cause != "" {
			b = f.pair(b, "error", cause, textMax)
		}
	}
	return f.end(b)
}

// whoAsked is the part of a line that says whose transaction it is, as the last line of
// a shard had it: the recipients of a transaction share it.
type whoAsked struct {
	form          form
	queue, sender string
	client        netip.Addr
	text          []byte
}

func (w *whoAsked) append(b []byte, f *form, q *rcptgate.Query) []byte {
	if len(w.text) == 0 || w.form != *f || w.client != q.Client || w.queue != q.QueueID || w.sender != q.Sender {
		w.text = appendWho(w.text[:0], f, q)
		w.form, w.client, w.queue, w.sender = *f, q.Client, q.QueueID, q.Sender
		if len(q.QueueID) > valueMax || len(q.Sender) > valueMax {
			w.queue, w.sender = "", "" // the next line does not equal it, and nothing large is kept
			defer func() { w.text = w.text[:0] }()
		}
	}
	return append(b, w.text...)
}

func appendWho(b []byte, f *form, q *rcptgate.Query) []byte {
	b = f.some(b, "queue", q.QueueID)
	if q.Client.IsValid() {
		if f.json {
			b = append(q.Client.AppendTo(append(b, `,"client":"`...)), '"')
		} else {
			b = q.Client.AppendTo(append(b, " client="...))
		}
	}
	switch {
	case f.json:
		return f.pair(b, "sender", q.Sender, valueMax)
	case q.Sender == "":
		return append(b, " sender=<>"...)
	case q.Sender == "<>": // not the null reverse-path: quoted to tell it apart
		return append(b, ` sender="<>"`...)
	}
	return f.pair(b, "sender", q.Sender, valueMax)
}

// whatWasSaid is the part of a line that says what the verdict was, as the last line of
// a shard had it: most verdicts are like the one before.
type whatWasSaid struct {
	form              form
	action, would     rcptgate.Action
	code              int
	enhanced, backend string
	reason            rcptgate.Reason
	source            string
	text              []byte
}

func (w *whatWasSaid) append(b []byte, f *form, v *rcptgate.Verdict) []byte {
	if len(w.text) == 0 || w.form != *f || w.action != v.Action || w.would != v.Would || w.code != v.Code || w.reason != v.Reason ||
		w.source != v.Source || w.enhanced != v.Enhanced || w.backend != v.Backend {
		w.text = appendWhat(w.text[:0], f, v)
		w.form, w.action, w.would, w.code, w.reason = *f, v.Action, v.Would, v.Code, v.Reason
		w.source, w.enhanced, w.backend = v.Source, v.Enhanced, v.Backend
	}
	return append(b, w.text...)
}

func appendWhat(b []byte, f *form, v *rcptgate.Verdict) []byte {
	b = f.pair(b, "action", v.Action.String(), valueMax)
	if v.Would != rcptgate.Continue {
		b = f.pair(b, "would", v.Would.String(), valueMax)
	}
	if v.Code != 0 {
		b = f.number(b, "code", v.Code)
	}
	b = f.some(b, "enhanced", v.Enhanced)
	b = f.some(b, "reason", string(v.Reason))
	b = f.some(b, "source", v.Source)
	return f.some(b, "backend", v.Backend)
}

// appendFields writes a decision's fields for journald. No value holds a line end:
// appendValue has quoted it.
func appendFields(b []byte, q *rcptgate.Query, v *rcptgate.Verdict) []byte {
	would, code := "", ""
	if v.Would != rcptgate.Continue {
		would = v.Would.String()
	}
	if v.Code != 0 {
		code = strconv.Itoa(v.Code)
	}
	target := q.Target.Path
	if target == q.Recipient.Path {
		target = ""
	}
	for _, p := range [...]struct{ key, value string }{
		{"RCPTGATE_QUEUE=", q.QueueID},
		{"RCPTGATE_SENDER=", q.Sender},
		{"RCPTGATE_RECIPIENT=", q.Recipient.Path},
		{"RCPTGATE_TARGET=", target},
		{"RCPTGATE_ACTION=", v.Action.String()},
		{"RCPTGATE_WOULD=", would},
		{"RCPTGATE_CODE=", code},
		{"RCPTGATE_ENHANCED=", v.Enhanced},
		{"RCPTGATE_REASON=", string(v.Reason)},
		{"RCPTGATE_SOURCE=", v.Source},
		{"RCPTGATE_BACKEND=", v.Backend},
		{"RCPTGATE_STAGE=", q.Stage.String()},
	} {
		if p.value != "" {
			b = append(appendValue(append(b, p.key...), p.value, valueMax), '\n')
		}
	}
	if q.Client.IsValid() {
		b = append(q.Client.AppendTo(append(b, "RCPTGATE_CLIENT="...)), '\n')
	}
	return b
}

func refused(v *rcptgate.Verdict) bool { return v.Action.Refuses() || v.Would.Refuses() }

// cause is why the last step that failed could not find out. A step that panicked is
// reported with its stack, at most once an hour for one place.
func (s *Telemetry) cause(q *rcptgate.Query) string {
	for i := len(q.Trace.Steps) - 1; i >= 0; i-- {
		err := q.Trace.Steps[i].Err
		if err == nil {
			continue
		}
		var panicked *rcptgate.PanicError
		if errors.As(err, &panicked) {
			s.notices.Error("panic "+panicPlace(panicked.Stack), "a check panicked; this is a bug in rcptgate, please report it",
				"stage", q.Stage.String(), "error", panicked.Error(), "place", panicPlace(panicked.Stack), stackKey, stack(panicked.Stack))
		}
		return err.Error()
	}
	return ""
}

// panicPlace is the file and line that a stack says panicked: the first below the call
// of panic. Programs built with -trimpath have paths without a directory of Go's own.
func panicPlace(stack []byte) string {
	_, below, _ := bytes.Cut(stack, []byte("\npanic("))
	for line := range bytes.Lines(below) {
		place, _, _ := bytes.Cut(bytes.TrimSpace(line), []byte(" +0x"))
		if line[0] != '\t' || bytes.HasPrefix(place, []byte("runtime/panic.go:")) || bytes.Contains(place, []byte("/runtime/panic.go:")) {
			continue
		}
		return string(place[bytes.LastIndexByte(place, '/')+1:])
	}
	return "unknown"
}

// stack is written out in the log, and nowhere else.
type stack []byte

func (s stack) LogValue() slog.Value { return slog.StringValue(string(s)) }

// String is what a list of notices has of it.
func (s stack) String() string { return "in the log" }
