// SPDX-License-Identifier: BSD-2-Clause

package route

import (
	"context"
	"net/netip"
	"strings"
	"testing"

	"rcptgate"
	"rcptgate/address"
	"rcptgate/backend"
)

// named is a backend that only has an address.
type named struct{ addr backend.Address }

func (n named) Address() backend.Address { return n.addr }
func (n named) Name() string             { return n.addr.String() }
func (n named) Ask(context.Context, backend.Probe) (backend.Reply, error) {
	return backend.Reply{}, nil
}

func get(a backend.Address) Backend { return named{a} }

func newRouter(t testing.TB, opt Options) *Router {
	t.Helper()
	if opt.Get == nil {
		opt.Get = get
	}
	if opt.Servers == nil {
		opt.Servers = []string{"127.0.0.1:1"}
	}
	r, err := New(opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

func query(recipient, mailer, host string) *rcptgate.Query {
	m := address.Parse(recipient)
	return &rcptgate.Query{Recipient: m, Target: m, NextHop: rcptgate.NextHop{Mailer: mailer, Host: host, Addr: recipient}}
}

// text is the route in words: who named it, and its servers.
func text(rt *Route) string {
	switch {
	case rt == nil:
		return "none"
	case rt.Unchecked:
		return "unchecked"
	}
	return rt.Origin.String() + " " + rt.String()
}

func TestSections(t *testing.T) {
	no := false
	r := newRouter(t, Options{FollowMTA: true, Enforce: true, Domains: []DomainConfig{
		{Name: "Example.COM.", Backend: []string{"smtp:[10.0.0.5]:25", "smtp:[10.0.0.6]"}},
		{Name: ".example.com", Backend: []string{"smtp:[10.0.0.7]:25"}},
		{Name: ".deep.example.com", Backend: []string{"lmtp:unix:/run/lmtp"}},
		{Name: "left.example", Check: &no},
		{Name: "hop.example"},
		{Name: "bücher.example", Backend: []string{"smtp:[2001:db8::5]:25"}},
	}})
	const hop = "[192.0.2.9]"
	for _, tt := range []struct{ to, mailer, host, want string }{
		{"u@example.com", "smtp", hop, "configured smtp:[10.0.0.5]:25, smtp:[10.0.0.6]:25"},
		{"u@EXAMPLE.com.", "", "", "configured smtp:[10.0.0.5]:25, smtp:[10.0.0.6]:25"},
		{"u@a.example.com", "smtp", hop, "configured smtp:[10.0.0.7]:25"},
		{"u@a.b.example.com", "", "", "configured smtp:[10.0.0.7]:25"},
		{"u@x.deep.example.com", "smtp", hop, "configured lmtp:unix:/run/lmtp"},
		{"u@deep.example.com", "smtp", hop, "configured smtp:[10.0.0.7]:25"},
		{"u@notexample.com", "smtp", "example.net", "none"},
		{"u@left.example", "smtp", hop, "unchecked"},
		{"u@hop.example", "smtp", hop, "configured smtp:[192.0.2.9]:25"},
		{"u@hop.example", "smtp", "mail.example", "none"},
		{"u@hop.example", "local", "", "none"},
		{"u@xn--bcher-kva.example", "", "", "configured smtp:[2001:db8::5]:25"},
		{"u@Bücher.example", "", "", "configured smtp:[2001:db8::5]:25"},
		{"u@other.example", "smtp", hop, "mta smtp:[192.0.2.9]:25"},
		{"u", "smtp", hop, "none"},
		{"", "smtp", hop, "none"},
	} {
		if got := text(r.Route(query(tt.to, tt.mailer, tt.host))); got != tt.want {
			t.Errorf("%s via %s %s: %s, want %s", tt.to, tt.mailer, tt.host, got, tt.want)
		}
	}
}

func TestNextHop(t *testing.T) {
	r := newRouter(t, Options{FollowMTA: true})
	for _, tt := range []struct{ mailer, host, want string }{
		// Postfix
		{"smtp", "[127.0.0.1]:2600", "mta smtp:[127.0.0.1]:2600"},
		{"relay", "[mail.example]", "mta smtp:[mail.example]:25"},
		{"lmtp", "[127.0.0.1]", "mta lmtp:[127.0.0.1]:24"},
		{"smtp", "[2001:db8::5]:25", "mta smtp:[2001:db8::5]:25"},
		{"smtp", "[ipv6:2001:db8::5]", "mta smtp:[2001:db8::5]:25"},
		{"smtp", "[mail.example]:submission", "mta smtp:[mail.example]:587"},
		{"smtp-slow", "[10.0.0.1]", "mta smtp:[10.0.0.1]:25"},
		{"smtp", "[a.example]:25, [b.example]", "mta smtp:[a.example]:25, smtp:[b.example]:25"},
		{"smtp", "[a.example], b.example", "none"},
		{"smtp", "example.com", "none"},
		{"smtp", "example.com:25", "none"},
		{"lmtp", "unix:/run/lmtp", "none"},
		{"local", "[127.0.0.1]", "none"},
		{"virtual", "[127.0.0.1]", "none"},
		{"error", "5.1.1 User unknown in virtual alias table", "none"},
		{"error", "[127.0.0.1]", "none"},
		{"discard", "[127.0.0.1]", "none"},
		{"pipe", "[127.0.0.1]", "none"},
		{"dovecot", "[127.0.0.1]", "none"},
		// Sendmail
		{"esmtp", "[127.0.0.1]", "mta smtp:[127.0.0.1]:25"},
		{"ESMTP", "[127.0.0.1]:2600", "mta smtp:[127.0.0.1]:2600"},
		{"relay", "host.example.", "none"},
		{"esmtp", "[a.example]:[b.example]", "mta smtp:[a.example]:25, smtp:[b.example]:25"},
		{"esmtp", "[a.example]:b.example", "none"},
		{"local", "", "none"},
		{"prog", "[127.0.0.1]", "none"},
		// no or broken macros
		{"", "[127.0.0.1]:2600", "mta smtp:[127.0.0.1]:2600"},
		{"", "", "none"},
		{"smtp", "[]", "none"},
		{"smtp", "[", "none"},
		{"smtp", "[x", "none"},
		{"smtp", "[127.0.0.1]x", "none"},
		{"smtp", "[127.0.0.1]:", "none"},
		{"smtp", "[127.0.0.1]:0", "none"},
		{"smtp", "[127.0.0.1]:99999", "none"},
		{"smtp", "[127.0.0.1]:nonsense", "none"},
		{"smtp", "[a b]", "none"},
		{"smtp", strings.Repeat("[a]:", 9) + "[a]", "none"},
	} {
		if got := text(r.Route(query("u@example.com", tt.mailer, tt.host))); got != tt.want {
			t.Errorf("%s %q: %s, want %s", tt.mailer, tt.host, got, tt.want)
		}
	}
}

// TestMTADeliversItself: an address that the MTA gives to a local user, to a pipe or to
// nowhere is not known to the section's servers, and they are not asked about it.
func TestMTADeliversItself(t *testing.T) {
	const servers = "configured smtp:[10.0.0.5]:25"
	no := false
	domains := []DomainConfig{
		{Name: "example.com", Backend: []string{"smtp:[10.0.0.5]"}},
		{Name: "store.example", Backend: []string{"smtp:[10.0.0.5]"}, Mailers: []string{"local", "Dovecot"}},
		{Name: "any.example", Backend: []string{"smtp:[10.0.0.5]"}, Mailers: []string{"*"}},
		{Name: "off.example", Check: &no},
		{Name: "hop.example"},
		{Name: "*"},
	}
	maps := []Map{mapOf(true, `noreply@example.com discard:silently
slow@example.com slow:[10.0.0.7]
up@example.com smtp:[10.0.0.8]
auto@store.example autoreply:
ann@store.example dovecot:
hop.example smtp:[10.0.0.9]`)}
	for _, tt := range []struct {
		to, mailer, host string
		maps             []Map
		want             string
	}{
		{"support@example.com", "local", "", nil, "delivered"}, // Sendmail's virtusertable made it a local user
		{"u@example.com", "virtual", "example.com", nil, "delivered"},
		{"u@example.com", "discard", "silently", nil, "delivered"},
		{"u@example.com", "autoreply", "example.com", nil, "delivered"},
		{"u@example.com", "prog", "", nil, "delivered"},
		{"u@example.com", "esmtp", "[10.0.0.7]", nil, servers},
		{"u@example.com", "smtp-slow", "example.com", nil, servers},
		{"u@example.com", "lmtp", "unix:private/lmtp", nil, servers},
		{"u@example.com", "", "", nil, servers},
		{"u@example.com", "slow", "[10.0.0.7]", nil, servers}, // a clone of smtp
		{"u@example.com", "slow", "mail.example.com:2525", nil, servers},
		{"u@example.com", "procmail", "a:b", nil, "delivered"},
		{"u@example.com", "error", "5.1.1 User unknown in virtual alias table", nil, servers}, // every virtual alias of Postfix
		{"u@example.com", "retry", "4.3.0 later", nil, servers},
		{"u@store.example", "local", "", nil, servers},
		{"u@store.example", "dovecot", "", nil, servers},
		{"u@store.example", "virtual", "", nil, "delivered"},
		{"u@any.example", "virtual", "", nil, servers},
		{"u@off.example", "local", "", nil, "unchecked"},
		{"u@hop.example", "local", "", nil, "none"},
		{"u@hop.example", "local", "", maps, "none"}, // the MTA's own word beats its maps
		{"u@star.example", "local", "", nil, "none"},
		// A front without macros, or the target of an alias: the maps say it.
		{"noreply@example.com", "", "", maps, "delivered"},
		{"up@example.com", "", "", maps, servers},
		{"slow@example.com", "", "", maps, servers},
		{"u@example.com", "", "", maps, servers},
		{"noreply@example.com", "smtp", "[10.0.0.7]", maps, servers},
		{"auto@store.example", "", "", maps, "delivered"},
		{"ann@store.example", "", "", maps, servers},
		{"u@example.com", "", "", []Map{{Table: lines(nil)}}, servers}, // a map that cannot be read
	} {
		r := newRouter(t, Options{FollowMTA: true, Maps: tt.maps, Domains: domains})
		got := r.Route(query(tt.to, tt.mailer, tt.host))
		words := text(got)
		if got != nil && got.Delivered {
			words = "delivered"
		}
		if words != tt.want {
			t.Errorf("%s by %q: %s, want %s", tt.to, tt.mailer, words, tt.want)
		}
		if got != nil && got.Unchecked != (got.Why != "") {
			t.Errorf("%s by %q: unchecked %v because %q", tt.to, tt.mailer, got.Unchecked, got.Why)
		}
	}
}

func TestNoLiteralIsFollowed(t *testing.T) {
	for _, tt := range []struct {
		to, host string
	}{
		{"u@[203.0.113.9]", "[203.0.113.9]"},
		{"u@[203.0.113.9]", "[203.0.113.9]:25"},
		{"u@[203.0.113.9.]", "[203.0.113.9]"},
		{"u@[127.1]", "[127.0.0.1]"},
		{"u@[IPv6:2001:DB8::1]", "[2001:db8:0::1]"},
		{"u@[mail.example]", "[MAIL.example]"},
		{"u@[::ffff:203.0.113.9]", "[203.0.113.9]"},
		{"u@[203.0.113.9", "[203.0.113.9]"},
		{"u@[203.0.113.9]", "[10.0.0.1]"},
	} {
		for _, domains := range [][]DomainConfig{nil, {{Name: "*"}}, {{Name: "*", Backend: []string{"smtp:[10.0.0.5]"}}}} {
			r := newRouter(t, Options{FollowMTA: true, Domains: domains})
			if got := r.Route(query(tt.to, "smtp", tt.host)); got != nil {
				t.Errorf("%s via %s: %s", tt.to, tt.host, text(got))
			}
		}
	}
	r := newRouter(t, Options{Domains: []DomainConfig{{Name: "[192.0.2.1]"}, {Name: "[192.0.2.2]", Backend: []string{"smtp:[10.0.0.5]"}}}})
	if got := text(r.Route(query("u@[192.0.2.1]", "smtp", "[10.0.0.1]"))); got != "configured smtp:[10.0.0.1]:25" {
		t.Errorf("a literal with a section of its own: %s", got)
	}
	if got := text(r.Route(query("u@[192.0.2.2]", "smtp", "[192.0.2.2]"))); got != "configured smtp:[10.0.0.5]:25" {
		t.Errorf("a literal with a section and servers: %s", got)
	}
}

func TestFollowMTAOff(t *testing.T) {
	r := newRouter(t, Options{Domains: []DomainConfig{{Name: "hop.example"}}})
	if got := text(r.Route(query("u@other.example", "smtp", "[10.0.0.1]"))); got != "none" {
		t.Errorf("other domain: %s", got)
	}
	if got := text(r.Route(query("u@hop.example", "smtp", "[10.0.0.1]"))); got != "configured smtp:[10.0.0.1]:25" {
		t.Errorf("section without backend: %s", got)
	}
}

func TestStar(t *testing.T) {
	r := newRouter(t, Options{Domains: []DomainConfig{{Name: "*"}, {Name: "a.example", Backend: []string{"smtp:[10.0.0.1]"}}}})
	for _, tt := range []struct{ to, host, want string }{
		{"u@x.example", "[10.0.0.9]", "configured smtp:[10.0.0.9]:25"},
		{"u@x.example", "x.example", "none"},
		{"u@a.example", "a.example", "configured smtp:[10.0.0.1]:25"},
	} {
		if got := text(r.Route(query(tt.to, "smtp", tt.host))); got != tt.want {
			t.Errorf("%s via %s: %s, want %s", tt.to, tt.host, got, tt.want)
		}
	}
	r = newRouter(t, Options{Domains: []DomainConfig{{Name: "*", Backend: []string{"smtp:[10.0.0.2]"}}}})
	if got := text(r.Route(query("u@x.example", "smtp", "[10.0.0.9]"))); got != "configured smtp:[10.0.0.2]:25" {
		t.Errorf("* with a backend: %s", got)
	}
	if got := text(r.Route(query("u@x.example", "smtp", "x.example"))); got != "none" {
		t.Errorf("* with a backend, no brackets: %s", got)
	}
}

func TestSectionErrors(t *testing.T) {
	many := strings.Split(strings.TrimSuffix(strings.Repeat("smtp:[10.0.0.1]:25,", 17), ","), ",")
	for _, tt := range []struct {
		name string
		d    DomainConfig
		want []string
	}{
		{"no name", DomainConfig{}, []string{"domain[2].name", `""`, "missing", `".example.com"`}},
		{"pattern", DomainConfig{Name: "*.example.com"}, []string{"domain[2].name", `did you mean ".example.com"`}},
		{"address", DomainConfig{Name: "u@example.com"}, []string{"an address"}},
		{"space", DomainConfig{Name: "exam ple"}, []string{"not a domain", `"exam ple"`}},
		{"dot", DomainConfig{Name: "."}, []string{"not a domain"}},
		{"twice", DomainConfig{Name: "FIRST.example."}, []string{"section 1 has this name already"}},
		{"no protocol", DomainConfig{Name: "a.example", Backend: []string{"smtp:[10.0.0.1]", "10.0.0.5"}}, []string{"domain[2].backend", `"a.example"`, "server 2 of 2", `"10.0.0.5"`, `"smtp:[10.0.0.5]:25"`}},
		{"backend twice", DomainConfig{Name: "a.example", Backend: []string{"smtp:[10.0.0.1]", "smtp:[10.0.0.1]:25"}}, []string{"server 2 of 2", "twice"}},
		{"too many", DomainConfig{Name: "a.example", Backend: many}, []string{"17", "16"}},
		{"mailers without servers", DomainConfig{Name: "a.example", Mailers: []string{"local"}}, []string{"domain[2].mailers", "no backend"}},
		{"mailer with a colon", DomainConfig{Name: "a.example", Backend: []string{"mx"}, Mailers: []string{"local:"}}, []string{"domain[2].mailers", `"local:"`, `"*"`}},
		{"strangers", DomainConfig{Name: "*", Backend: []string{"mx"}}, []string{`"*"`, "strangers"}},
	} {
		_, err := New(Options{Get: get, Domains: []DomainConfig{{Name: "first.example"}, tt.d}})
		if err == nil {
			t.Errorf("%s: taken", tt.name)
			continue
		}
		for _, want := range tt.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: no %s in: %v", tt.name, want, err)
			}
		}
	}
}

