// SPDX-License-Identifier: BSD-2-Clause

package live

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"rcptgate/kit/term"
	"rcptgate/table"
	"rcptgate/table/index"
)

// attempt is what is known of the last tries to read the file.
type attempt struct {
	seed     maphash.Seed
	seeded   bool
	sig      signature // of the file that was read, or found bad, last
	known    bool      // sig is set
	heldFrom time.Time // when an unfinished rebuild was first met; zero: none
	busyFrom time.Time // when the file was first found being written; zero: it was not
	restless time.Time // when a text was first found not to be quiet; zero: it was
	seenSig  signature // of a text when it was last looked at for a draft
	seen     time.Time // when that was first seen; zero: never
	logged   string    // the last failure logged
	warned   int
	settled  bool // the file was so old when it was read that a later change must show in sig
}

// refresh brings the active content up to date if the file has changed, or looks
// as if it could have (force). ErrBusy says that it should be tried again soon.
func (l *Live) refresh(ctx context.Context, force bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := &l.try
	now := l.now()
	due := !a.heldFrom.IsZero() && now.Sub(a.heldFrom) >= holdTime
	file, err := openFile(l.path)
	if err != nil {
		a.known = false
		return l.failed(err)
	}
	defer file.Close() //nolint:errcheck // read-only
	sig, err := file.signature()
	if err != nil {
		a.known = false
		return l.failed(err)
	}
	due = due || l.due(sig)
	same := a.known && sig == a.sig
	if same && !force && !due && (a.settled || now.Sub(sig.modified) < coarse) {
		return nil
	}
	data, sig, err := l.copyFile(ctx, file, sig)
	if err != nil {
		return l.notCopied(err)
	}
	a.busyFrom, a.restless = time.Time{}, time.Time{}
	if !a.seeded {
		a.seed, a.seeded = maphash.MakeSeed(), true
	}
	digest := digestOf(a.seed, data, l.breather())
	a.sig, a.known, a.settled = sig, true, now.Sub(sig.modified) >= coarse
	if c := l.current.Load(); c != nil && c.Index != nil && c.digest == digest && !due {
		a.heldFrom = time.Time{}
		l.settle(c)
		l.same(sig)
		return nil
	}
	return l.index(ctx, data, digest, sig, due)
}

// piece is how much is read, or hashed, without a pause: both stop the collector, and
// with it every goroutine, as long as they last.
const piece = 256 << 10

func digestOf(seed maphash.Seed, data []byte, pause func()) uint64 {
	var h maphash.Hash
	h.SetSeed(seed)
	for part := range slices.Chunk(data, piece) {
		_, _ = h.Write(part) // never fails
		pause()
	}
	return h.Sum64()
}

// breather returns what a load calls now and then. A first load only yields; a reload
// also sleeps for a third of its time, since on two busy processors those who look up
// would otherwise wait for it.
func (l *Live) breather() func() {
	if l.Index() == nil {
		return runtime.Gosched
	}
	last := time.Now()
	return func() {
		if time.Since(last) < time.Millisecond {
			runtime.Gosched()
			return
		}
		time.Sleep(time.Millisecond / 2)
		last = time.Now()
	}
}

// index makes content of a copy and makes it active.
func (l *Live) index(ctx context.Context, data []byte, digest uint64, sig signature, due bool) error {
	start := time.Now()
	c, err := l.read(ctx, data)
	if err != nil {
		if ctx.Err() != nil {
			l.try.known = false
			return ctx.Err()
		}
		if sig.moving {
			return l.notCopied(ErrBusy)
		}
		return l.failed(err)
	}
	c.digest, c.modified, c.device, c.inode = digest, sig.modified, sig.device, sig.inode
	a := &l.try
	why, still := l.doubt(c, sig)
	if now := l.now(); why != "" && now.Sub(a.since(sig, now)) < still {
		return l.hold(c, why, still)
	}
	if mark := l.unfinished(c); mark != "" && !due {
		if a.heldFrom.IsZero() {
			a.heldFrom = l.now()
		}
		return l.failed(fmt.Errorf("%w: %s; the old content stays active, until %s at most", ErrRebuild, mark, a.heldFrom.Add(holdTime).Format(time.TimeOnly)))
	} else if mark != "" {
		why, still = mark, holdTime
	}
	if why != "" && l.Index() != nil {
		l.log.Warn("table loaded although it looks unfinished", "table", l.cfg.Spec.String(), "reason", why, "waited", still)
	}
	a.heldFrom = time.Time{}
	l.current.Store(c)
	l.loaded(c, time.Since(start))
	return nil
}

// unfinished says why a new alias database looks like half a rebuild of the old, or "".
func (l *Live) unfinished(c *content) string {
	if old := l.current.Load(); old != nil && old.marked && !c.marked {
		return `the mark of a complete alias database ("@") is missing`
	}
	return ""
}

