// SPDX-License-Identifier: BSD-2-Clause

package script

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"rcptgate"
)

// TestHooks holds what each function is given and what becomes of what it returns.
func TestHooks(t *testing.T) {
	connect, helo, mail, rcpt := rcptgate.StageConnect, rcptgate.StageHelo, rcptgate.StageMail, rcptgate.StageRcpt
	for _, tc := range []struct {
		name, script string
		at           rcptgate.Stage
		want         string
	}{
		{"nothing", "def recipient(r): pass", rcpt, "continue"},
		{"another stage alone", "def sender(m): return reject()", rcpt, "continue"},
		{"accept", "def recipient(r): return accept()", rcpt, "accept"},
		{"reject", "def recipient(r): return reject()", rcpt, "reject 550 5.7.1 Not permitted by local policy"},
		{"reject with words", "def recipient(r): return reject('No', code=554, enhanced='5.1.1')", rcpt, "reject 554 5.1.1 No"},
		{"tempfail", "def recipient(r): return tempfail('Later')", rcpt, "tempfail 451 4.7.1 Later"},
		{"discard a recipient", "def recipient(r): return discard()", rcpt, "discard"},
		{"discard mail", "def sender(m): return discard()", mail, "discard_message"},
		{"hold", "def sender(m): return hold('look')", mail, "hold"},
		{"connect", "def connect(c): return reject(c.ip + ' ' + c.name + ' ' + str(c.port))", connect, "reject 550 5.7.1 192.0.2.7 mx.sender.example 2525"},
		{"helo", "def helo(c): return reject(c.helo)", helo, "reject 550 5.7.1 mx.sender.example"},
		{"sender", "def sender(m): return reject(m.sender + ' ' + str(m.size) + ' ' + m.client.tls + m.queue_id)", mail, "reject 550 5.7.1 ann+x@sender.example 1000 TLSv1.3Q1"},
		{"args", "def sender(m): return reject(' '.join(m.args))", mail, "reject 550 5.7.1 SIZE=1000 BODY=8BITMIME"},
		{"args at a recipient", "def recipient(r): return reject(str('BODY=8BITMIME' in r.args) + r.args[0])", rcpt, "reject 550 5.7.1 TrueSIZE=1000"},
		{"parts of addresses", "def recipient(r): return reject('%s %s %s %s %s' % (r.sender.local, r.sender.user, r.sender.detail, r.sender.domain, r.sender.null))", rcpt, "reject 550 5.7.1 ann+x ann x sender.example False"},
		{"equal addresses", "def recipient(r): return reject() if r.sender == 'ann+x@sender.example' and 'bob@example.org' == r.address and r.address in ['bob@example.org'] else None", rcpt, "reject 550 5.7.1 Not permitted by local policy"},
		{"addresses are keys", "D = {'bob@example.org': 'x'}\ndef recipient(r): return reject(D[r.address])", rcpt, "reject 550 5.7.1 x"},
		{"verbatim", "def recipient(r): return reject(r.verbatim)", rcpt, "reject 550 5.7.1 Bob@Example.org"},
		{"re", "FARM = re(r'@[a-z]+\\.example$')\ndef recipient(r): return discard() if FARM.search(r.sender) else None", rcpt, "discard"},
		{"groups", "R = re('(.*)@(.*)')\ndef recipient(r): return reject(','.join(R.match(r.address).groups))", rcpt, "reject 550 5.7.1 bob,example.org"},
		{"cidr", "N = cidr(['192.0.2.0/24'])\ndef connect(c): return reject() if c.ip in N and not c.ip.is6 else None", connect, "reject 550 5.7.1 Not permitted by local policy"},
		{"patterns", "P = patterns(['@.example', '!bob@'])\ndef recipient(r): return reject() if r.sender in P and r.address not in P else None", rcpt, "reject 550 5.7.1 Not permitted by local policy"},
		{"local", "P = patterns(['@$local'])\ndef recipient(r): return reject() if r.address in P and r.sender not in P else None", rcpt, "reject 550 5.7.1 Not permitted by local policy"},
		{"a rule's list", "P = patterns('list:good')\ndef recipient(r): return reject() if r.address in P else None", rcpt, "reject 550 5.7.1 Not permitted by local policy"},
		{"options", "def recipient(r): return reject(config.greeting)", rcpt, "reject 550 5.7.1 hello"},
		{"json", "def recipient(r): return reject(json.encode({'a': [1, None]}) + str(json.decode('[2]')))", rcpt, `reject 550 5.7.1 {"a":[1,null]}[2]`},
		{"time", "def recipient(r): return reject() if now().year > 2000 and time.now().unix > 0 else None", rcpt, "reject 550 5.7.1 Not permitted by local policy"},
		{"text is cleaned", "def recipient(r): return reject('a\\r\\nb\\000')", rcpt, "reject 550 5.7.1 a\nb"},
		{"hasattr, getattr", "def recipient(r): return reject() if hasattr(r, 'mailer') and getattr(r, 'index') == 0 else None", rcpt, "reject 550 5.7.1 Not permitted by local policy"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := mustOpen(t, tc.script, "options = { greeting = \"hello\" }\n[rules]\nlocal = [\"example.org\"]\n[[list]]\nname = \"good\"\nentries = [\"bob@\"]\n")
			q := at(tc.at, question("Bob@Example.org"))
			v := h.Gate.Ask(t.Context(), q)
			if got := says(v); got != tc.want {
				t.Errorf("got %q, want %q; %+v", got, tc.want, q.Trace.Steps)
			}
			if v.Action != rcptgate.Continue && v.Reason != "script" {
				t.Errorf("reason %q", v.Reason)
			}
		})
	}
}