func TestRehearse(t *testing.T) {
	no, yes := false, true
	domains := []DomainConfig{
		{Name: "try.example", Enforce: &no}, {Name: "real.example", Enforce: &yes}, {Name: ".try.example", Enforce: &no},
		{Name: "real.try.example", Enforce: &yes}, {Name: "silent.example"},
	}
	for _, tt := range []struct {
		enforce    bool
		to, target string // target "": the recipient
		want       bool
	}{
		{true, "u@try.example", "", true},
		{true, "u@a.try.example", "", true},
		{true, "u@real.try.example", "", false},
		{true, "u@real.example", "", false},
		{true, "u@silent.example", "", false},
		{true, "u@x.example", "", false},
		{false, "u@real.example", "", false},
		{false, "u@real.try.example", "", false},
		{false, "u@try.example", "", true},
		{false, "u@silent.example", "", true},
		{false, "u@x.example", "", true},
		// An alias: both domains count, and a local name has none.
		{true, "u@real.example", "v@try.example", true},
		{true, "u@try.example", "v@real.example", true},
		{false, "u@real.example", "v@x.example", true},
		{false, "u@x.example", "v@real.example", true},
		{false, "u@real.example", "v@real.try.example", false},
		{false, "u@real.example", "v", false},
		{true, "u@try.example", "v", true},
	} {
		r := newRouter(t, Options{Domains: domains, Enforce: tt.enforce})
		q := query(tt.to, "", "")
		if tt.target != "" {
			q.Target = address.Parse(tt.target)
		}
		if got := r.Rehearse(q); got != tt.want {
			t.Errorf("enforce %v, %s, %s: %v", tt.enforce, tt.to, tt.target, got)
		}
	}
}

