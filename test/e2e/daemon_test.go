// SPDX-License-Identifier: BSD-2-Clause

package e2e

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"rcptgate/kit/testkit"
	"rcptgate/test/cases"
	"rcptgate/test/lab"
)

// A reload takes effect at once; one that fails changes nothing, says so with the line, and the daemon goes on.
func TestReload(t *testing.T) {
	sim := lab.StartScripted(t)
	domain := section("sim.test", "smtp:"+sim.Hop())
	g := lab.StartGate(t, domain)
	front := cases.Bare(g, nil)
	ask := func(recipient string) int {
		s := open(t, front)
		defer s.Close()
		return s.Rcpt(recipient).Code
	}
	if got := ask("nobody@sim.test"); got != 550 {
		t.Fatalf("before: %d", got)
	}
	g.Configure("enforce = false\n" + domain)
	g.Reload()
	testkit.Eventually(t, "the rehearsal is in force", func() bool { return ask("nobody@sim.test") == 250 })
	g.Configure("enforced = true\n" + domain)
	g.MustCommand(78, "config", "check")
	g.Reload()
	if !g.Logged(`enforced`) {
		t.Error("the log does not name the wrong key")
	}
	if got := ask("nobody@sim.test"); got != 250 {
		t.Errorf("after a reload that failed: %d, want the old configuration's 250", got)
	}
	g.Configure(domain)
	g.Reload()
	testkit.Eventually(t, "the gate refuses again", func() bool { return ask("nobody@sim.test") == 550 })
}

// Exit codes where there is no daemon, and of a daemon that cannot start.
func TestExitCodesWithoutDaemon(t *testing.T) {
	g := lab.NewGate(t)
	g.Configure(section("sim.test", "smtp:[127.0.0.1]:1"))
	g.MustCommand(69, "check", "ann@sim.test")
	g.MustCommand(69, "cache", "list")
	g.MustCommand(69, "cache", "forget", "ann@sim.test")
	g.MustCommand(75, "check", "--offline", "ann@sim.test")
	g.MustCommand(0, "config", "check")
	g.Configure("deadline = \"soon\"\n")
	g.MustCommand(78, "config", "check")
	if out := g.MustCommand(78, "serve"); !strings.Contains(out, "deadline") {
		t.Errorf("serve does not name the wrong key:\n%s", out)
	}
}

// Metrics and health over HTTP, with no recipient in them.
func TestMetrics(t *testing.T) {
	sim := lab.StartScripted(t)
	g := lab.StartGate(t, section("sim.test", "smtp:"+sim.Hop()))
	s := open(t, cases.Bare(g, nil))
	expect(t, s, "ann@sim.test", 250, "")
	expect(t, s, "nobody@sim.test", 550, "5.1.1")
	for path, want := range map[string]string{"/healthz": "", "/readyz": "", "/metrics": "rcptgate_"} {
		resp, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d%s", g.HTTP, path))
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusOK || !strings.Contains(string(body), want) {
			t.Errorf("%s: %s, %v, no %q in\n%s", path, resp.Status, err, want, body)
		}
		if strings.Contains(string(body), "ann@") || strings.Contains(string(body), "nobody") {
			t.Errorf("%s shows a recipient", path)
		}
	}
}

// What a client may type, put to the gate without an MTA that would refuse it before.
func TestHostileRecipients(t *testing.T) {
	sim := lab.StartScripted(t)
	g := lab.StartGate(t, section("sim.test", "smtp:"+sim.Hop()))
	front := cases.Bare(g, nil)
	for _, local := range []string{"a\rb", "a\nb", "a\r\nRCPT TO:<evil@sim.test>\r\nb", `"a` + "\n" + `b"`} {
		s := open(t, front)
		expect(t, s, local+"@sim.test", 501, "5.1.3")
		s.Close()
	}
	s := open(t, front)
	expect(t, s, strings.Repeat("x", 600)+"@sim.test", 501, "")
	expect(t, s, strings.Repeat("y", 70)+"@sim.test", 550, "5.1.1")
	expect(t, s, `"nobody; rm -rf $HOME"@sim.test`, 550, "5.1.1")
	s.Close()
	for _, size := range []int{60_000, 200_000} { // more than a frame may hold: this connection may end, no other
		s := open(t, front)
		if r := s.Rcpt(strings.Repeat("z", size) + "@sim.test"); r.Code == 250 {
			t.Errorf("a name of %d octets was taken", size)
		}
		s.Close()
	}
	for _, c := range sim.Commands() {
		if strings.Contains(c, "evil") {
			t.Errorf("a line break reached the server behind: %q", c)
		}
	}
	for _, line := range strings.Split(g.Log(), "\n") {
		if strings.HasPrefix(line, "RCPT TO") || strings.HasPrefix(line, "b@sim.test") {
			t.Errorf("a line break reached the log: %q", line)
		}
	}
	expect(t, open(t, front), "ann@sim.test", 250, "")
}

