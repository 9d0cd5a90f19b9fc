// SPDX-License-Identifier: BSD-2-Clause

package sendmailcf

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"rcptgate/test/lab"
)

// TestAsSendmail compares what this package reads with what a real Sendmail says of the same file in its address test
// mode, for a sendmail.cf that Sendmail's own m4 files make of many features.
func TestAsSendmail(t *testing.T) {
	lab.Need(t, lab.SendmailKit)
	dir := lab.NewDir(t, "classes")
	if err := os.WriteFile(filepath.Join(dir, "virtuals"), []byte("# none\nfile.virt.test\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	s := lab.StartSendmail(t, lab.SendmailOptions{
		Hostname: "mx.gate.test", LocalDomains: []string{"loc.test other.test"},
		VirtualUsers: map[string]string{"info@virt.test": "ann"}, Relay: map[string]string{"rela.test": "esmtp:[127.0.0.9]"},
		Access: map[string]string{"to:x@y.test": "REJECT"}, Aliases: map[string]string{"staff": "ann"},
		Extra: "define(`confMAX_ALIAS_RECURSION', `7')\nVIRTUSER_DOMAIN_FILE(`-o " + dir + "/virtuals')\n" +
			"define(`MAIL_HUB', `esmtp:[192.0.2.1]')\ndefine(`LUSER_RELAY', `esmtp:[192.0.2.2]')\nEXPOSED_USER(`root admin')\n" +
			"LOCAL_CONFIG\nD{Site}gate\nD{Zone}$?{Site}${Site}.$|none.$.zone.test$?{None}x$.\nCw${Zone} $j\nC{Two}a b\nC{Two}$={VirtHost} c",
	})
	text, err := os.ReadFile(s.Conf())
	if err != nil {
		t.Fatal(err)
	}
	c, err := Parse(text, "mx.gate.test") // as the lab's Sendmail believes
	if err != nil {
		t.Fatal(err)
	}
	classes, macros := []string{"w", "{VirtHost}", "R", "{Two}", "E"}, []string{"j", "m", "H", "L", "{Site}", "S", "n"}
	said := answers(t, s, classes, macros)
	for _, name := range classes {
		class := c.Class(strings.Trim(name, "{}"))
		got := class.Words
		for _, f := range class.Files {
			if text, err := os.ReadFile(f.Text); err == nil {
				for line := range strings.Lines(string(text)) {
					if word := strings.TrimSpace(line); word != "" && word[0] != '#' {
						got = append(got, word)
					}
				}
			}
		}
		// -bt adds what belongs to the machine: its addresses.
		want := slices.DeleteFunc(said["$="+name], func(w string) bool { return strings.HasPrefix(w, "[") })
		slices.Sort(got)
		slices.Sort(want)
		if got = slices.Compact(got); !slices.Equal(got, want) {
			t.Errorf("class %s: %q, Sendmail says %q", name, got, want)
		}
	}
	if got := c.Macro("Zone"); got != "gate.zone.test" { // address test mode prints it unexpanded; it is in class w as well
		t.Errorf("macro Zone: %q", got)
	}
	for _, name := range macros {
		want := strings.Join(said["$"+name], " ")
		if want == "Undefined" {
			want = ""
		}
		if got := c.Macro(strings.Trim(name, "{}")); got != want {
			t.Errorf("macro %s: %q, Sendmail says %q", name, got, want)
		}
	}
	checkFeatures(t, c, s)
}

// checkFeatures looks for what the features of the .mc file become.
func checkFeatures(t *testing.T, c *Config, s *lab.Sendmail) {
	t.Helper()
	if v, _ := c.Option("MaxAliasRecursion"); v.Text != "7" || v.Line == 0 {
		t.Errorf("MaxAliasRecursion: %+v", v)
	}
	if v, _ := c.Option("aliasfile"); v.Text != filepath.Join(s.Dir, "aliases") {
		t.Errorf("AliasFile: %+v", v)
	}
	for _, name := range []string{"virtusertable", "mailertable", "access"} {
		short := strings.TrimSuffix(name, "table")
		if name == "mailertable" {
			short = name
		}
		if m, ok := c.Map(short); !ok || m.Type != "hash" || m.Name != filepath.Join(s.Dir, name) {
			t.Errorf("map %s: %+v, %v", short, m, ok)
		}
	}
	if flags, ok := c.Mailer("local"); !ok || !strings.Contains(flags, "w") || !strings.Contains(flags, "5") {
		t.Errorf("mailer local: %q, %v", flags, ok)
	}
	if !c.HasRule("<F:$1@$2> <U:$1@> <D:$2>") {
		t.Error("FEATURE(`blocklist_recipients') is not recognised")
	}
}

// answers gives the words that address test mode prints for classes ("$=w") and macros ("$j"), by the line that asks.
func answers(t *testing.T, s *lab.Sendmail, classes, macros []string) map[string][]string {
	t.Helper()
	var lines []string
	for _, name := range classes {
		lines = append(lines, "$="+name)
	}
	for _, name := range macros {
		lines = append(lines, "$"+name)
	}
	printed := strings.Split(s.AddressTest(lines...), "\n> ") // a prompt follows each answer
	if len(printed) != len(lines)+2 {
		t.Fatalf("%d answers to %d lines: %q", len(printed)-2, len(lines), printed)
	}
	said := map[string][]string{}
	for i, line := range lines {
		said[line] = strings.Fields(printed[i+1])
	}
	return said
}

