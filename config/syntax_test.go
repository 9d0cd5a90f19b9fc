// SPDX-License-Identifier: BSD-2-Clause

package config

import (
	"errors"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"rcptgate/config/setting"
)

// syntaxConfig adds sections whose names are also keys, or are easily taken for keys.
type syntaxConfig struct {
	sampleConfig
	Harvest struct {
		Limit int `toml:"limit" doc:"How many."`
	} `toml:"harvest" doc:"Harvesters."`
	MilterFront struct {
		Connections int              `toml:"connections" doc:"How many."`
		Idle        setting.Duration `toml:"idle" doc:"How long."`
	} `toml:"milter" doc:"The milter protocol."`
}

// Each mistake that postmasters make in the syntax is named with its line, its key and what
// to write.
func TestSyntaxErrors(t *testing.T) {
	for _, tc := range []struct{ text, want string }{
		// Text without quotes, switches, and missing values.
		{"[listen]\nhttp = 127.0.0.1:8899\n", `f:2:13: listen.http: a string needs straight double quotes; write http = "127.0.0.1:8899"`},
		{"hostname = mx1.example.org # ours\n", `f:1:12: hostname: a string needs straight double quotes; write hostname = "mx1.example.org"`},
		{"hostname = “/tmp”\n", `f:1:12: hostname: a string needs straight double quotes; write hostname = "/tmp"`},
		{"hostname = ‘a\n", `f:1:12: hostname: a string needs straight double quotes; write hostname = "a"`},
		{"hostname = " + strings.Repeat("é", 99) + "\n", `f:1:12: hostname: a string needs straight double quotes; write hostname = "…"`},
		{"deadline = 8s\n", `f:1:13: deadline: a string needs straight double quotes; write deadline = "8s"`},
		{"deadline = -\n", `f:1:13: deadline: expected digit but got U+000A`},
		{"[[domain]]\n[[domain]]\nname = a\n", `f:3:8: domain[2].name: a string needs straight double quotes; write name = "a"`},
		{"enforce = yes\n", `f:1:11: enforce: a switch is true or false; write enforce = true`},
		{"enforce = True\n", `f:1:11: enforce: a switch is true or false; write enforce = true`},
		{"enforce = off\n", `f:1:11: enforce: a switch is true or false; write enforce = false`},
		{"enforce =\n", `f:1:10: enforce: the value is missing; write it after enforce =`},
		{"enforce = # soon\n", `f:1:11: enforce: the value is missing; write it after enforce =`},
		{"enforce =", `f:1:9: enforce: the value is missing; write it after enforce =`},
		{"enforce\n", `f:1:8: enforce: the value is missing; write enforce = and the value`},
		{"enforce: true\n", `f:1:8: enforce: write enforce = true`},
		{"hostname: \"a\"\n", `f:1:9: hostname: write hostname = "a"`},
		{"hostname a.example\n", `f:1:10: hostname: write hostname = "a.example"`},
		{"trusted: [\"a\"]\n", `f:1:8: trusted: write trusted = ["a"]`},
		{"my key = 2\n", `f:1:4: my: a key is one word of letters, digits, _ and -`},
		{"enforce = true deadline = \"8s\"\n", `f:1:16: enforce: a line has one key with its value; write what follows on a line of its own`},
		{"/usr = 1\n", `f:1:1: invalid character at start of key: U+002F '/'`},
		{"enforce = 012\n", `f:1:11: enforce: integers cannot have leading zeroes`},
		// Quotes, lists and headers that do not end.
		{"enforce = true\n# x\n\ntrusted = [\"a\",\n", `f:4:1: trusted: the list that begins on line 4 has no closing bracket "]"`},
		{"trusted = [\"a\",\n[listen]\nmode = 1\n", `f:1:1: trusted: the list that begins on line 1 has no closing bracket "]"`},
		{"  trusted = [\"a\"\nenforce = true\n", `f:1:3: trusted: the list that begins on line 1 has no closing bracket "]"`},
		{"trusted = [\n\"a\",\n[[domain]]\n", `f:1:1: trusted: the list that begins on line 1 has no closing bracket "]"`},
		{"trusted = [\n\"a\",\nb,\n]\n", `f:3:1: trusted: in a list, each string needs straight double quotes, with commas between: ["a", "b"]`},
		{"trusted = [\"a\" \"b\"]\n", `f:1:16: trusted: in a list, each string needs straight double quotes, with commas between: ["a", "b"]`},
		{"labels = {a = \"b\",\n", `f:1:1: labels: the table that begins on line 1 has no closing brace "}"`},
		{"hostname = \"abc\n", `f:1:16: hostname: the string has no closing quote`},
		{"hostname = 'abc", `f:1:15: hostname: the string has no closing quote`},
		{"hostname = \"\"\"abc\n\n", `f:1:1: hostname: the string that begins on line 1 has no closing """`},
		{"hostname = \"a\\qb\"\n", `f:1:14: hostname: invalid escape character U+0071 'q'; write \\ for a backslash, or put the string in single quotes`},
		{"[listen\nmode = 1\n", `f:1:8: a section's name stands in brackets, alone on its line: [listen]`},
		{"[[domain]\n", `f:1:9: a section's name stands in brackets, alone on its line: [[domain]]`},
		{"enforce = true # \x01\n", `f:1:18: enforce: control characters are not allowed in comments`},
		{"# \x01\n", `f:1:3: control characters are not allowed in comments`},
		// What stands twice.
		{"harvest = 50\n[harvest]\nlimit = 3\n", `f:1:1: harvest: this is a section; write [harvest] and below it a key, for example limit = 50`},
		{"harvest = {limit = 50}\n[harvest]\n", `f:1:1: harvest: this is a section; write [harvest] and below it its keys: limit`},
		{"enforce = true\nenforce = false\n", `f:2:1: enforce: this key is already set on line 1; remove one of the two`},
		{"[cache]\nentries = 1000\n\nentries = 1000\n", `f:4:1: cache.entries: this key is already set on line 2; remove one of the two`},
		{"[listen]\n[cache]\n[listen]\n", `f:3:2: listen: section [listen] already begins on line 1; write its keys there`},
		{"[listen]\n[[listen]]\n", `f:2:3: listen: section [listen] already begins on line 1; write its keys there`},
		{"[domain]\nname = \"a\"\n[domain]\n", `f:1:2: domain: this section can stand several times; write [[domain]], here and on line 3`},
		{"[domain]\nname = \"a\"\n[[domain]]\n", `f:1:2: domain: write [[domain]] with two brackets, as on line 3`},
		{"[[domain]]\nname = \"a\"\n[domain]\n", `f:3:2: domain: write [[domain]] with two brackets, as on line 1`},
		{"listen.http = \"x\"\n[listen]\n", `f:2:2: listen: it is already defined on line 1, in another way; write it in one place`},
		{"[other]\n[[other]]\n", `f:2:3: other: it is already defined on line 1, in another way; write it in one place`},
		{"labels = {a = \"b\", a = \"c\"}\n", `f:1:1: labels: key a is already defined`},
		// A key that is also a section's name.
		{"milter = [\"unix:/run/m.sock\"]\n", `f:1:1: milter: a list is not allowed here; write milter below [listen], where it belongs`},
		{"[[milter]]\nconnections = 1\n", `f:1:3: milter: a list is not allowed here; write a table with the keys connections, idle; write [milter] with one bracket`},
		{"harvest = 50\n", `f:1:1: harvest: a whole number is not allowed here; this is a section; write [harvest] and below it a key, for example limit = 50`},
		{"cache = 5\n", `f:1:1: cache: a whole number is not allowed here; this is a section; write [cache] and below it its keys: entries, valid`},
		{"listen = \"unix:/a\"\n", `f:1:1: listen: a string is not allowed here; this is a section; write [listen] and below it its keys: milter, http, mode`},
		{"milter = \"8s\"\n", `f:1:1: milter: a string is not allowed here; this is a section; write [milter] and below it a key, for example idle = "8s"`},
	} {
		_, err := Parse("f", []byte(tc.text), &syntaxConfig{sampleConfig: *sampleDefaults()})
		if err == nil || err.Error() != tc.want {
			t.Errorf("%q:\ngot  %v\nwant %s", tc.text, err, tc.want)
		}
	}
}

