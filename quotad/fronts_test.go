// SPDX-License-Identifier: BSD-2-Clause

package quotad

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rcptgate/check/quota/wire"
	"rcptgate/kit/testkit"
	"rcptgate/metric"
)

const secret = "g1 000102030405060708090a0b0c0d0e0f\n"

// keyed writes a key file and reads it.
func keyed(t testing.TB) (name string, keys *wire.Keys) {
	t.Helper()
	name = filepath.Join(t.TempDir(), "quota.key")
	if err := os.WriteFile(name, []byte(secret), 0o600); err != nil {
		t.Fatal(err)
	}
	keys, err := wire.LoadKeys(name)
	if err != nil {
		t.Fatal(err)
	}
	return name, keys
}

// spool makes an mbox spool: ann has 1,234 octets of 209,715,200, full is over the limit of
// its own domain.
func spool(t testing.TB) (sections string) {
	t.Helper()
	root := t.TempDir()
	put(t, filepath.Join(root, "ann"), strings.Repeat("x", 1234))
	put(t, filepath.Join(root, "example.org/ann"), strings.Repeat("x", 1234))
	put(t, filepath.Join(root, "small.example/full"), strings.Repeat("x", 300))
	return section("mbox", root, "{domain}/{local}", "domains = [\"example.org\"]\nlimit = \"200MB\"") +
		section("mbox", root, "{domain}/{local}", "domains = [\"small.example\"]\nlimit = \"200\"") +
		section("mbox", root, "{local}", `limit = "200MB"`)
}

const anywhere = "[listen]\nudp = [\"127.0.0.1:0\"]\ntcp = [\"127.0.0.1:0\"]\nhttp = \"127.0.0.1:0\"\n"

// serve runs an agent's fronts until the test ends.
func serve(t testing.TB, a *Agent) (udp, tcp, web string) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	s, err := a.Listen(ctx)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return s.udp[0].LocalAddr().String(), s.tcp[0].Addr().String(), s.http.Addr().String()
}

// patience is how long a test waits for what must come.
const patience = time.Minute

// again is how long a datagram is waited for before it counts as lost, as UDP may do.
const again = 5 * time.Second

