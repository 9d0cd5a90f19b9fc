// SPDX-License-Identifier: BSD-2-Clause

package telemetry

import (
	"strconv"
	"time"

	"rcptgate"
)

// appendDecision writes one decision in the form that the target and the settings
// ask for.
func (s *Telemetry) appendDecision(b []byte, set *settings, sh *shard, q *rcptgate.Query, v *rcptgate.Verdict, cause string, at time.Time) []byte {
	if s.journal {
		b = appendJournal(b, q, v)
	}
	if set.json {
		b = append(b, '{')
		if set.Target == "stderr" {
			b = append(sh.stamp.append(append(b, `"time":"`...), at), `",`...)
		}
		b = append(b, `"level":"info","msg":"decision"`...)
		b = append(appendDecisionJSON(b, q, v, cause), '}')
	} else {
		if set.Target == "stderr" {
			b = append(sh.stamp.append(append(b, "time="...), at), " level=info "...)
		}
		b = append(b, "msg=decision"...)
		b = appendDecisionText(b, q, v, cause)
	}
	return append(b, '\n')
}

func appendDecisionText(b []byte, q *rcptgate.Query, v *rcptgate.Verdict, cause string) []byte {
	if q.QueueID != "" {
		b = appendPair(b, "queue", q.QueueID, valueMax)
	}
	if q.Client.IsValid() {
		b = q.Client.AppendTo(append(b, " client="...))
	}
	if q.Sender == "" {
		b = append(b, " sender=<>"...)
	} else if q.Sender == "<>" { // not the null reverse-path: quoted to tell it apart
		b = append(b, ` sender="<>"`...)
	} else {
		b = appendPair(b, "sender", q.Sender, valueMax)
	}
	b = appendPair(b, "recipient", q.Recipient.Path, valueMax)
	if q.Target.Path != q.Recipient.Path && q.Target.Path != "" {
		b = appendPair(b, "target", q.Target.Path, valueMax)
	}
	b = append(append(b, " action="...), v.Action.String()...)
	if v.Would != rcptgate.Continue {
		b = append(append(b, " would="...), v.Would.String()...)
	}
	if v.Code != 0 {
		b = strconv.AppendInt(append(b, " code="...), int64(v.Code), 10)
	}
	if v.Enhanced != "" {
		b = appendPair(b, "enhanced", v.Enhanced, valueMax)
	}
	if v.Reason != "" {
		b = appendPair(b, "reason", string(v.Reason), valueMax)
	}
	if v.Source != "" {
		b = appendPair(b, "source", v.Source, valueMax)
	}
	if v.Backend != "" {
		b = appendPair(b, "backend", v.Backend, valueMax)
	}
	b = append(appendMillis(append(b, " elapsed="...), q.Trace.Elapsed), "ms"...)
	if refused(v) {
		b = appendPair(b, "text", v.Text, textMax)
		if cause != "" {
			b = appendPair(b, "error", cause, textMax)
		}
	}
	return b
}

func appendDecisionJSON(b []byte, q *rcptgate.Query, v *rcptgate.Verdict, cause string) []byte {
	if q.QueueID != "" {
		b = appendJSONPair(b, "queue", q.QueueID, valueMax)
	}
	if q.Client.IsValid() {
		b = append(q.Client.AppendTo(append(b, `,"client":"`...)), '"')
	}
	b = appendJSONPair(b, "sender", q.Sender, valueMax)
	b = appendJSONPair(b, "recipient", q.Recipient.Path, valueMax)
	if q.Target.Path != q.Recipient.Path && q.Target.Path != "" {
		b = appendJSONPair(b, "target", q.Target.Path, valueMax)
	}
	b = appendJSONPair(b, "action", v.Action.String(), valueMax)
	if v.Would != rcptgate.Continue {
		b = appendJSONPair(b, "would", v.Would.String(), valueMax)
	}
	if v.Code != 0 {
		b = strconv.AppendInt(append(b, `,"code":`...), int64(v.Code), 10)
	}
	for _, p := range [...]struct{ key, value string }{
		{"enhanced", v.Enhanced}, {"reason", string(v.Reason)}, {"source", v.Source}, {"backend", v.Backend},
	} {
		if p.value != "" {
			b = appendJSONPair(b, p.key, p.value, valueMax)
		}
	}
	b = appendMillis(append(b, `,"elapsed_ms":`...), q.Trace.Elapsed)
	if refused(v) {
		b = appendJSONPair(b, "text", v.Text, textMax)
		if cause != "" {
			b = appendJSONPair(b, "error", cause, textMax)
		}
	}
	return b
}

// appendJournal writes the fields of journald's native protocol and leaves MESSAGE
// open. No value holds a line end: appendValue has quoted it.
func appendJournal(b []byte, q *rcptgate.Query, v *rcptgate.Verdict) []byte {
	b = appendJournalHead(b, priorityInfo)
	for _, p := range [...]struct{ key, value string }{
		{"RCPTGATE_QUEUE=", q.QueueID},
		{"RCPTGATE_SENDER=", q.Sender},
		{"RCPTGATE_RECIPIENT=", q.Recipient.Path},
		{"RCPTGATE_ACTION=", v.Action.String()},
		{"RCPTGATE_REASON=", string(v.Reason)},
		{"RCPTGATE_SOURCE=", v.Source},
		{"RCPTGATE_BACKEND=", v.Backend},
	} {
		if p.value != "" {
			b = append(appendValue(append(b, p.key...), p.value, valueMax), '\n')
		}
	}
	if q.Client.IsValid() {
		b = append(q.Client.AppendTo(append(b, "RCPTGATE_CLIENT="...)), '\n')
	}
	return append(b, "MESSAGE="...)
}

func appendJournalHead(b []byte, priority byte) []byte {
	b = append(b, "SYSLOG_IDENTIFIER=rcptgate\nSYSLOG_FACILITY=2\nPRIORITY="...)
	return append(b, '0'+priority, '\n')
}

func refused(v *rcptgate.Verdict) bool { return v.Action.Refuses() || v.Would.Refuses() }

// causeOf is why the last step that failed could not find out; empty unless the
// sender is refused.
func causeOf(q *rcptgate.Query, v *rcptgate.Verdict) string {
	if !refused(v) {
		return ""
	}
	for i := len(q.Trace.Steps) - 1; i >= 0; i-- {
		if err := q.Trace.Steps[i].Err; err != nil {
			return err.Error()
		}
	}
	return ""
}
