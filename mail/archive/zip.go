// SPDX-License-Identifier: BSD-2-Clause

package archive

import (
	"bufio"
	"bytes"
	"compress/flate"
	"encoding/binary"
	"io"
	"math"
	"unicode/utf8"

	"golang.org/x/text/encoding/charmap"
)

// Records of a zip file (APPNOTE.TXT 4.3.7 and 4.3.12).
const (
	localSize   = 30 // without the name
	centralSize = 46
	recordMax   = centralSize + 2*0xffff // with the name and the extra field
	windowSize  = 2 * recordMax
	flagCrypt   = 1
	flagUTF8    = 1 << 11
	flagBehind  = 1 << 3  // the sizes are behind the data
	flagMasked  = 1 << 13 // the directory is encrypted
	deflated    = 8
	// unsaid is a size that stands in an extra field (APPNOTE.TXT 4.4.8 and 4.4.9).
	unsaid = 0xffffffff
	// recordsPerName is how many records are looked at for each name that may be listed, and
	// extraMax how many extra fields of one: records may overlap.
	recordsPerName = 16
	extraMax       = 32
)

// packed is a file in a zip file that may be a zip file itself.
type packed struct {
	name   string
	offset int64 // of its data
}

// zipScan finds the records of zip files in data.
type zipScan struct {
	list   *lister
	prefix string // of the names
	// around is the stored file that the scan is in: names in it get its name.
	around    string
	aroundEnd int64
	local     map[string]string // names as they are written, and in UTF-8
	central   map[string]string
	packed    []packed
	found     bool
}

// zip lists what the records in the data name, and what is in zip files among them.
func (l *lister) zip(in io.Reader, open func() io.Reader) error {
	s := &zipScan{list: l, local: map[string]string{}, central: map[string]string{}}
	err := s.scan(in)
	if s.found {
		l.out.Kind = "zip"
	}
	if err == nil {
		err = l.inner(s.packed, open())
	}
	switch {
	case err != nil || !s.found && l.out.Kind == "":
		return err
	case len(s.central) == 0 && len(s.local) > 0 || !s.found:
		l.problem("broken")
	case !sameNames(s.local, s.central):
		l.problem("differ")
	}
	return nil
}

func sameNames(a, b map[string]string) bool {
	for name := range a {
		if _, ok := b[name]; !ok {
			return false
		}
	}
	return len(a) == len(b)
}

// scan goes over the data. Every octet is looked at once, records aside.
func (s *zipScan) scan(in io.Reader) error {
	r := bufio.NewReaderSize(in, windowSize)
	var at int64
	for {
		window, err := r.Peek(recordMax)
		if len(window) == 0 {
			if err == io.EOF {
				err = nil
			}
			return err
		}
		i := bytes.Index(window, []byte("PK"))
		switch {
		case i < 0 && err == nil:
			i = len(window) - 1 // a "P" may be the last octet
		case i < 0:
			i = len(window)
		case i == 0:
			if err := s.record(window, at); err != nil {
				return err
			}
			i = 1
		}
		n, _ := r.Discard(i) // what was peeked at
		at += int64(n)
		if err != nil && err != io.EOF && n == 0 {
			return err
		}
	}
}

// record reads the record that data may begin with.
func (s *zipScan) record(data []byte, at int64) error {
	switch {
	case bytes.HasPrefix(data, []byte("PK\x03\x04")) && len(data) >= localSize:
		return s.entry(entry{data: data, fields: data[6:], fixed: localSize, at: at})
	case bytes.HasPrefix(data, []byte("PK\x01\x02")) && len(data) >= centralSize:
		return s.entry(entry{data: data, fields: data[8:], fixed: centralSize, at: at, central: true})
	case bytes.HasPrefix(data, []byte("PK\x05\x06")):
		s.found = true
	}
	return nil
}

// entry is a record that names a file.
type entry struct {
	data    []byte
	fields  []byte // what both kinds of records have, from the flags on
	fixed   int    // octets before the name
	at      int64
	central bool
}