// TestRefusedFiles holds that a mistake is found before anything is active, with its line.
func TestRefusedFiles(t *testing.T) {
	for _, tc := range []struct {
		name, script string
		want         []string
	}{
		{"syntax", "def recipient(r):\n  return )", []string{"filter.star:2:10"}},
		{"undefined name", "def recipient(r):\n  return rejct()", []string{"filter.star:2:10", "undefined: rejct"}},
		{"undefined attribute", "def recipient(r):\n  return reject(r.adress)", []string{"filter.star:2:19", "no .adress", "did you mean .address"}},
		{"undefined attribute of the client", "def recipient(r):\n  return reject(r.client.nam)", []string{"filter.star:2:26", "did you mean .name"}},
		{"a string is returned", "def recipient(r):\n  if r.size:\n    return 'no'", []string{"filter.star:3:12", "returns a string"}},
		{"True is returned", "def sender(m):\n  return True", []string{"filter.star:2:10", "True"}},
		{"a word without ()", "def recipient(r):\n  return reject", []string{"filter.star:2:10", "needs ()"}},
		{"a verdict that is not returned", "def recipient(r):\n  reject('no')", []string{"filter.star:2:3", "return reject"}},
		{"two arguments", "def recipient(r, s):\n  pass", []string{"filter.star:1:5", "one argument"}},
		{"a hook that is no function", "recipient = 5", []string{"recipient is a int"}},
		{"a number as text", "def recipient(r):\n  if r.size > 5: return reject(5)", []string{"filter.star:2:25", "text is a number"}},
		{"an unknown argument", "def recipient(r):\n  return tempfail('x', status = 450)", []string{"filter.star:2:10", "has no argument status"}},
		{"too many arguments", "def recipient(r):\n  return discard('x')", []string{"filter.star:2:10", "at most 0"}},
		{"an impossible code", "def recipient(r):\n  return reject(r.address, code = 250)", []string{"filter.star:2:10", "500 to 559"}},
		{"another class", "def recipient(r):\n  return reject('x', enhanced = '4.7.1')", []string{"filter.star:2:10", "4.7.1"}},
		{"an empty reason", "def sender(m):\n  return hold('')", []string{"filter.star:2:10", "empty"}},
		{"nothing to scan", "def message(m):\n  x = scan()", []string{"filter.star:2:7", "lacks the argument msg"}},
		{"an argument of a method", "def message(m):\n  m.add_header('X-A', '1', first = True)", []string{"filter.star:2:5", "has no argument first"}},
		{"too few arguments of a method", "def message(m):\n  m.add_header('X-A')", []string{"filter.star:2:5", "lacks the argument value"}},
		{"arguments of dns", "def sender(m):\n  dns.a()", []string{"filter.star:2:3", "lacks the argument"}},
		{"recursion", "def f(x):\n  return f(x) if x else 1\ndef recipient(r): f(r)", []string{"filter.star:2:10", "f() calls itself"}},
		{"recursion by way of another", "def f(x): g(x)\ndef g(x): h(x)\ndef h(x): f(x)", []string{"filter.star:3:11", "no recursion"}},
		{"an error at the top", "X = {}\nY = X['a']", []string{"filter.star:2:6", `key "a" not in dict`}},
		{"a bad regular expression", "X = re('(')", []string{"filter.star:1:7", "missing closing"}},
		{"a bad pattern", "X = patterns(['a b@'])", []string{"filter.star:1:13"}},
		{"an unknown list", "X = patterns(['list:none'])", []string{"filter.star:1:13", "list:none"}},
		{"an unknown blocklist", "X = blocklist('none')", []string{"filter.star:1:14", "none"}},
		{"a bad table", "X = table('none:/x')", []string{"filter.star:1:10", "unknown type"}},
		{"recursion in a load", "load('filter.star', 'x')", []string{"filter.star:1:6", "a circle"}},
		{"a way out", "load('../x.star', 'x')", []string{"filter.star:1:6", "below the script's folder"}},
		{"not there", "load('x.star', 'x')", []string{"filter.star:1:6", "no such file"}},
		{"while", "def recipient(r):\n  while True: pass", []string{"filter.star:2:3", "while"}},
		{"a top that grows without end", "X = []\nfor i in range(100000): X.append('x' * 1000000 + str(i))", []string{"filter.star:2:", "memory has grown"}},
		{"an endless loop at the top", "def f():\n  for i in range(1000000):\n    for j in range(1000000): pass\nf()", []string{"too many steps"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := open(t, tc.script, "memory = \"16MiB\"\n") // little, so that a busy machine fills it in less than the ten seconds of a top
			if err == nil {
				t.Fatal("it was taken")
			}
			for _, want := range append(tc.want, "script.file", "test.toml:5") {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%v\ndoes not say %q", err, want)
				}
			}
		})
	}
}

