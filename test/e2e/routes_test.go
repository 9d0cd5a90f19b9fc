// SPDX-License-Identifier: BSD-2-Clause

package e2e

import (
	"fmt"
	"io"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"rcptgate"
	mail "rcptgate/address"
	"rcptgate/front/milter"
	"rcptgate/route"
	"rcptgate/test/lab"
	"rcptgate/unit"
)

// hops shows the next hops that an MTA names, and has the router of a configuration.
type hops struct {
	mu     sync.Mutex
	last   rcptgate.NextHop
	router *route.Router
}

// Observe notes the next hop of a recipient.
func (h *hops) Observe(q *rcptgate.Query, _ *rcptgate.Verdict) {
	if q.Stage == rcptgate.StageRcpt {
		h.mu.Lock()
		h.last = q.NextHop
		h.mu.Unlock()
	}
}

func (h *hops) start(t *testing.T, port int, text string) {
	t.Helper()
	units := []unit.Unit{milter.Unit(), {
		Name: "watch",
		Open: func(*unit.Env) (unit.Live, error) {
			return unit.Live{Observer: h, Build: func(s *unit.Setup) error { h.router = s.Router; return nil }}, nil
		},
	}}
	schema, err := unit.Compose(units)
	if err != nil {
		t.Fatal(err)
	}
	c, err := unit.Parse(schema, "test.toml", fmt.Sprintf("hostname = \"mx.example.org\"\nstate = %q\n[listen]\nmilter = [\"inet:%d@127.0.0.1\"]\n%s", t.TempDir(), port, text))
	if err != nil {
		t.Fatal(err)
	}
	host, err := unit.Open(t.Context(), units, c, unit.Options{Stderr: io.Discard, Disk: openDisk})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(host.Stop)
	if err := host.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// postfixRoutes is a random transport table and relayhost.
func postfixRoutes(r *rand.Rand) (transport, main map[string]string) {
	pick := func(list ...string) string { return list[r.IntN(len(list))] }
	transport = map[string]string{}
	for range 8 {
		key := pick("", ".", "u@", "u+x@") + pick("a", "b", "sub.a", "r1", "sub.r1", "r2", "loc") + ".test"
		transport[key] = pick("smtp:[192.0.2.1]", "lmtp:[192.0.2.2]:2424", "relay:[192.0.2.3]:26", ":[192.0.2.4]", "smtp:", ":", "discard:", "error:5.1.1 gone", "local:", "smtp:named.test")
	}
	main = map[string]string{"relayhost": pick("", "[192.0.2.9]", "[192.0.2.9]:2525", "hub.test"), "relay_domains": "r1.test, r2.test"}
	if r.IntN(3) == 0 {
		main["relay_transport"] = pick("relay:[192.0.2.8]", "lmtp:inet:[192.0.2.7]:24", "relay")
	}
	if r.IntN(3) == 0 {
		main["parent_domain_matches_subdomains"] = ""
	}
	return transport, main
}

// TestAsPostfixRoutes compares what [routes] reads from main.cf with what trivial-rewrite(8) resolves,
// as smtpd(8) passes it on in {rcpt_mailer} and {rcpt_host}: random tables and relay hosts.
func TestAsPostfixRoutes(t *testing.T) {
	lab.Need(t, lab.PostfixKit)
	for seed := range uint64(3) {
		r := rand.New(rand.NewPCG(seed, 7))
		transport, main := postfixRoutes(r)
		for key, value := range map[string]string{"mydestination": "loc.test", "mynetworks": "127.0.0.0/8", "smtpd_reject_unlisted_recipient": "no"} {
			main[key] = value
		}
		port := lab.FreePort(t)
		p := lab.StartPostfix(t, lab.PostfixOptions{
			Name: fmt.Sprintf("routes-%d", seed), Milters: []string{fmt.Sprintf("inet:127.0.0.1:%d", port)}, Main: main, Maps: map[string]map[string]string{"transport_maps": transport},
		})
		h := &hops{}
		h.start(t, port, fmt.Sprintf("[routes]\npostfix = %q\n", filepath.Dir(strings.TrimPrefix(p.Table("x", "main.cf"), "x:"))))
		d := lab.MustDial(t, p.Addr())
		d.Must(t, 250, d.Mail(t, "s@else.test"))
		asked := 0
		for _, domain := range []string{"a", "b", "sub.a", "x.sub.a", "r1", "sub.r1", "r2", "x.r2", "loc", "else"} {
			for _, user := range []string{"u", "v", "u+x", "u+y"} {
				recipient := user + "@" + domain + ".test"
				h.last = rcptgate.NextHop{}
				_ = d.Rcpt(t, recipient) // the reply is of no interest
				h.mu.Lock()
				hop := h.last
				h.mu.Unlock()
				if hop.Mailer == "" {
					continue // smtpd refused it before it asked the milter
				}
				asked++
				want := hopOf(hop)
				got := routeOf(t, h.router, recipient)
				_, exact := main["parent_domain_matches_subdomains"] // set: to nothing
				relayed := domain == "r1" || domain == "r2" || !exact && (strings.HasSuffix(domain, ".r1") || strings.HasSuffix(domain, ".r2"))
				if got != want && (got != "" || relayed || hasTransport(transport, recipient)) {
					t.Errorf("seed %d: %s: [routes] says %q, Postfix %s:%s\ntransport %v\nmain %v", seed, recipient, got, hop.Mailer, hop.Host, transport, main)
				}
			}
		}
		if asked < 25 {
			t.Errorf("seed %d: only %d recipients reached the milter", seed, asked)
		}
	}
}

// hopOf is the server that Postfix named, "" if it named none without MX records.
func hopOf(hop rcptgate.NextHop) string {
	if !slices.Contains([]string{"smtp", "relay", "lmtp"}, hop.Mailer) || !strings.HasPrefix(strings.TrimPrefix(hop.Host, "inet:"), "[") {
		return ""
	}
	host, port := strings.TrimPrefix(hop.Host, "inet:"), "25"
	if hop.Mailer == "lmtp" {
		port = "24"
	}
	if h, p, ok := strings.Cut(host, "]:"); ok {
		host, port = h+"]", p
	}
	return strings.Replace(hop.Mailer, "relay", "smtp", 1) + ":" + host + ":" + port
}

// routeOf is the server that the gate would ask, "" for none.
func routeOf(t *testing.T, r *route.Router, recipient string) string {
	t.Helper()
	m := mail.Parse(recipient)
	rt := r.Route(&rcptgate.Query{Recipient: m, Target: m})
	if rt == nil || rt.Unchecked {
		return ""
	}
	list, err := rt.Backends(t.Context(), m.Domain)
	if err != nil || len(list) != 1 {
		return fmt.Sprintf("%d servers, %v", len(list), err)
	}
	return list[0].Name()
}

// hasTransport reports whether a table has an entry of the recipient's own, with or without its detail,
// or of its domain.
func hasTransport(transport map[string]string, recipient string) bool {
	_, domain, _ := strings.Cut(recipient, "@")
	for key, value := range transport {
		if value != ":" && (key == recipient || key == domain) {
			return true
		}
	}
	return false
}
