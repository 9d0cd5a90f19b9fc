// SPDX-License-Identifier: BSD-2-Clause

package tabletest

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"strconv"
)

// ParseHexDump reads what db_dump(1) and mdb_dump(1) print.
func ParseHexDump(dump []byte) ([]Pair, error) {
	_, body, found := bytes.Cut(dump, []byte("HEADER=END\n"))
	if !found {
		return nil, fmt.Errorf("no header in %.60q", dump)
	}
	body, _, found = bytes.Cut(body, []byte("DATA=END"))
	if !found {
		return nil, fmt.Errorf("the dump has no end")
	}
	var all []Pair
	var octets [2]string
	n := 0
	for line := range bytes.Lines(body) {
		b, err := hex.AppendDecode(nil, bytes.TrimSpace(line))
		if err != nil {
			return nil, err
		}
		octets[n%2] = string(b)
		if n++; n%2 == 0 {
			all = append(all, Pair{octets[0], octets[1]})
		}
	}
	return all, nil
}

// HexDump writes what db_load(1) and mdb_load(1) read, with further header lines.
func HexDump(pairs []Pair, header ...string) []byte {
	b := []byte("VERSION=3\nformat=bytevalue\n")
	for _, line := range header {
		b = append(append(b, line...), '\n')
	}
	b = append(b, "HEADER=END\n"...)
	for _, p := range pairs {
		for _, s := range []string{p.Key, p.Value} {
			b = append(hex.AppendEncode(append(b, ' '), []byte(s)), '\n')
		}
	}
	return append(b, "DATA=END\n"...)
}

// ParseCDBDump reads what "cdb -d" prints: +klen,dlen:key->data.
func ParseCDBDump(dump []byte) ([]Pair, error) {
	var all []Pair
	for len(dump) > 0 && dump[0] == '+' {
		head, rest, found := bytes.Cut(dump[1:], []byte(":"))
		klen, dlen, comma := bytes.Cut(head, []byte(","))
		k, err1 := strconv.Atoi(string(klen))
		d, err2 := strconv.Atoi(string(dlen))
		if !found || !comma || err1 != nil || err2 != nil || k+d+3 > len(rest) {
			return nil, fmt.Errorf("bad line %.60q", dump)
		}
		all = append(all, Pair{string(rest[:k]), string(rest[k+2 : k+2+d])})
		dump = rest[k+2+d+1:]
	}
	if string(dump) != "\n" {
		return nil, fmt.Errorf("the dump ends with %.60q", dump)
	}
	return all, nil
}

// CDBDump writes what "cdb -c" reads.
func CDBDump(pairs []Pair) []byte {
	var b bytes.Buffer
	for _, p := range pairs {
		fmt.Fprintf(&b, "+%d,%d:%s->%s\n", len(p.Key), len(p.Value), p.Key, p.Value)
	}
	b.WriteByte('\n')
	return b.Bytes()
}

// Random makes pairs with different keys of all octet values: sizes from 0 to many
// entries, keys up to maxKey octets, values up to 70,000, limit octets altogether.
func Random(r *rand.Rand, maxKey, limit int) []Pair {
	n := []int{0, 1, 2 + r.IntN(20), r.IntN(300), r.IntN(3000), r.IntN(20000)}[r.IntN(6)]
	longKeys, longValues := r.IntN(3) == 0, r.IntN(3) == 0
	seen := make(map[string]bool, n)
	var all []Pair
	for total := 0; len(all) < n && total < limit; {
		klen := 1 + r.IntN(min(30, maxKey))
		if longKeys && r.IntN(20) == 0 {
			klen = 1 + r.IntN(maxKey)
		}
		vlen := r.IntN(60)
		if longValues && r.IntN(30) == 0 {
			vlen = r.IntN(70001)
		}
		p := Pair{noise(r, klen), noise(r, vlen)}
		if total += klen + vlen; !seen[p.Key] {
			seen[p.Key] = true
			all = append(all, p)
		}
	}
	return all
}

func noise(r *rand.Rand, n int) string {
	b := make([]byte, n)
	few := r.IntN(2) == 0
	for i := range b {
		if b[i] = byte(r.Uint32()); few { // #nosec G115 -- the low octet
			b[i] = 'a' + b[i]%6
		}
	}
	return string(b)
}
