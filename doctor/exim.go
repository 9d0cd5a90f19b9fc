// SPDX-License-Identifier: BSD-2-Clause

package doctor

import "strings"

// readExim reads the domain lists of an Exim configuration: "domainlist local_domains = @ :
// example.com" (Exim specification, chapter 10), or Debian's dc_other_hostnames and
// dc_relay_domains (update-exim4.conf(8)). A line that ends with a backslash goes on in the
// next. Words that are look-ups are left out.
func readExim(path string) (*MTA, error) {
	m := &MTA{Name: "Exim", File: path, Timeout: 30}
	class, separators, goesOn := "", "", false
	err := eachLine(path, func(n int, line string) {
		line = strings.TrimSpace(line)
		list := line
		if !goesOn {
			class, list, separators = eximList(line)
		}
		if strings.HasPrefix(line, "#") {
			return // a comment, also between two lines of a list
		}
		list, goesOn = strings.CutSuffix(list, `\`)
		goesOn = goesOn || strings.HasSuffix(line, `\`)
		if class == "" {
			return
		}
		for _, word := range strings.FieldsFunc(list, func(r rune) bool { return strings.ContainsRune(separators, r) }) {
			word = strings.ToLower(strings.TrimSpace(word))
			if word == "" || strings.ContainsAny(word, "@!/${}+;*<") {
				continue
			}
			m.add(Place{word, class, path, n})
		}
	})
	return m, err
}

// eximList takes the first line of a list apart; class is empty for other lines. A list in
// Exim's own file may begin with its separator: "<; example.com ; example.org".
func eximList(line string) (class, list, separators string) {
	name, value, _ := strings.Cut(line, "=")
	value = strings.TrimSpace(value)
	switch strings.Join(strings.Fields(name), " ") {
	case "domainlist local_domains", "MAIN_LOCAL_DOMAINS":
		class = "local_domains"
	case "domainlist relay_to_domains", "MAIN_RELAY_TO_DOMAINS":
		class = "relay_domains"
	case "dc_other_hostnames":
		return "dc_other_hostnames", strings.Trim(value, `'"`), ";:"
	case "dc_relay_domains":
		return "relay_domains", strings.Trim(value, `'"`), ";:"
	default:
		return "", "", ""
	}
	separators = ":"
	if len(value) > 1 && value[0] == '<' {
		separators, value = value[1:2], value[2:]
	}
	return class, value, separators
}
