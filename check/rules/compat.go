// SPDX-License-Identifier: BSD-2-Clause

package rules

import (
	"fmt"
	"strconv"
	"strings"

	"rcptgate/kit/smtpcode"
	"rcptgate/pattern"
)

// compatTag marks the entries of an access map that compat_check reads.
const compatTag = "compat:"

// readCompat reads an entry of Sendmail's access map: Compat:SENDER<@>RECIPIENT, and forms
// that Sendmail never looks up: @domain, @.domain and user@ on either side, and no sender at
// all, which is every sender except the null one. Other entries are not ours.
func readCompat(key, value string) (sender, recipient pattern.Key, kept, note string, err error) {
	if len(key) < len(compatTag) || !strings.EqualFold(key[:len(compatTag)], compatTag) {
		return sender, recipient, "", "", errNotOurs
	}
	first, second, ok := strings.Cut(key[len(compatTag):], between)
	if !ok {
		return sender, recipient, "", fmt.Sprintf("%q has no %q between sender and recipient: the entry is ignored", key, between), errNotOurs
	}
	switch {
	case first == "":
		sender = pattern.Key{Form: pattern.FormAny, Text: "*"}
	case first != "<>" && !strings.Contains(first, "@"), !strings.Contains(second, "@"):
		return sender, recipient, "", fmt.Sprintf("%q names an address without a domain: Sendmail compares such a name after aliases are expanded, the gate sees the address that was given; the entry is ignored", key), errNotOurs
	default:
		sender, err = pattern.ExactKey(first)
	}
	if err == nil {
		recipient, err = pattern.ExactKey(second)
	}
	if err != nil || recipient.Form == pattern.FormNull {
		return sender, recipient, "", fmt.Sprintf("%q is not a pair of addresses: the entry is ignored", key), errNotOurs
	}
	return sender, recipient, value, compatNote(key, value), nil
}

// compatNote says where Sendmail takes a value otherwise than the gate.
func compatNote(key, value string) string {
	_, known := compatValue(value)
	o := parseCompat(value)
	switch {
	case known:
		return ""
	case o.act == Pass:
		return fmt.Sprintf("%q: the value %q means nothing: expected DISCARD, TEMP:4xy TEXT, ERROR:5xy TEXT or OK", key, value)
	}
	return fmt.Sprintf("%q: Sendmail's compat_check ignores the value %q, the gate obeys it; write ERROR:5xy TEXT", key, value)
}

// compatValue reads the values that compat_check knows, as its ruleset does
// (cf/feature/compat_check.m4): words in any case.
func compatValue(value string) (o outcome, known bool) {
	word, rest, tagged := strings.Cut(value, ":")
	is := func(s string) bool { return strings.EqualFold(word, s) }
	first, _, _ := strings.Cut(strings.TrimSpace(value), " ")
	switch {
	case tagged && is("DISCARD"), strings.EqualFold(first, "DISCARD"):
		return outcome{Discard, verdictOf(nameAccess, Discard, 0, "", "")}, true
	case tagged && is("TEMP"):
		return compatRefusal(Tempfail, rest), true
	case tagged && is("ERROR"):
		return compatRefusal(Reject, rest), true
	case !tagged && (is("OK") || is("RELAY") || is("SKIP") || value == ""):
		return outcome{act: Pass}, true
	}
	return outcome{act: Pass}, false
}

// parseCompat is compatValue, and what Sendmail ignores although it is meant to refuse:
// REJECT, and a text that begins with a reply code.
func parseCompat(value string) outcome {
	o, known := compatValue(value)
	if known {
		return o
	}
	if strings.EqualFold(value, "REJECT") {
		return compatRefusal(Reject, "")
	}
	if code, _, _ := cutReply(strings.Trim(value, `"`)); code/100 == 4 || code/100 == 5 {
		return compatRefusal(Reject, value)
	}
	return outcome{act: Pass}
}

// compatRefusal makes a verdict of "### text", "D.S.N:### text" or text alone. A code of the
// other class decides whether the refusal is for good.
func compatRefusal(act Action, text string) outcome {
	text = strings.TrimSpace(strings.ReplaceAll(text, `"`, ""))
	status := ""
	if before, after, ok := strings.Cut(text, ":"); ok && smtpcode.Is(before) && before[0] != '2' {
		status, text = before, strings.TrimSpace(after)
	}
	code, enhanced, text := cutReply(text)
	if enhanced == "" {
		enhanced = status
	}
	if act == Reject && code/100 == 4 {
		act = Tempfail
	}
	return outcome{act, verdictOf(nameAccess, act, code, enhanced, text)}
}

// cutReply takes a reply code and an enhanced status code off the beginning of a text.
func cutReply(text string) (code int, enhanced, rest string) {
	first, after, _ := strings.Cut(text, " ")
	if n, err := strconv.Atoi(first); err == nil && len(first) == 3 && n >= 400 && n < 600 {
		code, text = n, strings.TrimSpace(after)
	}
	if first, after, _ = strings.Cut(text, " "); smtpcode.Is(first) && first[0] != '2' {
		enhanced, text = first, strings.TrimSpace(after)
	}
	return code, enhanced, text
}
