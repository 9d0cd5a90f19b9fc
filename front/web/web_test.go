// SPDX-License-Identifier: BSD-2-Clause

package web

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"rcptgate"
	"rcptgate/unit"
	"rcptgate/view"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const evil = "<script>alert(1)</script>\" onload=x '&\x00\u202e\xff\r\n"

func fullOptions() Options {
	r := newRefusals()
	observe(r, 0, evil+"@example.com", rcptgate.Verdict{
		Action: rcptgate.Reject, Code: 550, Enhanced: evil, Text: evil, Reason: rcptgate.Reason(evil), Source: evil, Backend: evil,
	})
	t := view.Table{Name: "x", Title: evil, Columns: view.Columns("a", evil, "b", "Number", "c", "Time")}
	t.Add(evil, evil, uint64(1234567), base)
	return Options{
		Metrics: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "rcptgate_x 1\n") }),
		Status: func() unit.Status {
			return unit.Status{
				Hostname: evil, Version: evil, Mode: evil, Configuration: evil, ReloadError: evil, Restart: []string{evil}, Attention: []string{evil},
			}
		},
		Views: func() []view.Table { return []view.Table{t, r.table(), {Title: "Nothing", Empty: evil}} },
	}
}

var base = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func observe(r *refusals, i int, recipient string, v rcptgate.Verdict) {
	q := &rcptgate.Query{Recipient: rcptgate.Mailbox{Path: recipient}, Sender: "s@b.example", Client: netip.MustParseAddr("192.0.2.1")}
	q.Trace.Started = base.Add(time.Duration(i) * time.Second)
	r.Observe(q, &v)
}

func get(h http.Handler, method, path, host string) *httptest.ResponseRecorder {
	rec := httptest.NewRecorder()
	req := httptest.NewRequest(method, path, nil)
	req.Host = host
	h.ServeHTTP(rec, req)
	return rec
}

func TestStatusPageEscapesEverything(t *testing.T) {
	rec := get(New(fullOptions()).Handler(true), "GET", "/", "localhost")
	body := rec.Body.String()
	if rec.Code != http.StatusOK || !strings.HasSuffix(strings.TrimSpace(body), "</html>") {
		t.Fatalf("%d %s", rec.Code, body)
	}
	if strings.Contains(body, "<script") || regexp.MustCompile(`<[^>]*onload`).MatchString(body) {
		t.Error("a stranger's text is markup")
	}
	for _, c := range []string{"\x00", "\u202e", "\xff"} {
		if strings.Contains(body, c) {
			t.Errorf("%q is in the page", c)
		}
	}
	if n := strings.Count(body, "&lt;script&gt;"); n < 18 {
		t.Errorf("the text stands %d times in the page: a column is missing", n)
	}
	for _, want := range []string{"1\u202f234\u202f567", "192.0.2.1", "Last refusals", "ago"} {
		if !strings.Contains(body, want) {
			t.Errorf("%q is missing", want)
		}
	}
	if regexp.MustCompile(`(src|href)="?(https?:)?//`).MatchString(body) {
		t.Error("the page loads something from elsewhere")
	}
	if csp := rec.Header().Get("Content-Security-Policy"); !strings.Contains(csp, "default-src 'none'") {
		t.Errorf("policy %q", csp)
	}
}

func TestRequests(t *testing.T) {
	var reasons []string
	o := fullOptions()
	o.Status = func() unit.Status { return unit.Status{NotReady: reasons} }
	h := New(o).Handler(true)
	for _, c := range []struct {
		method, path, host string
		status             int
		body               string
	}{
		{"GET", "/healthz", "127.0.0.1:8891", 200, "ok"},
		{"GET", "/readyz", "[::1]:8891", 200, "ready"},
		{"GET", "/metrics", "localhost:8891", 200, "rcptgate_x 1"},
		{"HEAD", "/", "LOCALHOST.", 200, ""},
		{"GET", "/nothing", "127.0.0.2", 404, ""},
		{"GET", "/healthz", "", 200, "ok"},
		{"POST", "/healthz", "localhost", 405, "only GET"},
		{"DELETE", "/", "localhost", 405, "only GET"},
		{"GET", "/", "evil.example", 421, "Host"},
		{"GET", "/metrics", "localhost.evil.example:8891", 421, "Host"},
		{"GET", "/", "192.0.2.1", 421, "Host"},
	} {
		rec := get(h, c.method, c.path, c.host)
		if rec.Code != c.status || !strings.Contains(rec.Body.String(), c.body) {
			t.Errorf("%s %s Host %q: %d %q", c.method, c.path, c.host, rec.Code, rec.Body.String())
		}
	}
	reasons = []string{"milter listener is not up", "draining"}
	if rec := get(h, "GET", "/readyz", "localhost"); rec.Code != 503 || rec.Body.String() != "milter listener is not up\ndraining\n" {
		t.Errorf("%d %q", rec.Code, rec.Body.String())
	}
	if rec := get(New(Options{}).Handler(false), "GET", "/", "mx1.example.org"); rec.Code != 200 || !strings.Contains(rec.Body.String(), "Ready") {
		t.Errorf("a page with nothing to show: %d", rec.Code)
	}
}