// ask sends one datagram, again if it is lost, and waits for one answer.
func ask(t testing.TB, address, text string) string {
	t.Helper()
	conn, err := net.Dial("udp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	buf := make([]byte, 65536)
	for end := time.Now().Add(patience); ; {
		if _, err = conn.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
		_ = conn.SetReadDeadline(time.Now().Add(again))
		n, err := conn.Read(buf)
		if err == nil {
			return string(buf[:n])
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) || time.Now().After(end) {
			t.Fatalf("%.60q: %v", text, err)
		}
	}
}

// silent sends a datagram that must not be answered: what is answered is the one after it.
func silent(t testing.TB, a *Agent, address, text string, why int) {
	t.Helper()
	before := a.counts.dropped[why].Load()
	conn, err := net.Dial("udp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	var sent time.Time
	testkit.Eventually(t, fmt.Sprintf("%.60q to be counted as %s", text, dropWords[why]), func() bool {
		if time.Since(sent) > again {
			sent = time.Now()
			if _, err = conn.Write([]byte(text)); err != nil {
				t.Fatal(err)
			}
		}
		return a.counts.dropped[why].Load() != before
	})
	_ = conn.SetReadDeadline(time.Now().Add(time.Millisecond))
	if n, err := conn.Read(make([]byte, 10)); err == nil {
		t.Errorf("%.60q: answered with %d octets", text, n)
	}
}

// line asks over TCP.
func line(t testing.TB, address, text string, end bool) string {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(patience))
	_, _ = conn.Write([]byte(text))
	if end {
		_ = conn.(*net.TCPConn).CloseWrite()
	}
	answer, _ := io.ReadAll(conn) // an RST is an end, too
	return string(answer)
}

func TestPlainWords(t *testing.T) {
	t.Parallel()
	a, _, _ := open(t, anywhere+spool(t))
	udp, tcp, _ := serve(t, a)
	for text, want := range map[string]string{
		"CHECK_QUOTA ann":                                  "QUOTA_OK",
		"CHECK_QUOTA ann\n":                                "QUOTA_OK",
		"CHECK_QUOTA ann example.org":                      "QUOTA_OK",
		"CHECK_QUOTA ann@example.org\r\n":                  "QUOTA_OK",
		"CHECK_QUOTA full small.example":                   "QUOTA_FULL",
		"CHECK_QUOTA nobody":                               "QUOTA_OK",
		"CHECK_QUOTA ../../etc/passwd":                     "QUOTA_OK",
		"CHECK_QUOTA ann@example.org size=300000000":       "QUOTA_FULL",
		"CHECK_QUOTA ann example.org size=100 shoe=42":     "QUOTA_OK",
		"CHECK_QUOTA %66ull@small.example size=1":          "QUOTA_FULL",
		"CHECK_QUOTA " + strings.Repeat("a", wire.MaxUser): "QUOTA_OK",
	} {
		if got := ask(t, udp, text); got != want {
			t.Errorf("udp %q: %q", text, got)
		}
		if got := line(t, tcp, text, true); got != want+"\n" {
			t.Errorf("tcp %q: %q", text, got)
		}
	}
	if got := line(t, tcp, "CHECK_QUOTA ann\n", false); got != "QUOTA_OK\n" { // the line is enough
		t.Errorf("%q", got)
	}
	for _, bad := range []string{"\x00", "HELO x", "CHECK_QUOTA", "GET / HTTP/1.0", "CHECK_QUOTA a\nCHECK_QUOTA b", strings.Repeat("CHECK_QUOTA ann ", 4000)} {
		silent(t, a, udp, bad, dropMalformed)
		if got := line(t, tcp, bad, true); got != "" && !strings.Contains(bad, "\n") {
			t.Errorf("tcp %.60q: %q", bad, got)
		}
	}
	if got := line(t, tcp, "", true); got != "" {
		t.Errorf("nothing was asked: %q", got)
	}
}

// Where the agent could not find out there is no plain answer, and a signed one says why.
// TestNoQuestionEndsTheAgent has every reader of questions panic: that costs the question, and
// the next one is answered.
func TestNoQuestionEndsTheAgent(t *testing.T) {
	t.Parallel()
	a, _, log := open(t, anywhere+spool(t))
	udp, tcp, _ := serve(t, a)
	s := a.active.Swap(nil) // whatever is asked now is a panic
	if got := line(t, tcp, "CHECK_QUOTA ann\n", false); got != "" {
		t.Errorf("over TCP: %q", got)
	}
	conn, err := net.Dial("udp", udp)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	for range 5 { // more than there are readers
		if _, err = conn.Write([]byte("CHECK_QUOTA ann")); err != nil {
			t.Fatal(err)
		}
	}
	for begin := time.Now(); strings.Count(log.String(), "after a panic") < 6; time.Sleep(time.Millisecond) {
		if time.Since(begin) > patience {
			t.Fatalf("logged: %s", log.String())
		}
	}
	a.active.Store(s)
	if got := ask(t, udp, "CHECK_QUOTA ann"); got != "QUOTA_OK" {
		t.Errorf("the next question over UDP: %q", got)
	}
	if got := line(t, tcp, "CHECK_QUOTA ann\n", false); !strings.HasPrefix(got, "QUOTA_OK") {
		t.Errorf("the next question over TCP: %q", got)
	}
}

func TestErrorsOfStores(t *testing.T) {
	t.Parallel()
	name, keys := keyed(t)
	a, at, log := open(t, strings.Replace(anywhere, "[listen]", "[listen]\nkey_file = \""+name+"\"", 1)+section("mbox", "/does/not/exist", "{local}", ""))
	udp, tcp, web := serve(t, a)
	if got := line(t, tcp, "CHECK_QUOTA ann\n", false); got != "" {
		t.Errorf("%q", got)
	}
	r := wire.Request{User: "ann"}
	text, err := r.Sign(nil, keys, at.now())
	if err != nil {
		t.Fatal(err)
	}
	reply, err := wire.ParseReply([]byte(ask(t, udp, string(text))))
	if err != nil || keys.VerifyReply(reply, &r) != nil || reply.State != wire.Error || reply.Why != whyStore {
		t.Errorf("%+v, %v", reply, err)
	}
	for path, want := range map[string]string{"/cgi-bin/quota.cgi?u=ann": "503 could not find out\n", "/v1/quota?user=ann": `200 {"user":"ann","state":"error","age_s":0,"keep_s":0,"why":"store"}` + "\n"} {
		if got := get(t, "http://"+web+path, ""); got != want {
			t.Errorf("%s: %q", path, got)
		}
	}
	if n := strings.Count(log.String(), "could not find out how full"); n != 1 {
		t.Errorf("%d lines, want one a minute:\n%s", n, log)
	}
}

func TestSignedQuestions(t *testing.T) {
	t.Parallel()
	name, keys := keyed(t)
	a, at, log := open(t, strings.Replace(anywhere, "[listen]", "[listen]\nkey_file = \""+name+"\"", 1)+spool(t))
	udp, tcp, _ := serve(t, a)
	other, err := wire.ParseKeys([]byte("g1 ffffffffffffffffffffffffffffffff"))
	if err != nil {
		t.Fatal(err)
	}
	sign := func(user string, size int64, keys *wire.Keys, now time.Time) (string, *wire.Request) {
		r := &wire.Request{User: user, Size: size}
		text, err := r.Sign(nil, keys, now)
		if err != nil {
			t.Fatal(err)
		}
		return string(text), r
	}
	for _, c := range []struct {
		user  string
		size  int64
		state wire.State
		used  int64
	}{
		{"ann@example.org", 0, wire.Room, 1234}, {"ann@example.org", 209713966, wire.Room, 1234}, {"ann@example.org", 209713967, wire.Full, 1234},
		{"full@small.example", 0, wire.Full, 300}, {"nobody@example.org", 0, wire.Unknown, -1}, {"../x@example.org", 0, wire.Unknown, -1}, {`"a b"@example.org`, 0, wire.Unknown, -1},
	} {
		text, r := sign(c.user, c.size, keys, at.now())
		for front, answer := range map[string]string{"udp": ask(t, udp, text), "tcp": line(t, tcp, text+"\n", false)} {
			reply, err := wire.ParseReply([]byte(answer))
			if err != nil {
				t.Fatalf("%s %s: %v in %q", front, c.user, err, answer)
			}
			if err = keys.VerifyReply(reply, r); err != nil || reply.State != c.state || reply.Used != c.used || len(answer) > len(text)+1 {
				t.Errorf("%s %s: %q, %v", front, c.user, answer, err)
			}
		}
	}

	// Another's MAC and a changed question are not answered.
	forged, _ := sign("ann@example.org", 0, other, at.now())
	silent(t, a, udp, forged, dropMAC)
	text, r := sign("ann@example.org", 0, keys, at.now())
	silent(t, a, udp, strings.Replace(text, "ann@", "bob@", 1), dropMAC)
	if got := line(t, tcp, forged, true); got != "" {
		t.Errorf("%q", got)
	}

	// A replay within the minute says the same to the same question; later it is refused, with
	// both times in the log.
	if _, err := wire.ParseReply([]byte(ask(t, udp, text))); err != nil {
		t.Error(err)
	}
	at.add(2 * time.Minute)
	reply, err := wire.ParseReply([]byte(ask(t, udp, text)))
	if err != nil || keys.VerifyReply(reply, r) != nil || reply.State != wire.Error || reply.Why != whyClock {
		t.Errorf("%+v, %v", reply, err)
	}
	if !strings.Contains(log.String(), "gateway="+r.Time.UTC().Format(time.RFC3339)+" agent="+at.now().UTC().Format(time.RFC3339)) {
		t.Errorf("the log does not name both times:\n%s", log)
	}
}

// Strangers hear nothing, over no front; so does whoever asks too often; the plain words need
// a key from elsewhere.
func TestWhoMayAsk(t *testing.T) {
	t.Parallel()
	name, _ := keyed(t)
	listen := "[listen]\nudp = [\"0.0.0.0:0\"]\ntcp = [\"0.0.0.0:0\"]\nhttp = \"0.0.0.0:0\"\nrate = 3\nkey_file = \"" + name + "\"\nclients = [\"192.0.2.0/24\", \"2001:db8::/32\"]\n"
	a, at, log := open(t, listen+spool(t))
	s := a.active.Load()
	for client, want := range map[string]bool{"127.0.0.1": true, "127.9.9.9": true, "::1": true, "192.0.2.7": true, "::ffff:192.0.2.7": true, "2001:db8::1": true, "192.0.3.1": false, "10.0.0.1": false, "::": false} {
		if got := s.mayAsk(addr(client)); got != want {
			t.Errorf("%s: %v", client, got)
		}
	}
	for client, want := range map[string]bool{"127.0.0.1": true, "::ffff:127.0.0.1": true, "192.0.2.7": false} {
		if got := s.plainFor(addr(client)); got != want {
			t.Errorf("plain words of %s: %v", client, got)
		}
	}
	taken := func(text, client string) bool {
		r, refusal := a.admit(s, []byte(text), addr(client))
		if len(refusal) > 0 {
			t.Errorf("%.40q of %s: %q", text, client, refusal)
		}
		return r != nil
	}
	if taken("CHECK_QUOTA ann", "192.0.3.1") || a.counts.dropped[dropStranger].Load() != 1 {
		t.Error("a stranger's question is taken")
	}
	for range 3 {
		if taken("CHECK_QUOTA ann", "192.0.2.7") {
			t.Error("a plain question from elsewhere is taken")
		}
	}
	if n := a.counts.dropped[dropUnsigned].Load(); n != 3 {
		t.Errorf("%d unsigned questions are counted", n)
	}
	if taken("CHECK_QUOTA ann", "192.0.2.7") || a.counts.dropped[dropRate].Load() != 1 {
		t.Error("questions without a key have no limit")
	}
	for i, want := range []bool{true, true, true, false, false} {
		if got := taken("CHECK_QUOTA ann", "127.0.0.1"); got != want {
			t.Errorf("question %d: %v", i, got)
		}
	}
	if !taken("CHECK_QUOTA ann", "127.0.0.2") {
		t.Error("another client is held responsible")
	}
	at.add(time.Second)
	if !taken("CHECK_QUOTA ann", "127.0.0.1") {
		t.Error("a second later nothing is answered")
	}
	if n := strings.Count(log.String(), "a question was not answered"); n != 4 {
		t.Errorf("%d lines, want one for a reason, client and minute:\n%s", n, log)
	}
}

// A flood from the gateway's own address, without the key or played again, does not use up
// what the gateway may ask.
func TestFloodDoesNotStarveTheGateway(t *testing.T) {
	t.Parallel()
	name, keys := keyed(t)
	a, at, _ := open(t, "[listen]\nrate = 10\nkey_file = \""+name+"\"\nclients = [\"192.0.2.0/24\"]\n"+spool(t))
	s, gateway := a.active.Load(), addr("192.0.2.7")
	other, err := wire.ParseKeys([]byte("g1 ffffffffffffffffffffffffffffffff"))
	if err != nil {
		t.Fatal(err)
	}
	signed := func(keys *wire.Keys, when time.Time) []byte {
		text, err := (&wire.Request{User: "ann@example.org"}).Sign(nil, keys, when)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	taken := func(text []byte) bool {
		r, _ := a.admit(s, text, gateway)
		return r != nil
	}
	replayed := signed(keys, at.now())
	if !taken(replayed) {
		t.Fatal("the gateway's question is not taken")
	}
	old := signed(keys, at.now().Add(-time.Hour))
	for _, flood := range [][]byte{[]byte("x"), []byte("CHECK_QUOTA ann"), signed(other, at.now()), old} {
		for range 50 {
			if taken(flood) {
				t.Fatalf("%.40q is taken", flood)
			}
		}
	}
	for range maxRepeats - 1 { // the gateway itself repeats a datagram that is lost
		if !taken(replayed) {
			t.Error("a repeated datagram is not taken")
		}
	}
	for range 50 {
		if taken(replayed) {
			t.Fatal("a question that is played again and again is taken")
		}
	}
	for i := range 6 {
		if !taken(signed(keys, at.now())) {
			t.Errorf("question %d of the gateway is not taken", i)
		}
	}
	if taken(signed(keys, at.now())) {
		t.Error("the gateway has no limit")
	}
}

// get asks over HTTP and gives status and body.
func get(t testing.TB, url, token string) string {
	t.Helper()
	r, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	client := http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.Status[:4] + string(body)
}

func TestHTTP(t *testing.T) {
	t.Parallel()
	name, keys := keyed(t)
	a, _, _ := open(t, strings.Replace(anywhere, "[listen]", "[listen]\nkey_file = \""+name+"\"", 1)+spool(t))
	_, _, web := serve(t, a)
	for path, want := range map[string]string{
		"/cgi-bin/quota.cgi?u=ann":                    "200 OK ann 1234 209715200\n",
		"/cgi-bin/quota.cgi?u=full@small.example":     "200 OVERQUOTA full@small.example 300 200\n",
		"/cgi-bin/quota.cgi?u=nobody":                 "200 OK nobody 0 0\n",
		"/cgi-bin/quota.cgi?u=..%2f..%2fetc%2fpasswd": "200 OK ../../etc/passwd 0 0\n",
		"/cgi-bin/quota.cgi?u=a%0d%0aX:y":             "503 could not find out\n",
		"/cgi-bin/quota.cgi?u=":                       "200 ",
		"/cgi-bin/quota.cgi":                          "200 ",
		"/v1/quota?user=ann":                          `200 {"user":"ann","state":"ok","used":1234,"hard":209715200,"age_s":0,"keep_s":0}` + "\n",
		"/v1/quota?user=ann&size=300000000":           `200 {"user":"ann","state":"full","used":1234,"hard":209715200,"age_s":0,"keep_s":0}` + "\n",
		"/v1/quota?user=nobody":                       `200 {"user":"nobody","state":"unknown","age_s":0,"keep_s":0}` + "\n",
		"/v1/quota":                                   "400 the mailbox name is empty\n",
		"/v1/quota?user=ann&size=-1":                  "400 \"-1\" is not a size; expected a number with B, KB, MB, GB or TB, up to 1024TB, as in \"200MB\"\n",
		"/v1/quota?user=" + strings.Repeat("a", 400):  "400 the mailbox name has 400 octets, at most 320 are allowed\n",
		"/healthz": "200 ok\n",
		"/":        "404 404 page not found\n",
	} {
		if got := get(t, "http://"+web+path, ""); got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
	if got := get(t, "http://"+web+"/v1/quota?user=ann", "wrong"); !strings.HasPrefix(got, "401") {
		t.Errorf("a wrong token: %q", got)
	}
	if got := get(t, "http://"+web+"/v1/quota?user=ann", keys.Token()); !strings.HasPrefix(got, "200") {
		t.Errorf("the token: %q", got)
	}
	if err := metric.Check(a.counts.metrics()); err != nil {
		t.Error(err)
	}
	metrics := get(t, "http://"+web+"/metrics", "")
	for _, want := range []string{`rcptgate_agent_questions_total{front="http",result="full"} 2`, `rcptgate_agent_questions_total{front="udp",result="room"} 0`,
		`rcptgate_agent_dropped_total{why="mac"} 1`, "rcptgate_agent_scan_seconds_count 0", "rcptgate_agent_scanned_files_total 0"} {
		if !strings.Contains(metrics, want+"\n") {
			t.Errorf("no %q in\n%s", want, metrics)
		}
	}
	for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodDelete} {
		r, _ := http.NewRequest(method, "http://"+web+"/v1/quota?user=ann", strings.NewReader("x"))
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusMethodNotAllowed {
			t.Errorf("%s: %s", method, resp.Status)
		}
	}
}

// From elsewhere HTTP needs the token, unless plain is true.
func TestHTTPFromElsewhere(t *testing.T) {
	t.Parallel()
	name, keys := keyed(t)
	a, _, _ := open(t, "[listen]\nkey_file = \""+name+"\"\n"+spool(t))
	open, _, _ := open(t, "[listen]\nplain = true\n"+spool(t))
	for _, path := range []string{"/cgi-bin/quota.cgi?u=ann", "/v1/quota?user=ann"} {
		for _, c := range []struct {
			agent *Agent
			token string
			want  int
		}{{a, "", http.StatusUnauthorized}, {a, "wrong", http.StatusUnauthorized}, {a, keys.Token(), http.StatusOK}, {open, "", http.StatusOK}} {
			r := httptest.NewRequest(http.MethodGet, path, nil)
			r.RemoteAddr = "192.0.2.7:1234"
			if c.token != "" {
				r.Header.Set("Authorization", "Bearer "+c.token)
			}
			w := httptest.NewRecorder()
			c.agent.handler().ServeHTTP(w, r)
			if w.Code != c.want {
				t.Errorf("%s, token %q: %d, want %d", path, c.token, w.Code, c.want)
			}
		}
	}
}

// The key itself is a token where nobody can read it on its way: over TLS, and from loopback.
func TestTheKeyAsToken(t *testing.T) {
	t.Parallel()
	name, _ := keyed(t)
	a, _, _ := open(t, "[listen]\nkey_file = \""+name+"\"\n"+spool(t))
	key := strings.Fields(secret)[1]
	for _, c := range []struct {
		client string
		tls    bool
		token  string
		want   int
	}{
		{"127.0.0.1:1", false, key, http.StatusOK}, {"192.0.2.7:1", true, strings.ToUpper(key), http.StatusOK}, {"192.0.2.7:1", false, key, http.StatusUnauthorized},
		{"192.0.2.7:1", true, key[2:], http.StatusUnauthorized}, {"192.0.2.7:1", true, "", http.StatusUnauthorized}, {"127.0.0.1:1", false, "nonsense", http.StatusUnauthorized},
	} {
		r := httptest.NewRequest(http.MethodGet, "/v1/quota?user=ann", nil)
		r.RemoteAddr = c.client
		if c.tls {
			r.TLS = new(tls.ConnectionState)
		}
		r.Header.Set("Authorization", "Bearer "+c.token)
		w := httptest.NewRecorder()
		a.handler().ServeHTTP(w, r)
		if w.Code != c.want {
			t.Errorf("%+v: %d", c, w.Code)
		}
	}
}

// TestAskOtherSources: a person asks the CGI, a file and a source that is not there as a gateway
// does.
func TestAskOtherSources(t *testing.T) {
	t.Parallel()
	a, _, _ := open(t, anywhere+spool(t))
	udp, _, web := serve(t, a)
	list := filepath.Join(t.TempDir(), "quotas")
	put(t, list, "ann@example.org 1000 2048\n")
	for _, c := range []struct {
		source, user string
		size         int64
		want         wire.State
		used         int64
	}{
		{"http://" + web + "/cgi-bin/quota.cgi?u={user}", "ann", 0, wire.Room, 1234},
		{"http://" + web + "/cgi-bin/quota.cgi?u={user}", "full@small.example", 0, wire.Full, 300},
		{"http://" + web, "ann", 300 << 20, wire.Full, 1234},
		{"udp:" + udp, "ann", 0, wire.Room, wire.NotKnown},
		{"file:" + list, "ann@example.org", 0, wire.Room, 1000},
		{"file:" + list, "ann@example.org", 1049, wire.Full, 1000},
		{"file:" + list, "bob", 0, wire.Unknown, wire.NotKnown},
		{"file:" + list + ".absent", "bob", 0, 0, 0},
		{"udp:{backend}:8049", "ann", 0, 0, 0},
		{"redis:127.0.0.1:6379/0", "ann", 0, 0, 0},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		got, err := (&inquiry{user: c.user, size: c.size}).ask(ctx, c.source)
		cancel()
		if (err == nil) != (c.want != 0) || got.State != c.want || got.Used != c.used {
			t.Errorf("%s, %s: %+v, %v", c.source, c.user, got, err)
		}
	}
}
