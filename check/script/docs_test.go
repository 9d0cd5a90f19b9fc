// SPDX-License-Identifier: BSD-2-Clause

package script

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"rcptgate/check/script/star"
	"rcptgate/unit"
	"rcptgate/unit/checktest"
)

const examples = "../../docs/examples/script"

// envOf is what tests of scripts run with where nothing is configured.
func envOf(t *testing.T) *star.Env {
	t.Helper()
	h, err := openIn(t, t.TempDir(), "[script]\n")
	if err != nil {
		t.Fatal(err)
	}
	return unit.Part[Config](h.Config()).part.env
}

// TestExamples runs the tests of the examples, as "rcptgate script test" does.
func TestExamples(t *testing.T) {
	list, err := testFiles(filepath.Join(examples, "x"))
	if err != nil || len(list) < 7 {
		t.Fatalf("%d files of tests, %v", len(list), err)
	}
	ts := &tester{config: DefaultConfig(), env: envOf(t), cover: newCoverage()}
	for _, path := range list {
		results, err := ts.file(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range results {
			if !r.OK {
				t.Errorf("%s %s: %s", r.File, r.Name, strings.Join(r.Failed, "\n"))
			}
		}
	}
	for path, lines := range ts.cover.ran {
		ran := 0
		for _, ok := range lines {
			if ok {
				ran++
			}
		}
		if 10*ran < 9*len(lines)-9 {
			t.Errorf("%s: only %d of %d lines have run", path, ran, len(lines))
		}
	}
}

// TestReference holds that docs/script-api.md is what the code says: "make docs" writes it.
func TestReference(t *testing.T) {
	text, err := os.ReadFile("../../docs/script-api.md")
	if err != nil || string(text) != manual() {
		t.Errorf("docs/script-api.md is not what the code says (%v): run make docs", err)
	}
}

// TestDocumentedScripts holds that the scripts in docs/script.md can be used.
func TestDocumentedScripts(t *testing.T) {
	text, err := os.ReadFile("../../docs/script.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```python\n(.*?)```").FindAllSubmatch(text, -1)
	if len(blocks) != 2 {
		t.Fatalf("%d scripts in docs/script.md", len(blocks))
	}
	dir := files(t, map[string]string{"filter.star": string(blocks[0][1]), "filter_test.star": string(blocks[1][1])})
	results, err := (&tester{config: DefaultConfig(), env: envOf(t)}).file(t.Context(), filepath.Join(dir, "filter_test.star"))
	if err != nil || len(results) != 1 || !results[0].OK {
		t.Errorf("%+v, %v", results, err)
	}
}

// mimedefang is what a mimedefang-filter can define, call and read (mimedefang-filter(5)).
const mimedefang = `filter_relay filter_helo filter_sender filter_recipient filter_begin filter filter_multipart filter_end filter_wrapup
filter_initialize filter_cleanup filter_tick filter_map filter_unknown_cmd filter_create_parser
action_bounce action_tempfail action_discard action_greylist action_add_header action_insert_header action_change_header
action_delete_header action_delete_all_headers action_quarantine_entire_message sm_quarantine add_recipient delete_recipient
change_sender notify_administrator notify_sender action_accept action_accept_with_warning action_drop action_drop_with_warning
action_replace_with_warning action_replace_with_url action_quarantine action_defang action_external_filter action_add_part
action_add_entity action_rebuild append_text_boilerplate append_html_boilerplate remove_redundant_html_parts
replace_entire_message anonymize_uri message_contains_virus entity_contains_virus message_contains_virus_clamd spam_assassin_check
md_spamc_check rspamd_check re_match re_match_ext re_match_in_zip_directory re_match_in_rar_directory re_match_in_7zip_directory
relay_is_blacklisted relay_is_blacklisted_multi email_is_blacklisted md_spf_verify md_dkim_verify md_dkim_sign md_arc_sign
md_authres md_bimi_check md_check_mta_sts md_get_dmarc_record md_get_bogus_mx_hosts md_check_against_smtp_server md_async_*
$RelayAddr $RelayHostname $Helo $Sender @Recipients $Subject $MessageID $QueueID @SenderESMTPArgs %RecipientESMTPArgs
%RecipientMailers $VirusName $VirusScannerMessages $SuspiciousCharsInHeaders $SuspiciousCharsInBody $CWD $WasResent %Features
resend_message stream_by_domain stream_by_recipient read_commands_file md_syslog md_graphdefang_log add_ip_validation_header`

// TestTableOfMIMEDefang holds that the table for those who come from MIMEDefang leaves nothing out.
func TestTableOfMIMEDefang(t *testing.T) {
	text, err := os.ReadFile("../../docs/script.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(text), "| in mimedefang-filter | here |")
	left := regexp.MustCompile("(?m)^\\| (.*?) \\|").FindAllStringSubmatch(table, -1)
	named := make(map[string]bool)
	for _, row := range left {
		for _, word := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(row[1], -1) {
			named[word[1]] = true
		}
	}
	for _, name := range strings.Fields(mimedefang) {
		if !named[name] {
			t.Errorf("%s is not in the table", name)
		}
	}
}

// TestTester holds that what does not hold is said, with its line, and that tests do not see
// each other.
func TestTester(t *testing.T) {
	dir := files(t, map[string]string{
		"filter.star":      "C = counter('c', '1h')\ndef recipient(r):\n  if C.add('x') > 1:\n    return reject('twice')\n  return None\n",
		"filter_test.star": "load('filter.star', 'recipient')\ndef test_once(): assert.action(recipient(rcpt()), 'continue')\ndef test_again(): assert.action(recipient(rcpt()), 'continue')\ndef test_wrong():\n  assert.eq(1, 2)\n  assert.contains('abc', 'x')\ndef test_broken(): recipient(5)\ndef test_fails():\n  assert.fails(lambda: fail('x'), 'x')\n  assert.fails(lambda: 1)\n",
	})
	ts := &tester{config: DefaultConfig(), env: envOf(t), cover: newCoverage()}
	list, err := ts.file(t.Context(), filepath.Join(dir, "filter_test.star"))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"", "", "filter_test.star:5:12: got 1, want 2|filter_test.star:6:18: \"abc\" does not contain \"x\"", "", "filter_test.star:10:15: <function lambda> did not fail"}
	for i, r := range list {
		got := strings.ReplaceAll(strings.Join(r.Failed, "|"), dir+"/", "")
		if got != want[i] {
			t.Errorf("%s: %q, want %q", r.Name, got, want[i])
		}
	}
	var out bytes.Buffer
	if err := tap(&out, list); err != nil || !strings.Contains(out.String(), "1..5\n") || !strings.Contains(out.String(), "not ok 3 - filter_test.star: test_wrong\n# ") {
		t.Errorf("%v\n%s", err, out.String())
	}
	out.Reset()
	if err := ts.cover.print(&out); err != nil || !strings.Contains(out.String(), "2 of 3 lines, not 4") {
		t.Errorf("%v\n%s", err, out.String())
	}
}

// With tests = true a reload is refused if a test fails.
func TestTestsBeforeReload(t *testing.T) {
	dir := files(t, map[string]string{"filter.star": "def recipient(r): return accept()", "filter_test.star": "load('filter.star', 'recipient')\ndef test_it(): assert.action(recipient(rcpt()), 'reject')"})
	h, err := openIn(t, dir, "tests = true\n")
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Verify(); err == nil || !strings.Contains(err.Error(), "test_it") {
		t.Errorf("got %v", err)
	}
}

// TestSuite is what every check passes.
func TestSuite(t *testing.T) {
	dir := files(t, map[string]string{"filter.star": "def connect(c): c.notes['a'] = c.name\ndef helo(c): return hold() if c.helo == 'x' else None\ndef sender(m): return accept() if m.sender.null else None\ndef recipient(r):\n  if r.address.local == 'a': return reject(r.verbatim)\n  return tempfail(r.sender + r.target.domain) if r.sender.detail == '' else None\ndef message(m): return reject(m.subject) if m.parts else None\n"})
	checktest.Run(t, checktest.Suite{Unit: Unit(), Config: "[script]\nfile = \"" + dir + "/filter.star\"\n", Recipients: []string{"a@b.example"}})
}

// What waits for nothing does not need the clock to go on.
func TestLastFailureIsShown(t *testing.T) {
	r := newReporter(nil, nil)
	c := r.of("f")
	c.last.Store(&Error{Place: "x.star:1:1", Text: "no"})
	c.at.Store(time.Now().UnixNano())
	if table := r.show(); len(table.Rows) != 1 {
		t.Errorf("%+v", table)
	}
}
