// SPDX-License-Identifier: BSD-2-Clause

package bdb

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"math/bits"
	"strconv"
	"strings"

	"rcptgate/kit/term"
	"rcptgate/table"
)

const (
	metaSize    = 512 // what is used of the meta page, whatever the page size
	metaSumAt   = 492
	minPageSize = 512
	maxPageSize = 65536

	magicHash  = 0x061561
	magicBtree = 0x053162
	magicQueue = 0x042253
	magicHeap  = 0x074582

	pageHashMeta  = 8
	pageBtreeMeta = 9

	metaChecksum  = 0x01
	metaPartition = 0x06

	hashDup     = 0x01
	hashSub     = 0x02
	hashDupSort = 0x04
	hashKnown   = hashDup | hashSub | hashDupSort

	btreeDup      = 0x01
	btreeRecno    = 0x02
	btreeSub      = 0x20
	btreeDupSort  = 0x40
	btreeCompress = 0x80
	btreeKnown    = 0xff

	spareCount = 32
)

type kind uint8

const (
	kindHash kind = iota
	kindBtree
)

// meta is what the meta page says, checked as far as one page can be.
type meta struct {
	kind     kind
	big      bool // byte order of the file
	checksum bool
	dup      bool // several values of one key are allowed
	dupSort  bool
	version  uint32
	pageSize int
	pages    uint32 // in the file, by its size
	head     int    // where the items' offsets begin on a page

	// Btree.
	root uint32

	// Hash.
	maxBucket, highMask, lowMask uint32
	fill, keys                   uint32
	spares                       [spareCount]uint32
}

func (m *meta) u16(b []byte, at int) int {
	if m.big {
		return int(binary.BigEndian.Uint16(b[at:]))
	}
	return int(binary.LittleEndian.Uint16(b[at:]))
}

func (m *meta) u32(b []byte, at int) uint32 {
	if m.big {
		return binary.BigEndian.Uint32(b[at:])
	}
	return binary.LittleEndian.Uint32(b[at:])
}

func metaError(at int64, format string, args ...any) error {
	return table.Damaged(formatName, at, format, args...)
}

// readMeta reads and checks page 0 of a file of size octets.
func readMeta(file io.ReaderAt, size int64) (*meta, error) {
	if size < metaSize {
		return nil, metaError(-1, "not a Berkeley DB file: %s, less than the smallest page", term.Count(size, "octet"))
	}
	var buf [metaSize]byte
	if err := readFull(file, buf[:], 0); err != nil {
		return nil, err
	}
	m, err := identify(buf[:])
	if err != nil {
		return nil, err
	}
	if err := m.layout(buf[:], size); err != nil {
		return nil, err
	}
	if m.kind == kindHash {
		return m, m.hashFields(buf[:])
	}
	return m, m.btreeFields(buf[:])
}

// readFull reads all of b at the offset at. That a file ends early although its
// size was given says that it is damaged or changing.
func readFull(file io.ReaderAt, b []byte, at int64) error {
	n, err := file.ReadAt(b, at)
	switch {
	case n == len(b):
		return nil
	case err == nil || errors.Is(err, io.EOF):
		return metaError(at+int64(n), "the file ends inside a page")
	}
	return fmt.Errorf("%s: read %s at offset %d: %w", formatName, term.Count(len(b), "octet"), at, err)
}

// identify finds byte order, type and version, or says what else the file is.
func identify(b []byte) (*meta, error) {
	for _, big := range []bool{false, true} {
		m := &meta{big: big}
		switch m.u32(b, 12) {
		case magicHash:
			m.kind = kindHash
		case magicBtree:
			m.kind = kindBtree
		case magicQueue:
			return nil, metaError(12, "a queue file; only hash and btree files are read")
		case magicHeap:
			return nil, metaError(12, "a heap file; only hash and btree files are read")
		default:
			if first := m.u32(b, 0); first == magicHash || first == magicBtree {
				return nil, metaError(0, "a file of Berkeley DB 1.85; rebuild it with the MTA's own tool")
			}
			continue
		}
		m.version = m.u32(b, 16)
		return m, m.checkVersion()
	}
	return nil, metaError(12, "not a Berkeley DB file: no known magic number")
}

func (m *meta) checkVersion() error {
	oldest := uint32(7)
	if m.kind == kindBtree {
		oldest = 8
	}
	switch {
	case m.version < oldest:
		return metaError(16, "%s version %d is too old, at least %d is needed; rebuild the file or run db_upgrade", m.typeName(), m.version, oldest)
	case m.version > 10:
		return metaError(16, "%s version %d is unknown, at most 10 is read", m.typeName(), m.version)
	}
	return nil
}

