// SPDX-License-Identifier: BSD-2-Clause

// Package archive lists the names in archives that strangers send: zip, tar, gzip and bzip2,
// and zip in zip. It reads forwards, keeps a window of the archive in memory, and stops at
// limits of names and octets, so that no archive, however it is made, costs more.
//
// A zip file says twice what is in it, before each file and in the directory at its end, and
// programs differ in whom they believe. Both are listed, wherever in the data they stand: a
// zip file may begin with a program that unpacks it, be cut off, or be several in one.
//
// Sources: PKWARE's APPNOTE.TXT 6.3.10 sections 4.3 to 4.6 (zip), RFC 1952 (gzip), tar(5).
package archive

import (
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"rcptgate/mail"
)

// Limits bound what is listed. Fields that are 0 have the value of [DefaultLimits].
type Limits struct {
	Names    int   // entries
	Bytes    int64 // octets that are read
	Unpacked int64 // octets that are unpacked to find more names
}

// DefaultLimits hold for fields that are 0.
func DefaultLimits() Limits { return Limits{Names: 1000, Bytes: 64 << 20, Unpacked: 64 << 20} }

// nameMax is how much of a name is kept, in octets: its end.
const nameMax = 1024

// Entry is one file in an archive.
type Entry struct {
	// Name is as it is written, folders included, in UTF-8 and at most the last 1 KiB of it.
	// That of a file in a zip file in the archive begins with the zip file's name and a slash.
	// If a program would cut the name or leave characters out (a NUL, dots and spaces at the
	// end, characters that cannot be seen), what it shows is another entry.
	Name string
	// Size is unpacked, in octets, as the archive says, or -1. If it says it twice, it is the
	// larger one.
	Size      int64
	Encrypted bool // with a password
}

// Listing is what is in an archive.
type Listing struct {
	// Kind is "zip", "tar", "gzip", "bzip2", or what is known but cannot be listed: "7z",
	// "rar", "xz", "zstd", "cab", "arj", "ace", "lzh", "iso". It is "" if the data is not an
	// archive. The data decides, not its name.
	Kind string
	// Entries are in the order in which they are found. A gzip or bzip2 file in which there
	// is not a tar file has one at most: the name that it was packed with.
	Entries []Entry
	// Problem says why the list may not be what a program shows, or is "":
	//
	//	names        there are more names than Limits.Names
	//	bytes        there is more data than Limits.Bytes or Limits.Unpacked
	//	broken       the archive is cut off or damaged
	//	differ       the names in a zip file and those in its directory differ
	//	unsupported  the kind cannot be listed
	Problem string
	// Unpacked is how many octets were unpacked.
	Unpacked int64
}

// sniffed is how much of the data decides what kind it is: enough for ISO 9660.
const sniffed = 32774

// magic is what the data of a kind has at an offset.
var magic = [...]struct {
	offset int
	octets string
	kind   string
}{
	{0, "PK\x03\x04", "zip"}, {0, "PK\x05\x06", "zip"}, {0, "PK\x07\x08", "zip"}, {0, "\x1f\x8b", "gzip"}, {0, "BZh", "bzip2"},
	{257, "ustar", "tar"}, {0, "7z\xbc\xaf\x27\x1c", "7z"}, {0, "Rar!\x1a\x07", "rar"}, {0, "\xfd7zXZ\x00", "xz"},
	{0, "\x28\xb5\x2f\xfd", "zstd"}, {0, "MSCF\x00\x00\x00\x00", "cab"}, {0, "\x60\xea", "arj"}, {7, "**ACE**", "ace"}, {2, "-lh", "lzh"},
	{32769, "CD001", "iso"},
}

// Kind gives the kind of an archive that begins with head, or "". A tar file is known by its
// first 512 octets, an ISO image by its first 32 KiB.
func Kind(head []byte) string {
	for _, m := range magic {
		if len(head) > m.offset && bytes.HasPrefix(head[m.offset:], []byte(m.octets)) {
			return m.kind
		}
	}
	if isOldTar(head) {
		return "tar"
	}
	return ""
}

// isOldTar reports whether data begins with a header of tar from before POSIX, which is known by
// its checksum alone: the sum of its octets, those of the checksum taken as blanks, in octal.
func isOldTar(head []byte) bool {
	const size, at, length = 512, 148, 8
	if len(head) < size || head[0] == 0 {
		return false
	}
	sum := int64(length * ' ')
	for i, c := range head[:size] {
		if i < at || i >= at+length {
			sum += int64(c)
		}
	}
	said, err := strconv.ParseInt(strings.Trim(string(head[at:at+length]), " \x00"), 8, 64)
	return err == nil && said == sum
}

// errBytes ends reading at Limits.Bytes.
var errBytes = errors.New("more octets than are read")