// FuzzSyntaxErrors: whatever the text, its mistakes stand on lines that it has, and what is
// said to be good before a mistake can be read.
func FuzzSyntaxErrors(f *testing.F) {
	for _, seed := range []string{
		"a = [\n", "[", "[[", "a", "a.", "= 1", ":", "\r", "\n\n[a\n", "a = \"\"\"\n\n", "a = {b = [\n[c]\n", "[a]\n[[a.b]]\n[a.b]\n",
		"harvest = 1\n[harvest]\n", "a='", "\"a b\" = c\n", "a = \xff", "a = [\n\n = ", "a = 1\r", "[a]\n\"b", "[domain]\n[domain]",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		schema := &syntaxConfig{sampleConfig: *sampleDefaults()}
		_, err := Parse("f", []byte(text), schema)
		var all *Errors
		if err == nil || !errors.As(err, &all) {
			return
		}
		lines := strings.Split(text, "\n")
		for _, e := range all.List {
			if e.Line > len(lines) || e.Line > 0 && (e.Column < 1 || e.Column > len(lines[e.Line-1])+1) || e.goodLines < 0 || e.Text == "" {
				t.Errorf("%q: %d good lines; %v", text, e.goodLines, e)
			}
		}
		if _, err := parseTree("f", []byte(text), reflect.TypeOf(*schema)); err != nil {
			if _, err := parseTree("f", linesBefore([]byte(text), all.List[0].goodLines+1), reflect.TypeOf(*schema)); err != nil {
				t.Errorf("%q: of the lines that are called good: %v", text, err)
			}
		}
	})
}

// What stands before a mistake is found, also when the line to change is an earlier one.
func TestReachAcrossMistakes(t *testing.T) {
	for _, text := range []string{
		"harvest = 50\n[listen]\nhttp = \"a\"\n[harvest]\nlimit = 3\n",
		"[listen]\nhttp = \"a\"\nmilter = [\"unix:/a\",\n[harvest]\nlimit = 3\n",
	} {
		path := filepath.Join(t.TempDir(), "f.toml")
		write(t, path, text)
		cfg := &syntaxConfig{sampleConfig: *sampleDefaults()}
		if err := Reach(path, cfg); err == nil || cfg.Listen.HTTP != "a" {
			t.Errorf("%q: read http = %q; %v", text, cfg.Listen.HTTP, err)
		}
	}
}
