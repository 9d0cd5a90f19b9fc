// SPDX-License-Identifier: BSD-2-Clause

// Package sendmailcf reads what a sendmail.cf says of recipients, as Sendmail reads it
// (Sendmail Installation and Operation Guide, section 5): options, classes, maps, macros
// and mailers.
//
//	O MaxAliasRecursion=10          Cwhost other.example     C{VirtHost}virt.example
//	Fw-o /etc/mail/local-host-names Kvirtuser hash -o /etc/mail/virtusertable
//	Djmx.example.org                Mlocal, P=/usr/bin/procmail, F=lsDFMAw5:/|@qSPfhn9
//
// A line that begins with white space continues the one before; "#" begins a comment unless
// "$" or "\" stands before it. Rules are not run: [Config.HasRule] only recognises those
// that a feature of the .mc file adds.
//
// Limits: 4 MiB; macros are expanded 20 levels deep, to 64 KiB, and 10,000 in one text. Words of a class that
// come from files, programs or directories are named, not read.
package sendmailcf

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"rcptgate/kit/regular"
)

// Bounds of reading a sendmail.cf.
const (
	maxFile  = 4 << 20
	maxValue = 64 << 10
	maxDepth = 20
	// maxWork bounds the macros of one text: those that refer to each other many times could
	// otherwise go on for ever, and come to nothing.
	maxWork = 10_000
)

// A Value is a setting and the line on which it begins, from 1.
type Value struct {
	Text string
	Line int
}

// A Class is what a class holds (C and F lines).
type Class struct {
	Words []string
	Files []Value // files with a word a line
	// Optional are those of Files that need not exist (-o).
	Optional []string
	// Others are sources that are no such files: programs, maps, directories, formats of
	// their own.
	Others []Value
}

// A Map is a K line.
type Map struct {
	Type string // "hash"
	// Args are the flags before the file, Name is the file, or what else the type has.
	Args []string
	Name string
	Line int
}

// Config is a sendmail.cf. It does not change, and is safe for concurrent use.
type Config struct {
	// Path is the file; empty when it was not read from one.
	Path    string
	options map[string]Value
	classes map[string]*class
	maps    map[string]Map
	macros  map[string]Value
	mailers map[string]Value
	rules   []string
}

type class struct {
	Class
	others []string // classes whose words this one has too
}

// A SyntaxError is a line that Sendmail would not take.
type SyntaxError struct {
	Path string
	Line int
	Err  error
}

// Error begins with the place.
func (e *SyntaxError) Error() string { return fmt.Sprintf("%s:%d: %v", e.Path, e.Line, e.Err) }

// Unwrap gives the cause.
func (e *SyntaxError) Unwrap() error { return e.Err }

// Read reads a sendmail.cf.
func Read(path string) (*Config, error) {
	text, err := regular.Read(path, maxFile)
	if err != nil {
		return nil, fmt.Errorf("reading Sendmail's configuration: %w", err)
	}
	host, err := os.Hostname()
	if err != nil {
		host = "localhost"
	}
	c, err := Parse(text, host)
	var bad *SyntaxError
	if errors.As(err, &bad) {
		bad.Path = path
	}
	if err != nil {
		return nil, err
	}
	c.Path = path
	return c, nil
}

// Parse reads the text of a sendmail.cf on a machine of the given name. An error is a
// *SyntaxError.
func Parse(text []byte, host string) (*Config, error) {
	c := &Config{
		options: make(map[string]Value), classes: make(map[string]*class), maps: make(map[string]Map),
		macros: make(map[string]Value), mailers: make(map[string]Value),
	}
	c.machine(host)
	for _, l := range logicalLines(text) {
		if err := c.line(l.Text, l.Line); err != nil {
			return nil, &SyntaxError{Path: "sendmail.cf", Line: l.Line, Err: err}
		}
	}
	if len(c.options)+len(c.classes)+len(c.mailers) <= 1 { // class w has the machine
		return nil, &SyntaxError{Path: "sendmail.cf", Line: 1, Err: errors.New("not a sendmail.cf: it has no options, classes and mailers (is it the .mc file?)")}
	}
	return c, nil
}

