// SPDX-License-Identifier: BSD-2-Clause

package script

import (
	"strings"
	"testing"

	"rcptgate"
	"rcptgate/address"
	"rcptgate/check/script/star"
)

// seesAll looks at everything that a message and its transaction have, and copies it into
// places where it could do harm.
const seesAll = `
def message(m):
    seen = [m.sender, m.sender.domain, m.sender.detail, m.client.ip, m.client.helo, m.subject, m.message_id, m.from_, m.date, m.fields, m.malformed, m.recipients, m.text(max = 1000)]
    for p in m.parts:
        seen.append([p.type, p.charset, p.filename, p.names, p.ext, p.exts, p.size, p.sha256, p.text(max = 100), p.archive().names])
    m.notes["seen"] = m.subject[:1000]
    text = json.encode(str(seen)[:10000])
    for name, value in m.fields:
        if re_name.match(name):
            m.change_header(name, value.replace("\n", " ").replace("\r", " ").replace("\000", " ")[:900])
            break
    return reject(text)
re_name = re("[!-9;-~]{1,200}")
`

// FuzzScriptSees holds that no message makes a call panic, or gives a reply that could do
// harm. Values that cannot be sent are errors.
func FuzzScriptSees(f *testing.F) {
	f.Add("a@b.example", "mx", mixed())
	f.Add("\"a b\"@[192.0.2.1]", "\xff", "Subject: =?utf-8?b?/w==?=\nContent-Type: multipart/mixed; boundary=\"\"\n\n--\n--\n")
	f.Add("", "", "")
	p := program(f, seesAll, nil)
	f.Fuzz(func(t *testing.T, sender, helo, text string) {
		q := &rcptgate.Query{Stage: rcptgate.StageMessage, Sender: sender, Helo: helo, Session: &rcptgate.Session{}, Message: rcptgate.ReadMessage([]byte(text))}
		q.Message.Recipients = []rcptgate.Mailbox{address.Parse(sender)}
		v, err := p.functions["message"].Check(t.Context(), q)
		if e, ok := err.(*Error); ok && (strings.Contains(e.Backtrace, "runtime/debug.Stack") || e.Place == "") {
			t.Fatalf("%v\n%s", e, e.Backtrace)
		}
		if fitted := v; err == nil {
			if fitted.Fit(0, "", ""); fitted != v {
				t.Errorf("%+v does not fit together", v)
			}
		}
		for _, e := range q.Message.Edits() {
			if strings.ContainsAny(e.Name+e.Value, "\r\x00") {
				t.Errorf("an edit with CR or NUL: %+v", e)
			}
		}
	})
}

// FuzzLoad holds that no file of a script makes its reading panic. Files are trusted; typing
// errors are not.
func FuzzLoad(f *testing.F) {
	f.Add(seesAll)
	f.Add(ten)
	f.Add("def recipient(r): return (")
	f.Add("x = [a.local + b % c * d for a in b if c.domain.is6]\nx[1] += y\nlambda: x.join(*a, **b)")
	f.Fuzz(func(t *testing.T, text string) {
		tree, err := dialect().Parse("x.star", text, 0)
		if err != nil {
			return
		}
		l := newLint()
		l.file(tree)
		star.Rewrite(tree)
		_ = l.wants(true)
	})
}
