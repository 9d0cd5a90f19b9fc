// SPDX-License-Identifier: BSD-2-Clause

package memcached

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"rcptgate/kit/term"
	"rcptgate/store"
)

// The list of what was forgotten lies under "PREFIX:forgotten" on every server:
//
//	rgf1
//	epoch   when
//	forget  generation address user@example.org
//	forget  generation domain example.org
//	forget  generation all
//	by      generation gateway
//
// Fields are separated by TAB; the patterns are escaped as in a record. The epoch is when
// the list was begun because no server had one, UNIX nanoseconds: a gateway that knew
// another one may have missed something. A line "by" names, for people, the gateway that
// gave the order of that generation. Lines with other names are for later versions.
const listVersion = "rgf1"

// encodeList writes a set in the order of time.
func encodeList(s store.Tombstones, by map[int64]string, epoch int64) []byte {
	b := append(make([]byte, 0, 64*(len(s)+1)), listVersion+"\nepoch\t"...)
	b = append(strconv.AppendInt(b, epoch, 10), '\n')
	patterns := slices.SortedFunc(maps.Keys(s), func(a, b store.Pattern) int {
		return cmp.Or(cmp.Compare(s[a], s[b]), cmp.Compare(a.String(), b.String()))
	})
	for i, p := range patterns {
		b = append(b, "forget\t"...)
		b = strconv.AppendInt(b, s[p], 10)
		switch {
		case p.Address != "":
			b = escaped(append(b, "\taddress"...), p.Address)
		case p.Domain != "":
			b = escaped(append(b, "\tdomain"...), p.Domain)
		default:
			b = append(b, "\tall"...)
		}
		b = append(b, '\n')
		if name := by[s[p]]; name != "" && i >= len(patterns)-maxNamed {
			b = append(b, "by\t"...)
			b = strconv.AppendInt(b, s[p], 10)
			b = append(escaped(b, name), '\n')
		}
	}
	return b
}

// decodeList reads what encodeList writes; everything else is errForm. Tombstones after
// latest are left out and counted.
func decodeList(value []byte, latest int64) (s store.Tombstones, by map[int64]string, epoch int64, late int, err error) {
	head, rest, ok := strings.Cut(string(value), "\n")
	if !ok || head != listVersion {
		return nil, nil, 0, 0, formf("the first line is not %q", listVersion)
	}
	s, by = store.Tombstones{}, map[int64]string{}
	for rest != "" && err == nil {
		var line string
		if line, rest, ok = strings.Cut(rest, "\n"); !ok {
			return nil, nil, 0, 0, formf("the last line does not end")
		}
		f := fields{strings.Split(line, "\t")}
		switch f.text() {
		case "epoch":
			if len(f.list) != 1 {
				return nil, nil, 0, 0, formf("a line \"epoch\" has %s", term.Count(len(f.list), "field"))
			}
			epoch, err = f.number(nil, math.MaxInt64)
		case "forget":
			var p store.Pattern
			var when int64
			if p, when, err = tombstone(f); when > latest {
				late++
			} else {
				s[p] = max(s[p], when)
			}
		case "by":
			if when, name, ok := gatewayOf(f); ok && len(by) < store.MaxTombstones {
				by[when] = name
			}
		}
	}
	if err != nil {
		return nil, nil, 0, 0, err
	}
	return s, by, epoch, late, nil
}

const (
	maxGateway = 255 // octets of a gateway's name
	maxNamed   = 500 // the newest forgets, of which the list says who ordered them
)

// gatewayOf reads the rest of a line "by". What cannot be read is left out: it is for
// people.
func gatewayOf(f fields) (when int64, name string, ok bool) {
	if len(f.list) != 2 {
		return 0, "", false
	}
	when, err := f.number(nil, math.MaxInt64)
	name, err = f.unescape(err)
	return when, name, err == nil && len(name) <= maxGateway && printable(name)
}

func tombstone(f fields) (p store.Pattern, when int64, err error) {
	if len(f.list) < 2 {
		return p, 0, formf("a line \"forget\" has %s", term.Count(len(f.list), "field"))
	}
	when, err = f.number(nil, math.MaxInt64)
	kind := f.text()
	if kind == "all" && len(f.list) == 0 {
		return p, when, err
	}
	if len(f.list) != 1 || (kind != "address" && kind != "domain") {
		return p, 0, formf("a line \"forget\" is of the kind %.20q", kind)
	}
	name, err := f.unescape(err)
	if err == nil && (name == "" || len(name) > store.MaxKey) {
		err = formf("a pattern of %d octets", len(name))
	}
	if kind == "address" {
		return store.Pattern{Address: name}, when, err
	}
	return store.Pattern{Domain: name}, when, err
}
