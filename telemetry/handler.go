// SPDX-License-Identifier: BSD-2-Clause

package telemetry

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"time"
)

// Logger gives the logger for operational messages: the same log, format and
// target as the decisions. Warnings and errors are written at once.
func (s *Telemetry) Logger() *slog.Logger { return slog.New(&handler{telemetry: s}) }

// handler is a slog.Handler. Groups become dotted prefixes of the keys.
type handler struct {
	telemetry *Telemetry
	prefix    string // "group.", for the keys to come
	attrs     []slog.Attr
}

func (h *handler) Enabled(_ context.Context, level slog.Level) bool {
	return level >= h.telemetry.settings.Load().level
}

func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	next := *h
	next.attrs = h.attrs[:len(h.attrs):len(h.attrs)]
	for _, a := range attrs {
		a.Key = h.prefix + a.Key
		next.attrs = append(next.attrs, a)
	}
	return &next
}

func (h *handler) WithGroup(name string) slog.Handler {
	if name == "" {
		return h
	}
	next := *h
	next.prefix = h.prefix + name + "."
	return &next
}

func (h *handler) Handle(_ context.Context, r slog.Record) error {
	at := r.Time
	if at.IsZero() {
		at = time.Now()
	}
	priority := priorityOf(r.Level)
	attrs := h.attrs[:len(h.attrs):len(h.attrs)]
	r.Attrs(func(a slog.Attr) bool {
		a.Key = h.prefix + a.Key
		attrs = append(attrs, a)
		return true
	})
	for i := range attrs { // before the lock: values run code that is not ours
		attrs[i].Value = attrs[i].Value.Resolve()
	}
	line := h.telemetry.appendMessage(make([]byte, 0, 256), at, r.Level, r.Message, attrs)
	sh := h.telemetry.take()
	var n nudge
	if sh.begin(at, priority) {
		sh.buf = append(sh.buf, line...)
		n = sh.end()
	}
	h.telemetry.give(sh)
	if r.Level >= slog.LevelWarn {
		n = nudgeNow
	}
	h.telemetry.lines.nudge(n)
	return nil
}

func priorityOf(level slog.Level) byte {
	switch {
	case level >= slog.LevelError:
		return priorityError
	case level >= slog.LevelWarn:
		return priorityWarning
	case level >= slog.LevelInfo:
		return priorityInfo
	}
	return priorityDebug
}

func levelWord(level slog.Level) string {
	switch priorityOf(level) {
	case priorityError:
		return "error"
	case priorityWarning:
		return "warn"
	case priorityInfo:
		return "info"
	}
	return "debug"
}

func (s *Telemetry) appendMessage(b []byte, at time.Time, level slog.Level, text string, attrs []slog.Attr) []byte {
	set := s.settings.Load()
	if s.journal {
		b = append(appendJournalHead(b, priorityOf(level)), "MESSAGE="...)
	}
	var st stamp
	if set.json {
		b = append(b, `{"level":"`...)
		b = append(append(b, levelWord(level)...), '"')
		if set.Target == "stderr" {
			b = append(st.append(append(b, `,"time":"`...), at), '"')
		}
		b = appendJSONPair(b, "msg", text, textMax)
		b = append(appendAttrs(b, "", attrs, appendAttrJSON), '}')
	} else {
		if set.Target == "stderr" {
			b = append(st.append(append(b, "time="...), at), " level="...)
			b = append(append(b, levelWord(level)...), ' ')
		}
		b = appendValue(append(b, "msg="...), text, textMax)
		b = appendAttrs(b, "", attrs, appendAttrText)
	}
	return append(b, '\n')
}

// maxAttrOctets keeps a record with many attributes below a record's bound.
const maxAttrOctets = recordMax / 2

func appendAttrs(b []byte, prefix string, attrs []slog.Attr, write func([]byte, string, string) []byte) []byte {
	for _, a := range attrs {
		if len(b) > maxAttrOctets {
			break
		}
		v := a.Value.Resolve()
		switch {
		case v.Kind() == slog.KindGroup && a.Key == "":
			b = appendAttrs(b, prefix, v.Group(), write)
		case v.Kind() == slog.KindGroup:
			b = appendAttrs(b, prefix+a.Key+".", v.Group(), write)
		case a.Key != "":
			b = write(b, prefix+a.Key, valueText(v))
		}
	}
	return b
}

func valueText(v slog.Value) string {
	switch v.Kind() {
	case slog.KindTime:
		return v.Time().Format(time.RFC3339)
	case slog.KindAny:
		return fmt.Sprint(v.Any())
	}
	return v.String()
}

func appendAttrText(b []byte, key, value string) []byte {
	b = appendValue(append(b, ' '), key, valueMax)
	return appendValue(append(b, '='), value, textMax)
}

func appendAttrJSON(b []byte, key, value string) []byte {
	b = appendJSON(append(b, ','), key, valueMax)
	return appendJSON(append(b, ':'), value, textMax)
}

// appendDropped writes the line that tells of dropped ones.
func (s *Telemetry) appendDropped(n uint64) []byte {
	return s.appendMessage(nil, time.Now(), slog.LevelWarn, "log lines were dropped: the target was too slow or absent",
		[]slog.Attr{slog.String("count", strconv.FormatUint(n, 10))})
}
