// SPDX-License-Identifier: BSD-2-Clause

package bench

import (
	"bufio"
	"encoding/binary"
	"io"
	"os"
)

// writeCDB writes the alias file as a constant database (https://cr.yp.to/cdb/cdb.txt): a directory of 256 hash tables,
// the pairs, the tables.
func writeCDB(f *os.File, entries int, value func(int) string) error {
	const directory = 2048
	if _, err := f.Seek(directory, io.SeekStart); err != nil {
		return err
	}
	type slot struct{ hash, at uint32 }
	var tables [256][]slot
	out := bufio.NewWriterSize(f, 1<<20)
	pair := func(a, b uint32) { // out keeps the first error, and Flush says it
		_, _ = out.Write(binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(nil, a), b))
	}
	at := uint32(directory)
	for i := range entries {
		k, v := aliasName(i), value(i)
		pair(uint32(len(k)), uint32(len(v))) //nolint:gosec // short
		_, _ = out.WriteString(k)
		_, _ = out.WriteString(v)
		hash := uint32(5381)
		for j := range len(k) {
			hash = (hash<<5 + hash) ^ uint32(k[j])
		}
		tables[hash%256] = append(tables[hash%256], slot{hash, at}) //nolint:gosec // an array of 256
		at += uint32(8 + len(k) + len(v))                           //nolint:gosec // short
	}
	var head []byte
	for _, list := range tables {
		filled := make([]slot, 2*len(list))
		for _, s := range list {
			i := int(s.hash>>8) % len(filled)
			for filled[i].at != 0 {
				i = (i + 1) % len(filled)
			}
			filled[i] = s
		}
		head = binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(head, at), uint32(len(filled))) //nolint:gosec // short
		for _, s := range filled {
			pair(s.hash, s.at)
		}
		at += uint32(8 * len(filled)) //nolint:gosec // short
	}
	if err := out.Flush(); err != nil {
		return err
	}
	_, err := f.WriteAt(head, 0)
	return err
}
