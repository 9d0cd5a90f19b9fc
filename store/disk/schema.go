// SPDX-License-Identifier: BSD-2-Clause

package disk

import (
	"database/sql"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"
	"time"

	"rcptgate/store"
)

// schemaVersion is what PRAGMA user_version says in a file of this schema. A file
// with any other is set aside: there is no older one, and a newer one belongs to a
// newer release.
const schemaVersion = 1

// The parts of the table. Each has its own bound, so that none can crowd out the
// others; within a part the oldest go first, and ids grow with every write.
const (
	partRefusals = iota // only refuses
	partNew             // valid, and not known to be in use
	partProven          // valid, and asked for again since
	parts
)

// schema makes a new file. The view is for people with a sqlite3 shell.
const schema = `
CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO meta (name, value) VALUES ('next', 1), ('part0', 0), ('part1', 0), ('part2', 0), ('floor', 0);
CREATE TABLE answers (
	id INTEGER PRIMARY KEY,     -- grows with every write
	domain TEXT NOT NULL,
	key TEXT NOT NULL,          -- the recipient; a finding is LF, domain, LF, backend
	part INTEGER NOT NULL,      -- 0 only refuses, 1 valid, 2 valid and in use
	class TEXT NOT NULL, code INTEGER NOT NULL, enhanced TEXT NOT NULL, text TEXT NOT NULL, backend TEXT NOT NULL,
	learnt INTEGER NOT NULL, refresh INTEGER NOT NULL, expire INTEGER NOT NULL, -- seconds since 1970; 0 is never
	passing TEXT NOT NULL,      -- the class of the answer that lies beside it, or 'none'
	passing_code INTEGER NOT NULL, passing_enhanced TEXT NOT NULL, passing_text TEXT NOT NULL, passing_backend TEXT NOT NULL,
	passing_learnt INTEGER NOT NULL, passing_refresh INTEGER NOT NULL, passing_expire INTEGER NOT NULL,
	doubt INTEGER NOT NULL, doubt_first INTEGER NOT NULL, doubt_last INTEGER NOT NULL,
	tried INTEGER NOT NULL,
	ends INTEGER NOT NULL,      -- when the later of the answers expires
	sum INTEGER NOT NULL        -- CRC-32C over key and answers
);
CREATE UNIQUE INDEX answers_key ON answers (domain, key);
CREATE INDEX answers_part ON answers (part);
CREATE TABLE tombstones (
	generation INTEGER PRIMARY KEY AUTOINCREMENT,
	address TEXT NOT NULL, domain TEXT NOT NULL, -- both '' for everything
	forgotten INTEGER NOT NULL                   -- nanoseconds since 1970
);
CREATE VIEW remembered AS SELECT key, class, code, enhanced, text, backend,
	datetime(learnt, 'unixepoch') AS learnt, datetime(refresh, 'unixepoch') AS refresh,
	datetime(expire, 'unixepoch') AS expire, passing, passing_code, passing_text, doubt FROM answers;
PRAGMA user_version = 1;
`

// columns are an answer's, in the order of entry.values and row.scan.
const columns = `domain, key, part, class, code, enhanced, text, backend, learnt, refresh, expire,
	passing, passing_code, passing_enhanced, passing_text, passing_backend, passing_learnt, passing_refresh, passing_expire,
	doubt, doubt_first, doubt_last, tried, ends, sum`

const (
	into = ` INTO answers (id, ` + columns + `) VALUES
	(?, ?,?,?,?,?,?,?,?,?,?,?, ?,?,?,?,?,?,?,?, ?,?,?,?,?,?)`
	// insertSQL is for a key that is not there. SQLite keeps what replaceSQL may have
	// to take back in a journal of the statement, which costs an eighth of it.
	insertSQL = `INSERT` + into
	// insertPlainSQL is for a new key with one answer and no doubt, as nearly all are:
	// binding eleven values more costs a tenth of the whole. See isPlain.
	insertPlainSQL = `INSERT INTO answers (id, ` + columns + `) VALUES
	(?, ?,?,?,?,?,?,?,?,?,?,?, 'none',0,'','','',0,0,0, 0,0,0,?,?,?)`
	replaceSQL       = `INSERT OR REPLACE` + into
	getSQL           = `SELECT id, ` + columns + ` FROM answers WHERE domain = ? AND key = ?`
	pageSQL          = `SELECT id, ` + columns + ` FROM answers WHERE id > ? AND id <= ? ORDER BY id LIMIT ?`
	pageDomain       = `SELECT id, ` + columns + ` FROM answers WHERE domain = ? AND key > ? AND id <= ? ORDER BY key LIMIT ?`
	forgetDomainPage = `SELECT id, part, key, max(learnt, passing_learnt) FROM answers
	WHERE domain = ? AND key > ? AND id < ? ORDER BY key LIMIT ?`
	forgetAllPage = `SELECT id, part, key, max(learnt, passing_learnt) FROM answers WHERE id > ? AND id < ? ORDER BY id LIMIT ?`
	findSQL       = `SELECT part, learnt FROM answers WHERE domain = ? AND key = ?`
	deleteSQL     = `DELETE FROM answers WHERE domain = ? AND key = ? RETURNING part`
	proveSQL      = `UPDATE answers SET part = 2 WHERE domain = ? AND key = ? AND part = 1`
	oldestSQL     = `DELETE FROM answers WHERE id IN (SELECT id FROM answers WHERE part = ? ORDER BY id LIMIT ?)`
	endedPageSQL  = `SELECT id, part, ends FROM answers WHERE id > ? ORDER BY id LIMIT ?`
	deleteIDSQL   = `DELETE FROM answers WHERE id = ?`
	setMetaSQL    = `UPDATE meta SET value = ? WHERE name = ?`
)