func TestWarningsDoNotUnready(t *testing.T) {
	h := New(Options{Status: func() unit.Status { return unit.Status{Attention: []string{"the log is lost"}} }}).Handler(false)
	if r := get(h, http.MethodGet, "/readyz", ""); r.Code != http.StatusOK || r.Body.String() != "ready\nthe log is lost\n" {
		t.Errorf("%d %q", r.Code, r.Body.String())
	}
	if r := get(h, http.MethodGet, "/", ""); !strings.Contains(r.Body.String(), "the log is lost") {
		t.Error("the status page does not show it")
	}
}

// TestGreenIsCalm: "Ready" is green only if the gate enforces everywhere and nothing waits for a person.
func TestGreenIsCalm(t *testing.T) {
	for _, tc := range []struct {
		name  string
		st    unit.Status
		green bool
	}{
		{"all is well", unit.Status{Mode: "enforcing"}, true},
		{"rehearsing", unit.Status{Mode: "rehearsing"}, false},
		{"some domains rehearse", unit.Status{Mode: "mixed"}, false},
		{"the only server is down", unit.Status{Mode: "enforcing", Attention: []string{"server smtp:[192.0.2.1] is down"}}, false},
		{"the last reload failed", unit.Status{Mode: "enforcing", ReloadError: "line 3"}, false},
		{"starting", unit.Status{Mode: "enforcing", NotReady: []string{"starting"}}, false},
	} {
		body := get(New(Options{Status: func() unit.Status { return tc.st }}).Handler(false), "GET", "/", "").Body.String()
		if got := strings.Contains(body, `<strong class="good">Ready<`); got != tc.green {
			t.Errorf("%s: green %v", tc.name, got)
		}
		if !strings.Contains(body, ">"+tc.st.Mode+"</strong>") || strings.Contains(body, ">Ready<") == (len(tc.st.NotReady) > 0) {
			t.Errorf("%s: %s", tc.name, body)
		}
	}
}

// TestAddressesStayInOnePiece: a browser breaks no address, at a hyphen or anywhere; a word that is longer than a
// line has to be broken.
func TestAddressesStayInOnePiece(t *testing.T) {
	long := strings.Repeat("long-", 20) + "@example.com"
	table := view.Table{Title: "Last refusals", Columns: view.Columns("r", "Recipient", "l", "Long", "t", "Reply")}
	table.Add("", "jean-pierre@example-site.com", long, "550 No such mailbox here")
	body := get(New(Options{Views: func() []view.Table { return []view.Table{table} }}).Handler(false), "GET", "/", "").Body.String()
	for _, want := range []string{`<td class="w">jean-pierre@example-site.com</td>`, `<td class="x">` + long, `<td class="">550 No such`, ".x { overflow-wrap: anywhere; }", ".w { white-space: nowrap; }"} {
		if !strings.Contains(body, want) {
			t.Errorf("no %q in %s", want, body)
		}
	}
	if strings.Contains(body, "break-all") || strings.Count(body, "overflow-wrap: anywhere") > 1 {
		t.Error("words may be broken inside")
	}
}

// TestNumbersStandBelowTheirHeads: in a wide table a head at the left says nothing about a number at
// the right.
func TestNumbersStandBelowTheirHeads(t *testing.T) {
	table := view.Table{Title: "Memory", Columns: view.Columns("p", "Place", "r", "Recipients", "d", "Detail")}
	table.Add("", "ram", 5, "-")
	body := get(New(Options{Views: func() []view.Table { return []view.Table{table} }}).Handler(false), "GET", "/", "").Body.String()
	if want := `<th class="">Place</th><th class="n">Recipients</th><th class="">Detail</th>`; !strings.Contains(body, want) {
		t.Errorf("no %q in %s", want, body)
	}
}

