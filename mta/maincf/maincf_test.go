// SPDX-License-Identifier: BSD-2-Clause

package maincf

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"rcptgate/test/lab"
)

// harmless are parameters of Postfix that take any text, for postconf(1) to expand.
var harmless = strings.Fields(`canonical_maps sender_canonical_maps recipient_canonical_maps smtp_generic_maps
	smtpd_client_restrictions smtpd_helo_restrictions smtpd_sender_restrictions smtpd_recipient_restrictions
	smtpd_data_restrictions smtpd_end_of_data_restrictions smtpd_etrn_restrictions smtpd_relay_restrictions
	header_checks body_checks mime_header_checks nested_header_checks smtp_header_checks smtp_body_checks
	recipient_bcc_maps sender_bcc_maps sender_dependent_relayhost_maps relocated_maps mynetworks
	smtpd_sender_login_maps smtp_sasl_password_maps smtp_tls_policy_maps virtual_gid_maps virtual_uid_maps
	masquerade_domains masquerade_exceptions permit_mx_backup_networks relay_clientcerts lmtp_generic_maps
	fast_flush_domains debug_peer_list smtpd_milters non_smtpd_milters milter_header_checks`)

// expansions are values with what the real postconf(1) has to make of them too.
var expansions = []string{
	"plain",
	"plain",
	"",
	"= x",
	"$foo",
	"${foo}x",
	"$(foo)x",
	"$foo.$foo-x",
	"$$foo",
	"${foo?yes}",
	"${empty?yes}",
	"${foo:no}",
	"${empty:no}",
	"${nix:no}",
	"${foo?{yes}:{no}}",
	"${empty?{yes}:{no}}",
	"${empty?{yes} : {no $foo}}",
	"${ foo ? { yes } : { no } }",
	"${empty:${foo}}",
	"${foo?${name}:x}",
	"${{$foo} == {a b} ? {same} : {other}}",
	"${{$foo} != {a b} ? {same} : {other}}",
	"${{10} > {9} ? {number} : {text}}",
	"${{a10} > {a9} ? {yes} : {no}}",
	"${{1} < {2}?{yes}:{no}}",
	"${{1} >= {2}?yes}",
	"${{2} >= {2}?{yes}}",
	"${{3.6} <level {3.10} ? {yes} : {no}}",
	"${{$compatibility_level} <level {2} ? {old} : {new}}",
	"{ a b }, c",
	"hash:$config_directory/x, pcre:{{/a/ b}}",
	"\"quoted $foo\"",
	"a # no comment",
	"$later",
}

// TestExpandsAsPostconf puts values to the real postconf(1), which prints them expanded with "-x", and to this package.
func TestExpandsAsPostconf(t *testing.T) {
	lab.Need(t, lab.PostfixKit)
	if len(expansions) > len(harmless) {
		t.Fatalf("%d values, and only %d parameters to put them into", len(expansions), len(harmless))
	}
	var b strings.Builder
	b.WriteString("foo = a b\nempty =\nname = mx.example.org\nlater = $more\nmore = end\ncompatibility_level = 3.6\n")
	names := harmless[:len(expansions)]
	for i, value := range expansions {
		b.WriteString(names[i] + " = " + value + "\n")
	}
	comparePostconf(t, b.String(), names...)
}

