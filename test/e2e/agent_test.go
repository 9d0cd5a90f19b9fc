// SPDX-License-Identifier: BSD-2-Clause

package e2e

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rcptgate/check/quota/wire"
	"rcptgate/quotad"
	"rcptgate/test/lab"
)

// openAgent makes a quota agent of a configuration.
func openAgent(t *testing.T, text string) *quotad.Agent {
	t.Helper()
	name := filepath.Join(t.TempDir(), "agent.toml")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := quotad.LoadConfig(name)
	if err != nil {
		t.Fatal(err)
	}
	a, err := quotad.New(c, slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// store is a [[store]] section.
func store(lines ...string) string { return "[[store]]\n" + strings.Join(lines, "\n") + "\n" }

// sees asks and compares the state; the answer is for more.
func sees(t *testing.T, a *quotad.Agent, user string, size int64, want wire.State) wire.Answer {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	got := a.Ask(ctx, user, size)
	if got.State != want {
		t.Errorf("%s, %d octets: %+v, want %v", user, size, got, want)
	}
	return got
}

// TestAgentAsksDovecot asks a real Dovecot over the doveadm protocol and quota-status.
func TestAgentAsksDovecot(t *testing.T) {
	t.Parallel()
	d := lab.StartDovecot(t, lab.DovecotOptions{Users: []string{"ann@behind.test"}, Full: []string{"full@behind.test"}, Quota: true})
	a := openAgent(t, store(`type = "doveadm"`, fmt.Sprintf("address = %q", "unix:"+d.Quota.Doveadm)))
	for range 3 { // the second and later ones over a kept connection
		got := sees(t, a, "ann@behind.test", 0, wire.Room)
		if got.Hard != 100<<20 || got.Used < 4<<10 || got.Used > 8<<10 || got.Messages < 0 {
			t.Errorf("ann: %+v", got)
		}
		sees(t, a, "full@behind.test", 0, wire.Full)
		sees(t, a, "nobody@behind.test", 0, wire.Unknown)
		sees(t, a, "ann@behind.test", 200<<20, wire.Full)
		time.Sleep(10 * time.Millisecond)
	}
	sees(t, a, "*@behind.test", 0, wire.Unknown)
	named := openAgent(t, store(`type = "doveadm"`, fmt.Sprintf("address = %q", "unix:"+d.Quota.Doveadm), `quota_root = "No such root"`))
	sees(t, named, "ann@behind.test", 0, wire.Error)

	p := openAgent(t, store(`type = "policy"`, fmt.Sprintf("address = %q", "unix:"+d.Quota.Policy)))
	for _, size := range []int64{0, 200 << 20, 1} { // Dovecot keeps the size of the question before, if none is sent
		want := wire.Room
		if size > 100<<20 {
			want = wire.Full
		}
		sees(t, p, "ann@behind.test", size, want)
	}
	sees(t, p, "full@behind.test", 1, wire.Full)
	sees(t, p, "nobody@behind.test", 1, wire.Unknown) // "REJECT Unknown user" is not the service's matter
}

// TestAgentReadsMaildirsize reads quota files that a real Dovecot has written, and leaves
// them as they are.
func TestAgentReadsMaildirsize(t *testing.T) {
	t.Parallel()
	d := lab.StartDovecot(t, lab.DovecotOptions{Users: []string{"ann@behind.test"}, Quota: true, Maildirsize: true})
	for range 3 {
		d.Fill("ann@behind.test", 2000)
	}
	file := filepath.Join(d.Maildir("ann@behind.test"), "maildirsize")
	before, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	root, path := fmt.Sprintf("root = %q", filepath.Dir(d.Home("ann@behind.test"))), `path = "{user}/Maildir"`
	a := openAgent(t, store(`type = "maildirsize"`, root, path))
	got := sees(t, a, "ann@behind.test", 0, wire.Room)
	if used, limit := d.Usage("ann@behind.test"); got.Hard != limit<<10 || (got.Used+1023)>>10 != used || got.Messages < 3 {
		t.Errorf("%+v, but Dovecot says %d KiB of %d KiB; the file has\n%s", got, used, limit, before)
	}
	counted := openAgent(t, store(`type = "maildir"`, root, path))
	if sum := sees(t, counted, "ann@behind.test", 0, wire.Room); sum.Messages != got.Messages || sum.Used != got.Used {
		t.Errorf("counted %+v, the file has %+v", sum, got)
	}
	if after, err := os.ReadFile(file); err != nil || !bytes.Equal(before, after) {
		t.Errorf("the file was changed: %v\n%s", err, after)
	}
	sees(t, a, "nobody@behind.test", 0, wire.Unknown)
}

// client runs a program of postmasters' and gives what it prints.
func client(t *testing.T, in, program string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	path := lab.ClientsKit.Path("usr/bin/" + program)
	if _, err := os.Stat(path); err != nil {
		path = lab.ClientsKit.Path("bin/" + program) // Debian 12's netcat
	}
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env, cmd.Stdin = lab.ClientsKit.Environment(), strings.NewReader(in)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%s %v: %v: %s", program, args, err, out)
	}
	return string(out)
}

// TestAgentTLS asks over HTTPS with curl, which checks the certificate. In the clear there is
// no answer.
func TestAgentTLS(t *testing.T) {
	t.Parallel()
	lab.Need(t, lab.ClientsKit)
	root, web := t.TempDir(), lab.FreePort(t)
	put := func(name, text string) string {
		path := filepath.Join(root, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	put("ann", strings.Repeat("x", 1234))
	mine := httptest.NewTLSServer(nil) // for its certificate, which is valid for 127.0.0.1
	defer mine.Close()
	key, err := x509.MarshalPKCS8PrivateKey(mine.TLS.Certificates[0].PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	cert := put("cert.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: mine.Certificate().Raw})))
	keyFile := put("key.pem", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})))
	a := openAgent(t, fmt.Sprintf("[listen]\nudp = []\ntcp = []\nhttp = \"127.0.0.1:%d\"\ncertificate = %q\nkey = %q\n", web, cert, keyFile)+
		store(`type = "mbox"`, fmt.Sprintf("root = %q", root), `path = "{local}"`, `limit = "200KB"`))
	ctx, cancel := context.WithCancel(context.Background())
	s, err := a.Listen(ctx)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	defer func() { cancel(); <-done }()
	for query, want := range map[string]string{
		"cgi-bin/quota.cgi?u=ann": "OK ann 1234 204800\n",
		"v1/quota?user=ann":       `{"user":"ann","state":"ok","used":1234,"hard":204800,"age_s":0,"keep_s":0}` + "\n",
	} {
		if got := client(t, "", "curl", "-sS", "--cacert", cert, fmt.Sprintf("https://127.0.0.1:%d/%s", web, query)); got != want {
			t.Errorf("%s: %q", query, got)
		}
	}
	if resp, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/v1/quota?user=ann", web)); err == nil {
		_ = resp.Body.Close()
		if resp.StatusCode == http.StatusOK {
			t.Error("there is an answer in the clear")
		}
	}
}

// TestOldWords asks with the programs that postmasters have: netcat and curl. The answers are
// compared octet for octet.
func TestOldWords(t *testing.T) {
	t.Parallel()
	lab.Need(t, lab.ClientsKit)
	root, port, web := t.TempDir(), lab.FreePort(t), lab.FreePort(t)
	for name, size := range map[string]int{"ann": 1234, "full": 300_000} {
		if err := os.WriteFile(filepath.Join(root, name), make([]byte, size), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	a := openAgent(t, fmt.Sprintf("[listen]\nudp = [\"127.0.0.1:%d\"]\ntcp = [\"127.0.0.1:%d\"]\nhttp = \"127.0.0.1:%d\"\n", port, port, web)+
		store(`type = "mbox"`, fmt.Sprintf("root = %q", root), `path = "{local}"`, `limit = "200KB"`))
	ctx, cancel := context.WithCancel(context.Background())
	s, err := a.Listen(ctx)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	defer func() { cancel(); <-done }()
	run := func(in, program string, args ...string) string { return client(t, in, program, args...) }
	for in, want := range map[string]string{"CHECK_QUOTA ann": "QUOTA_OK", "CHECK_QUOTA full\n": "QUOTA_FULL", "CHECK_QUOTA full example.org\n": "QUOTA_FULL", "CHECK_QUOTA nobody\r\n": "QUOTA_OK"} {
		if got := run(in, "nc.openbsd", "-u", "-W", "1", "127.0.0.1", fmt.Sprint(port)); got != want {
			t.Errorf("nc -u %q: %q", in, got)
		}
		if got := run(in, "nc.openbsd", "-N", "127.0.0.1", fmt.Sprint(port)); got != want+"\n" {
			t.Errorf("nc %q: %q", in, got)
		}
	}
	for query, want := range map[string]string{"u=ann": "OK ann 1234 204800\n", "u=full": "OVERQUOTA full 300000 204800\n", "u=nobody": "OK nobody 0 0\n", "u=": ""} {
		got := run("", "curl", "-sS", "-i", fmt.Sprintf("http://127.0.0.1:%d/cgi-bin/quota.cgi?%s", web, query))
		head, body, _ := strings.Cut(got, "\r\n\r\n")
		if body != want || !strings.HasPrefix(head, "HTTP/1.1 200 OK\r\n") || !strings.Contains(head, "Content-Type: text/plain") {
			t.Errorf("curl %s: %q", query, got)
		}
	}
}