// layout checks what both types have in common: pages, flags, checksum.
func (m *meta) layout(b []byte, size int64) error {
	ps := m.u32(b, 20)
	if ps < minPageSize || ps > maxPageSize || bits.OnesCount32(ps) != 1 {
		return metaError(20, "page size %d is not a power of two from %d to %d", ps, minPageSize, maxPageSize)
	}
	m.pageSize = int(ps)
	if alg := b[24]; alg != 0 {
		return metaError(24, "the file is encrypted (algorithm %d)", alg)
	}
	if want := map[kind]byte{kindHash: pageHashMeta, kindBtree: pageBtreeMeta}[m.kind]; b[25] != want {
		return metaError(25, "the meta page has type %d and not %d", b[25], want)
	}
	if b[26]&metaPartition != 0 {
		return metaError(26, "the database is partitioned over several files")
	}
	if b[26]&^metaChecksum != 0 {
		return metaError(26, "unknown flags %#x of the meta page", b[26])
	}
	m.head = pageHead
	if b[26]&metaChecksum != 0 {
		m.checksum, m.head = true, pageHeadSum
		if !m.sumHolds(b, metaSumAt) {
			return metaError(metaSumAt, "page 0: checksum does not hold")
		}
	}
	if no := m.u32(b, 8); no != 0 {
		return metaError(8, "the meta page says it is page %d; a database inside another file is not read", no)
	}
	return m.extent(b, size)
}

// extent compares the file's size with what the meta page says of it.
func (m *meta) extent(b []byte, size int64) error {
	if size%int64(m.pageSize) != 0 {
		return metaError(size, "the size of the file, %d, is not a multiple of the page size, %d", size, m.pageSize)
	}
	pages := size / int64(m.pageSize)
	if pages > math.MaxUint32 {
		return metaError(-1, "%d is more pages than the format can number", pages)
	}
	m.pages = uint32(pages)
	last := m.u32(b, 32)
	if m.tellsLast() && last >= m.pages {
		return metaError(size, "the file is truncated: the last page is number %d, the file has %s", last, term.Count(pages, "page"))
	}
	return nil
}

// tellsLast says whether the field for the last page can hold one in this version.
func (m *meta) tellsLast() bool {
	return m.version >= 9 || m.kind == kindHash && m.version == 8
}

func (m *meta) btreeFields(b []byte) error {
	flags := m.u32(b, 48)
	switch {
	case flags&^uint32(btreeKnown) != 0:
		return metaError(48, "unknown btree flags %#x", flags)
	case flags&btreeRecno != 0:
		return metaError(48, "a recno file; only hash and btree files are read")
	case flags&btreeSub != 0:
		return metaError(48, "the file holds several databases (subdatabases); only files of one database are read")
	case flags&btreeCompress != 0:
		return metaError(48, "a compressed btree is not read")
	}
	m.dup = flags&btreeDup != 0
	m.dupSort = flags&btreeDupSort != 0
	m.root = m.u32(b, 88)
	if m.root == 0 || m.root >= m.pages {
		return metaError(88, "the root is page %d, the file has %s", m.root, term.Count(m.pages, "page"))
	}
	return nil
}

// charKey is the string whose hash the meta page keeps, its final NUL included.
const charKey = "%$sniglet^&\x00"

func (m *meta) hashFields(b []byte) error {
	flags := m.u32(b, 48)
	switch {
	case flags&^uint32(hashKnown) != 0:
		return metaError(48, "unknown hash flags %#x", flags)
	case flags&hashSub != 0:
		return metaError(48, "the file holds several databases (subdatabases); only files of one database are read")
	}
	m.dup = flags&hashDup != 0
	m.dupSort = flags&hashDupSort != 0
	m.maxBucket, m.highMask, m.lowMask = m.u32(b, 72), m.u32(b, 76), m.u32(b, 80)
	m.fill, m.keys = m.u32(b, 84), m.u32(b, 88)
	if m.maxBucket >= m.pages {
		return metaError(72, "%d buckets do not fit into %s", uint64(m.maxBucket)+1, term.Count(m.pages, "page"))
	}
	high := uint32(1)<<bits.Len32(m.maxBucket) - 1
	if m.highMask != high || m.lowMask != high>>1 {
		return metaError(76, "masks %#x and %#x do not belong to %d buckets", m.highMask, m.lowMask, uint64(m.maxBucket)+1)
	}
	if m.u32(b, 92) != hashOf([]byte(charKey)) {
		return metaError(92, "the file was made with another hash function than Berkeley DB's own")
	}
	for i := range m.spares {
		m.spares[i] = m.u32(b, 96+4*i)
	}
	return nil
}

func (m *meta) typeName() string {
	if m.kind == kindHash {
		return "Berkeley DB hash"
	}
	return "Berkeley DB btree"
}

func (m *meta) info() table.Info {
	detail := []string{"little endian", strconv.Itoa(m.pageSize) + "-octet pages"}
	if m.big {
		detail[0] = "big endian"
	}
	if m.checksum {
		detail = append(detail, "checksums")
	}
	switch {
	case m.dupSort:
		detail = append(detail, "sorted duplicates")
	case m.dup:
		detail = append(detail, "duplicates")
	}
	return table.Info{
		Type:    m.typeName(),
		Version: strconv.FormatUint(uint64(m.version), 10),
		Detail:  strings.Join(detail, ", "),
		Entries: -1,
		Pages:   int64(m.pages),
	}
}

// sumHolds says whether the checksum at the offset at is that of b. The four
// octets are zero afterwards.
func (m *meta) sumHolds(b []byte, at int) bool {
	stored := m.u32(b, at)
	clear(b[at : at+4])
	var h uint32
	for _, c := range b {
		h = h*33 + uint32(c)
	}
	return h == stored
}

// hashOf is the hash function of every file that MTAs make.
func hashOf(key []byte) uint32 {
	var h uint32
	for _, c := range key {
		h = h*16777619 ^ uint32(c)
	}
	return h
}
