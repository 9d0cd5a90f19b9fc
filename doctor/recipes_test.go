// SPDX-License-Identifier: BSD-2-Clause

package doctor

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestDocumentedMilterLines: each line that the documents have people write for their MTA is one
// with which the doctor finds nothing wrong, and the one that it proposes itself.
func TestDocumentedMilterLines(t *testing.T) {
	x := regexp.MustCompile("^    INPUT_MAIL_FILTER\\(`(rcptgate)', `(.*)'\\)dnl$")
	n := map[string]int{}
	for _, document := range []string{"README.md", "docs/operations.md"} {
		text, err := os.ReadFile(filepath.Join("..", document))
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.SplitSeq(string(text), "\n") {
			p := place{zone: healthy, gate: true, files: map[string]string{}}
			var kind, socket string
			switch m := x.FindStringSubmatch(line); {
			case m != nil:
				kind = "sendmail.cf"
				_, socket, _ = strings.Cut(m[2], "S=")
				socket, _, _ = strings.Cut(socket, ",")
				p.files["local-host-names"] = ""
				p.files[kind] = regexp.MustCompile("X.*\n").ReplaceAllString(sendmailCf, "X"+m[1]+", "+m[2]+"\n")
			case strings.HasPrefix(line, "    smtpd_milters = "):
				kind = "main.cf"
				socket, _, _ = strings.Cut(strings.TrimPrefix(strings.TrimSpace(line), "smtpd_milters = { "), ",")
				p.files[kind] = "mydestination =\nmilter_default_action = accept\n" + strings.TrimSpace(line) + "\n"
				p.files["master.cf"] = "smtp inet n - y - - smtpd\n"
			default:
				continue
			}
			n[document+" "+kind]++
			own := strings.Replace(socket, "unix:rcptgate/", "unix:"+postfixQueue+"rcptgate/", 1)
			p.edit = func(d *Doctor) { d.Gate.Sockets = []string{own} }
			for _, f := range p.run(t, "example.com").Findings {
				if f.Level != OK {
					t.Errorf("%s: %s\n%+v", document, line, f)
				}
			}
		}
		for _, m := range []*MTA{{Name: "Postfix", File: "main.cf"}, {Name: "Sendmail"}} {
			value, _, _ := strings.Cut(m.milterLine([]string{"inet:8890@127.0.0.1"}), " in ")
			if !strings.Contains(string(text), "    "+value) {
				t.Errorf("%s does not have %q, which the doctor proposes for %s", document, value, m.Name)
			}
		}
	}
	for _, what := range []string{"README.md main.cf", "README.md sendmail.cf", "docs/operations.md main.cf", "docs/operations.md sendmail.cf"} {
		if n[what] == 0 {
			t.Errorf("%s has no line", what)
		}
	}
}