// machine sets what Sendmail knows of its machine before it reads the file.
func (c *Config) machine(host string) {
	host = strings.TrimSuffix(host, ".")
	c.macros["w"], c.macros["j"] = Value{Text: host}, Value{Text: "$w"}
	if _, domain, ok := strings.Cut(host, "."); ok {
		c.macros["m"] = Value{Text: domain}
	}
	w := c.class("w")
	w.Words = append(w.Words, host, "localhost")
}

func (c *Config) class(name string) *class {
	k := c.classes[name]
	if k == nil {
		k = new(class)
		c.classes[name] = k
	}
	return k
}

// logicalLines joins continuation lines and takes comments out.
func logicalLines(text []byte) (list []Value) {
	var b strings.Builder
	begin := 0
	end := func() {
		if begin > 0 {
			list = append(list, Value{withoutComment(b.String()), begin})
		}
		b.Reset()
		begin = 0
	}
	for number, raw := range bytes.Split(text, []byte{'\n'}) {
		raw = bytes.TrimSuffix(raw, []byte{'\r'})
		if len(raw) > 0 && (raw[0] == ' ' || raw[0] == '\t') {
			if begin > 0 {
				b.WriteByte('\n')
				b.Write(raw)
			}
			continue
		}
		end()
		if len(raw) > 0 && raw[0] != '#' {
			begin = number + 1
			b.Write(raw)
		}
	}
	end()
	return list
}

// withoutComment cuts at the first "#" that neither "$" nor "\" protects.
func withoutComment(s string) string {
	for at := 0; ; at++ {
		next := strings.IndexByte(s[at:], '#')
		if next < 0 {
			break
		}
		at += next
		if at == 0 || s[at-1] != '$' && s[at-1] != '\\' {
			return strings.TrimRight(s[:at], " \t\n")
		}
	}
	return strings.ReplaceAll(s, `\#`, "#")
}

// line reads a logical line.
func (c *Config) line(s string, number int) error {
	rest := s[1:]
	switch s[0] {
	case 'O':
		return c.option(rest, number)
	case 'C':
		return c.words(rest)
	case 'F':
		return c.source(rest, number)
	case 'K':
		return c.mapping(rest, number)
	case 'D':
		name, value, err := macroName(rest)
		if err == nil {
			c.macros[name] = Value{strings.TrimRight(value, " \t\n"), number}
		}
		return err
	case 'M':
		name, fields, _ := strings.Cut(rest, ",")
		c.mailers[strings.TrimSpace(name)] = Value{fields, number}
	case 'R':
		c.rules = append(c.rules, rest)
	case 'S', 'H', 'V', 'P', 'T', 'E', 'Q', 'X', 'L': // of no concern for recipients
	default:
		return fmt.Errorf("unknown control line %q", clip(s))
	}
	return nil
}

func clip(s string) string {
	if len(s) > 40 {
		s = s[:40] + "..."
	}
	return s
}

// macroName reads the name of a macro or class, one letter or {several}, and gives what
// follows.
func macroName(s string) (name, rest string, err error) {
	switch {
	case s == "":
		return "", "", errors.New("a name is missing")
	case s[0] != '{':
		return s[:1], s[1:], nil
	}
	end := strings.IndexByte(s, '}')
	if end < 2 {
		return "", "", errors.New("a name in braces has no end, or is empty")
	}
	name = s[1:end]
	return name, s[end+1:], nil
}

// shortOptions are the one-letter names of options that matter here (O lines of old
// configurations).
var shortOptions = map[byte]string{'A': "AliasFile", 'D': "AutoRebuildAliases", 'B': "BlankSub"}

// option reads "O Name=value" or "OAvalue".
func (c *Config) option(s string, number int) error {
	if strings.HasPrefix(s, " ") {
		name, value, _ := strings.Cut(strings.TrimLeft(s, " \t"), "=") // without "=" it has no value
		c.options[strings.ToLower(strings.TrimSpace(name))] = Value{strings.TrimSpace(value), number}
		return nil
	}
	if s == "" {
		return errors.New("an option has no name")
	}
	if name := shortOptions[s[0]]; name != "" {
		c.options[strings.ToLower(name)] = Value{strings.TrimSpace(s[1:]), number}
	}
	return nil
}

