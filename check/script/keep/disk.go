// SPDX-License-Identifier: BSD-2-Clause

package keep

import (
	"bytes"
	"database/sql"
	"encoding/base64"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	_ "modernc.org/sqlite" // the driver

	"rcptgate/store"
)

// fileName is the file in the state directory.
const fileName = "script.db"

// every is how often what is pending is written, and pendingMax how much may wait: beyond
// it, new values stay in RAM alone.
const (
	every      = time.Second
	pendingMax = 100_000
)

// entry is a value to be written; one without a life is to be removed.
type entry struct {
	value   string
	expires time.Time
}

type place struct{ name, key string }

// disk is the file.
type disk struct {
	log  *slog.Logger
	path string
	db   *sql.DB // nil: it cannot be opened

	mu      sync.Mutex
	pending map[place]entry
	swept   time.Time
	failing bool

	most   map[string]int // of each memory: its number of entries
	writes map[string]int // since it was trimmed to that
	stop   chan struct{}
	done   sync.WaitGroup
}

// openDisk opens the file, or begins a new one if it is damaged. A file that cannot be opened
// at all is logged, and nothing is kept.
func openDisk(dir string, log *slog.Logger) *disk {
	d := &disk{log: log, path: filepath.Join(dir, fileName), pending: make(map[place]entry), most: make(map[string]int), writes: make(map[string]int), stop: make(chan struct{})}
	err := d.open()
	if err != nil {
		aside := d.path + ".damaged"
		if os.Rename(d.path, aside) == nil {
			log.Error("the script's memory file cannot be read; starting a new one", "file", d.path, "renamed", aside, "error", err)
			err = d.open()
		}
	}
	if err != nil {
		log.Error("the script's memory cannot be kept on disk", "file", d.path, "error", err)
	}
	d.done.Go(d.run)
	return d
}

const schema = `CREATE TABLE IF NOT EXISTS memory (name TEXT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL, expires INTEGER NOT NULL, PRIMARY KEY (name, key)) WITHOUT ROWID`

func (d *disk) open() error {
	db, err := sql.Open("sqlite", "file:"+d.path+"?_pragma=busy_timeout(1000)&_pragma=journal_mode(WAL)&_pragma=synchronous(NORMAL)")
	if err != nil {
		return err
	}
	db.SetMaxOpenConns(1)
	if _, err = db.Exec(schema); err == nil {
		err = db.QueryRow("SELECT count(*) FROM memory WHERE name = ''").Scan(new(int))
	}
	if err != nil {
		return errors.Join(err, db.Close())
	}
	d.db = db
	return nil
}

// load gives f what is kept of a memory, at most so many of those that live longest.
func (d *disk) load(name string, most int, f func(key, value string, expires time.Time)) {
	if d.db == nil {
		return
	}
	d.mu.Lock()
	d.most[name], d.swept = most, time.Time{} // what is too much goes with what is pending
	d.mu.Unlock()
	d.flush()
	rows, err := d.db.Query("SELECT key, value, expires FROM memory WHERE name = ? AND expires > ? ORDER BY expires DESC LIMIT ?", name, time.Now().Unix(), most)
	if err != nil {
		d.trouble(err)
		return
	}
	defer rows.Close() //nolint:errcheck // read
	for rows.Next() {
		var key, value string
		var expires int64
		if err := rows.Scan(&key, &value, &expires); err != nil {
			d.trouble(err)
			return
		}
		f(key, value, time.Unix(expires, 0))
	}
	if err := rows.Err(); err != nil {
		d.trouble(err)
	}
}

func (d *disk) put(name, key, value string, expires time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.pending) < pendingMax {
		d.pending[place{name, key}] = entry{value, expires}
	}
}

func (d *disk) run() {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-d.stop:
			d.flush()
			return
		case <-tick.C:
			d.flush()
		}
	}
}