// TestHideAddresses: where addresses are hidden, they are hidden in what servers say too.
func TestHideAddresses(t *testing.T) {
	o := fullOptions()
	table := view.Table{Title: "Servers", Columns: view.Columns("e", "Last error")}
	table.Add("backend is down: 550 <ann@b.example> unknown", "550 <ann@b.example>: unknown")
	o.Views = func() []view.Table { return []view.Table{table} }
	o.Status = func() unit.Status {
		return unit.Status{Attention: []string{"backend is down: 550 <ann@b.example> unknown"}}
	}
	o.Hide = func() bool { return true }
	for _, path := range []string{"/", "/status.json"} {
		if body := get(New(o).Handler(false), "GET", path, "").Body.String(); strings.Contains(body, "ann") || strings.Count(body, "…@b.example") < 2 {
			t.Errorf("%s: %s", path, body)
		}
	}
}

func TestRefusals(t *testing.T) {
	r := newRefusals()
	reject := rcptgate.Verdict{Action: rcptgate.Reject, Code: 550, Text: "No such user u1@x"}
	observe(r, 0, "taken@x", rcptgate.Verdict{Action: rcptgate.Continue})
	observe(r, 0, "rehearsed@x", rcptgate.Verdict{Would: rcptgate.Tempfail})
	for i := range refusalsKept + 20 {
		observe(r, i+1, fmt.Sprintf("u%d@x", i), reject)
		observe(r, i+1, "flood@x", reject) // within the same 10 ms
		if list := r.list(); i < refusalsKept-1 && (len(list) != i+2 || list[0].Recipient != fmt.Sprintf("u%d@x", i) || list[i+1].Action != "tempfail") {
			t.Fatalf("after %d: %+v", i, list)
		}
	}
	list := r.list()
	if len(list) != refusalsKept {
		t.Fatalf("%d kept", len(list))
	}
	for i, one := range list {
		if want := fmt.Sprintf("u%d@x", refusalsKept+19-i); one.Recipient != want {
			t.Fatalf("%d: %s, want %s", i, one.Recipient, want)
		}
	}
	r.hideAddresses(true)
	if len(r.list()) != 0 {
		t.Error("what was kept before is still shown")
	}
	observe(r, 1000, "secret@example.com", reject)
	observe(r, 1001, "bare", reject)
	if got := fmt.Sprint(r.list()); strings.Contains(got, "secret") || strings.Contains(got, "bare") || strings.Contains(got, "s@b") || strings.Contains(got, "u1@x") || !strings.Contains(got, "…@example.com") {
		t.Errorf("%s", got)
	}
	observe(r, 1002, strings.Repeat("ü", 10000), reject)
	if n := len(r.list()[0].Recipient); n > 2*fieldMax {
		t.Errorf("%d octets kept", n)
	}
}

func TestServe(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	r := newRefusals()
	go func() {
		done <- New(Options{Views: func() []view.Table { return []view.Table{r.table()} }}).Serve(ctx, l)
	}()
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() { observe(r, i, "u@x", rcptgate.Verdict{Action: rcptgate.Reject}) })
	}
	for host, want := range map[string]string{"localhost": "200 OK", "rebound.example": "421 Misdirected Request"} {
		conn, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		_, _ = fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", host)
		line, err := bufio.NewReader(conn).ReadString('\n')
		if err != nil || !strings.Contains(line, want) {
			t.Errorf("%s: %q, %v", host, line, err)
		}
		_ = conn.Close()
	}
	wg.Wait()
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// The end waits for a request in progress: what it shows is closed after Serve.
func TestServeWaitsForRequests(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	asked, answered := make(chan struct{}), make(chan struct{})
	slow := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		close(asked)
		time.Sleep(200 * time.Millisecond)
		close(answered)
	})
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	served := make(chan error, 1)
	go func() { served <- New(Options{Metrics: slow}).Serve(ctx, l) }()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_, _ = io.WriteString(conn, "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
	<-asked
	cancel()
	if err := <-served; err != nil {
		t.Error(err)
	}
	select {
	case <-answered:
	default:
		t.Error("Serve returned within a request")
	}
}

// TestHiddenQuotedLocalPart holds that nothing is left of a local part in quotes either, which may
// have blanks and brackets.
func TestHiddenQuotedLocalPart(t *testing.T) {
	o := Options{Hide: func() bool { return true }, Status: func() unit.Status {
		return unit.Status{Attention: []string{`server said: <"john (the) doe"@b.example> is full`, `"a\" mary"@b.example`}}
	}}
	body := get(New(o).Handler(false), http.MethodGet, "/status.json", "").Body.String()
	for _, word := range []string{"john", "doe", "mary"} {
		if strings.Contains(body, word) {
			t.Errorf("%s is shown: %s", word, body)
		}
	}
}