// row is one line of the table.
type row struct {
	id   int64
	part int
	key  string
	rec  store.Record
	// foreign: the line lies under a domain that its key does not belong to, as an earlier
	// version of the program saw it. No look-up finds such a line; it ends by itself.
	foreign bool
}

// entry is a record on its way into the table.
type entry struct {
	id   int64
	part int
	key  string
	rec  *store.Record
}

// append appends the id and the columns up to those of the answer that stands.
func (e *entry) append(args []any) []any {
	s := &e.rec.Standing
	return append(args, e.id, store.Domain(e.key), e.key, int64(e.part),
		s.Class.String(), int64(s.Code), s.Enhanced, s.Text, s.Backend, seconds(s.Learnt), seconds(s.Refresh), seconds(s.Expire))
}

// appendEnd appends the columns from tried on. It works in scratch.
func (e *entry) appendEnd(args []any, scratch []byte) []any {
	return append(args, seconds(e.rec.Tried), seconds(e.rec.Expire()), int64(sum(scratch, e.key, e.rec)))
}

// appendAll appends what insertSQL and replaceSQL bind.
func (e *entry) appendAll(args []any, scratch []byte) []any {
	p, d := &e.rec.Transient, &e.rec.Doubt
	args = append(e.append(args),
		p.Class.String(), int64(p.Code), p.Enhanced, p.Text, p.Backend, seconds(p.Learnt), seconds(p.Refresh), seconds(p.Expire),
		int64(d.Count), seconds(d.First), seconds(d.Last))
	return e.appendEnd(args, scratch)
}

// appendPlain appends what insertPlainSQL binds.
func (e *entry) appendPlain(args []any, scratch []byte) []any {
	return e.appendEnd(e.append(args), scratch)
}

// isPlain reports whether rec is one answer and nothing beside it.
func isPlain(rec *store.Record) bool {
	return rec.Transient.Class == store.None && rec.Doubt == (store.Doubt{})
}

// scan reads a line. What cannot have been written by entry.values is errDamaged.
func (r *row) scan(rows *sql.Rows) error {
	var domain, class, passing string
	var at [9]int64
	var ends, check int64
	s, p := &r.rec.Standing, &r.rec.Transient
	err := rows.Scan(&r.id, &domain, &r.key, &r.part,
		&class, &s.Code, &s.Enhanced, &s.Text, &s.Backend, &at[0], &at[1], &at[2],
		&passing, &p.Code, &p.Enhanced, &p.Text, &p.Backend, &at[3], &at[4], &at[5],
		&r.rec.Doubt.Count, &at[6], &at[7], &at[8], &ends, &check)
	if err != nil {
		return fmt.Errorf("%w: %w", errDamaged, err)
	}
	var known, knownToo bool
	s.Class, known = store.ParseClass(class)
	p.Class, knownToo = store.ParseClass(passing)
	for i, t := range []*time.Time{
		&s.Learnt, &s.Refresh, &s.Expire, &p.Learnt, &p.Refresh, &p.Expire,
		&r.rec.Doubt.First, &r.rec.Doubt.Last, &r.rec.Tried,
	} {
		known = known && at[i] >= 0 && at[i] <= math.MaxUint32
		*t = store.FromSeconds(uint32(at[i])) //nolint:gosec // tested above
	}
	if !known || !knownToo || check != int64(sum(make([]byte, 0, sumRoom), r.key, &r.rec)) {
		return fmt.Errorf("%w: the answer in line %d is not as it was written", errDamaged, r.id)
	}
	r.foreign = domain != store.Domain(r.key)
	return nil
}

// sumRoom is as many octets as nearly all sums are over.
const sumRoom = 512

// sum is the CRC-32C over everything that is given back, since SQLite notices a
// damaged structure but not a damaged text. It puts that together in scratch.
func sum(scratch []byte, key string, rec *store.Record) uint32 {
	b := appendText(scratch[:0], key)
	for _, a := range []*store.Answer{&rec.Standing, &rec.Transient} {
		b = append(b, byte(a.Class))
		b = binary.LittleEndian.AppendUint64(b, uint64(a.Code)) //nolint:gosec // only summed
		b = appendText(appendText(appendText(b, a.Enhanced), a.Text), a.Backend)
		b = appendTimes(b, store.Seconds(a.Learnt), store.Seconds(a.Refresh), store.Seconds(a.Expire))
	}
	b = binary.LittleEndian.AppendUint64(b, uint64(rec.Doubt.Count)) //nolint:gosec // only summed
	b = appendTimes(b, store.Seconds(rec.Doubt.First), store.Seconds(rec.Doubt.Last), store.Seconds(rec.Tried))
	return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli))
}

func seconds(t time.Time) int64 { return int64(store.Seconds(t)) }

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func appendTimes(b []byte, seconds ...uint32) []byte {
	for _, s := range seconds {
		b = binary.LittleEndian.AppendUint32(b, s)
	}
	return b
}
