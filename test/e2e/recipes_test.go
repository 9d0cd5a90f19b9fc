// SPDX-License-Identifier: BSD-2-Clause

package e2e

import (
	"net"
	"os"
	"os/user"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"rcptgate/test/lab"
)

// service is a user without any privilege: "nobody". The daemon runs as such a user under the shipped unit.
const service = 65534

// documented gives the value of a line of a document: of the setting, with the word in it.
func documented(t *testing.T, document, setting, word string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../..", document))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), setting+" = "); ok && strings.HasPrefix(line, "    ") && strings.Contains(value, word) {
			return value
		}
	}
	t.Fatalf("%s has no line %s with %s", document, setting, word)
	return ""
}

// A milter next to others: it has a failure mode of its own, and theirs stays as it is.
func TestMilterBesideOthers(t *testing.T) {
	lab.Need(t, lab.PostfixKit)
	_, tap := behind(t)
	g := lab.StartGate(t, section("pf.test", "smtp:"+tap.Hop()))
	line := documented(t, "docs/operations.md", "smtpd_milters", "inet:127.0.0.1:8890")
	if readme := documented(t, "README.md", "smtpd_milters", "inet:127.0.0.1:8890"); line != readme+", inet:127.0.0.1:8891" {
		t.Errorf("the documents differ: %q, %q", line, readme)
	}
	line = strings.NewReplacer("inet:127.0.0.1:8890", g.PostfixMilter(), "inet:127.0.0.1:8891", "inet:127.0.0.1:1").Replace(line) // nothing answers at port 1
	p := lab.StartPostfix(t, lab.PostfixOptions{
		Name:    "front-postfix",
		Milters: []string{line},
		Main:    map[string]string{"milter_default_action": "accept"},
		Relay:   map[string]string{"pf.test": "smtp:" + tap.Hop()},
	})
	put(t, transaction(t, p.Addr()), "good@pf.test", "250 2.1.5", "")
	put(t, transaction(t, p.Addr()), "nobody@pf.test", "550 5.1.1", "User unknown")
	g.Kill()
	d, err := lab.Dial("tcp", p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	d.Do(t, "EHLO client.test")
	if r := d.Mail(t, "sender@client.test"); r.Code/100 != 4 {
		put(t, d, "good@pf.test", "451 4.7.1", "")
	}
}

// socketUnit opens a socket as one of the shipped socket units says, at a path of the test's. It returns the unit's own path.
func socketUnit(t *testing.T, name, path string) (*os.File, string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../../systemd", name))
	if err != nil {
		t.Fatal(err)
	}
	get := func(key string) string {
		m := regexp.MustCompile(`(?m)^` + key + `=(.*)$`).FindSubmatch(text)
		if m == nil {
			t.Fatalf("%s does not set %s", name, key)
		}
		return string(m[1])
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	mode, err := strconv.ParseUint(get("SocketMode"), 8, 32)
	if err != nil {
		t.Fatal(err)
	}
	owner, err := user.Lookup(get("SocketUser"))
	if err != nil {
		t.Fatal(err)
	}
	group, err := user.LookupGroup(get("SocketGroup"))
	if err != nil {
		t.Fatal(err)
	}
	uid, _ := strconv.Atoi(owner.Uid) // numbers on every Unix
	gid, _ := strconv.Atoi(group.Gid)
	if err := os.Chown(path, uid, gid); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, os.FileMode(mode)); err != nil {
		t.Fatal(err)
	}
	file, err := l.File()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = file.Close() })
	return file, get("ListenStream")
}

// unprivileged prepares a gate that runs as the service's user, with a state directory of its own.
func unprivileged(t *testing.T, config string) *lab.Gate {
	t.Helper()
	g := lab.NewGate(t)
	g.User = service
	g.Configure(config)
	for _, dir := range []string{g.Dir, filepath.Join(g.Dir, "state")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(dir, service, service); err != nil {
			t.Fatal(err)
		}
	}
	return g
}