// TestReadsAsPostconf is about lines, defaults, and which line counts.
func TestReadsAsPostconf(t *testing.T) {
	lab.Need(t, lab.PostfixKit)
	for _, text := range []string{
		" begins = with space\ncanonical_maps=plain\nmyorigin \t =\t $mydomain  \t\nmydestination = a,\n# comment\n  b,\n\n   # another\n\tc\n" +
			"alias_maps = first\nalias_maps = $alias_database,\n\t$virtual_maps\nalias_database = lmdb:/x\nvirtual_maps = hash:/old\nrecipient_delimiter = +-\n" +
			"relay_domains = = $mydestination\nmyhostname = a.b.example\npropagate_unmatched_extensions =\ntransport_maps = x # no comment\n" +
			"relay_recipient_maps = ${default_database_type}:${config_directory}/relay",
		"# nothing\nalias_maps = hash:/etc/aliases",
		"alias_maps = hash:/etc/aliases\nmyhostname = single\ncompatibility_level = 2",
		"alias_maps = hash:/etc/aliases\nmydomain = d.example\nvirtual_alias_maps = hash:/v\n  ldap:/l\ncompatibility_level=3.6",
	} {
		t.Run("", func(t *testing.T) {
			comparePostconf(t, text, important...)
		})
	}
}

// important are the parameters that decide about recipients.
var important = strings.Fields(`myorigin mydestination virtual_alias_domains virtual_alias_maps relay_domains
	relay_recipient_maps local_recipient_maps recipient_delimiter propagate_unmatched_extensions
	parent_domain_matches_subdomains canonical_maps recipient_canonical_maps canonical_classes
	recipient_canonical_classes transport_maps myhostname mydomain virtual_mailbox_domains virtual_mailbox_maps
	mailbox_transport mailbox_transport_maps luser_relay local_transport relay_transport append_at_myorigin
	append_dot_mydomain swap_bangpath allow_percent_hack fallback_transport fallback_transport_maps
	inet_interfaces proxy_interfaces owner_request_special compatibility_level alias_maps alias_database
	default_database_type config_directory relayhost sender_dependent_relayhost_maps`)

// comparePostconf asks postconf(1) and this package for parameters of one main.cf.
func comparePostconf(t *testing.T, text string, names ...string) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"main.cf": text + "\n", "master.cf": ""} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	// Postfix rereads a file that has just been written until it is a second old (dict_load_file_xt).
	old := time.Now().Add(-time.Hour)
	if err := os.Chtimes(filepath.Join(dir, "main.cf"), old, old); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(lab.PostfixKit.Path("usr/sbin/postconf"), append([]string{"-c", dir, "-x", "-h"}, names...)...)
	cmd.Env = lab.PostfixKit.Environment()
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("postconf: %v", err)
	}
	lines := strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
	if len(lines) != len(names) {
		t.Fatalf("postconf printed %d lines for %d parameters", len(lines), len(names))
	}
	c, err := Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	for i, name := range names {
		got, err := c.Get(name)
		// postconf folds white space for its reader.
		if want := strings.Join(strings.Fields(lines[i]), " "); err != nil || strings.Join(strings.Fields(got), " ") != want {
			s, _ := c.Set(name)
			t.Errorf("%s = %s: %q, %v; postconf says %q", name, s.Value, got, err, want)
		}
	}
}

// What Postfix refuses is an error with its line, and never a wrong value.
func TestRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"a = b\nno equals sign here\n":  "main.cf:2:",
		"= value\n":                     "main.cf:1: a parameter name is missing",
		"word\n":                        "main.cf:1:",
		"x = ${foo\n":                   "main.cf:1: x: a closing brace is missing",
		"x = $(foo\n":                   "a closing parenthesis",
		"x = a $ b\n":                   "a parameter name is missing",
		"x = $y\ny = $x\n":              "in a circle",
		"x = $x\n":                      "in a circle",
		"x = ${{a} ~ {b} ? {c} : {d}}":  "an expression is not written",
		"x = ${foo?{a}{b}}":             "an expression is not written",
		"x = ${{a.b} <level {1} ? {c}}": "compatibility level",
		"x = a\x00b\n":                  "NUL",
	} {
		c, err := Parse([]byte(text), nil)
		if err == nil {
			_, err = c.Get("x")
		}
		var bad *SyntaxError
		if !errors.As(err, &bad) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
	if _, err := Read("/nonexistent"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file that is not there: %v", err)
	}
}