// entry adds the file that a record names.
func (s *zipScan) entry(e entry) error {
	le := binary.LittleEndian
	flags, method := le.Uint16(e.fields), le.Uint16(e.fields[2:])
	nameLen, extraLen := int(le.Uint16(e.fields[20:])), int(le.Uint16(e.fields[22:]))
	rest := e.data[e.fixed:]
	raw := rest[:min(nameLen, len(rest))]
	extra := rest[len(raw):min(len(raw)+extraLen, len(rest))]
	raw = raw[max(0, len(raw)-nameMax):]
	if len(raw) == 0 {
		return nil
	}
	if s.list.records++; s.list.records > recordsPerName*s.list.Names {
		return errNames
	}
	s.found = true
	names := s.local
	if e.central {
		names = s.central
	}
	name, seen := names[string(raw)]
	if !seen {
		name = zipName(raw, flags&flagUTF8 != 0)
		names[string(raw)] = name
	}
	prefix := s.prefix
	if e.at < s.aroundEnd {
		prefix += s.around
	}
	encrypted := flags&(flagCrypt|flagMasked) != 0
	other, sizes := readExtra(extra)
	unpacked := sizes.read(le.Uint32(e.fields[16:])) // it is the first of the two in the extra field
	size := sizes.read(le.Uint32(e.fields[12:]))
	if flags&flagBehind != 0 && !e.central {
		size, unpacked = -1, -1
	}
	for _, n := range []string{name, other} {
		if n != "" {
			if err := s.list.add(Entry{Name: prefix + n, Size: unpacked, Encrypted: encrypted}); err != nil {
				return err
			}
		}
	}
	if !e.central && !encrypted {
		begins := e.at + int64(e.fixed+nameLen+extraLen)
		switch {
		case method == deflated:
			s.packed = append(s.packed, packed{name: prefix + name, offset: begins})
		case method == 0 && size > 0 && e.at >= s.aroundEnd:
			s.around, s.aroundEnd = name[:min(len(name), nameMax/2)]+"/", begins+min(size, math.MaxInt64-begins)
		}
	}
	return nil
}

// zipName gives a name in UTF-8: it is UTF-8 or in the code page of DOS (APPNOTE.TXT,
// appendix D).
func zipName(raw []byte, isUTF8 bool) string {
	if isUTF8 || utf8.Valid(raw) {
		return string(bytes.ToValidUTF8(raw, []byte("\uFFFD")))
	}
	out, _ := charmap.CodePage437.NewDecoder().Bytes(raw) // every octet is a character
	return string(out)
}

// readExtra gives the name in the extra field of Info-ZIP (APPNOTE.TXT 4.6.9), or "", and the
// sizes in that of large files. The first of a kind counts.
func readExtra(extra []byte) (name string, sizes sizes64) {
	const large, unicode = 0x0001, 0x7075
	for n := 0; len(extra) >= 4 && n < extraMax; n++ {
		id, size := binary.LittleEndian.Uint16(extra), int(binary.LittleEndian.Uint16(extra[2:]))
		data := extra[4:min(4+size, len(extra))]
		switch {
		case id == unicode && len(data) > 5 && name == "":
			name = zipName(data[max(5, len(data)-nameMax):], true)
		case id == large && sizes == nil:
			sizes = data
		}
		extra = extra[4+len(data):]
	}
	return name, sizes
}

// sizes64 are the sizes that a record of 32 bits has no room for, one after the other
// (APPNOTE.TXT 4.5.3).
type sizes64 []byte

// read gives the size that a record says, in octets, or -1 if there cannot be such a size.
func (s *sizes64) read(said uint32) int64 {
	if said != unsaid {
		return int64(said)
	}
	if len(*s) < 8 {
		return -1
	}
	size := binary.LittleEndian.Uint64(*s)
	*s = (*s)[8:]
	if size > math.MaxInt64 {
		return -1
	}
	return int64(size)
}

// inner lists the zip files among the packed files, in the order of the data: one that begins
// before the end of the one before is passed over.
func (l *lister) inner(list []packed, in io.Reader) error {
	left := l.Bytes
	count := &counted{in: bufio.NewReaderSize(&limited{in: in, left: &left}, 32<<10)}
	var z io.ReadCloser
	unpacked := bufio.NewReaderSize(nil, windowSize)
	for _, p := range list {
		if p.offset < count.at {
			continue
		}
		if _, err := io.CopyN(io.Discard, count, p.offset-count.at); err != nil {
			return ignoreEOF(err)
		}
		if z == nil {
			z = flate.NewReader(count)
		} else if err := z.(flate.Resetter).Reset(count, nil); err != nil { // what NewReader makes has it
			return err
		}
		unpacked.Reset(l.unpacking(z))
		if head, _ := unpacked.Peek(4); string(head) != "PK\x03\x04" {
			if l.left <= 0 {
				return errBytes
			}
			continue
		}
		s := &zipScan{list: l, prefix: p.name + "/", local: map[string]string{}, central: map[string]string{}}
		if err := s.scan(unpacked); err == errBytes || err == errNames || l.err != nil {
			return err
		}
	}
	return nil
}

func ignoreEOF(err error) error {
	if err == io.EOF {
		return nil
	}
	return err
}

// counted counts what is read of a reader.
type counted struct {
	in *bufio.Reader
	at int64
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.in.Read(p)
	c.at += int64(n)
	return n, err
}

// ReadByte has flate read no more than it needs.
func (c *counted) ReadByte() (byte, error) {
	b, err := c.in.ReadByte()
	if err == nil {
		c.at++
	}
	return b, err
}