// words reads a C line.
func (c *Config) words(s string) error {
	name, rest, err := macroName(s)
	if err != nil {
		return err
	}
	k := c.class(name)
	for _, word := range strings.Fields(rest) {
		if ref, ok := strings.CutPrefix(word, "$="); ok {
			other, _, err := macroName(ref)
			if err != nil {
				return err
			}
			k.others = append(k.others, other)
			continue
		}
		k.Words = append(k.Words, strings.Fields(c.Expand(word))...)
	}
	return nil
}

// source reads an F line: "Fw-o /file", "F{VirtHost}/file %[^\#]", "Fw|/program", "F{w}@LDAP".
func (c *Config) source(s string, number int) error {
	name, rest, err := macroName(s)
	if err != nil {
		return err
	}
	k := c.class(name)
	fields := strings.Fields(rest)
	optional := len(fields) > 0 && strings.HasPrefix(fields[0], "-o")
	if optional {
		if fields[0] = strings.TrimPrefix(fields[0], "-o"); fields[0] == "" {
			fields = fields[1:]
		}
	}
	switch {
	case len(fields) == 0 || fields[0] == "":
		return fmt.Errorf("class %s: a file name is missing", name)
	case fields[0][0] != '/' || len(fields) > 1 && fields[1] != "%s" && fields[1] != "%[^#]":
		k.Others = append(k.Others, Value{strings.Join(fields, " "), number})
	default:
		k.Files = append(k.Files, Value{fields[0], number})
		if optional {
			k.Optional = append(k.Optional, fields[0])
		}
	}
	return nil
}

// mapping reads "Kname type [-flags...] file".
func (c *Config) mapping(s string, number int) error {
	fields := strings.Fields(s)
	if len(fields) < 2 {
		return fmt.Errorf("map %q has no type", clip(s))
	}
	m := Map{Type: fields[1], Line: number}
	at := 2
	for ; at < len(fields) && strings.HasPrefix(fields[at], "-"); at++ {
		m.Args = append(m.Args, fields[at])
	}
	m.Name = strings.Join(fields[at:], " ")
	c.maps[strings.ToLower(fields[0])] = m
	return nil
}

// Option gives an option by its long name, case ignored, and whether it is set.
func (c *Config) Option(name string) (Value, bool) {
	v, ok := c.options[strings.ToLower(name)]
	return v, ok
}

// Map gives a map by its name, case ignored.
func (c *Config) Map(name string) (Map, bool) {
	m, ok := c.maps[strings.ToLower(name)]
	return m, ok
}

// Class gives a class with the words of the classes that it includes. The class w holds
// what Sendmail puts there by itself as well, except addresses.
func (c *Config) Class(name string) Class {
	var all Class
	seen := make(map[string]bool)
	var add func(name string)
	add = func(name string) {
		k := c.classes[name]
		if k == nil || seen[name] {
			return
		}
		seen[name] = true
		all.Words = append(all.Words, k.Words...)
		all.Files = append(all.Files, k.Files...)
		all.Optional = append(all.Optional, k.Optional...)
		all.Others = append(all.Others, k.Others...)
		for _, other := range k.others {
			add(other)
		}
	}
	add(name)
	if name == "w" {
		all.Words = append(all.Words, strings.Fields(c.Macro("j"))...)
	}
	return all
}

// Mailer gives the flags of a mailer (F=), and whether there is one of the name.
func (c *Config) Mailer(name string) (flags string, ok bool) {
	v, ok := c.mailers[name]
	if !ok {
		return "", false
	}
	for _, field := range strings.Split(v.Text, ",") {
		if f, is := strings.CutPrefix(strings.TrimSpace(field), "F="); is {
			return f, true
		}
	}
	return "", true
}

// HasRule reports whether a left-hand or right-hand side of a rule holds a text.
func (c *Config) HasRule(text string) bool {
	return slices.ContainsFunc(c.rules, func(r string) bool { return strings.Contains(r, text) })
}

// Rules gives the rules (R lines) without the R, in their order.
func (c *Config) Rules() []string { return slices.Clone(c.rules) }