// A value that doubles with each reference must end before memory does.
func TestBoundedExpansion(t *testing.T) {
	var b strings.Builder
	b.WriteString("a0 = xxxxxxxxxxxxxxxx\n")
	for i := range 60 {
		b.WriteString("a" + string(rune('a'+i/26)) + string(rune('a'+i%26)) + " = ")
		prev := "a0"
		if i > 0 {
			prev = "a" + string(rune('a'+(i-1)/26)) + string(rune('a'+(i-1)%26))
		}
		b.WriteString("$" + prev + "$" + prev + "\n")
	}
	c, err := Parse([]byte(b.String()), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Get("ach"); !errors.Is(err, errLong) {
		t.Errorf("2^60 copies: %v", err)
	}
}

func TestSplit(t *testing.T) {
	for value, want := range map[string][]string{
		"":                               nil,
		"a, b,c\td\n e":                  {"a", "b", "c", "d", "e"},
		"hash:/a pcre:{ {/x, y/ z} } b,": {"hash:/a", "pcre:{ {/x, y/ z} }", "b"},
		"{a b} c":                        {"{a b}", "c"},
		"a{ b":                           {"a{ b"},
		"a}{b c} d":                      {"a}{b c}", "d"},
		"} \f,\v":                        {"}", "\f", "\v"},
	} {
		if got := Split(value); !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", value, got, want)
		}
	}
}

func TestSet(t *testing.T) {
	c, err := Parse([]byte("# x\nmyorigin = a\nmyorigin =\n  $b\n"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if s, ok := c.Set("myorigin"); !ok || s.Line != 3 || s.Value != "$b" {
		t.Errorf("%+v, %v", s, ok)
	}
	if _, ok := c.Set("mydestination"); ok {
		t.Error("what is not set counts as set")
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"a = b\n c\n#d\n\ne = ${f?{g}:{h}}\n", "x = $$ ${y:$z} $(q)\nz = 1", "x = ${{$a} <level {3.6} ? {b} : {c}}\n",
		" a\n= b", "x = $x", "x = {a b} , c", "mydomain = $myhostname\nmyhostname = $mydomain", "x = ${", "x\x00 = 1",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := Parse(text, Defaults("/etc/postfix"))
		if err != nil {
			var bad *SyntaxError
			if !errors.As(err, &bad) || bad.Line < 1 {
				t.Fatalf("error without a line: %v", err)
			}
			return
		}
		for _, name := range []string{"x", "a", "mydestination", "myhostname", "mydomain", "relay_domains"} {
			value, err := c.Get(name)
			if len(value) > maxValue || err != nil && value != "" {
				t.Fatalf("%s: %d octets, %v", name, len(value), err)
			}
			for _, word := range Split(value) {
				if word == "" || !strings.Contains(value, word) {
					t.Fatalf("%q gives the word %q", value, word)
				}
			}
		}
	})
}

// TestExpansionsThatComeToNothing holds that the work of an expansion is bounded also where its
// results are thrown away.
func TestExpansionsThatComeToNothing(t *testing.T) {
	long := "long = ${none}" + strings.Repeat("x", maxValue/2) + "\n"
	c, err := Parse([]byte(long+"x = "+strings.Repeat("${long?}", 2000)+"\ny = ${long?yes}\n"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if value, err := c.Get("x"); !errors.Is(err, errLong) {
		t.Errorf("%q, %v", value, err)
	}
	if value, err := c.Get("y"); value != "yes" || err != nil {
		t.Errorf("%q, %v", value, err)
	}
}

// TestNotAFile holds that reading does not wait for the other end of a named pipe.
func TestNotAFile(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mkfifo(filepath.Join(dir, "main.cf"), 0o600); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { _, err := Read(dir); done <- err }()
	select {
	case err := <-done:
		if err == nil || !strings.Contains(err.Error(), "regular") {
			t.Errorf("%v", err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("reading a named pipe waits for somebody to write")
	}
}
