// SPDX-License-Identifier: BSD-2-Clause

package directory

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"

	ber "github.com/go-asn1-ber/asn1-ber"
	"github.com/go-ldap/ldap/v3"

	"rcptgate"
	"rcptgate/kit/notice"
)

// fake is a scripted LDAP server on pipes.
type fake struct {
	mu       sync.Mutex
	refuse   bool
	search   func(c *session, id int64, filter string) // answers one search
	bindCode uint16
	startTLS func(c *session, id int64)
	tls      *tls.Config // from the first octet
	conns    []net.Conn
	made     int
	searches int
	filters  []string
}

type session struct {
	net.Conn
	f *fake
}

func (f *fake) dial(context.Context) (net.Conn, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.refuse {
		return nil, errors.New("connection refused")
	}
	client, server := net.Pipe()
	f.made++
	f.conns = append(f.conns, server)
	go f.serve(server)
	return client, nil
}

func (f *fake) set(change func(f *fake)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(f)
}

func (f *fake) counts() (made, searches int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.made, f.searches
}

// cut ends every connection.
func (f *fake) cut() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.conns {
		_ = c.Close()
	}
}

func (f *fake) serve(c net.Conn) {
	defer c.Close() //nolint:errcheck // a pipe
	if f.tls != nil {
		c = tls.Server(c, f.tls)
	}
	s := &session{c, f}
	for {
		p, err := ber.ReadPacket(s)
		if err != nil || len(p.Children) < 2 {
			return
		}
		id, op := p.Children[0].Value.(int64), p.Children[1]
		f.mu.Lock()
		search, code, startTLS := f.search, f.bindCode, f.startTLS
		if op.Tag == ldap.ApplicationSearchRequest {
			f.searches++
		}
		f.mu.Unlock()
		switch op.Tag {
		case ldap.ApplicationBindRequest:
			s.send(result(id, ldap.ApplicationBindResponse, code))
		case ldap.ApplicationExtendedRequest:
			startTLS(s, id)
		case ldap.ApplicationSearchRequest:
			text, _ := ldap.DecompileFilter(op.Children[6])
			f.set(func(f *fake) { f.filters = append(f.filters, text) })
			search(s, id, text)
		default:
			return
		}
	}
}

func (s *session) send(packets ...*ber.Packet) {
	for _, p := range packets {
		_, _ = s.Write(p.Bytes())
	}
}

func envelope(id int64) *ber.Packet {
	p := ber.NewSequence("")
	p.AppendChild(ber.NewInteger(ber.ClassUniversal, ber.TypePrimitive, ber.TagInteger, id, ""))
	return p
}

func text(s string) *ber.Packet {
	return ber.NewString(ber.ClassUniversal, ber.TypePrimitive, ber.TagOctetString, s, "")
}

// result is a message that ends an operation.
func result(id int64, tag ber.Tag, code uint16) *ber.Packet {
	p, op := envelope(id), ber.Encode(ber.ClassApplication, ber.TypeConstructed, tag, nil, "")
	op.AppendChild(ber.NewInteger(ber.ClassUniversal, ber.TypePrimitive, ber.TagEnumerated, int64(code), ""))
	op.AppendChild(text(""))
	op.AppendChild(text("scripted"))
	p.AppendChild(op)
	return p
}

func done(id int64, code uint16) *ber.Packet {
	return result(id, ldap.ApplicationSearchResultDone, code)
}

// found is one entry: attributes and values in turn.
func found(id int64, dn string, pairs ...string) *ber.Packet {
	p, op := envelope(id), ber.Encode(ber.ClassApplication, ber.TypeConstructed, ldap.ApplicationSearchResultEntry, nil, "")
	op.AppendChild(text(dn))
	list := ber.NewSequence("")
	for i := 0; i+1 < len(pairs); i += 2 {
		one, set := ber.NewSequence(""), ber.Encode(ber.ClassUniversal, ber.TypeConstructed, ber.TagSet, nil, "")
		one.AppendChild(text(pairs[i]))
		set.AppendChild(text(pairs[i+1]))
		one.AppendChild(set)
		list.AppendChild(one)
	}
	op.AppendChild(list)
	p.AppendChild(op)
	return p
}

// ann answers every search with one entry of the qmail kind.
func ann(s *session, id int64, _ string) {
	s.send(found(id, "uid=ann,dc=test", "mailQuotaSize", "1000", "mailQuotaCount", "0", "mailHost", "Store1.test", "uid", "ann"), done(id, 0))
}

var annEntry = Entry{Found: 1, Host: "store1.test", User: "ann", Limit: 1000, Messages: Unlimited, DN: "uid=ann,dc=test"}

func mailbox(local, domain string) rcptgate.Mailbox {
	return rcptgate.Mailbox{Path: local + "@" + domain, Local: local, Domain: domain}
}

// world is a State whose servers are fakes.
type world struct {
	*State
	t     *testing.T
	board *notice.Board
	fakes map[string]*fake // by host
}

func newWorld(t *testing.T, hosts ...string) *world {
	l := &world{t: t, board: notice.New(slog.New(slog.DiscardHandler)), fakes: map[string]*fake{}}
	l.State = NewState(l.board)
	for _, h := range hosts {
		l.fakes[h] = &fake{search: ann}
	}
	l.State.dial = func(ctx context.Context, _, address string) (net.Conn, error) {
		host, _, _ := net.SplitHostPort(address)
		if f := l.fakes[host]; f != nil {
			return f.dial(ctx)
		}
		return nil, errors.New("no such host")
	}
	return l
}

// open opens and adopts a configuration of the hosts.
func (l *world) open(change func(c *Config), urls ...string) *Directory {
	l.t.Helper()
	c := Defaults()
	c.URL, c.Base, c.Schema, c.StartTLS = urls, "dc=test", "qmail", "off"
	if change != nil {
		change(&c)
	}
	d, err := l.Open(&c)
	if err != nil {
		l.t.Fatal(err)
	}
	l.Adopt(d)
	return d
}

func (l *world) find(d *Directory, local string, want Entry) {
	l.t.Helper()
	got, err := d.Find(l.t.Context(), mailbox(local, "test"))
	got.Age = 0
	if err != nil || got != want {
		l.t.Errorf("found %+v, %v; want %+v", got, err, want)
	}
}

func (l *world) lost(d *Directory, local string, want error) {
	l.t.Helper()
	got, err := d.Find(l.t.Context(), mailbox(local, "test"))
	if err == nil || want != nil && !errors.Is(err, want) {
		l.t.Errorf("found %+v, %v; want %v", got, err, want)
	}
}

// raised reports whether the board has a notice.
func (l *world) raised(key string) bool {
	for _, n := range l.board.List() {
		if n.Key == key {
			return true
		}
	}
	return false
}

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// swallow reads until the peer closes.
func swallow(s *session) { _, _ = io.Copy(io.Discard, s) }