// read verifies and indexes a copy of the file. It yields often, so that look-ups on
// a machine of few processors do not wait for it. A fault of a reader that the file brings out
// is an error, and the old content stays active.
func (l *Live) read(ctx context.Context, data []byte) (c *content, err error) {
	defer func() {
		if p := recover(); p != nil {
			l.log.Error("table reader panicked", "table", l.cfg.Spec.String(), "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			c, err = nil, fmt.Errorf("the reader panicked: %v", p)
		}
	}()
	l.try.warned = 0
	format := l.cfg.Format(l.warn)
	file := bytes.NewReader(data)
	info, err := format.Stat(ctx, file, file.Size())
	if err != nil {
		return nil, err
	}
	c = &content{info: info, cut: len(data) > 0 && data[len(data)-1] != '\n'}
	text := l.cfg.Spec.IsText()
	var last []byte
	b := index.Builder{Seed: l.try.seed}
	pairs, pause := 0, l.breather()
	err = format.Scan(ctx, file, file.Size(), func(key, value []byte) error {
		if pairs++; pairs%128 == 0 {
			pause()
		}
		key, value = trimNUL(key), trimNUL(value)
		if l.cfg.Aliases && special(key) {
			c.marked = c.marked || len(key) == 1
			return nil
		}
		if text {
			last = append(last[:0], key...)
		}
		return b.Add(key, value)
	})
	if err != nil {
		return nil, err
	}
	c.Index, c.last = b.Build(pause), string(last)
	return c, nil
}

// special are the keys of an alias database that are not aliases: Sendmail's mark,
// and what makedbm(8) and NIS add.
func special(key []byte) bool {
	return len(key) == 1 && key[0] == '@' || bytes.HasPrefix(key, []byte("YP_"))
}

// trimNUL takes off the NUL with which newaliases and some postmaps end strings.
func trimNUL(b []byte) []byte {
	if n := len(b); n > 0 && b[n-1] == 0 {
		return b[: n-1 : n-1]
	}
	return b
}

func (l *Live) warn(err error) {
	l.try.warned++
	switch {
	case l.try.warned <= warnings:
		l.log.Warn("table line left out", "table", l.cfg.Spec.String(), "error", err)
	case l.try.warned == warnings+1:
		l.log.Warn("further table lines left out", "table", l.cfg.Spec.String())
	}
}

// copyFile copies the file to memory under the locks of its writers.
func (l *Live) copyFile(ctx context.Context, file *openedFile, sig signature) ([]byte, signature, error) {
	if sig.size > l.cfg.MaxSize {
		return nil, sig, fmt.Errorf("the file has %s, at most %d are read", term.Count(sig.size, "octet"), l.cfg.MaxSize)
	}
	if l.cfg.Spec.IsText() {
		if !l.isQuiet(sig) {
			return nil, sig, ErrBusy
		}
		return file.copy(l.path, sig, false)
	}
	if err := file.lock(ctx); err != nil {
		return nil, sig, err
	}
	sig, err := file.signature()
	if err != nil {
		return nil, sig, err
	}
	if sig.size > l.cfg.MaxSize {
		return nil, sig, ErrBusy
	}
	// Postfix writes LMDB while others read: the pages of the active transaction stay as they are.
	return file.copy(l.path, sig, l.cfg.Spec.Type == table.LMDB)
}

// isQuiet reports whether a text has not changed for a while, or never is.
func (l *Live) isQuiet(sig signature) bool {
	a, now := &l.try, l.now()
	age := now.Sub(sig.modified)
	if age >= quiet || age < -quiet || l.Index() == nil {
		return true // also if the file's clock is another one
	}
	if a.restless.IsZero() {
		a.restless = now
	}
	return now.Sub(a.restless) >= restless
}

// notCopied notes that the file cannot be copied, or not yet.
func (l *Live) notCopied(err error) error {
	if !errors.Is(err, ErrBusy) {
		l.try.known = false
		return l.failed(err)
	}
	l.waits.Add(1)
	a, now := &l.try, l.now()
	if a.busyFrom.IsZero() {
		a.busyFrom = now
	}
	if now.Sub(a.busyFrom) >= longLock {
		_ = l.failed(fmt.Errorf("%w, for more than %s", ErrBusy, longLock))
	}
	return ErrBusy
}

// failed keeps the active content and logs why, once.
func (l *Live) failed(err error) error {
	st := &l.status
	st.Lock()
	st.Failures++
	if st.Err == nil {
		st.Since = l.now()
	}
	st.Err, st.Rebuilding = err, errors.Is(err, ErrRebuild)
	st.Unlock()
	if text := err.Error(); text != l.try.logged {
		l.try.logged = text
		l.log.Error("table not read", "table", l.cfg.Spec.String(), "file", l.path, "error", err, "active", l.active())
	}
	return fmt.Errorf("%s: %w", l.cfg.Spec, err)
}

// active says what answers meanwhile.
func (l *Live) active() string {
	c := l.current.Load()
	if c == nil || c.Index == nil {
		return "nothing"
	}
	return fmt.Sprintf("%s of %s", term.Count(c.entries(), "entry"), c.modified.Format(time.DateTime))
}

// loaded notes new content.
func (l *Live) loaded(c *content, took time.Duration) {
	st := &l.status
	st.Lock()
	st.Info, st.Entries, st.Octets, st.Modified = c.info, c.entries(), c.Size(), c.modified
	st.Loaded, st.Took, st.Err, st.Rebuilding, st.Since = l.now(), took, nil, false, time.Time{}
	st.Loads++
	st.Unlock()
	l.try.logged = ""
	l.log.Info("table loaded", "table", l.cfg.Spec.String(), "entries", c.entries(), "format", strings.TrimSpace(c.info.Type+" "+c.info.Version), "took", took.Round(time.Millisecond))
}

// entries is the number of keys, without the one that a format may add.
func (c *content) entries() int {
	if _, found := c.Get(table.Summary); found {
		return c.Len() - 1
	}
	return c.Len()
}

// same notes that the file is again, or still, what is active.
func (l *Live) same(sig signature) {
	st := &l.status
	st.Lock()
	recovered := st.Err != nil
	st.Modified, st.Err, st.Rebuilding, st.Since = sig.modified, nil, false, time.Time{}
	st.Unlock()
	if recovered {
		l.try.logged = ""
		l.log.Info("table readable again, contents unchanged", "table", l.cfg.Spec.String())
	}
}