func TestParse(t *testing.T) {
	c, err := Parse([]byte(`V10/Berkeley
Cwone two
 three # comment
Fw/etc/mail/local-host-names
F{w}-o /opt/names %s
F{X}-o/a
F{X}|/bin/prog
F{X}@LDAP
F{X}/b %[a-z]
O MaxAliasRecursion = 12
OA/old/aliases
O AliasFile=/new/aliases, hash:-T<TMPF> /x
Kaccess hash -o -T<TMPF> /etc/mail/access
KBare dequote
Kaliases sequence a b
DSsmart.example
D{long}x$jy
Mlocal,	P=/bin/mail,
	F=lsDFMAw, A=mail
R$* \# $#error	$# x
`), "host.sub.example.org")
	if err != nil {
		t.Fatal(err)
	}
	w := c.Class("w")
	if got := strings.Join(w.Words, " "); got != "host.sub.example.org localhost one two three host.sub.example.org" {
		t.Errorf("class w: %s", got)
	}
	if len(w.Files) != 2 || w.Files[0] != (Value{"/etc/mail/local-host-names", 4}) || w.Files[1].Text != "/opt/names" {
		t.Errorf("files of class w: %+v", w.Files)
	}
	if x := c.Class("X"); len(x.Files) != 1 || x.Files[0].Text != "/a" || len(x.Others) != 3 {
		t.Errorf("class X: %+v", x)
	}
	if v, _ := c.Option("MaxAliasRecursion"); v != (Value{"12", 10}) {
		t.Errorf("option: %+v", v)
	}
	if v, _ := c.Option("AliasFile"); v.Text != "/new/aliases, hash:-T<TMPF> /x" {
		t.Errorf("aliases: %+v", v)
	}
	if m, _ := c.Map("Access"); m.Type != "hash" || m.Name != "/etc/mail/access" || len(m.Args) != 2 {
		t.Errorf("access: %+v", m)
	}
	if m, _ := c.Map("aliases"); m.Type != "sequence" || m.Name != "a b" {
		t.Errorf("sequence: %+v", m)
	}
	if got := c.Macro("long"); got != "xhost.sub.example.orgy" {
		t.Errorf("macro: %q", got)
	}
	if v, ok := c.Set("S"); !ok || v.Text != "smart.example" {
		t.Errorf("smart host: %+v", v)
	}
	if _, ok := c.Set("j"); ok {
		t.Error("$j counts as set")
	}
	if f, ok := c.Mailer("local"); !ok || f != "lsDFMAw" {
		t.Errorf("flags: %q", f)
	}
	if !c.HasRule("# $#error") {
		t.Error("the rule was not read as it is meant")
	}
}

func TestRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"":                                "sendmail.cf:1: not a sendmail.cf",
		"divert(0)dnl\nOSTYPE(`linux')\n": "sendmail.cf:1: unknown control line",
		"Cwx\nC{w x\n":                    "sendmail.cf:2: a name in braces",
		"Cwx\nFw\n":                       "sendmail.cf:2: class w: a file name is missing",
		"Cwx\nKx\n":                       "has no type",
		"Cwx\nD\n":                        "a name is missing",
	} {
		_, err := Parse([]byte(text), "h.example")
		var bad *SyntaxError
		if !errors.As(err, &bad) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
	if _, err := Read("/nonexistent"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file that is not there: %v", err)
	}
}

// A macro that refers to itself, or doubles with every step, ends.
func TestBoundedExpansion(t *testing.T) {
	var b strings.Builder
	b.WriteString("Cwx\nO A=b\nD{a}$b$b\nDb${a}${a}\n")
	for i := range 18 {
		b.WriteString("D{n" + string(rune('a'+i)) + "}xxxxxxxxxxxxxxxx${n" + string(rune('a'+i+1)) + "}${n" + string(rune('a'+i+1)) + "}\n")
	}
	c, err := Parse([]byte(b.String()), "h.example")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a", "na"} {
		if got := c.Macro(name); len(got) > 4*maxValue {
			t.Errorf("%s has %d octets", name, len(got))
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"Cwa b\nO A=b\n", "Fw-o /a\n c\nKx hash -o /y # z\nDj$w.$?m$m$|x$.\n", "C{w}$={w} $j\nD{j}${j}\nDj${j}", "R$# \\#\nCw", "DX$?{y}$|$.$&{j}\nMx, F=",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := Parse(text, "mx.example.org")
		if err != nil {
			var bad *SyntaxError
			if !errors.As(err, &bad) || bad.Line < 1 {
				t.Fatalf("error without a line: %v", err)
			}
			return
		}
		for name := range c.macros {
			if n := len(c.Macro(name)); n > len(text)+4*maxValue {
				t.Fatalf("macro %q has %d octets", name, n)
			}
		}
		for name := range c.classes {
			for _, w := range c.Class(name).Words {
				if strings.TrimSpace(w) != w {
					t.Fatalf("class %q has the word %q", name, w)
				}
			}
		}
	})
}

// TestMacrosThatExpandToNothing holds that macros that refer to each other many times, and to
// nothing in the end, are cut short like those that become long.
func TestMacrosThatExpandToNothing(t *testing.T) {
	var text strings.Builder
	text.WriteString("O A=b\nO B=c\n")
	for level := range maxDepth {
		text.WriteString("D{L" + strconv.Itoa(level) + "}" + strings.Repeat("${L"+strconv.Itoa(level+1)+"}", 100) + "\n")
	}
	c, err := Parse([]byte(text.String()), "mx.gate.test")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan string, 1)
	go func() { done <- c.Macro("L0") }()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Fatal("the macro is still being expanded")
	}
}

// TestNotAFile holds that reading does not wait for the other end of a named pipe.
func TestNotAFile(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "sendmail.cf")
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { _, err := Read(pipe); done <- err }()
	select {
	case err := <-done:
		if err == nil || !strings.Contains(err.Error(), "regular") {
			t.Errorf("%v", err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("reading a named pipe waits for somebody to write")
	}
}
