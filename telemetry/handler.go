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
	sh := h.telemetry.take(h.telemetry.next.Add(1))
	var n nudge
	if sh.begin(at, priority) {
		sh.buf = append(sh.buf, line...)
		n = sh.end()
	}
	sh.mu.Unlock()
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

func (s *Telemetry) appendMessage(b []byte, at time.Time, level slog.Level, text string, attrs []slog.Attr) []byte {
	f, priority := s.settings.Load().form, priorityOf(level)
	if f.fielded {
		b = appendFieldHead(b, priority)
	}
	var st stamp
	b = f.begin(b, &st, at, priority, text)
	return f.end(appendAttrs(b, &f, "", attrs))
}

// maxAttrOctets keeps a record with many attributes below a record's bound.
const maxAttrOctets = recordMax / 2

func appendAttrs(b []byte, f *form, prefix string, attrs []slog.Attr) []byte {
	for _, a := range attrs {
		if len(b) > maxAttrOctets {
			break
		}
		v := a.Value.Resolve()
		switch {
		case v.Kind() == slog.KindGroup && a.Key == "":
			b = appendAttrs(b, f, prefix, v.Group())
		case v.Kind() == slog.KindGroup:
			b = appendAttrs(b, f, prefix+a.Key+".", v.Group())
		case a.Key == stackKey:
			b = f.attr(b, prefix+a.Key, valueText(v), stackMax)
		case a.Key != "":
			b = f.attr(b, prefix+a.Key, valueText(v), textMax)
		}
	}
	return b
}

// A stack says where the program went wrong only if it is whole.
const (
	stackKey = "stack"
	stackMax = 4096
)

func valueText(v slog.Value) string {
	switch v.Kind() {
	case slog.KindTime:
		return v.Time().Format(time.RFC3339)
	case slog.KindAny:
		return fmt.Sprint(v.Any())
	}
	return v.String()
}

// appendDropped writes the line that reports dropped ones.
func (s *Telemetry) appendDropped(n uint64) []byte {
	return s.appendMessage(nil, time.Now(), slog.LevelWarn, "log lines were dropped: the target was too slow or absent",
		[]slog.Attr{slog.String("count", strconv.FormatUint(n, 10))})
}
