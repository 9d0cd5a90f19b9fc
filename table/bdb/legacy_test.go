// SPDX-License-Identifier: BSD-2-Clause

package bdb_test

import (
	"encoding/binary"
	"strings"
	"testing"
)

// older makes of a file of version 9 one as an earlier or later library would have
// written it: the version, the log sequence number that stood where the last page
// is since 4.1, and the type of hash pages, which were unsorted before version 9.
// The rest of what is read has not changed since Berkeley DB 3.1.
func older(data []byte, version uint32) []byte {
	order := binary.ByteOrder(binary.LittleEndian)
	if binary.LittleEndian.Uint32(data[12:]) > 1<<24 {
		order = binary.BigEndian
	}
	order.PutUint32(data[16:], version)
	hash := data[25] == 8
	if hash && version == 7 || !hash && version == 8 {
		order.PutUint32(data[32:], 0xfffffff0)
		order.PutUint32(data[36:], 7)
	}
	for at := pageSizeOf(data); hash && version < 9 && at < len(data); at += pageSizeOf(data) {
		if data[at+25] == 13 {
			data[at+25] = 2
			unsort(data[at:at+pageSizeOf(data)], order)
		}
	}
	return data
}

// unsort exchanges the first two keys of a page if their items are of equal length,
// and so are their values.
func unsort(p []byte, order binary.ByteOrder) {
	if order.Uint16(p[20:]) < 4 {
		return
	}
	end := len(p)
	var item [4][]byte
	for i := range item {
		at := int(order.Uint16(p[26+2*i:]))
		item[i] = p[at:end]
		end = at
	}
	if len(item[0]) != len(item[2]) || len(item[1]) != len(item[3]) {
		return
	}
	for i := range 2 {
		for j := range item[i] {
			item[i][j], item[i+2][j] = item[i+2][j], item[i][j]
		}
	}
}

// TestOlderVersions can only go by what is known of the old layouts: Debian 12 has
// no program that writes them. The order on unsorted pages is the file's own.
func TestOlderVersions(t *testing.T) {
	tried := 0
	for _, s := range samples {
		data := mustRead(t, sampleFile(s.name))
		if data[26] != 0 {
			continue // checksums would have to be made anew
		}
		want, err := scanned(data)
		if err != nil {
			t.Fatal(err)
		}
		versions := []uint32{8, 9, 10}
		if strings.HasPrefix(s.name, "hash") {
			versions = append(versions, 7)
		}
		for _, version := range versions {
			got, err := scanned(older(mustRead(t, sampleFile(s.name)), version))
			if err != nil {
				t.Errorf("%s as version %d: %v", s.name, version, err)
				continue
			}
			samePairs(t, s.name, sortedPairs(got), sortedPairs(want))
			tried++
		}
	}
	if tried < 30 {
		t.Errorf("only %d files tried", tried)
	}
}

// TestUnsortedPages checks that order counts on sorted pages only.
func TestUnsortedPages(t *testing.T) {
	data := mustRead(t, sampleFile("hash"))
	for at := 512; at < len(data); at += 512 {
		if data[at+25] == 13 {
			unsort(data[at:at+512], binary.LittleEndian)
		}
	}
	if _, err := scanned(data); err == nil || !strings.Contains(err.Error(), "not in the order of a sorted page") {
		t.Errorf("keys exchanged on sorted pages: %v", err)
	}
}
