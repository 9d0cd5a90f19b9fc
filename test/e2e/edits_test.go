// SPDX-License-Identifier: BSD-2-Clause

package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"sync"
	"testing"

	"rcptgate"
	"rcptgate/test/lab"
)

const everyEdit = rcptgate.WantMessage | rcptgate.WantHeader | rcptgate.WantBody | rcptgate.EditHeader | rcptgate.EditBody | rcptgate.EditSender |
	rcptgate.EditRecipients | rcptgate.Quarantine

// sentFields is a header with what filters have stumbled over: fields of one name, a folded one, one without a space behind
// the colon, one with two, an empty one, octets beyond ASCII.
var sentFields = []string{
	"From: x@client.test", "To: a@in.test", "Subject: one", "Message-Id: <1@client.test>", "Date: Sat, 28 Nov 2026 15:00:00 +0000",
	"X-Two: a", "X-Other: between", "X-Two: b", "x-two: c", "X-Folded: aaa\r\n\tbbb\r\n  ccc", "X-Close:value", "X-Wide:  two spaces", "X-Last: end",
}

const sentBody = "first line\r\n..dots\r\n\r\nlast line\r\n"

// edited is what one edit makes of a header and a body, by the words of the documentation.
type edited struct {
	top, fields []string
	body        string
}

func newEdited() *edited {
	return &edited{fields: append([]string(nil), sentFields...), body: sentBody}
}

func (e *edited) String() string {
	var b strings.Builder
	for _, f := range append(append([]string(nil), e.top...), e.fields...) {
		if f != "" {
			b.WriteString(f + "\r\n")
		}
	}
	return b.String() + "\r\n" + e.body
}

// set changes a field, or empties it if it is deleted.
func (e *edited) set(name string, index int, text string) {
	for i, f := range sentFields {
		if strings.EqualFold(f[:strings.IndexByte(f, ':')], name) {
			if index--; index == 0 {
				e.fields[i] = text
			}
		}
	}
}

// editCase is a step's edits, and what comes out; nil is not looked at.
type editCase struct {
	name string
	do   func(m *rcptgate.Message) error
	want func(e *edited)
}

func editCases() []editCase {
	long := strings.Repeat("word ", 40) + "end"
	return []editCase{
		{"nothing", func(*rcptgate.Message) error { return nil }, func(*edited) {}},
		{"add", func(m *rcptgate.Message) error {
			return errors.Join(m.AddHeader("X-New", "1"), m.AddHeader("X-New", "2"))
		},
			func(e *edited) { e.fields = append(e.fields, "X-New: 1", "X-New: 2") }},
		{"add one of a name that is there", func(m *rcptgate.Message) error { return m.AddHeader("X-Two", "d") },
			func(e *edited) { e.fields = append(e.fields, "X-Two: d") }},
		{"insert", func(m *rcptgate.Message) error {
			return errors.Join(m.InsertHeader("X-Top", "1"), m.InsertHeader("X-Top", "2"))
		},
			func(e *edited) { e.top = []string{"X-Top: 2", "X-Top: 1"} }},
		{"change the second", func(m *rcptgate.Message) error { return m.ChangeHeader("X-Two", 2, "B") }, func(e *edited) { e.set("X-Two", 2, "X-Two: B") }},
		{"delete two of three, upwards", func(m *rcptgate.Message) error {
			return errors.Join(m.DeleteHeader("X-Two", 1), m.DeleteHeader("X-Two", 2))
		},
			func(e *edited) { e.set("X-Two", 1, ""); e.set("X-Two", 2, "") }},
		{"delete all and change another", func(m *rcptgate.Message) error {
			return errors.Join(m.DeleteHeader("X-Two", 1), m.DeleteHeader("X-Two", 2), m.DeleteHeader("X-Two", 3), m.ChangeHeader("Subject", 1, "two"))
		}, func(e *edited) {
			e.set("X-Two", 1, "")
			e.set("X-Two", 2, "")
			e.set("X-Two", 3, "")
			e.set("Subject", 1, "Subject: two")
		}},
		{"delete the first, change the third, insert one", func(m *rcptgate.Message) error {
			return errors.Join(m.DeleteHeader("X-Two", 1), m.ChangeHeader("X-Two", 3, "C"), m.InsertHeader("X-Two", "top"))
		}, func(e *edited) { e.set("X-Two", 1, ""); e.set("X-Two", 3, "x-two: C"); e.top = []string{"X-Two: top"} }},
		{"delete and add the same name", func(m *rcptgate.Message) error {
			return errors.Join(m.DeleteHeader("X-Last", 1), m.AddHeader("X-Last", "new"))
		},
			func(e *edited) { e.set("X-Last", 1, ""); e.fields = append(e.fields, "X-Last: new") }},
		{"delete and add a field of the MTA's own", func(m *rcptgate.Message) error {
			return errors.Join(m.DeleteHeader("Subject", 1), m.AddHeader("Subject", "new"))
		}, func(e *edited) { e.set("Subject", 1, ""); e.fields = append(e.fields, "Subject: new") }},
		{"fold", func(m *rcptgate.Message) error { return m.AddHeader("X-Long", long) }, func(e *edited) {
			e.fields = append(e.fields, "X-Long: "+strings.TrimSuffix(strings.Repeat("word ", 14), " ")+"\r\n "+strings.TrimSuffix(strings.Repeat("word ", 15), " ")+"\r\n "+strings.Repeat("word ", 11)+"end")
		}},
		{"lines of its own", func(m *rcptgate.Message) error { return m.AddHeader("X-Lines", "one\n\ttwo\n three") },
			func(e *edited) { e.fields = append(e.fields, "X-Lines: one\r\n\ttwo\r\n three") }},
		{"a folded field is changed", func(m *rcptgate.Message) error { return m.ChangeHeader("X-Folded", 1, "flat") }, func(e *edited) { e.set("X-Folded", 1, "X-Folded: flat") }},
		{"an exact value", func(m *rcptgate.Message) error { return m.ChangeHeader("X-Close", 1, m.Header("X-Wide").Value) },
			func(e *edited) { e.set("X-Close", 1, "X-Close:  two spaces") }},
		{"percent and backslash", func(m *rcptgate.Message) error { return m.AddHeader("X-Odd", `100% \n %s "q`) },
			func(e *edited) { e.fields = append(e.fields, `X-Odd: 100% \n %s "q`) }},
		{"body", func(m *rcptgate.Message) error { return m.ReplaceBody(strings.NewReader("new\n.body\r\n..\r\n"), 15) },
			func(e *edited) { e.body = "new\r\n.body\r\n..\r\n" }},
		{"a long body, and a header with it", func(m *rcptgate.Message) error {
			text := strings.Repeat(strings.Repeat("x", 70)+"\r\n", 4000)
			return errors.Join(m.ReplaceBody(strings.NewReader(text), int64(len(text))), m.AddHeader("X-New", "1"), m.DeleteHeader("X-Two", 1), m.Hold(""))
		}, nil},
		{"body longer than before, twice", func(m *rcptgate.Message) error {
			text := strings.Repeat("longer than before\r\n", 50)
			return errors.Join(m.ReplaceBody(strings.NewReader("no"), 2), m.ReplaceBody(strings.NewReader(text), int64(len(text))))
		}, func(e *edited) { e.body = strings.Repeat("longer than before\r\n", 50) }},
	}
}

