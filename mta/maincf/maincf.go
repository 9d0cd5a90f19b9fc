// SPDX-License-Identifier: BSD-2-Clause

// Package maincf reads Postfix's main.cf as Postfix reads it (postconf(5)), so that one
// file is the truth for the MTA and for the gate in front of it.
//
//	# comment, also between continuation lines
//	name = value
//	    continued
//	other = $name ${name} $(name) ${name?then} ${name:else} ${name?{then}:{else}}
//	third = ${{$a} == {$b} ? {then} : {else}} $$
//
// Later lines override earlier ones. Values are expanded when they are used, so that a
// name may be set below its use. A parameter that main.cf does not set has Postfix's own
// default; see [Defaults]. Parameters of the postmaster's own may be defined and used.
//
// Limits: main.cf alone is read, not the "-o" options of master.cf. A file may have 4 MiB,
// a value 1 MiB once expanded, and names may refer to names 100 levels deep.
package maincf

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"rcptgate/kit/regular"
)

// Bounds of reading a main.cf.
const (
	maxFile  = 4 << 20
	maxValue = 1 << 20
	maxDepth = 100
	// maxWork bounds the expansions of one value: a value of references to values of
	// references would otherwise grow without using memory.
	maxWork = 100_000
	// maxWritten bounds the octets of all of them: ${long?x} throws away what it expands.
	maxWritten = 64 << 20
)

// A Setting is one parameter as main.cf sets it.
type Setting struct {
	Value string // as written, continuation lines joined, not expanded
	Line  int    // of its beginning, from 1
}

// Config is a main.cf. It does not change, and is safe for concurrent use.
type Config struct {
	// Path is the file; empty when it was not read from one.
	Path     string
	settings map[string]Setting
	builtin  map[string]string
}

// A SyntaxError is a line that Postfix would refuse, or a value that cannot be expanded.
type SyntaxError struct {
	Path string
	Line int // 0 when the fault is in an expansion
	Err  error
}

// Error begins with the place.
func (e *SyntaxError) Error() string {
	if e.Line == 0 {
		return fmt.Sprintf("%s: %v", e.Path, e.Err)
	}
	return fmt.Sprintf("%s:%d: %v", e.Path, e.Line, e.Err)
}

// Unwrap gives the cause.
func (e *SyntaxError) Unwrap() error { return e.Err }

// Read reads main.cf in a configuration directory ("/etc/postfix", or that of another
// instance). A path that names a file is read as it is.
func Read(path string) (*Config, error) {
	if st, err := os.Stat(path); err == nil && st.IsDir() {
		path = filepath.Join(path, "main.cf")
	}
	text, err := regular.Read(path, maxFile)
	if err != nil {
		return nil, fmt.Errorf("reading Postfix's configuration: %w", err)
	}
	c, err := Parse(text, Defaults(filepath.Dir(path)))
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

// Parse reads the text of a main.cf. Defaults are the values of what it does not set,
// unexpanded. An error is a *SyntaxError.
func Parse(text []byte, defaults map[string]string) (*Config, error) {
	c := &Config{settings: make(map[string]Setting), builtin: defaults}
	for _, l := range logicalLines(text) {
		name, value, err := splitLine(l.text)
		if err != nil {
			return nil, &SyntaxError{Path: "main.cf", Line: l.number, Err: err}
		}
		c.settings[name] = Setting{Value: value, Line: l.number}
	}
	return c, nil
}

type line struct {
	text   string
	number int
}

// logicalLines joins continuation lines (postconf(5)): a line that begins with white space
// continues the one before; empty lines and comments are left out, also in between. White
// space at the beginning of the file continues nothing, and Postfix ignores such a line.
func logicalLines(text []byte) (list []line) {
	var b strings.Builder
	begin := 0
	end := func() {
		if begin > 0 {
			list = append(list, line{b.String(), begin})
		}
		b.Reset()
		begin = 0
	}
	for number, raw := range bytes.Split(text, []byte{'\n'}) {
		trimmed := bytes.TrimLeft(raw, spaces)
		switch {
		case len(trimmed) == 0 || trimmed[0] == '#':
			continue
		case len(trimmed) == len(raw): // a new one
			end()
			begin = number + 1
		case begin == 0:
			continue
		}
		b.Write(raw)
	}
	end()
	return list
}

const spaces = " \t\r\n\v\f"

// splitLine parts "name = value", as split_nameval(3) of Postfix.
func splitLine(s string) (name, value string, err error) {
	s = strings.TrimLeft(s, spaces)
	at := strings.IndexAny(s, spaces+"=")
	switch {
	case at == 0:
		return "", "", errors.New("a parameter name is missing before \"=\"")
	case at < 0:
		return "", "", fmt.Errorf("\"=\" is missing after %q", clip(s))
	}
	name, rest := s[:at], strings.TrimLeft(s[at:], spaces)
	value, ok := strings.CutPrefix(rest, "=")
	if !ok {
		return "", "", fmt.Errorf("\"=\" is missing after %q", clip(name))
	}
	if strings.IndexByte(value, 0) >= 0 {
		return "", "", fmt.Errorf("the value of %s has a NUL octet", clip(name))
	}
	return name, strings.Trim(value, spaces), nil
}

func clip(s string) string {
	if len(s) > 40 {
		s = s[:40] + "..."
	}
	return s
}

// Set gives what main.cf itself says of a parameter, and whether it says anything.
func (c *Config) Set(name string) (Setting, bool) {
	s, ok := c.settings[name]
	return s, ok
}

// Get gives the value of a parameter, expanded: main.cf's, or else Postfix's default. A
// parameter that neither knows is empty. An error is a *SyntaxError: a value that Postfix
// could not expand either.
func (c *Config) Get(name string) (string, error) {
	e := expansion{c: c, work: maxWork, room: maxWritten}
	value, err := e.parameter(name, 0)
	if err != nil {
		s := c.settings[name]
		return "", &SyntaxError{Path: c.path(), Line: s.Line, Err: fmt.Errorf("%s: %w", name, err)}
	}
	return value, nil
}

func (c *Config) path() string {
	if c.Path == "" {
		return "main.cf"
	}
	return c.Path
}

// Split parts a list at commas and white space, but not inside braces.
func Split(value string) (words []string) {
	const separators = ", \t\r\n"
	for {
		value = strings.TrimLeft(value, separators)
		if value == "" {
			return words
		}
		depth, at := 0, 0
		for ; at < len(value); at++ {
			switch c := value[at]; {
			case c == '{':
				depth++
			case c == '}' && depth > 0:
				depth--
			}
			if depth == 0 && strings.IndexByte(separators, value[at]) >= 0 {
				break
			}
		}
		words = append(words, value[:at])
		value = value[at:]
	}
}
