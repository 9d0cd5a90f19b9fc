// SPDX-License-Identifier: BSD-2-Clause

package script

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"go.starlark.net/starlark"
	"go.starlark.net/starlarkstruct"

	"rcptgate"
	"rcptgate/address"
	"rcptgate/check/script/keep"
	"rcptgate/check/script/star"
	"rcptgate/config/setting"
)

// bench is the world of one test: fakes, and what has failed.
type bench struct {
	env     *star.Env
	dir     string
	now     time.Time
	dns     map[string][]string // "a mx.example.org"
	exists  map[string]string
	local   []string
	trusted []setting.Network
	viruses map[string]bool
	lists   map[string]*fakeList
	failed  []string
}

// benchKey is the thread's local that has the bench.
const benchKey = "rcptgate.bench"

// firstTime is when tests begin.
func firstTime() time.Time { return time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC) }

// newBench makes a world in which nothing is asked of anybody, and nothing kept.
func newBench(of *star.Env, dir string) *bench {
	b := &bench{dir: dir, now: firstTime(), dns: make(map[string][]string), exists: make(map[string]string), viruses: make(map[string]bool), lists: make(map[string]*fakeList)}
	env := *of
	if env.Language != nil {
		language := *env.Language
		local := language.Local
		language.Local = func(ctx context.Context, domain string) (bool, error) {
			if b.local == nil && local != nil {
				return local(ctx, domain)
			}
			return domain == "" || slices.Contains(b.local, domain), nil
		}
		language.Clients = maps.Clone(language.Clients)
		language.Clients["trusted"] = b.isTrusted
		env.Language = &language
	}
	env.Keep, env.DNS, env.Trusted = keep.New(keep.Options{}), b, b.isTrusted
	env.Now = func() time.Time { return b.now }
	env.Exists = func(_ context.Context, q *rcptgate.Query) rcptgate.Verdict { return b.existence(q) }
	env.Scan = func(_ context.Context, q *rcptgate.Query) { b.scan(q) }
	env.Blocklist = func(name string) rcptgate.Blocklist {
		if b.lists[name] == nil {
			b.lists[name] = &fakeList{name: name, bench: b, all: make(map[netip.Addr]rcptgate.Listing)}
		}
		return b.lists[name]
	}
	env.Log = nil
	b.env = &env
	return b
}

func (b *bench) isTrusted(client netip.Addr) bool {
	return slices.ContainsFunc(b.trusted, func(n setting.Network) bool { return n.Has(client) })
}

// Records answers for DNS: what a test has said, and nothing else.
func (b *bench) Records(_ context.Context, kind, name string) ([]string, error) {
	list, known := b.dns[kind+" "+name]
	if known && list == nil {
		return nil, errors.New("could not be found out")
	}
	return list, nil
}

func (b *bench) existence(q *rcptgate.Query) rcptgate.Verdict {
	word := b.exists[strings.TrimSuffix(q.Recipient.Key(true), "@")]
	switch word {
	case "valid":
		return rcptgate.Verdict{Code: 250, Reason: rcptgate.ReasonValid}
	case "unknown":
		return rcptgate.Verdict{Action: rcptgate.Reject, Code: 550, Reason: rcptgate.ReasonUnknownUser}
	case "full":
		return rcptgate.Verdict{Action: rcptgate.Tempfail, Code: 452, Reason: rcptgate.ReasonMailboxFull}
	case "refused":
		return rcptgate.Verdict{Action: rcptgate.Reject, Code: 550, Reason: rcptgate.ReasonRefused}
	case "unsure":
		return rcptgate.CouldNotFindOut
	}
	return rcptgate.Verdict{}
}

// scan finds the viruses that a test has named, by the Subject of the message.
func (b *bench) scan(q *rcptgate.Query) {
	m := q.Message
	m.Scanned = true
	if f := m.Header("Subject"); f != nil && b.viruses[f.Text()] {
		m.Virus = f.Text()
	}
}

// fakeList is a blocklist of a test.
type fakeList struct {
	name  string
	bench *bench
	all   map[netip.Addr]rcptgate.Listing
}