// The socket unit for Postfix: smtpd in its chroot reaches a daemon that has no rights in Postfix's directories.
func TestPostfixSocketUnit(t *testing.T) {
	lab.Need(t, lab.PostfixKit)
	_, tap := behind(t)
	g := unprivileged(t, section("pf.test", "smtp:"+tap.Hop()))
	p := lab.StartPostfix(t, lab.PostfixOptions{
		Name: "front-postfix", Chroot: true, Milters: []string{documented(t, "docs/operations.md", "smtpd_milters", "unix:")},
		Relay: map[string]string{"pf.test": "smtp:" + tap.Hop()},
	})
	dir := filepath.Join(p.Dir, "spool", "rcptgate")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	file, path := socketUnit(t, "rcptgate-postfix.socket", filepath.Join(dir, "milter.sock"))
	if path != "/var/spool/postfix/rcptgate/milter.sock" { // "rcptgate/milter.sock" in Debian's queue directory
		t.Errorf("the unit listens at %s", path)
	}
	g.Sockets = map[string]*os.File{"milter": file}
	g.Run()
	put(t, transaction(t, p.Addr()), "good@pf.test", "250 2.1.5", "")
	put(t, transaction(t, p.Addr()), "nobody@pf.test", "550 5.1.1", "User unknown")
	g.Stop(0)
	done := make(chan lab.Reply)
	go func() { // waits for the daemon, which systemd's socket outlives
		d, err := lab.Dial("tcp", p.Addr())
		if err != nil {
			done <- lab.Reply{Lines: []string{err.Error()}}
			return
		}
		defer d.Close()
		var r lab.Reply
		for _, line := range []string{"EHLO client.test", "MAIL FROM:<sender@client.test>", "RCPT TO:<good@pf.test>"} {
			if r, err = d.Cmd(line); err != nil {
				r.Lines = []string{err.Error()}
			}
		}
		done <- r
	}()
	g.Run()
	if r := <-done; r.Code != 250 {
		t.Errorf("while the daemon was restarted a client heard %s", r)
	}
}

// Sendmail runs as root: a socket that the daemon makes in its own runtime directory will do.
func TestSendmailRuntimeDirectory(t *testing.T) {
	lab.Need(t, lab.SendmailKit, lab.PostfixKit)
	_, tap := behind(t)
	g := unprivileged(t, section("pf.test", "smtp:"+tap.Hop()))
	if err := os.Chmod(g.Dir, 0o750); err != nil { // RuntimeDirectoryMode
		t.Fatal(err)
	}
	g.Run()
	s := lab.StartSendmail(t, lab.SendmailOptions{
		Name: "front-sendmail", Milter: "unix:" + g.Unix, Relay: map[string]string{"pf.test": "esmtp:[" + tap.Host + "]"},
	})
	put(t, transaction(t, s.Addr()), "good@pf.test", "250 2.1.5", "")
	put(t, transaction(t, s.Addr()), "nobody@pf.test", "550 5.1.1", "User unknown")
}

// The socket unit of the admin socket: its group may ask, others may not.
func TestAdminSocketUnit(t *testing.T) {
	lab.Need(t)
	sock := filepath.Join(lab.NewDir(t, "run"), "rcptgate-admin.sock")
	g := unprivileged(t, "")
	g.Admin = sock
	g.Configure("")
	file, path := socketUnit(t, "rcptgate-admin.socket", sock)
	if path != "/run/rcptgate-admin.sock" {
		t.Errorf("the unit listens at %s", path)
	}
	g.Sockets = map[string]*os.File{"admin": file}
	g.Run()
	group, err := user.LookupGroup("adm")
	if err != nil {
		t.Fatal(err)
	}
	as := func(groups string) []string {
		return append(strings.Fields("setpriv --reuid=12 --regid=12"), groups)
	}
	if out, errs, code := g.CommandAs(as("--groups="+group.Gid), "cache", "stats"); code != 0 {
		t.Errorf("a member of the group: exit code %d\n%s%s", code, out, errs)
	}
	if out, errs, code := g.CommandAs(as("--clear-groups"), "cache", "stats"); code != 69 {
		t.Errorf("another user: exit code %d, want 69\n%s%s", code, out, errs)
	}
}
