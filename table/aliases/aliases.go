// SPDX-License-Identifier: BSD-2-Clause

// Package aliases reads the right-hand side of an alias: a list of targets, as
// aliases(5) of Sendmail and Postfix have it, and the files that :include: names.
//
//	name: user, user@domain, "quoted local"@domain, Name <user@domain> (comment)
//	name: /file, |program arguments, "|program with, comma", :include:/file, \user
//
// Targets are separated by commas. Addresses are those of RFC 5322 section 3.4,
// comments, display names, routes and groups included (of which only the address is
// kept). "\user" is a local user whose own alias is not looked up. What only one MTA
// or its configuration understands (":fail:", "error:...") is a target of its own
// kind: it cannot be followed, and is not a reason to refuse.
//
// Limits: linear in the length of the text, no recursion; at most MaxTargets
// targets. Programs are never run and files never opened here.
package aliases

import (
	"errors"
	"fmt"
	"strings"
)

// Kind says what a target is.
type Kind uint8

// The kinds of targets.
const (
	Local   Kind = iota // a name without a domain: an alias or a local user
	Address             // a mailbox with a domain, local part as it was quoted
	Escaped             // \user: a local user, not looked up again
	File                // /file
	Program             // |command
	Include             // :include:/file
	Other               // a word that only the MTA understands
)

// String is the kind in one word, for traces.
func (k Kind) String() string {
	switch k {
	case Local:
		return "local"
	case Address:
		return "address"
	case Escaped:
		return "user"
	case File:
		return "file"
	case Program:
		return "program"
	case Include:
		return "include"
	}
	return "other"
}

// Target is one of the places an alias stands for.
type Target struct {
	Kind Kind
	// Value is the name without quotes (Local, Escaped), the address with the quotes it needs
	// (Address), the path (File, Include), the command (Program), or the text (Other).
	Value string
}

// String writes a target so that Parse reads it again.
func (t Target) String() string {
	switch t.Kind {
	case Address:
		return "<" + t.Value + ">"
	case Local:
		return quote(t.Value)
	case Escaped:
		return quoteAlways(`\` + t.Value)
	case Program:
		return quoteAlways("|" + t.Value)
	case Include:
		return quoteAlways(":include:" + t.Value)
	}
	return quoteAlways(t.Value)
}

func quote(s string) string {
	if s != "" && strings.Trim(s, atext) == "" {
		return s
	}
	return quoteAlways(s)
}

// atext are the letters that need no quotes (RFC 5322 section 3.2.3), the dot among them.
const atext = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!#$%&'*+-=?^_`{}~."

func quoteAlways(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}

// OwnerPrefix begins the alias that receives the errors of a list: "owner-staff"
// as well as "staff" (aliases(5)).
const OwnerPrefix = "owner-"

// MaxTargets bounds the targets of one alias or one file.
const MaxTargets = 100_000

// Errors of Parse. A caller that cannot read an alias must take it as one that
// exists and cannot be followed.
var (
	ErrQuote   = errors.New("a quotation mark is not closed")
	ErrComment = errors.New("a parenthesis is not closed")
	ErrAngle   = errors.New("an angle bracket is not closed")
	ErrSpace   = errors.New("white space within an address: is a comma missing?")
	ErrMany    = errors.New("too many targets")
	ErrEmpty   = errors.New("there is no target")
)

// Parse reads the right-hand side of an alias. An empty one is ErrEmpty.
func Parse(value string) ([]Target, error) {
	p := parser{s: value}
	if err := p.list(); err != nil {
		return nil, err
	}
	if len(p.out) == 0 {
		return nil, ErrEmpty
	}
	return p.out, nil
}

// ParseInclude reads the content of a file that :include: names: lists of targets, a
// line each; empty lines and lines that begin with "#" are left out. The targets of
// an empty file are none. Bad is the first error, with its line; good lines count.
func ParseInclude(text string) (targets []Target, bad error) {
	number := 0
	for line := range strings.Lines(text) {
		number++
		line = strings.TrimRight(line, "\r\n")
		if strings.HasPrefix(line, "#") || strings.TrimSpace(line) == "" {
			continue
		}
		more, err := Parse(line)
		if errors.Is(err, ErrEmpty) {
			continue
		}
		if err == nil && len(targets)+len(more) > MaxTargets {
			return targets, fmt.Errorf("line %d: %w", number, ErrMany)
		}
		if err != nil && bad == nil {
			bad = fmt.Errorf("line %d: %w", number, err)
		}
		targets = append(targets, more...)
	}
	return targets, bad
}
