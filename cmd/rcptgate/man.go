// SPDX-License-Identifier: BSD-2-Clause

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"

	"rcptgate/config"
	"rcptgate/unit"
)

// newManCommand writes the manual pages. They are kept in docs/man and made again
// by "make docs"; a test fails when they differ from what the program says.
func (p *program) man() *cobra.Command {
	return &cobra.Command{
		Use:    "man DIR",
		Short:  "write the manual pages into a folder",
		Args:   cobra.ExactArgs(1),
		Hidden: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			return p.writeManuals(cmd.Root(), args[0])
		},
	}
}

// manualDate is fixed, so that pages change only when what they say does.
var manualDate = time.Date(2026, time.November, 1, 0, 0, 0, 0, time.UTC)

func (p *program) writeManuals(root *cobra.Command, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil { // #nosec G301 -- manual pages are for everybody
		return fmt.Errorf("write manual pages: %w", err)
	}
	root.DisableAutoGenTag = true
	header := &doc.GenManHeader{Title: "RCPTGATE", Section: "1", Source: "rcptgate", Manual: "rcptgate manual", Date: &manualDate}
	if err := doc.GenManTree(root, header, dir); err != nil {
		return fmt.Errorf("write manual pages: %w", err)
	}
	pages := map[string]string{"rcptgate.toml": p.configurationManual()}
	for i := range p.units {
		for _, f := range p.units[i].Files {
			page, err := fileManual(f)
			if err != nil {
				return fmt.Errorf("write manual pages: %w", err)
			}
			pages[f.Name] = page
		}
	}
	for name, page := range pages {
		if err := os.WriteFile(filepath.Join(dir, name+".5"), []byte(page), 0o644); err != nil { // #nosec G306 -- as above
			return fmt.Errorf("write manual pages: %w", err)
		}
	}
	return nil
}

// configurationManual is rcptgate.toml(5), made from the options' own descriptions.
func (p *program) configurationManual() string {
	var b strings.Builder
	b.WriteString(`.TH "RCPTGATE.TOML" "5" "Nov 2026" "rcptgate" "rcptgate manual"
.SH NAME
rcptgate.toml \- configuration of rcptgate
.SH DESCRIPTION
The file is TOML (toml.io), read strictly: an unknown key or a value that is not allowed is an error
with its line. Every key is optional. Durations are numbers with the units s, m, h, d and w. Socket
addresses take the spellings of Sendmail (inet:8890@127.0.0.1) and Postfix (inet:127.0.0.1:8890,
unix:/path). Backends are written as in a transport table: smtp:[10.0.0.5]:25, lmtp:unix:/run/lmtp,
smtp:[2001:db8::5]:25, mx. Brackets mean that no MX is looked up.
.PP
.B rcptgate config check
reads the file,
.B rcptgate config show
prints every effective value,
.B rcptgate config example
a commented example. The daemon reads the file again on
.B rcptgate reload
or SIGHUP; a file with an error changes nothing.
`)
	writeReference(&b, p.reference())
	return b.String()
}

// fileManual is the page of a file that a unit's commands read.
func fileManual(f unit.File) (string, error) {
	schema, err := config.Compose(f.Parts...)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	fmt.Fprintf(&b, ".TH \"%s\" \"5\" \"Nov 2026\" \"rcptgate\" \"rcptgate manual\"\n.SH NAME\n%s \\- %s\n.SH DESCRIPTION\n%s\n",
		strings.ToUpper(f.Name), roff(f.Name), f.Short, roff(f.Long))
	writeReference(&b, schema.Defaults())
	return b.String(), nil
}

// writeReference writes every option, section by section.
func writeReference(b *strings.Builder, c *config.Composed) {
	section := ""
	for _, e := range config.Describe(c.Any()) {
		if e.Name == "" || (e.Section == "" && section == "") {
			section = e.Section
			if section == "" {
				section = "-"
			}
			writeSectionHead(b, e)
		}
		if e.Name != "" {
			writeOption(b, e)
		}
	}
	b.WriteString(".SH SEE ALSO\n.BR rcptgate (1)\n")
}

func writeSectionHead(b *strings.Builder, e config.Entry) {
	switch {
	case e.Section == "":
		b.WriteString(".SH GENERAL\n")
	case e.Repeated:
		fmt.Fprintf(b, ".SH [[%s]]\n%s\n", e.Section, roff(sentence(e.Doc)))
	default:
		fmt.Fprintf(b, ".SH [%s]\n%s\n", e.Section, roff(sentence(e.Doc)))
	}
}

func writeOption(b *strings.Builder, e config.Entry) {
	fmt.Fprintf(b, ".TP\n.B %s\n%s\n", roff(e.Name), roff(sentence(e.Doc)))
	for _, line := range []struct{ word, text string }{{"Takes", e.Form}, {"Default:", e.Default}, {"Example:", e.Example}} {
		if line.text != "" && line.text != `""` {
			fmt.Fprintf(b, ".br\n%s %s\n", line.word, roff(line.text))
		}
	}
}

// sentence makes a description one: with a capital and a full stop.
func sentence(s string) string {
	first, size := utf8.DecodeRuneInString(s)
	if size == 0 {
		return s
	}
	s = string(unicode.ToUpper(first)) + s[size:]
	if !strings.HasSuffix(s, ".") {
		s += "."
	}
	return s
}

// roff escapes text for man(7).
func roff(s string) string {
	s = strings.ReplaceAll(s, `\`, `\e`)
	s = strings.ReplaceAll(s, "-", `\-`)
	if strings.HasPrefix(s, ".") || strings.HasPrefix(s, "'") {
		s = `\&` + s
	}
	return strings.ReplaceAll(s, "\n", " ")
}
