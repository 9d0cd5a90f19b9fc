// SPDX-License-Identifier: BSD-2-Clause

package lab

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A real Dovecot's quota services: what each says of a mailbox that is filled, emptied, and given other limits.
func TestDovecotQuota(t *testing.T) {
	server := StartDovecot(t, DovecotOptions{Users: []string{"good@dc.test"}, Full: []string{"full@dc.test"}, Quota: true})
	policy := func(user string, size int64, want string) {
		t.Helper()
		got, err := server.AskPolicy(user, size)
		if err != nil || !strings.HasPrefix(got, want) {
			t.Errorf("quota-status of %s for %d octets: %q, %v; want %q", user, size, got, err, want)
		}
	}
	policy("good@dc.test", 1000, "OK")
	policy("full@dc.test", 1, "554 5.2.2")
	policy("nobody@dc.test", 1, "REJECT Unknown user")
	if used, limit := server.Usage("good@dc.test"); used < 4 || used > 6 || limit != 100<<10 {
		t.Errorf("doveadm quota get: %d of %d KiB", used, limit)
	}

	server.SetLimit("good@dc.test", 100_000)
	policy("good@dc.test", 90_000, "OK")
	policy("good@dc.test", 99_000, "554 5.2.2")
	server.Fill("good@dc.test", 120_000)
	policy("good@dc.test", 1, "554 5.2.2")
	server.Empty("good@dc.test")
	policy("good@dc.test", 90_000, "OK")
	server.SetLimit("good@dc.test", 0)
	policy("good@dc.test", 5_000_000, "OK")
	if _, limit := server.Usage("good@dc.test"); limit != -1 {
		t.Errorf("a mailbox without a limit has one of %d KiB", limit)
	}
	server.SetRule("new@dc.test", "*:messages=1")
	policy("new@dc.test", 1, "OK")
	server.Fill("new@dc.test", 100)
	policy("new@dc.test", 1, "554 5.2.2")
}

// The two ways to ask doveadm, whose answers carry numbers.
func TestDovecotDoveadm(t *testing.T) {
	server := StartDovecot(t, DovecotOptions{Users: []string{"good@dc.test"}, Quota: true, Maildirsize: true})
	server.Fill("good@dc.test", 10_000)
	if _, err := os.Stat(filepath.Join(server.Maildir("good@dc.test"), "maildirsize")); err != nil {
		t.Error(err)
	}

	rows, reply := doveadmAsk(t, server.Quota.Doveadm, "good@dc.test", "quota get")
	if !strings.HasPrefix(rows, "User quota\tSTORAGE\t") || reply != "+" {
		t.Errorf("doveadm-server: %q, %q", rows, reply)
	}
	if _, reply = doveadmAsk(t, server.Quota.Doveadm, "nobody@dc.test", "quota get"); reply != "-NOUSER" {
		t.Errorf("doveadm-server, unknown user: %q", reply)
	}

	ask := func(user string) string {
		body := fmt.Sprintf(`[["quotaGet",{"user":%q},"t1"]]`, user)
		req, _ := http.NewRequest(http.MethodPost, server.Quota.URL(), strings.NewReader(body)) // the URL is well formed
		req.SetBasicAuth("doveadm", server.Quota.Password)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close() //nolint:errcheck // read to its end
		text, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != http.StatusOK || !json.Valid(text) {
			t.Fatalf("doveadm's HTTP API: %s, %q, %v", resp.Status, text, err)
		}
		return string(text)
	}
	if got := ask("good@dc.test"); !strings.Contains(got, `"type":"STORAGE"`) || !strings.Contains(got, `"limit":"102400"`) {
		t.Errorf("doveadm's HTTP API: %s", got)
	}
	if got := ask("nobody@dc.test"); !strings.Contains(got, `"exitCode":67`) && !strings.Contains(got, `"exitCode": 67`) {
		t.Errorf("doveadm's HTTP API, unknown user: %s", got)
	}
}

// doveadmAsk puts one command to the socket of the doveadm protocol and returns the rows and the closing line.
func doveadmAsk(t *testing.T, socket, user, command string) (rows, reply string) {
	t.Helper()
	c, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close() //nolint:errcheck // nothing is pending
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	r := bufio.NewReader(c)
	if _, err := fmt.Fprintf(c, "VERSION\tdoveadm-server\t1\t0\n"); err != nil {
		t.Fatal(err)
	}
	if line, err := r.ReadString('\n'); err != nil || line != "+\n" { // no password needed
		t.Fatalf("doveadm-server greets with %q, %v", line, err)
	}
	if _, err := fmt.Fprintf(c, "\t%s\t%s\n", user, command); err != nil {
		t.Fatal(err)
	}
	if rows, err = r.ReadString('\n'); err == nil {
		reply, err = r.ReadString('\n')
	}
	if err != nil {
		t.Fatalf("doveadm-server answers %q, %q, %v", rows, reply, err)
	}
	return strings.TrimRight(rows, "\n"), strings.TrimRight(reply, "\n")
}
