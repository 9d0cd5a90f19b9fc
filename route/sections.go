// SPDX-License-Identifier: BSD-2-Clause

package route

import (
	"errors"
	"fmt"
	"strings"

	"rcptgate/address"
	"rcptgate/config/setting"
)

// Sections finds the [[domain]] section that applies to a domain. A unit that has a part
// in these sections keeps its parts in a list in the order of the configuration, and
// indexes it with what [Sections.Find] gives. Sections does not change once made and is
// safe for concurrent use; the zero Sections has no sections.
type Sections struct {
	exact map[string]int // by domain
	below map[string]int // by the suffix without its leading dot
	star  int            // 1 + the index of "*"; 0: there is none
	names []string       // canonical, in order
}

// readSections reads the names of the [[domain]] sections, in the order of the
// configuration: "example.com", ".example.com" (everything below it) or "*". Each error is a
// [setting.KeyError] with the key "domain[N].name", N counted from 1.
func readSections(names []string) (s *Sections, wrong []error) {
	s = &Sections{exact: make(map[string]int), below: make(map[string]int)}
	for i, name := range names {
		if err := s.add(i, name); err != nil {
			wrong = append(wrong, setting.Keyf(fmt.Sprintf("domain[%d].name", i+1), "%q: %w", name, err))
		}
	}
	return s, wrong
}

func (s *Sections) add(index int, written string) error {
	name, err := sectionName(written)
	s.names = append(s.names, name)
	if err != nil {
		return err
	}
	list, key := s.exact, name
	switch {
	case name == "*":
		if s.star != 0 {
			return fmt.Errorf("section %d has this name already", s.star)
		}
		s.star = index + 1
		return nil
	case name[0] == '.':
		list, key = s.below, name[1:]
	}
	if other, ok := list[key]; ok {
		return fmt.Errorf("section %d has this name already", other+1)
	}
	list[key] = index
	return nil
}

// Find gives the index of the most specific section for a domain in canonical form
// ([rcptgate.Mailbox.Domain], [address.Domain]): the domain itself, then the longest
// ".suffix", then "*". It is -1 if no section applies, and for the empty domain of a
// bare user name. An address literal has no suffixes. Find does not allocate.
func (s *Sections) Find(domain string) int {
	if domain == "" {
		return -1
	}
	if i, ok := s.exact[domain]; ok {
		return i
	}
	if len(s.below) > 0 && domain[0] != '[' {
		for rest := domain; ; {
			dot := strings.IndexByte(rest, '.')
			if dot < 0 {
				break
			}
			rest = rest[dot+1:]
			if i, ok := s.below[rest]; ok {
				return i
			}
		}
	}
	return s.star - 1
}

// sectionName checks a section's name and gives its canonical form.
func sectionName(name string) (string, error) {
	const allowed = `expected "example.com", ".example.com" (everything below it) or "*"`
	switch {
	case name == "*":
		return name, nil
	case name == "":
		return "", errors.New("the name is missing; " + allowed)
	case strings.HasPrefix(name, "*."):
		return "", fmt.Errorf("patterns are not supported: did you mean %q? (%s)", name[1:], allowed)
	case strings.Contains(name, "@"):
		return "", errors.New("this is an address, not a domain: " + allowed)
	}
	dot := ""
	bare := name
	if strings.HasPrefix(name, ".") {
		dot, bare = ".", name[1:]
	}
	domain := address.Domain(bare)
	literal := dot == "" && strings.HasPrefix(domain, "[") && strings.HasSuffix(domain, "]")
	if !literal && !isDomain(domain) {
		return "", errors.New("this is not a domain: " + allowed)
	}
	return dot + domain, nil
}

// isDomain reports whether s looks like a domain in A-labels. Underscores occur.
func isDomain(s string) bool {
	if s == "" || len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 {
			return false
		}
		for i := range len(label) {
			c := label[i]
			if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
				return false
			}
		}
	}
	return true
}