// flush writes what is pending, in one transaction. What cannot be written waits.
func (d *disk) flush() {
	d.mu.Lock()
	batch := d.pending
	sweep := time.Since(d.swept) > time.Hour
	if len(batch) == 0 && !sweep || d.db == nil {
		if d.db == nil {
			d.pending = make(map[place]entry)
		}
		d.mu.Unlock()
		return
	}
	d.pending = make(map[place]entry)
	if sweep {
		d.swept = time.Now()
	}
	d.mu.Unlock()
	err := d.write(batch, sweep)
	if err == nil {
		d.failing = false
		return
	}
	d.trouble(err)
	d.mu.Lock()
	defer d.mu.Unlock()
	for p, e := range batch {
		if _, newer := d.pending[p]; !newer && len(d.pending) < pendingMax {
			d.pending[p] = e
		}
	}
}

func (d *disk) write(batch map[place]entry, sweep bool) (err error) {
	tx, err := d.db.Begin()
	if err != nil {
		return err
	}
	defer tx.Rollback() //nolint:errcheck // after a commit it does nothing
	for p, e := range batch {
		if e.expires.IsZero() {
			_, err = tx.Exec("DELETE FROM memory WHERE name = ? AND key = ?", p.name, p.key)
		} else {
			_, err = tx.Exec("INSERT OR REPLACE INTO memory (name, key, value, expires) VALUES (?, ?, ?, ?)", p.name, p.key, e.value, e.expires.Unix())
		}
		if err != nil {
			return err
		}
	}
	if sweep {
		if _, err = tx.Exec("DELETE FROM memory WHERE expires <= ?", time.Now().Unix()); err != nil {
			return err
		}
	}
	if err := d.trim(tx, batch, sweep); err != nil {
		return err
	}
	return tx.Commit()
}

// trimEvery is how much more than its number of entries, or than a quarter of it, a memory may
// have in the file.
const trimEvery = 1000

// trim takes away what is more than a memory's number of entries: what ends first.
func (d *disk) trim(tx *sql.Tx, batch map[place]entry, all bool) error {
	d.mu.Lock()
	due := make(map[string]int)
	for p := range batch {
		d.writes[p.name]++
	}
	for name, most := range d.most {
		if all || d.writes[name] >= max(most/4, trimEvery) {
			due[name], d.writes[name] = most, 0
		}
	}
	d.mu.Unlock()
	for name, most := range due {
		_, err := tx.Exec("DELETE FROM memory WHERE name = ? AND key IN (SELECT key FROM memory WHERE name = ? ORDER BY expires DESC LIMIT -1 OFFSET ?)", name, name, most)
		if err != nil {
			return err
		}
	}
	return nil
}

// trouble logs that the file fails, when it begins to.
func (d *disk) trouble(err error) {
	if !d.failing {
		d.failing = true
		d.log.Error("the script's memory cannot be written or read", "file", d.path, "error", err)
	}
}

func (d *disk) close() error {
	close(d.stop)
	d.done.Wait()
	if d.db == nil {
		return nil
	}
	return d.db.Close()
}

// encode writes a value for the servers that gateways share: its end in seconds since 1970,
// and the value in base 64.
func encode(value string, expires time.Time) []byte {
	b := strconv.AppendInt(nil, expires.Unix(), 10)
	return append(append(b, ' '), base64.StdEncoding.EncodeToString([]byte(value))...)
}

func decode(raw []byte) (value string, expires time.Time, ok bool) {
	end, text, found := bytes.Cut(bytes.TrimRight(raw, "\n"), []byte(" "))
	seconds, err := strconv.ParseInt(string(end), 10, 64)
	plain, bad := base64.StdEncoding.DecodeString(string(text))
	if !found || err != nil || bad != nil || len(plain) > ValueMax {
		return "", time.Time{}, false
	}
	return string(plain), time.Unix(seconds, 0), true
}

func isNotFound(err error) bool { return errors.Is(err, store.ErrNotFound) }