// limited reads until its octets are used up.
type limited struct {
	in   io.Reader
	left *int64
	work func(octets int) error // nil: it need not be known
}

func (l *limited) Read(p []byte) (int, error) {
	if *l.left <= 0 {
		return 0, errBytes
	}
	n, err := l.in.Read(p[:min(int64(len(p)), *l.left)])
	*l.left -= int64(n)
	if l.work != nil && n > 0 {
		if failed := l.work(n); failed != nil {
			return 0, failed
		}
	}
	return n, err
}

// source is the data, and remembers why it could not be read.
type source struct {
	in   io.Reader
	list *lister
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.in.Read(p)
	if err != nil && err != io.EOF {
		s.list.err = err
	}
	return n, err
}

// lister makes one listing.
type lister struct {
	Limits
	out   Listing
	names map[string]int // where they stand in out.Entries
	left  int64          // octets that may still be unpacked
	// records are those of zip files that were looked at.
	records int
	err     error // of reading the data, or of work
	work    func(octets int) error
}

// unpacking reads what is unpacked.
func (l *lister) unpacking(in io.Reader) *limited {
	return &limited{in, &l.left, func(n int) error {
		l.out.Unpacked += int64(n)
		if l.work == nil {
			return nil
		}
		err := l.work(n)
		if err != nil {
			l.err = err
		}
		return err
	}}
}

// List lists the data that open reads from its beginning; it may be called twice. An error is
// that of reading, or of work, which is called with each number of octets that were unpacked,
// and may be nil. Data that does not begin like an archive may have a zip file further down.
func List(open func() io.Reader, limits Limits, work func(octets int) error) (Listing, error) {
	d := DefaultLimits()
	if limits.Names <= 0 {
		limits.Names = d.Names
	}
	if limits.Bytes <= 0 {
		limits.Bytes = d.Bytes
	}
	if limits.Unpacked <= 0 {
		limits.Unpacked = d.Unpacked
	}
	l := &lister{Limits: limits, names: map[string]int{}, left: limits.Unpacked, work: work}
	left := limits.Bytes
	in := &limited{in: &source{open(), l}, left: &left}
	head := make([]byte, sniffed)
	n, _ := io.ReadFull(in, head) // what is wrong comes again
	l.out.Kind = Kind(head[:n])
	var err error
	whole := io.MultiReader(bytes.NewReader(head[:n]), in)
	switch l.out.Kind {
	case "zip", "":
		err = l.zip(whole, func() io.Reader { return &source{open(), l} })
	case "tar":
		err = l.tar(whole)
	case "gzip":
		err = l.gzip(whole)
	case "bzip2":
		err = l.tarIn(bzip2.NewReader(whole), "")
	default:
		l.problem("unsupported")
	}
	switch {
	case l.err != nil:
		return l.out, fmt.Errorf("read an archive: %w", l.err)
	case errors.Is(err, errBytes):
		l.problem("bytes")
	case errors.Is(err, errNames):
		l.problem("names")
	case err != nil:
		l.problem("broken")
	}
	return l.out, nil
}

// problem remembers the first thing that is wrong.
func (l *lister) problem(word string) {
	if l.out.Problem == "" {
		l.out.Problem = word
	}
}

// errNames ends a listing at Limits.Names.
var errNames = errors.New("more names than are listed")

// add adds an entry, each name once, and what programs make of its name that cut it or leave
// out what cannot be seen.
func (l *lister) add(e Entry) error {
	e.Name, _ = mail.ToUTF8("utf-8", []byte(e.Name))
	e.Name = ending(e.Name)
	whole := e.Name
	if err := l.addOne(e); err != nil {
		return err
	}
	for _, e.Name = range mail.Spellings(whole) {
		if !strings.HasSuffix(whole, e.Name) {
			if err := l.addOne(e); err != nil {
				return err
			}
		}
	}
	return nil
}

func (l *lister) addOne(e Entry) error {
	if e.Name == "" {
		return nil
	}
	if at, ok := l.names[e.Name]; ok {
		seen := &l.out.Entries[at]
		seen.Size, seen.Encrypted = max(seen.Size, e.Size), seen.Encrypted || e.Encrypted
		return nil
	}
	if len(l.out.Entries) >= l.Names {
		return errNames
	}
	l.names[e.Name] = len(l.out.Entries)
	l.out.Entries = append(l.out.Entries, e)
	return nil
}

// ending gives as much of a name as is kept: its end, which says what a file is.
func ending(name string) string {
	if n := len(name); n > nameMax {
		return strings.ToValidUTF8(name[n-nameMax:], "")
	}
	return name
}

// gzip lists a gzip file.
func (l *lister) gzip(in io.Reader) error {
	z, err := gzip.NewReader(in)
	if err != nil {
		return err
	}
	return l.tarIn(z, z.Name)
}