// SIGTERM lets a transaction finish and ends with 0; the sockets are gone.
func TestDrain(t *testing.T) {
	sim := lab.StartScripted(t)
	g := lab.StartGate(t, section("sim.test", "smtp:"+sim.Hop()))
	s := open(t, cases.Bare(g, nil))
	expect(t, s, "ann@sim.test", 250, "")
	if err := g.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	time.Sleep(200 * time.Millisecond)
	expect(t, s, "bob@sim.test", 250, "")
	s.Close()
	select {
	case <-g.Done():
	case <-time.After(time.Minute):
		t.Fatal("the daemon did not end")
	}
	if code := g.ExitCode(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// A client of the milter protocol that others wrote gets the same answers.
func TestMiltertest(t *testing.T) {
	lab.Need(t, lab.MiltertestKit)
	sim := lab.StartScripted(t)
	g := lab.StartGate(t, section("sim.test", "smtp:"+sim.Hop()))
	for _, socket := range []string{g.SendmailMilter(), "unix:" + g.Unix} {
		lab.Miltertest(t, socket, `
conn = mt.connect(socket, 40, 0.05)
if conn == nil then error("no connection") end
mt.conninfo(conn, "client.test", "127.0.0.9")
if mt.getreply(conn) ~= SMFIR_CONTINUE then error("conninfo answer") end
for round = 1, 2 do
	mt.macro(conn, SMFIC_MAIL, "i", "queue" .. round, "{mail_addr}", "sender@client.test")
	mt.mailfrom(conn, "<sender@client.test>")
	if mt.getreply(conn) ~= SMFIR_CONTINUE then error("mail answer") end
	mt.macro(conn, SMFIC_RCPT, "{rcpt_mailer}", "smtp", "{rcpt_host}", "[127.0.0.1]:1", "{rcpt_addr}", "ann@sim.test")
	mt.rcptto(conn, "<ann@sim.test>")
	if mt.getreply(conn) ~= SMFIR_CONTINUE then error("good recipient refused") end
	mt.rcptto(conn, "<nobody@sim.test>")
	if mt.getreply(conn) ~= SMFIR_REPLYCODE then error("unknown recipient taken") end
	mt.abort(conn)
end
mt.disconnect(conn)
`)
	}
}

// Two gateways, or one, that ask each other: the call-ahead that comes back to us ends at once.
func TestLoop(t *testing.T) {
	lab.Need(t, lab.PostfixKit)
	g := lab.NewGate(t)
	port := lab.FreePort(t)
	hop := fmt.Sprintf("[127.0.0.1]:%d", port)
	g.Configure(section("loop.test", "smtp:"+hop))
	g.Run()
	p := lab.StartPostfix(t, lab.PostfixOptions{
		Name: "front-postfix", Port: port, Milters: []string{g.PostfixMilter()}, Relay: map[string]string{"loop.test": "smtp:" + hop},
	})
	r := transaction(t, p.Addr()).Rcpt(t, "ann@loop.test")
	if r.Code != 250 && r.Code/100 != 4 {
		t.Errorf("a loop was answered %q", r)
	}
	if r.Elapsed > 30*time.Second {
		t.Errorf("a loop took %v", r.Elapsed)
	}
	if !p.WaitLog(`disconnect from`) {
		t.Error("the log of Postfix shows no connection")
	}
	if n := p.Connections(); n > 10 {
		t.Errorf("a loop made %d connections", n)
	}
}
