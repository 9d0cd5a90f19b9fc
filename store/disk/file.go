// SPDX-License-Identifier: BSD-2-Clause

package disk

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"time"

	"modernc.org/sqlite"
	sqlitelib "modernc.org/sqlite/lib"

	"rcptgate/kit/term"
)

// errDamaged marks what only a damaged file, or one that is not ours, can cause.
var errDamaged = errors.New("file is damaged")

// errNewer marks a file of a newer release.
var errNewer = errors.New("file has another schema")

// damaged reports whether err condemns the file. Everything else, a full or
// read-only file system for one, may pass.
func damaged(err error) bool {
	if errors.Is(err, errDamaged) || errors.Is(err, errNewer) {
		return true
	}
	if code(err) == sqlitelib.SQLITE_IOERR_SHORT_READ {
		return true
	}
	switch code(err) & 0xff {
	case sqlitelib.SQLITE_CORRUPT, sqlitelib.SQLITE_NOTADB,
		sqlitelib.SQLITE_ERROR,                             // a table or column of ours is missing
		sqlitelib.SQLITE_CONSTRAINT,                        // an index disagrees with its table
		sqlitelib.SQLITE_TOOBIG, sqlitelib.SQLITE_MISMATCH, // no answer is that long, no id is a text
		sqlitelib.SQLITE_FORMAT, sqlitelib.SQLITE_SCHEMA:
		return true
	}
	return false
}

// reopens reports whether err, which does not condemn the file, calls for opening it anew:
// the connections may hold on to something that is wrong outside of it, such as an index of
// the log (answers.db-shm) that was truncated.
func reopens(err error) bool {
	if errors.Is(err, errStuck) {
		return true
	}
	switch code(err) & 0xff {
	case sqlitelib.SQLITE_IOERR, sqlitelib.SQLITE_PROTOCOL, sqlitelib.SQLITE_CANTOPEN, sqlitelib.SQLITE_READONLY:
		return true
	}
	return false
}

// code is the result code that SQLite gave, 0 if err is not from there.
func code(err error) int {
	if err == nil {
		return 0
	}
	var e *sqlite.Error
	if errors.As(err, &e) {
		return e.Code()
	}
	return 0
}

// file is an open database: one connection that writes, used by the writer alone,
// and readers that each have their own.
type file struct {
	info     os.FileInfo // to notice that it was replaced
	patience time.Duration
	db       *sql.DB
	conn     *sql.Conn
	stmts    map[string]*sql.Stmt
	args     []any  // of the line that is being written
	scratch  []byte // for its sum
	readers  []*reader
	asks     chan ask
	filters  filters
	quit     chan struct{}
	done     sync.WaitGroup
}

// openTimeout bounds opening and closing, unless the options do.
const openTimeout = 10 * time.Second

func openFile(path string, readers int, patience time.Duration) (*file, error) {
	// SQLite would create it with the umask's mode; -wal and -shm follow this one.
	made, err := openOurs(path)
	if err != nil {
		return nil, fmt.Errorf("opening disk store: %w", err)
	}
	for _, suffix := range []string{"-wal", "-shm"} {
		info, look := os.Lstat(path + suffix)
		if look == nil && !info.Mode().IsRegular() {
			err = fmt.Errorf("opening disk store: %s is not a regular file (mode %v): remove it", path+suffix, info.Mode())
		} else if look == nil {
			err = cmp.Or(err, ours(path+suffix, info))
		}
	}
	if err != nil {
		_ = made.Close()
		return nil, err
	}
	info, err := made.Stat()
	err = errors.Join(err, made.Chmod(0o600), made.Close())
	if err != nil {
		return nil, fmt.Errorf("opening disk store %s: %w", path, err)
	}
	db, err := sql.Open("sqlite", dsn(path))
	if err != nil {
		return nil, fmt.Errorf("opening disk store %s: %w", path, err)
	}
	f := &file{
		info: info, patience: patience, db: db, stmts: map[string]*sql.Stmt{}, scratch: make([]byte, sumRoom),
		asks: make(chan ask), quit: make(chan struct{}),
	}
	if err := f.prepare(readers); err != nil {
		f.close()
		return nil, fmt.Errorf("opening disk store %s: %w", path, err)
	}
	return f, nil
}

func dsn(path string) string {
	u := url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath()}
	// openFile has made the file. A connection that comes later, to fill the filter, must not make
	// another where the directory has another owner by then.
	q := url.Values{"mode": {"rw"}, "_pragma": {
		"busy_timeout(200)", "journal_mode(WAL)", "synchronous(NORMAL)", "cell_size_check(1)", "trusted_schema(0)",
		"cache_size(-4000)", "journal_size_limit(16777216)", "temp_store(MEMORY)",
	}}
	u.RawQuery = q.Encode()
	return u.String()
}

