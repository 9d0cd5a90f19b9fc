// SPDX-License-Identifier: BSD-2-Clause

package star

import "slices"

// Classes describes all types of objects, in the order of the manual.
func Classes() []ClassDoc {
	return []ClassDoc{
		clientClass.describe(), mailClass.describe(), rcptClass.describe(), msgClass.describe(), partClass.describe(), verdictClass.describe(), notesClass.describe(),
		regexpClass.describe(), matchClass.describe(), tableClass.describe(), counterClass.describe(), memoryClass.describe(), blocklistClass.describe(),
	}
}

// Functions describes the words.
func Functions() []MemberDoc { return describeWords(words()) }

// DNSFunctions describes the words of the module dns.
func DNSFunctions() []MemberDoc { return describeWords(dnsWords()) }

func describeWords(list []word) (out []MemberDoc) {
	for _, w := range list {
		d := MemberDoc{w.name, w.sign, w.doc}
		if w.atLoad {
			d.Doc += ". At the top of a file only"
		}
		out = append(out, d)
	}
	return out
}

// Members are the names of a class's attributes and methods, sorted; none for a class that
// is unknown.
func Members(class string) []string {
	switch class {
	case clientClass.name:
		return clientClass.names
	case mailClass.name:
		return mailClass.names
	case rcptClass.name:
		return rcptClass.names
	case msgClass.name:
		return msgClass.names
	}
	return nil
}

// HasMember reports whether a class has an attribute or method.
func HasMember(class, name string) bool {
	_, found := slices.BinarySearch(Members(class), name)
	return found
}
