// SPDX-License-Identifier: BSD-2-Clause

package memcached

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/bradfitz/gomemcache/memcache"

	"rcptgate/kit/term"
	"rcptgate/store"
)

// Words of the keys of published names.
const (
	plainName  = "n"
	hashedName = "nh"
	markWord   = "names" // PREFIX:names:PUBLISHER, on every server
)

// Names are the names of alias databases that gateways publish for each other. It
// implements store.Names; its zero value is of no use.
type Names struct {
	c *Client

	mu     sync.Mutex
	living map[string]string // of each publisher, the servers that last lived at a survey of its
}

var _ store.Names = (*Names)(nil)

// NewNames makes Names of a client, which stays the caller's.
func NewNames(c *Client) *Names { return &Names{c: c, living: make(map[string]string)} }

func (n *Names) key(name string) string { return n.c.Key(plainName, hashedName, name) }

// Down implements store.Names.
func (n *Names) Down() bool { return n.c.Down() }

// Find implements store.Names.
func (n *Names) Find(ctx context.Context, names []string) (map[string]store.Name, error) {
	keys := make([]string, len(names))
	for i, name := range names {
		keys[i] = n.key(name)
	}
	values, err := n.c.GetMulti(ctx, slices.Compact(slices.Sorted(slices.Values(keys))))
	found := make(map[string]store.Name, len(values))
	for i, name := range names {
		value, ok := values[keys[i]]
		if !ok {
			continue
		}
		decoded, bad := decodeName(value)
		if bad != nil {
			n.c.Bad(n.c.Server(keys[i]), keys[i], bad)
			continue
		}
		if time.Now().Before(decoded.Expire) {
			found[name] = decoded
		}
	}
	return found, err
}

// Publish implements store.Names.
func (n *Names) Publish(ctx context.Context, name string, v store.Name) error {
	return n.c.Set(ctx, n.key(name), encodeName(v), v.Expire)
}

// Withdraw implements store.Names.
func (n *Names) Withdraw(ctx context.Context, name string) error {
	return n.c.Delete(ctx, n.key(name))
}

// Survey implements store.Names.
func (n *Names) Survey(ctx context.Context, publisher string, life time.Duration) (found store.Survey, err error) {
	st := n.c.setup.Load()
	key := st.prefix + ":" + markWord + ":" + publisher
	var living []string
	var failed []error
	for _, s := range st.ring.servers {
		if !s.alive.Load() {
			continue
		}
		marked, err := n.mark(ctx, s, key, life)
		if err != nil {
			failed = append(failed, err)
		}
		// Whether one that lives answered this time is its own affair: what matters
		// is where the ring looks for names.
		if s.alive.Load() {
			living = append(living, s.network+":"+s.name)
			if err == nil && !marked {
				found = store.Lost
			}
		}
	}
	if len(living) > 0 { // while no server lives nothing is put anywhere
		slices.Sort(living)
		now := strings.Join(living, " ")
		n.mu.Lock()
		if n.living[publisher] != now && found == store.Intact {
			found = store.Moved
		}
		n.living[publisher] = now
		n.mu.Unlock()
	}
	return found, errors.Join(failed...)
}

// mark reports whether s has a publisher's mark, and makes one if it has not. A mark
// that was read stays: memcached drops first what was not read for long.
func (n *Names) mark(ctx context.Context, s *server, key string, life time.Duration) (marked bool, err error) {
	_, err = do(ctx, n.c, s, again, func() (*memcache.Item, error) { return s.mc.Get(key) })
	switch {
	case err == nil:
		_, err = do(ctx, n.c, s, again, func() (struct{}, error) { return struct{}{}, s.mc.Touch(key, lifeSeconds(life)) })
		if errors.Is(err, memcache.ErrCacheMiss) {
			err = nil
		}
		return true, err
	case !errors.Is(err, memcache.ErrCacheMiss):
		return false, err
	}
	item := &memcache.Item{Key: key, Value: []byte("1\n"), Expiration: lifeSeconds(life)}
	_, err = do(ctx, n.c, s, again, func() (struct{}, error) { return struct{}{}, s.mc.Set(item) })
	return false, err
}

func lifeSeconds(life time.Duration) int32 {
	return int32(max(min(life, thirtyDays), time.Second) / time.Second) // #nosec G115 -- at most 30 days
}

// The value of a published name is two lines of fields that are parted by TAB, escaped
// like those of an answer (docs/memcached.md):
//
//	rgn1 TAB written TAB expire          both in UNIX seconds
//	alias TAB value                      or: taken
//
// Lines of other names are ignored: later versions may add some.
const nameVersion = "rgn1"

var errName = errors.New("the value is not a published name")

// escapeName and unescapeName keep TAB and LF out of a field.
var (
	escapeName   = strings.NewReplacer(`\`, `\\`, "\t", `\t`, "\n", `\n`)
	unescapeName = strings.NewReplacer(`\\`, `\`, `\t`, "\t", `\n`, "\n")
)

func encodeName(v store.Name) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s\t%d\t%d\n", nameVersion, v.Written.Unix(), v.Expire.Unix())
	if v.Value == "" {
		b.WriteString("taken\n")
	} else {
		b.WriteString("alias\t" + escapeName.Replace(v.Value) + "\n")
	}
	return b.Bytes()
}

func decodeName(value []byte) (v store.Name, err error) {
	first, rest, _ := strings.Cut(string(value), "\n")
	fields := strings.Split(first, "\t")
	if len(fields) < 3 || fields[0] != nameVersion {
		return v, errName
	}
	var times [2]time.Time
	for i := range times {
		seconds, err := strconv.ParseInt(fields[i+1], 10, 64)
		if err != nil || seconds < 0 || seconds > maxSeconds {
			return v, fmt.Errorf("%w: %q is not a time", errName, fields[i+1])
		}
		times[i] = time.Unix(seconds, 0) //nolint:gosec // i is 0 or 1
	}
	v.Written, v.Expire = times[0], times[1]
	for line := range strings.Lines(rest) {
		word, field, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		switch word {
		case "taken":
			return v, nil
		case "alias":
			if v.Value = unescapeName.Replace(field); len(v.Value) > store.MaxNameValue || v.Value == "" {
				return store.Name{}, fmt.Errorf("%w: its value has %s", errName, term.Count(len(v.Value), "octet"))
			}
			return v, nil
		}
	}
	return store.Name{}, fmt.Errorf("%w: it says neither alias nor taken", errName)
}

// maxSeconds is the last second of the year 9999.
const maxSeconds = 253402300799
