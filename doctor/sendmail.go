// SPDX-License-Identifier: BSD-2-Clause

package doctor

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"rcptgate/mta/sendmailcf"
	"rcptgate/table"
	"rcptgate/table/open"
)

// sendmailWait is how long Sendmail waits for a milter unless its line says otherwise, in seconds.
const sendmailWait = 10

// sendmailClasses are the classes that say which domains this machine takes mail for.
var sendmailClasses = map[string]string{"w": "class w", "R": "class R", "VirtHost": "class {VirtHost}"}

// sendmailMaps are the maps that decide what becomes of a recipient.
var sendmailMaps = []string{"virtuser", "mailertable", "access", "domaintable", "bitdomain", "uudomain"}

// readSendmail reads what sendmail.cf says.
func readSendmail(ctx context.Context, path string) (*MTA, error) {
	c, err := sendmailcf.Read(path)
	if err != nil {
		return nil, err
	}
	m := &MTA{Name: "Sendmail", File: path, Timeout: sendmailWait}
	for letter, class := range sendmailClasses {
		listed := c.Class(letter)
		for _, word := range listed.Words {
			m.add(Place{strings.ToLower(word), class, path, 0})
		}
		for _, file := range listed.Files {
			if slices.Contains(listed.Optional, file.Text) && !exists(file.Text) {
				continue
			}
			m.file(class, file.Text, fmt.Sprintf("%s:%d", path, file.Line))
		}
	}
	m.sendmailTables(ctx, c)
	m.bestMX(c)
	if err := m.sendmailLines(c, path); err != nil {
		m.bad(Broken{What: err.Error(), Where: path})
	}
	slices.SortStableFunc(m.Places, func(a, b Place) int { return strings.Compare(a.Class, b.Class) })
	return m, nil
}

// sendmailTables looks whether the maps that sendmail.cf names can be read.
func (m *MTA) sendmailTables(ctx context.Context, c *sendmailcf.Config) {
	look := func(what, text string, line int) {
		spec, err := table.ParseSpec(text)
		if err != nil {
			return // a type that only Sendmail reads
		}
		if _, err := open.Open(ctx, spec, func(error) {}); err != nil {
			m.brokenTable(what, spec, err, lineOf(c.Path, line))
		}
	}
	for _, name := range sendmailMaps {
		k, ok := c.Map(name)
		if !ok || slices.Contains(k.Args, "-o") && !exists(k.Name) && !exists(k.Name+".db") {
			continue
		}
		look("map "+name, k.Type+":"+k.Name, k.Line)
	}
	aliases, _ := c.Option("AliasFile")
	for file := range strings.SplitSeq(aliases.Text, ",") {
		if file = strings.TrimSpace(file); strings.Contains(file, ":") {
			look("AliasFile", file, aliases.Line)
		} else if file != "" && !exists(file) && !exists(file+".db") {
			m.bad(Broken{What: fmt.Sprintf("AliasFile: %s does not exist", file), Where: fmt.Sprintf("%s:%d", c.Path, aliases.Line), Do: "create " + file + " and run newaliases"})
		}
	}
}

// bestMX finds the domains that a rule sends to other servers though they are local: the rule
// of docs/recipes.md, "R$* < @ example.com. > $*	$#esmtp $@ $(bestmx example.com. $) ...".
func (m *MTA) bestMX(c *sendmailcf.Config) {
	for _, rule := range c.Rules() {
		if f := bestMXRule.FindStringSubmatch(strings.ToLower(rule)); f != nil {
			m.sendsElsewhere(strings.TrimSuffix(f[1], "."))
		}
	}
}

var bestMXRule = regexp.MustCompile(`^\s*\$[*+]\s*<\s*@\s*([a-z0-9.-]+)\s*>.*\$#\s*(?:e?smtp8?|dsmtp|relay)\b`)

// sendmailLines finds the lines that say where a word of a class is written, and the milters:
// "Cwexample.com", "Xrcptgate, S=inet:8890@127.0.0.1, T=S:10s;R:10s".
func (m *MTA) sendmailLines(c *sendmailcf.Config, path string) error {
	return eachLine(path, func(number int, line string) {
		switch {
		case strings.HasPrefix(line, "Cw"), strings.HasPrefix(line, "CR"), strings.HasPrefix(line, "C{VirtHost}"):
			_, words, _ := strings.Cut(strings.TrimPrefix(line, "C{VirtHost"), "}")
			if words == "" {
				words = line[2:]
			}
			for _, word := range strings.Fields(words) {
				for i := range m.Places {
					if p := &m.Places[i]; p.Line == 0 && p.File == path && p.Domain == strings.ToLower(word) {
						p.Line = number
					}
				}
			}
		case strings.HasPrefix(line, "X"):
			m.Milters = append(m.Milters, sendmailMilter(c, line, fmt.Sprintf("%s:%d", path, number)))
		}
	})
}
