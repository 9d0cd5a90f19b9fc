// SPDX-License-Identifier: BSD-2-Clause

package route

import (
	"context"
	"errors"
	"strings"
	"testing"
)

// lines is a map file: "key value" a line. Nil is one that could not be read.
type lines map[string]string

var errUnread = errors.New("the table could not be read yet")

func (l lines) Lookup(_ context.Context, key string) (string, bool, error) {
	if l == nil {
		return "", false, errUnread
	}
	v, ok := l[key]
	return v, ok, nil
}

func mapOf(addresses bool, text string) Map {
	l := lines{}
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		l[key] = value
	}
	return Map{Table: l, Addresses: addresses}
}

func TestMaps(t *testing.T) {
	no := false
	maps := []Map{
		mapOf(false, `inside.example esmtp:[10.0.0.1]
.inside.example relay:[10.0.0.2]
two.example esmtp:[10.0.0.1]:[10.0.0.3]
name.example esmtp:mail.name.example
local.example local:ann
error.example error:5.1.1:550 no
arg.example smtp:[%1.example]
bare.example [10.0.0.9]
both.example smtp:[10.0.0.1]
u@inside.example smtp:[10.0.0.8]
section.example smtp:[10.0.0.7]
. smtp:[10.9.9.9]`),
		mapOf(true, `post.example relay:[10.0.1.1]:2525
.post.example smtp:[10.0.1.2]
ann@post.example lmtp:unix:/run/lmtp
lmtp.example lmtp:inet:[127.0.0.1]:24
rel.example lmtp:unix:private/lmtp
empty.example :
mx.example smtp:
both.example smtp:[10.0.1.9]
list.example smtp:[10.0.1.3], [10.0.1.4]:26
off.example smtp:[10.0.1.5]
fixed.example smtp:[10.0.1.6]
* smtp:[10.9.9.9]`),
	}
	r := newRouter(t, Options{FollowMTA: true, Maps: maps, Delimiter: "+", Domains: []DomainConfig{
		{Name: "fixed.example", Backend: []string{"smtp:[10.5.5.5]"}}, {Name: "off.example", Check: &no}, {Name: "section.example"}, {Name: "plain.example"},
	}})
	for _, tt := range []struct{ to, host, want string }{
		{"u@inside.example", "", "mta smtp:[10.0.0.1]:25"}, // mailertable has no addresses
		{"u@INSIDE.example.", "[10.7.7.7]", "mta smtp:[10.0.0.1]:25"},
		{"u@a.b.inside.example", "", "mta smtp:[10.0.0.2]:25"},
		{"u@notinside.example", "", "none"},
		{"u@two.example", "", "mta smtp:[10.0.0.1]:25, smtp:[10.0.0.3]:25"},
		{"u@name.example", "", "none"},
		{"u@name.example", "[10.7.7.7]", "mta smtp:[10.7.7.7]:25"},
		{"u@local.example", "", "none"},
		{"u@error.example", "", "none"},
		{"u@arg.example", "", "none"},
		{"u@bare.example", "", "none"},
		{"u@both.example", "", "mta smtp:[10.0.0.1]:25"},
		{"u@post.example", "", "mta smtp:[10.0.1.1]:2525"},
		{"u@x.post.example", "", "mta smtp:[10.0.1.2]:25"},
		{"Ann@post.example", "", "mta lmtp:unix:/run/lmtp"},
		{"ann+x@post.example", "", "mta lmtp:unix:/run/lmtp"},
		{"u@lmtp.example", "", "mta lmtp:[127.0.0.1]:24"},
		{"u@rel.example", "", "none"},
		{"u@empty.example", "", "none"},
		{"u@mx.example", "", "none"},
		{"u@list.example", "", "mta smtp:[10.0.1.3]:25, smtp:[10.0.1.4]:26"},
		{"u@stranger.example", "", "none"},
		{"u@stranger.example", "[10.7.7.7]", "mta smtp:[10.7.7.7]:25"},
		{"u@[192.0.2.1]", "", "none"},
		{"u", "", "none"},
		// A section comes first; one without servers takes the map's.
		{"u@fixed.example", "", "configured smtp:[10.5.5.5]:25"},
		{"u@off.example", "", "unchecked"},
		{"u@section.example", "[10.7.7.7]", "configured smtp:[10.0.0.7]:25"},
		{"u@plain.example", "[10.7.7.7]", "configured smtp:[10.7.7.7]:25"},
	} {
		for range 2 { // the second time from memory
			if got := text(r.Route(query(tt.to, "smtp", tt.host))); got != tt.want {
				t.Errorf("%s via %q: %s, want %s", tt.to, tt.host, got, tt.want)
			}
		}
	}
	off := newRouter(t, Options{Maps: maps})
	if got := text(off.Route(query("u@inside.example", "smtp", "[10.7.7.7]"))); got != "mta smtp:[10.0.0.1]:25" {
		t.Errorf("follow_mta = false turned the maps off: %s", got)
	}
	if got := text(off.Route(query("u@stranger.example", "smtp", "[10.7.7.7]"))); got != "none" {
		t.Errorf("follow_mta = false: %s", got)
	}
	q := query("u@inside.example", "smtp", "")
	if n := testing.AllocsPerRun(100, func() { r.Route(q) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestMapsKeyByKey: Postfix looks for the address in every map, then for the domain in
// every map. The first hit decides, also one that names no server.
func TestMapsKeyByKey(t *testing.T) {
	maps := []Map{
		mapOf(true, `example.com smtp:[10.0.0.1]
null.example :
.sub.example smtp:[10.0.0.3]
disc.example smtp:[10.0.0.4]
default.example :[10.0.0.6]`),
		mapOf(true, `news@example.com lmtp:[10.0.0.2]
null.example smtp:[10.0.0.2]
a.sub.example smtp:[10.0.0.5]
no@disc.example discard:
default.example smtp:[10.0.0.9]`),
	}
	for _, tt := range []struct{ to, host, want string }{
		{"news@example.com", "", "mta lmtp:[10.0.0.2]:24"},
		{"news+x@example.com", "", "mta lmtp:[10.0.0.2]:24"},
		{"u@example.com", "", "mta smtp:[10.0.0.1]:25"},
		{"u@null.example", "", "none"},
		{"u@null.example", "[10.7.7.7]", "mta smtp:[10.7.7.7]:25"}, // ":" is the MTA's default, which it names
		{"u@a.sub.example", "", "mta smtp:[10.0.0.5]:25"},
		{"u@b.sub.example", "", "mta smtp:[10.0.0.3]:25"},
		{"no@disc.example", "", "none"},
		{"u@disc.example", "", "mta smtp:[10.0.0.4]:25"},
		{"u@default.example", "", "mta smtp:[10.0.0.6]:25"},
	} {
		r := newRouter(t, Options{FollowMTA: true, Maps: maps, Delimiter: "+"})
		if got := text(r.Route(query(tt.to, "", tt.host))); got != tt.want {
			t.Errorf("%s via %q: %s, want %s", tt.to, tt.host, got, tt.want)
		}
	}
	// A map that cannot be read may have had the address.
	r := newRouter(t, Options{Maps: []Map{maps[0], {Table: lines(nil), Addresses: true}}})
	if _, err := r.Route(query("news@example.com", "", "")).Backends(t.Context(), "example.com"); !errors.Is(err, errUnread) {
		t.Errorf("error = %v", err)
	}
}

func TestMapsDelimiter(t *testing.T) {
	maps := []Map{mapOf(true, "ann@example.com lmtp:[10.0.0.2]\nexample.com smtp:[10.0.0.1]")}
	const domain, address = "mta smtp:[10.0.0.1]:25", "mta lmtp:[10.0.0.2]:24"
	for _, tt := range []struct{ delimiter, to, want string }{
		{"+", "ann+x@example.com", address},
		{"+", "ann-x@example.com", domain},
		{"-", "Ann-x+y@example.com", address},
		{"-", "ann+x@example.com", domain},
		{"-+", "ann+x@example.com", address},
		{"", "ann+x@example.com", domain},
		{"", "ann@example.com", address},
	} {
		r := newRouter(t, Options{Maps: maps, Delimiter: tt.delimiter})
		if got := text(r.Route(query(tt.to, "", ""))); got != tt.want {
			t.Errorf("delimiter %q, %s: %s, want %s", tt.delimiter, tt.to, got, tt.want)
		}
	}
}

// TestMapSpellings: what transport tables and mailertables write.
func TestMapSpellings(t *testing.T) {
	for value, want := range map[string]string{
		"relay:[192.0.2.10]":            "mta smtp:[192.0.2.10]:25",
		"esmtp:[h.example]":             "mta smtp:[h.example]:25",
		":[h.example]":                  "mta smtp:[h.example]:25",
		"smtp:[h.example]:smtp":         "mta smtp:[h.example]:25",
		"lmtp:inet:h.example:24":        "mta lmtp:[h.example]:24",
		"lmtp:h.example:24":             "mta lmtp:[h.example]:24",
		"lmtp:inet:127.0.0.1:24":        "mta lmtp:[127.0.0.1]:24",
		"lmtp:inet:[127.0.0.1]:24":      "mta lmtp:[127.0.0.1]:24",
		"dovecot-lmtp:unix:/run/lmtp":   "mta lmtp:unix:/run/lmtp",
		"smtp:h.example":                "none", // MX: how outgoing mail is throttled
		":h.example":                    "none",
		"lmtp:":                         "none",
		"lmtp:%1.example":               "none",
		"error:5.1.1 [10.0.0.1] is off": "none",
	} {
		r := newRouter(t, Options{Maps: []Map{mapOf(true, "x.example "+value)}})
		if got := text(r.Route(query("u@x.example", "", ""))); got != want {
			t.Errorf("%s: %s, want %s", value, got, want)
		}
	}
}

// TestUnreadMap holds that a map that could not be read is an error and not "no route".
func TestUnreadMap(t *testing.T) {
	r := newRouter(t, Options{FollowMTA: true, Maps: []Map{{Table: lines(nil)}}, Domains: []DomainConfig{{Name: "fixed.example", Backend: []string{"smtp:[10.5.5.5]"}}, {Name: "*", Backend: []string{"smtp:[10.5.5.6]"}}}})
	rt := r.Route(query("u@x.example", "smtp", "[10.7.7.7]"))
	if rt == nil {
		t.Fatal("no route")
	}
	if _, err := rt.Backends(context.Background(), "x.example"); !errors.Is(err, errUnread) {
		t.Errorf("error = %v", err)
	}
	if got := text(r.Route(query("u@fixed.example", "", ""))); got != "configured smtp:[10.5.5.5]:25" {
		t.Error(got)
	}
}