func (l *fakeList) Name() string                     { return l.name }
func (l *fakeList) Enforced() bool                   { return true }
func (l *fakeList) Refusal() (code int, text string) { return 550, "" }
func (l *fakeList) Listed(a netip.Addr) (rcptgate.Listing, bool) {
	x, ok := l.all[a.Unmap()]
	return x, ok && x.Until.After(l.bench.now)
}

func (l *fakeList) Add(a netip.Addr, evidence, id string, life time.Duration) error {
	a = a.Unmap()
	if l.bench.isTrusted(a) {
		return errors.New("a trusted network")
	}
	if life == 0 {
		life = time.Hour
	}
	old := l.all[a]
	if old.Count == 0 {
		old.First = l.bench.now
	}
	l.all[a] = rcptgate.Listing{Network: netip.PrefixFrom(a, a.BitLen()), First: old.First, Last: l.bench.now, Until: l.bench.now.Add(life), Count: old.Count + 1, Evidence: evidence, QueueID: id}
	return nil
}

func (l *fakeList) Remove(a netip.Addr) bool {
	_, ok := l.all[a.Unmap()]
	delete(l.all, a.Unmap())
	return ok
}

func (l *fakeList) Each(f func(rcptgate.Listing) bool) {
	for _, x := range l.all {
		if !f(x) {
			return
		}
	}
}

// testWord is the code of a word of tests.
type testWord func(b *bench, t *starlark.Thread, f *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error)

func (b *bench) word(name string, do testWord) starlark.Value {
	return starlark.NewBuiltin(name, func(t *starlark.Thread, f *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
		v, err := do(b, t, f, args, kwargs)
		if v == nil && err == nil {
			v = starlark.None
		}
		return v, err
	})
}

func (b *bench) module(name string, words map[string]testWord) starlark.Value {
	m := &starlarkstruct.Module{Name: name, Members: starlark.StringDict{}}
	for w, do := range words {
		m.Members[w] = b.word(name+"."+w, do)
	}
	return m
}

// words are those of scripts, and those of tests.
func (b *bench) words(settings map[string]string) starlark.StringDict {
	values := make(starlark.StringDict)
	for k, v := range settings {
		values[k] = starlark.String(v)
	}
	d := star.Words(starlarkstruct.FromStringDict(starlark.String("config"), values))
	d["assert"] = b.module("assert", asserts())
	d["clock"] = b.module("clock", map[string]testWord{"set": clockSet, "advance": clockAdvance})
	d["exists"] = b.module("exists", map[string]testWord{"fake": existsFake})
	d["site"] = b.module("site", map[string]testWord{"fake": siteFake})
	d["viruses"] = b.module("viruses", map[string]testWord{"fake": virusesFake})
	for name, stage := range map[string]rcptgate.Stage{"client": rcptgate.StageConnect, "mail": rcptgate.StageMail, "rcpt": rcptgate.StageRcpt, "message": rcptgate.StageMessage} {
		d[name] = b.word(name, maker(stage))
	}
	d["make"] = d["message"] // for files that load message()
	d["edits"], d["body"] = b.word("edits", editsOf), b.word("body", bodyOf)
	dns := d["dns"].(*starlarkstruct.Module)
	fakes := &starlarkstruct.Module{Name: "dns", Members: maps.Clone(dns.Members)}
	fakes.Members["fake"] = b.word("dns.fake", dnsFake)
	d["dns"] = fakes
	return d
}

