// SPDX-License-Identifier: BSD-2-Clause

package doctor

import "strings"

// readExim reads the domain lists of an Exim configuration: "domainlist local_domains = @ :
// example.com" (Exim specification, chapter 10), or Debian's dc_other_hostnames and
// dc_relay_domains (update-exim4.conf(8)). Lists that are look-ups are left out.
func readExim(path string) (*MTA, error) {
	m := &MTA{Name: "Exim", File: path, Timeout: 30}
	err := eachLine(path, func(n int, line string) {
		class, list, separator := eximList(strings.TrimSpace(line))
		for word := range strings.SplitSeq(list, separator) {
			word = strings.ToLower(strings.TrimSpace(word))
			if word == "" || strings.ContainsAny(word, "@!/${}+;*") {
				continue
			}
			m.add(Place{word, class, path, n})
		}
	})
	return m, err
}

// eximList takes a line that is one of the lists apart.
func eximList(line string) (class, list, separator string) {
	name, value, _ := strings.Cut(line, "=")
	value = strings.TrimSpace(value)
	switch strings.Join(strings.Fields(name), " ") {
	case "domainlist local_domains", "MAIN_LOCAL_DOMAINS":
		return "local_domains", value, ":"
	case "domainlist relay_to_domains":
		return "relay_domains", value, ":"
	case "dc_other_hostnames":
		return "dc_other_hostnames", strings.Trim(value, `'"`), ";"
	case "dc_relay_domains":
		return "relay_domains", strings.Trim(value, `'"`), ";"
	}
	return "", "", ":"
}