func TestHasAndIsClient(t *testing.T) {
	r := newRouter(t, Options{Domains: []DomainConfig{
		{Name: "a.example", Backend: []string{"smtp:[10.0.0.1]", "lmtp:unix:/run/lmtp", "smtp:[127.0.0.1]:2525", "smtp:[2001:db8::1]"}},
		{Name: "m.example", Backend: []string{"mx"}},
	}})
	a, m := r.Route(query("u@a.example", "", "")), r.Route(query("u@m.example", "", ""))
	for _, tt := range []struct {
		rt      *Route
		domain  string
		backend string
		want    bool
	}{
		{a, "a.example", "smtp:[10.0.0.1]:25", true},
		{a, "a.example", "lmtp:unix:/run/lmtp", true},
		{a, "a.example", "smtp:[10.0.0.2]:25", false},
		{a, "a.example", "smtp:[10.0.0.1]:26", false},
		{a, "a.example", "", false},
		{m, "m.example", "smtp:[mail.m.example]:25", true}, // not known yet
		{m, "m.example", "smtp:[mail.m.example]:26", false},
		{m, "m.example", "lmtp:[mail.m.example]:25", false},
	} {
		if got := tt.rt.Has(tt.domain, tt.backend); got != tt.want {
			t.Errorf("%v has %q: %v", tt.rt, tt.backend, got)
		}
	}
	for client, want := range map[string]bool{
		"10.0.0.1": true, "::ffff:10.0.0.1": true, "2001:db8::1": true, "10.0.0.2": false, "127.0.0.1": false, "::1": false,
	} {
		if got := a.IsClient("a.example", netip.MustParseAddr(client)); got != want {
			t.Errorf("client %s: %v", client, got)
		}
	}
	if a.IsClient("a.example", netip.Addr{}) {
		t.Error("a local client is the backend")
	}
}