// maker makes client(), mail(), rcpt() and message().
func maker(stage rcptgate.Stage) testWord {
	return func(b *bench, _ *starlark.Thread, f *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
		q := &rcptgate.Query{Stage: stage, Client: netip.MustParseAddr("192.0.2.1"), Sender: "sender@example.net", Session: &rcptgate.Session{}}
		if stage == rcptgate.StageRcpt {
			q.Recipient = address.Parse("user@example.org")
		}
		var recipients []string
		var raw string
		for i, a := range args {
			if i > 0 || stage == rcptgate.StageConnect {
				return nil, fmt.Errorf("%s: unexpected argument: write ip=, sender=, address= ...", f.Name())
			}
			kwargs = append(kwargs, starlark.Tuple{starlark.String(map[rcptgate.Stage]string{rcptgate.StageMail: "sender", rcptgate.StageRcpt: "address", rcptgate.StageMessage: "text"}[stage]), a})
		}
		for _, kv := range kwargs {
			if err := b.fill(q, string(kv[0].(starlark.String)), kv[1], &recipients, &raw); err != nil {
				return nil, fmt.Errorf("%s: %w", f.Name(), err)
			}
		}
		if q.Target.IsZero() {
			q.Target = q.Recipient
		}
		if stage == rcptgate.StageMessage {
			q.Message = rcptgate.ReadMessage([]byte(raw))
			if recipients == nil {
				recipients = []string{"user@example.org"}
			}
			for _, r := range recipients {
				q.Message.Recipients = append(q.Message.Recipients, address.Parse(r))
			}
			q.Accepted = len(recipients)
		}
		return star.Make(b.env, q), nil
	}
}

// fill sets one attribute of what is made.
func (b *bench) fill(q *rcptgate.Query, name string, v starlark.Value, recipients *[]string, raw *string) (err error) {
	places := map[string]*string{
		"name": &q.ClientName, "helo": &q.Helo, "auth_user": &q.AuthUser, "queue_id": &q.QueueID, "sender": &q.Sender,
		"tls": &q.Session.TLSVersion, "mailer": &q.NextHop.Mailer, "host": &q.NextHop.Host, "text": raw,
	}
	s, isText := starlark.AsString(v)
	if p := places[name]; p != nil {
		if !isText {
			return fmt.Errorf("%s is a string", name)
		}
		*p = s
		return nil
	}
	switch name {
	case "ip":
		if q.Client = (netip.Addr{}); s != "" {
			q.Client, err = netip.ParseAddr(s)
		}
	case "address":
		q.Recipient = address.Parse(s)
	case "target":
		q.Target = address.Parse(s)
	case "size", "accepted":
		n, err := starlark.AsInt32(v)
		q.Size, q.Accepted = int64(n), n
		return err
	case "local":
		q.Session.Local = bool(v.Truth())
	case "args":
		list, err := texts(v)
		q.Session.Mail.Args = strings.Join(list, "\x00")
		return err
	case "recipients":
		*recipients, err = texts(v)
	case "file":
		text, err := os.ReadFile(filepath.Join(b.dir, filepath.Clean("/"+s)))
		*raw = string(text)
		return err
	default:
		return fmt.Errorf("%s is not something that can be made", name)
	}
	return err
}

// texts reads a list of strings.
func texts(v starlark.Value) (list []string, err error) {
	iter := starlark.Iterate(v)
	if iter == nil {
		return nil, errors.New("expected a list of strings")
	}
	defer iter.Done()
	for e := starlark.Value(nil); iter.Next(&e); {
		s, ok := starlark.AsString(e)
		if !ok {
			return nil, errors.New("expected a list of strings")
		}
		list = append(list, s)
	}
	return list, nil
}

func editsOf(_ *bench, _ *starlark.Thread, f *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var v starlark.Value
	if err := starlark.UnpackArgs(f.Name(), args, kwargs, "msg", &v); err != nil {
		return nil, err
	}
	list, _, ok, err := star.Proposed(v)
	if !ok {
		return nil, errors.New("edits() takes a message")
	}
	out := make([]starlark.Value, len(list))
	for i, s := range list {
		out[i] = starlark.String(s)
	}
	return starlark.NewList(out), err
}

func bodyOf(_ *bench, _ *starlark.Thread, f *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var v starlark.Value
	if err := starlark.UnpackArgs(f.Name(), args, kwargs, "msg", &v); err != nil {
		return nil, err
	}
	_, body, ok, err := star.Proposed(v)
	if !ok {
		return nil, errors.New("body() takes a message")
	}
	return starlark.String(body), err
}