func (f *file) prepare(readers int) error {
	ctx, cancel := context.WithTimeout(context.Background(), f.patience)
	defer cancel()
	var err error
	if f.conn, err = f.connect(ctx); err != nil {
		return err
	}
	if err := f.migrate(ctx); err != nil {
		return err
	}
	for _, query := range []string{insertSQL, insertPlainSQL, replaceSQL, findSQL, forgetDomainPage, forgetAllPage, deleteSQL, proveSQL, oldestSQL, endedPageSQL, deleteIDSQL, setMetaSQL} {
		stmt, err := f.conn.PrepareContext(ctx, query)
		if err != nil {
			return err
		}
		f.stmts[query] = stmt
	}
	for range readers {
		r, err := f.newReader(ctx)
		if err != nil {
			return err
		}
		f.readers = append(f.readers, r)
	}
	for _, r := range f.readers {
		f.done.Go(func() { r.run(f.asks, f.quit) })
	}
	return nil
}

// connect opens a connection on which no value can be longer than any of ours, so
// that a damaged length does not ask for a gigabyte.
func (f *file) connect(ctx context.Context) (*sql.Conn, error) {
	conn, err := f.db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	_, err = sqlite.Limit(conn, sqlitelib.SQLITE_LIMIT_LENGTH, 1<<20)
	return conn, err
}

// migrate makes the tables of an empty file, and refuses one of another schema.
func (f *file) migrate(ctx context.Context) error {
	var version, tables int
	if err := f.conn.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version); err != nil {
		return err
	}
	if err := f.conn.QueryRowContext(ctx, "SELECT count(*) FROM sqlite_schema").Scan(&tables); err != nil {
		return err
	}
	switch {
	case version == schemaVersion:
		return nil
	case version > schemaVersion:
		return fmt.Errorf("%w: version %d, this release writes %d", errNewer, version, schemaVersion)
	case version != 0 || tables != 0:
		return fmt.Errorf("%w: version %d with %s is not a disk store of this program", errNewer, version, term.Count(tables, "table"))
	}
	_, err := f.conn.ExecContext(ctx, "BEGIN IMMEDIATE;"+schema+"COMMIT;")
	return err
}

// close ends the readers and the connections. A reader that hangs in the operating
// system is left behind.
func (f *file) close() {
	close(f.quit)
	ended := make(chan struct{})
	go func() {
		f.done.Wait()
		for _, stmt := range f.stmts {
			_ = stmt.Close()
		}
		if f.conn != nil {
			_ = f.conn.Close()
		}
		_ = f.db.Close()
		close(ended)
	}()
	select {
	case <-ended:
	case <-time.After(f.patience):
	}
}

// exec runs one of the prepared statements.
func (f *file) exec(ctx context.Context, query string, args ...any) (int64, error) {
	result, err := f.stmts[query].ExecContext(ctx, args...)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

// maxAside is how many set-aside files are kept for inspection.
const maxAside = 3

// setAside renames the file and what belongs to it, and drops the oldest of those
// set aside before. It gives the new name.
func setAside(path string, why error, now time.Time) (string, error) {
	word := ".damaged-"
	if errors.Is(why, errNewer) {
		word = ".schema-"
	}
	to := path + word + now.UTC().Format("20060102T150405.000000000")
	// The log first: a new file must never meet an old log.
	for _, suffix := range []string{"-wal", "-shm", ""} {
		if err := os.Rename(path+suffix, to+suffix); err != nil && !errors.Is(err, os.ErrNotExist) {
			return "", fmt.Errorf("setting aside disk store: %w", err)
		}
	}
	pruneAside(path)
	return to, nil
}

func pruneAside(path string) {
	for _, word := range []string{".damaged-", ".schema-"} {
		// Names sort by time; a base has no "-wal" or "-shm" at its end.
		found, _ := filepath.Glob(globEscape(path) + word + "????????T??????.?????????")
		for len(found) > maxAside {
			for _, suffix := range []string{"-wal", "-shm", ""} {
				_ = os.Remove(found[0] + suffix)
			}
			found = found[1:]
		}
	}
}

func globEscape(path string) string {
	var out []rune
	for _, r := range path {
		if r == '*' || r == '?' || r == '[' || r == '\\' {
			out = append(out, '\\')
		}
		out = append(out, r)
	}
	return string(out)
}