// TestEdits has messages changed through both MTAs, and compares what is delivered with what was to come out, octet by octet.
func TestEdits(t *testing.T) {
	lab.Need(t, lab.PostfixKit, lab.SendmailKit)
	cases := editCases()
	for _, mta := range stagesMTAs {
		t.Run(mta.name, func(t *testing.T) {
			var mu sync.Mutex
			var do func(m *rcptgate.Message) error
			s := &stages{wants: everyEdit}
			s.steps[rcptgate.StageMessage] = func(_ context.Context, q *rcptgate.Query) (rcptgate.Verdict, error) {
				mu.Lock()
				defer mu.Unlock()
				if q.Message.Header("X-Mark") == nil { // only the marker
					return rcptgate.Verdict{}, nil
				}
				if got := seen(q.Message); got != newEdited().String()+"mark" {
					t.Errorf("the step saw %q", got)
				}
				return rcptgate.Verdict{}, do(q.Message)
			}
			sink := lab.StartSink(t)
			addr, log := mta.start(t, s.start(t, ""), sink)
			for i, tc := range cases {
				if tc.want == nil {
					continue
				}
				mu.Lock()
				do = tc.do
				mu.Unlock()
				mark := fmt.Sprintf("%s-%d", mta.name, i)
				d := lab.MustDial(t, addr)
				d.Must(t, 250, d.Mail(t, "x@client.test"))
				d.Must(t, 250, d.Rcpt(t, "a@in.test"))
				d.Must(t, 354, d.Do(t, "DATA"))
				d.Must(t, 250, d.Do(t, strings.ReplaceAll("X-Mark: "+mark+"\r\n"+newEdited().String(), "\r\n..", "\r\n...")+"."))
				d.Close()
				_, found := sink.Find(t, "X-Mark: "+mark+"\r\n", 1)
				if len(found) != 1 {
					t.Fatalf("%s: delivered %d times\n%s", tc.name, len(found), tail(log()))
				}
				e := newEdited()
				tc.want(e)
				got, place := withoutOwn(found[0].Data)
				if got != e.String() {
					t.Errorf("%s: delivered\n%q\nwant\n%q", tc.name, got, e.String())
				}
				if len(e.top) > 0 && place != "below" {
					t.Errorf("%s: the inserted field is not above the MTA's own Received:\n%s", tc.name, found[0].Data)
				}
			}
		})
	}
}

// seen is the message as a step sees it, without the mark.
func seen(m *rcptgate.Message) string {
	e := &edited{}
	mark := ""
	for _, f := range m.Fields {
		if f.Name == "X-Mark" {
			mark = "mark"
			continue
		}
		e.fields = append(e.fields, f.Name+":"+strings.ReplaceAll(f.Value, "\n", "\r\n"))
	}
	body, err := io.ReadAll(io.NewSectionReader(m.Body, 0, m.Size))
	if err != nil {
		return err.Error()
	}
	e.body = string(body)
	return e.String() + mark
}

var ownReceived = regexp.MustCompile(`(?m)^Received: from client\.test (?:.*\r\n[ \t])*.*\r\n`)

// withoutOwn takes the MTA's own Received and the mark off, and says whether anything stood above the former.
func withoutOwn(data string) (rest, place string) {
	at := ownReceived.FindStringIndex(data)
	if at == nil {
		return data, "absent"
	}
	place = "top"
	if at[0] > 0 {
		place = "below"
	}
	rest = data[:at[0]] + data[at[1]:]
	return regexp.MustCompile(`(?m)^X-Mark: .*\r\n`).ReplaceAllString(rest, ""), place
}
