// SPDX-License-Identifier: BSD-2-Clause

package setting

import (
	"fmt"
	"strconv"
	"strings"
)

// Size is a number of octets, written as a whole number with a unit of 1024: "200MB", "10K",
// "512". The zero value is 0.
type Size int64

// MaxSize is the greatest size a setting takes: 1 PB.
const MaxSize Size = 1 << 50

var sizeUnits = []struct {
	name string
	bits uint
}{{"T", 40}, {"G", 30}, {"M", 20}, {"K", 10}, {"", 0}}

// ParseSize reads a size: a whole number and B, KB, MB, GB or TB, which count by 1024; K, KiB
// and so on mean the same. Case does not matter.
func ParseSize(s string) (Size, error) {
	digits := strings.TrimRight(s, "BbKkMmGgTtIi")
	n, err := strconv.ParseUint(digits, 10, 63)
	unit := strings.ToUpper(s[len(digits):])
	if unit = strings.TrimSuffix(unit, "B"); len(unit) == 2 {
		unit = strings.TrimSuffix(unit, "I")
	}
	for _, u := range sizeUnits {
		if err == nil && unit == u.name && n <= uint64(MaxSize)>>u.bits {
			return Size(n << u.bits), nil
		}
	}
	return 0, fmt.Errorf("%q is not a size; expected a number with B, KB, MB, GB or TB, up to 1024TB, as in \"200MB\"", s)
}

// String writes s in the largest unit that loses nothing.
func (s Size) String() string {
	for _, u := range sizeUnits {
		if s != 0 && s%(1<<u.bits) == 0 {
			return strconv.FormatInt(int64(s)>>u.bits, 10) + u.name + "B"
		}
	}
	return "0"
}

// MarshalText writes s as String does.
func (s Size) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads a size.
func (s *Size) UnmarshalText(text []byte) error {
	parsed, err := ParseSize(string(text))
	if err != nil {
		return err
	}
	*s = parsed
	return nil
}

// Form says what a size is written like.
func (Size) Form() string { return `a size such as "200MB"` }