// A file that a link puts into the folder is not taken, and the line that loads it is named.
func TestLinksOutOfTheFolder(t *testing.T) {
	elsewhere := files(t, map[string]string{"x.star": "def f(): pass"})
	for name, want := range map[string]string{"filter.star": "filter.star: a symbolic link", "x.star": "filter.star:2:6: load(\"x.star\")", "lib/y.star": "lib/z.star:3:6: load(\"lib/y.star\")"} {
		text := "\nload('x.star', 'f')"
		if name == "lib/y.star" {
			text = "\nload('lib/z.star', 'f')"
		}
		dir := files(t, map[string]string{"filter.star": text, "lib/z.star": "\n\nload('lib/y.star', 'f')"})
		_ = os.Remove(filepath.Join(dir, name))
		if err := os.Symlink(filepath.Join(elsewhere, "x.star"), filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
		_, err := openIn(t, dir, "")
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "out of the script's folder, to "+elsewhere) {
			t.Errorf("%s: %v", name, err)
		}
	}
	inside := files(t, map[string]string{"x.star": "def f(): pass", "filter.star": "load('y.star', 'f')"})
	if err := os.Symlink("x.star", filepath.Join(inside, "y.star")); err != nil {
		t.Fatal(err)
	}
	if _, err := openIn(t, inside, ""); err != nil {
		t.Errorf("a link within the folder: %v", err)
	}
}

