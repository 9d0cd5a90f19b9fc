// SPDX-License-Identifier: BSD-2-Clause

package open_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"rcptgate/table"
	"rcptgate/table/open"
	"rcptgate/table/tabletest"
	"rcptgate/test/lab"
)

// tool is one program of the lab.
type tool struct {
	path string
	env  []string
}

// need finds programs of the lab, which test/install.sh unpacks, or leaves the test out.
func need(t testing.TB, kit lab.Kit, name string) tool {
	t.Helper()
	lab.Need(t, kit, lab.MapsKit, lab.PostfixKit)
	var dirs []string
	for _, k := range []lab.Kit{kit, lab.MapsKit, lab.PostfixKit} {
		for _, pattern := range []string{"usr/lib/*-linux-gnu", "usr/lib/postfix"} {
			found, _ := filepath.Glob(k.Path(pattern)) // the patterns are well formed
			dirs = append(dirs, found...)
		}
	}
	return tool{path: kit.Path(name), env: []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C", "LD_LIBRARY_PATH=" + strings.Join(dirs, ":")}}
}

func (p tool) command(dir string, args ...string) *exec.Cmd {
	cmd := exec.Command(p.path, args...)
	cmd.Dir, cmd.Env = dir, p.env
	return cmd
}

// run runs a program to its end and returns what it printed.
func (p tool) run(t testing.TB, dir string, input []byte, args ...string) []byte {
	t.Helper()
	cmd := p.command(dir, args...)
	cmd.Stdin = bytes.NewReader(input)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %v: %v: %.500s", filepath.Base(p.path), args, err, errs.String())
	}
	return out
}

// postfixProgram is postmap or postalias with a configuration that knows every map type.
type postfixProgram struct {
	tool
	etc string
}

func postfix(t testing.TB, name string) postfixProgram {
	t.Helper()
	p := postfixProgram{need(t, lab.PostfixKit, "usr/sbin/"+name), lab.NewDir(t, "postmap")}
	plugin := func(kind string) string {
		return fmt.Sprintf("%s\t%s\tdict_%s_open\tmkmap_%s_open\n", kind, lab.MapsKit.Path("usr/lib/postfix/postfix-"+kind+".so"), kind, kind)
	}
	put(t, filepath.Join(p.etc, "dynamicmaps.cf"), plugin("cdb")+plugin("lmdb"))
	put(t, filepath.Join(p.etc, "main.cf"), "compatibility_level = 3.6\nmyhostname = mx.gate.test\nshlib_directory = "+lab.PostfixKit.Path("usr/lib/postfix")+
		"\nmeta_directory = "+p.etc+"\nqueue_directory = "+p.etc+"\nmaillog_file = "+p.etc+"/maillog\n")
	return p
}

func (p postfixProgram) args(args ...string) []string { return append([]string{"-c", p.etc}, args...) }

// sendmail is Sendmail with a configuration that names an alias file.
type sendmail struct {
	tool
	dir, cf, aliases string
}

// newSendmail makes a sendmail.cf whose alias files are as given ("hash:/file"), or
// the text beside it. Sendmail wants a qualified host name and a directory nobody else may write to.
func newSendmail(t testing.TB) sendmail {
	t.Helper()
	s := sendmail{tool: need(t, lab.SendmailKit, "usr/libexec/sendmail/sendmail"), dir: lab.NewDir(t, "newaliases")}
	s.cf, s.aliases = filepath.Join(s.dir, "s.cf"), filepath.Join(s.dir, "aliases")
	put(t, filepath.Join(s.dir, "s.mc"), "define(`QUEUE_DIR', `"+s.dir+"')dnl\nOSTYPE(`linux')dnl\ndefine(`ALIAS_FILE', `"+s.aliases+"')dnl\nMAILER(local)dnl\n")
	m4 := need(t, lab.SendmailKit, "usr/bin/m4")
	cf := m4.run(t, s.dir, nil, "-D_CF_DIR_="+lab.SendmailKit.Path("usr/share/sendmail/cf")+"/", lab.SendmailKit.Path("usr/share/sendmail/cf/m4/cf.m4"), "s.mc")
	put(t, s.cf, string(cf))
	return s
}

// newaliases is the command that rebuilds.
func (s sendmail) newaliases() *exec.Cmd {
	// Programs are what these tests take their time for: hostname(1) runs only where /proc/sys is read-only.
	cmd := exec.Command("/bin/sh", "-c", `{ echo mx.gate.test >/proc/sys/kernel/hostname; } 2>/dev/null || hostname mx.gate.test; exec "$@"`, "sh", s.path, "-C", s.cf, "-bi")
	cmd.Dir, cmd.Env = s.dir, s.env
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWUTS}
	return cmd
}

func (s sendmail) rebuild(t testing.TB) string {
	t.Helper()
	out, err := s.newaliases().CombinedOutput()
	if err != nil {
		t.Fatalf("newaliases: %v: %s", err, out)
	}
	return string(out)
}

func put(t testing.TB, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// read scans a table, without NULs at the end.
func read(t testing.TB, spelling string) []tabletest.Pair {
	t.Helper()
	spec, err := table.ParseSpec(spelling)
	if err != nil {
		t.Fatal(err)
	}
	file, err := open.Open(context.Background(), spec, func(err error) { t.Errorf("left out: %v", err) })
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close() //nolint:errcheck // read-only
	var all []tabletest.Pair
	if err := file.Scan(context.Background(), func(k, v []byte) error {
		all = append(all, tabletest.Pair{Key: strings.TrimSuffix(string(k), "\x00"), Value: strings.TrimSuffix(string(v), "\x00")})
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return all
}

// lines are pairs as "postmap -s" and "makemap -u" print them.
func lines(pairs []tabletest.Pair, between string) string {
	var b strings.Builder
	for _, p := range pairs {
		b.WriteString(p.Key + between + p.Value + "\n")
	}
	return b.String()
}

// same compares two texts and shows the first line that differs.
func same(t testing.TB, what, got, want string) {
	t.Helper()
	if got == want {
		return
	}
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range min(len(g), len(w)) {
		if g[i] != w[i] {
			t.Fatalf("%s: line %d of %d is %.100q, want %.100q", what, i+1, len(w), g[i], w[i])
		}
	}
	t.Fatalf("%s: %d lines, want %d", what, len(g), len(w))
}

// runs is how many random databases are made of each type.
func runs() int {
	if tabletest.Big() {
		return 200
	}
	return 10
}