func TestRouteDoesNotAllocate(t *testing.T) {
	r := newRouter(t, Options{FollowMTA: true, Maps: []Map{mapOf(true, "x smtp:[10.0.0.2]")}, Delimiter: "+", Domains: []DomainConfig{
		{Name: "a.example", Backend: []string{"smtp:[10.0.0.1]"}, Mailers: []string{"x", "pipe"}},
		{Name: ".b.example", Backend: []string{"smtp:[10.0.0.1]"}},
	}})
	for _, q := range []*rcptgate.Query{
		query("u@a.example", "smtp", "[10.0.0.1]"), query("u@a.example", "local", ""), query("u@a.example", "pipe", ""), query("u@a.example", "", ""), query("u@x.y.z.b.example", "esmtp", "[10.0.0.1]"),
		query("u@other.example", "relay", "[10.0.0.1]:25"), query("u@none.example", "local", ""),
	} {
		if n := testing.AllocsPerRun(100, func() { r.Route(q); r.Rehearse(q) }); n != 0 {
			t.Errorf("%s: %v allocations", q.Recipient.Path, n)
		}
	}
}

func TestNextHopsAreBounded(t *testing.T) {
	r := newRouter(t, Options{FollowMTA: true})
	for i := range 3 * maxMTARoutes {
		host := "[" + netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}).String() + "]"
		if r.Route(query("u@x.example", "smtp", host)) == nil {
			t.Fatalf("%s: no route", host)
		}
		if n := len(*r.hops.Load()); n > maxMTARoutes+1 {
			t.Fatalf("%d next hops kept", n)
		}
	}
}

// FuzzNextHop: whatever the MTA sends, a route's servers are all in brackets.
func FuzzNextHop(f *testing.F) {
	for _, host := range []string{"[127.0.0.1]:2600", "[a]:25, [b]", "[a]:[b]", "host.example.", "[IPv6:::1]", "[[x]]", "[a],,[b]"} {
		f.Add("u@example.com", "smtp", host)
	}
	f.Add("u@[203.0.113.9]", "lmtp", "[203.0.113.9]")
	r, err := New(Options{Get: get, FollowMTA: true})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, to, mailer, host string) {
		rt := r.Route(query(to, mailer, host))
		if rt == nil {
			return
		}
		list, err := rt.Backends(t.Context(), "example.com")
		if err != nil || len(list) == 0 || !strings.HasPrefix(host, "[") || rt.First() == "" {
			t.Fatalf("%q %q: %v, %v", mailer, host, list, err)
		}
		for _, b := range list {
			if a := b.Address(); a.IsMX || a.Path != "" || a.Host == "" {
				t.Errorf("%q %q: asks %v", mailer, host, a)
			}
		}
	})
}