// What looks like a mistake and is none is taken.
func TestTakenFiles(t *testing.T) {
	for name, script := range map[string]string{
		"a word of one's own":         "def reject(n): return accept()\ndef recipient(r): return reject(5)",
		"a parameter like a word":     "def f(log): return log(1, x = 2)\ndef recipient(r): f(lambda a, x: a)",
		"arguments in a list":         "def recipient(r):\n  return reject(*['x'], **{'code': 554})",
		"all arguments":               "def recipient(r):\n  return reject('x', 554, '5.1.1')",
		"arguments by name":           "def recipient(r):\n  return reject(enhanced = '5.1.1', text = 'x')",
		"a text that is put together": "def recipient(r):\n  return reject('a' + r.address, code = 550 + 1)",
		"a size as text":              "def message(m):\n  x = m.text(max = '64KiB')\n  y = m.text(1000)",
		"a function under its name":   "def f(x): return 1\ndef g(f): return f(1)\ndef recipient(r): g(f)",
		"fields of the log":           "def recipient(r):\n  log('x', a = 1, text2 = 'y')",
		"dns":                         "def sender(m):\n  x = dns.mx('a.example')\n  y = dns.listed(m.client.ip, 'list.example')",
	} {
		if _, err := open(t, script, ""); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A rule's function decides for the recipients of that rule.
func TestRuleCallsFunction(t *testing.T) {
	const script = "def quiet(r):\n  if r.address.user == 'bob': return reject('Quiet')\n"
	const call = "[[rule]]\nname = \"night\"\nrecipient = [\"@example.org\"]\naction = \"call\"\ncall = \"%s\"\n%s[[rule]]\naction = \"tempfail\"\n"
	h := mustOpen(t, script, strings.NewReplacer("%s\"\n%s", "quiet\"\nexpect = [\"x@y.example -> bob@example.org: reject 550\", \"x@y.example -> ann@example.org: tempfail\"]\n").Replace(call))
	if err := h.Verify(); err != nil {
		t.Error(err)
	}
	for recipient, want := range map[string]string{
		"bob@example.org": "reject 550 5.7.1 Quiet", "ann@example.org": "tempfail 451 4.7.1 Not accepted at the moment, try again later", "bob@example.com": "tempfail 451 4.7.1 Not accepted at the moment, try again later",
	} {
		if got := says(h.Gate.Ask(t.Context(), question(recipient))); got != want {
			t.Errorf("%s: %s, want %s", recipient, got, want)
		}
	}
	for name, text := range map[string]string{"quite": "the script has no function quite()", "QUIET": "no function"} {
		_, err := open(t, script, strings.NewReplacer("%s\"\n%s", name+"\"\n").Replace(call))
		if err == nil || !strings.Contains(err.Error(), text) || !strings.Contains(err.Error(), "test.toml:10") {
			t.Errorf("an unknown function: %v", err)
		}
	}
}

// exists() asks what comes after the script, with a question of its own.
func TestExists(t *testing.T) {
	asked := 0
	after := behind(func(q *rcptgate.Query) (rcptgate.Verdict, error) {
		asked++
		switch q.Target.Local {
		case "none":
			return rcptgate.Verdict{Action: rcptgate.Reject, Code: 550, Enhanced: "5.1.1", Text: "no", Reason: rcptgate.ReasonUnknownUser}, nil
		case "full":
			return rcptgate.Verdict{Action: rcptgate.Tempfail, Code: 452, Enhanced: "4.2.2", Text: "full", Reason: rcptgate.ReasonMailboxFull}, nil
		case "down":
			return rcptgate.Verdict{}, context.DeadlineExceeded
		}
		return rcptgate.Verdict{Code: 250, Reason: rcptgate.ReasonValid}, nil
	})
	h := mustOpen(t, "def recipient(r): return reject(r.exists(), code=554)", "", after)
	for recipient, want := range map[string]string{"ann": "valid", "none": "unknown", "full": "full", "down": "unsure"} {
		q := question(recipient + "@example.com")
		if v := h.Gate.Ask(t.Context(), q); v.Text != want {
			t.Errorf("%s: %q, want %q", recipient, v.Text, want)
		}
		if n := len(q.Trace.Steps); n != 1 {
			t.Errorf("%s: the trace has %d steps", recipient, n)
		}
	}
	if asked != 4 {
		t.Errorf("asked %d times", asked)
	}
}

// What is negotiated follows from what the script names.
func TestWants(t *testing.T) {
	const session, holds, recipients = rcptgate.WantSession, rcptgate.Quarantine, rcptgate.EditRecipients
	const message, body = rcptgate.WantMessage | rcptgate.WantHeader, rcptgate.WantMessage | rcptgate.WantHeader | rcptgate.WantBody
	for script, want := range map[string]rcptgate.Wants{
		"":                       0,
		"def f(x): pass":         0,
		"def recipient(r): pass": 0,
		"def connect(c): pass":   rcptgate.WantConnect,
		"def helo(c): pass":      rcptgate.WantHelo,
		"def sender(m): pass":    rcptgate.WantMail,
		"def message(m): pass":   rcptgate.WantMessage | rcptgate.WantHeader,
		"def sender(m): return hold() if m.client.tls else None":                    rcptgate.WantMail | session | holds,
		"def recipient(r): return discard()":                                        recipients,
		"def connect(c): return reject() if c.tls_cipher else None":                 rcptgate.WantConnect | session,
		"def connect(c): return reject() if c.mta else None":                        rcptgate.WantConnect | session,
		"def recipient(r): return getattr(r, 'exists')()":                           session | holds | recipients,
		"def sender(m): pass\ndef f(m): m.add_header('X-A', '')\ndef g(m): m.parts": rcptgate.WantMail,
		"def message(m): return reject() if m.subject == m.header('To') else None":  message,
		"def message(m): m.add_header('X-A', '1')":                                  message | rcptgate.EditHeader,
		"def message(m): m.change_header('X-A', '1')":                               message | rcptgate.EditHeader,
		"def message(m): m.delete_header('X-A')":                                    message | rcptgate.EditHeader,
		"def message(m): m.tag_subject('x')":                                        message | rcptgate.EditHeader,
		"def message(m): m.add_recipient('a@b')":                                    message | recipients,
		"def message(m): m.delete_recipient('a@b')":                                 message | recipients,
		"def message(m): m.change_sender('')":                                       message | rcptgate.EditSender,
		"def message(m): return hold() if m.sender.null else None":                  message | holds,
		"def message(m): return reject() if m.parts else None":                      body,
		"def message(m): return reject() if m.text() else None":                     body,
		"def message(m): return reject() if m.size else None":                       body,
		"def message(m): return reject() if m.malformed else None":                  body,
		"def message(m): return reject() if m.cut else None":                        body,
		"def message(m): return reject() if scan(m) else None":                      body,
		"def message(m): m.append_text('x')":                                        body | rcptgate.EditBody | rcptgate.EditHeader,
		"def f(p): p.remove()\ndef message(m): pass":                                body | rcptgate.EditBody | rcptgate.EditHeader,
		"def f(p): p.replace('x')\ndef message(m): pass":                            body | rcptgate.EditBody | rcptgate.EditHeader,
		"def message(m): getattr(m, 'add_header')('X-A', '1')":                      everything | session,
	} {
		h := mustOpen(t, script, "")
		if got := h.Gate.Wants(); got != want {
			t.Errorf("%s: wants %b, not %b", script, got, want)
		}
	}
}

// Notes live as long as the connection or the transaction.
func TestNotes(t *testing.T) {
	h := mustOpen(t, `
def connect(c): c.notes["n"] = [1, "x"]
def sender(m): m.notes["s"] = m.sender
def recipient(r):
    n = r.client.notes.get("n", [])
    return reject("%s %s %s %s" % (n, r.notes.get("s"), "s" in r.notes, len(r.notes)))
`, "")
	session := &rcptgate.Session{}
	ask := func(stage rcptgate.Stage) string {
		q := at(stage, question("bob@example.org"))
		q.Session = session
		return h.Gate.Ask(t.Context(), q).Text
	}
	ask(rcptgate.StageConnect)
	ask(rcptgate.StageMail)
	if got := ask(rcptgate.StageRcpt); got != `[1, "x"] ann+x@sender.example True 1` {
		t.Errorf("got %q", got)
	}
	session.Mail.Reset()
	if got := ask(rcptgate.StageRcpt); got != `[1, "x"] None False 0` {
		t.Errorf("after the transaction: %q", got)
	}
}
