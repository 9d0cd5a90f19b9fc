// SPDX-License-Identifier: BSD-2-Clause

package alias

import (
	"rcptgate/table"
	"rcptgate/table/lists"
)

// Use says what a file is read for, and so which reader it needs.
type Use uint8

// The uses.
const (
	UseAliases Use = iota // an alias database
	UseMap                // virtusertable, virtual_alias_maps
	UseClass              // a domain a line
	UseUsers              // passwd(5)
)

// String is the use in one word.
func (u Use) String() string {
	return [...]string{"aliases", "map", "class", "passwd"}[u]
}

// NamesFormat gives the reader for a use that no type of table has: class files and
// passwd(5); ok is false for the others. Of a line only the name counts: it becomes a
// key without a value.
func NamesFormat(u Use) (f table.Format, ok bool) {
	switch u {
	case UseClass:
		return lists.ClassFile(), true
	case UseUsers:
		return lists.Passwd(), true
	case UseAliases, UseMap:
	}
	return nil, false
}
