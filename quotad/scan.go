// SPDX-License-Identifier: BSD-2-Clause

package quotad

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// counter counts the messages of Maildirs. What a folder held is kept with its modification
// time, so that only folders that changed are read again.
type counter struct {
	ignore []string
	now    func() time.Time
	counts *counts
	cache  *dirCache
}

// total is a number of messages and their size in octets.
type total struct{ octets, messages int64 }

const (
	nameBatch = 1024            // names read at once
	settled   = 2 * time.Second // a folder that changed later may change within the same tick of its clock
	noBlock   = syscall.O_NONBLOCK
)

// count counts new and cur of the Maildir and of its folders. where names it in the cache.
// Files that appear or vanish meanwhile may or may not count.
func (c *counter) count(ctx context.Context, box *os.Root, where string) (total, error) {
	begin := c.now()
	defer func() { c.counts.scan(c.now().Sub(begin)) }()
	folders, err := c.folders(box)
	if err != nil {
		return total{}, err
	}
	var sum total
	for _, folder := range folders {
		for _, sub := range []string{"new", "cur"} {
			t, err := c.folder(ctx, box, path.Join(folder, sub), where)
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return total{}, err
			}
			sum.octets, sum.messages = sum.octets+t.octets, sum.messages+t.messages
		}
	}
	return sum, nil
}

// folders lists the Maildir itself and its folders that count: folders whose name begins
// with a dot. Other files with such names, and links, are none.
func (c *counter) folders(box *os.Root) ([]string, error) {
	top, err := box.OpenFile(".", os.O_RDONLY|syscall.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = top.Close() }()
	entries, err := top.ReadDir(-1)
	if err != nil {
		return nil, err
	}
	list := []string{"."}
	for _, e := range entries {
		if e.Name()[0] == '.' && e.IsDir() && !c.ignored(e.Name()[1:]) {
			list = append(list, e.Name())
		}
	}
	return list, nil
}

func (c *counter) ignored(folder string) bool {
	for _, name := range c.ignore {
		if folder == name || strings.HasPrefix(folder, name+".") {
			return true
		}
	}
	return false
}

// folder counts one folder, or takes what it held if it has not changed.
func (c *counter) folder(ctx context.Context, box *os.Root, name, where string) (total, error) {
	dir, err := box.OpenFile(name, os.O_RDONLY|syscall.O_DIRECTORY, 0)
	if err != nil {
		return total{}, err
	}
	defer func() { _ = dir.Close() }()
	before, err := identity(dir)
	if err != nil {
		return total{}, err
	}
	key := path.Join(where, name)
	last := c.cache.get(key)
	if last != nil && last.clean && last.id == before {
		return last.total, nil
	}
	fresh := &dirEntry{id: before}
	err = c.read(ctx, dir, last, fresh)
	after, idErr := identity(dir)
	fresh.clean = err == nil && idErr == nil && after == before && c.now().Sub(before.changed) >= settled
	c.cache.put(key, fresh) // a count that was given up is continued by the next: sizes are known
	if err != nil {
		return total{}, fmt.Errorf("count %s: %w", name, err)
	}
	return fresh.total, nil
}

// dirID says whether a folder is the same and has not changed.
type dirID struct {
	device, inode uint64
	changed       time.Time
}

func identity(dir *os.File) (dirID, error) {
	info, err := dir.Stat()
	if err != nil {
		return dirID{}, err
	}
	id := dirID{changed: info.ModTime()}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		id.device, id.inode = uint64(st.Dev), st.Ino //nolint:unconvert // its size differs between systems
	}
	return id, nil
}

// read counts the files of a folder. Sizes that the names do not have are taken from last,
// else from the file system.
func (c *counter) read(ctx context.Context, dir *os.File, last, fresh *dirEntry) error {
	for {
		names, err := dir.Readdirnames(nameBatch)
		for _, name := range names {
			if name[0] == '.' {
				continue
			}
			size, known := sizeInName(name)
			if !known {
				unique, _, _ := strings.Cut(name, ":")
				if size, known = last.size(unique); !known {
					if size, known = c.stat(dir, name); !known {
						continue // gone meanwhile, or not a file
					}
				}
				fresh.remember(unique, size)
			}
			fresh.octets, fresh.messages = fresh.octets+size, fresh.messages+1
		}
		c.counts.scanned.Add(uint64(len(names)))
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
	}
}

func (c *counter) stat(dir *os.File, name string) (int64, bool) {
	c.counts.stats.Add(1)
	var st unix.Stat_t
	if err := unix.Fstatat(int(dir.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG { // #nosec G115 -- a descriptor
		return 0, false
	}
	return st.Size, true
}

// sizeInName reads ",S=digits" of a message's name, before its flags (Maildir++).
func sizeInName(name string) (size int64, ok bool) {
	name, _, _ = strings.Cut(name, ":")
	_, text, ok := strings.Cut(name, ",S=")
	if !ok {
		return 0, false
	}
	text, _, _ = strings.Cut(text, ",")
	if text == "" || len(text) > 15 {
		return 0, false
	}
	for i := range len(text) {
		if text[i] < '0' || text[i] > '9' {
			return 0, false
		}
		size = size*10 + int64(text[i]-'0')
	}
	return size, true
}

// dirEntry is what a folder held.
type dirEntry struct {
	total
	id    dirID
	clean bool             // it was read in peace: it holds as long as id does
	sizes map[string]int64 // of files whose names do not say it, by name without flags
}

func (e *dirEntry) size(name string) (int64, bool) {
	if e == nil {
		return 0, false
	}
	n, ok := e.sizes[name]
	return n, ok
}

func (e *dirEntry) remember(name string, size int64) {
	if e.sizes == nil {
		e.sizes = map[string]int64{}
	}
	e.sizes[name] = size
}

// weight is about how much memory it takes, in octets.
func (e *dirEntry) weight() int { return 256 + 100*len(e.sizes) }

// maxCache bounds a cache of folders, in octets: 100,000 folders, or 300,000 messages without
// a size in their names. It has two halves.
const maxCache = 32 << 20

// dirCache keeps the folders that were counted last, in two halves: when the younger is full
// it becomes the older, and the older one is dropped.
type dirCache struct {
	mu         sync.Mutex
	young, old map[string]*dirEntry
	left, most int
}

func newDirCache(most int) *dirCache {
	return &dirCache{young: map[string]*dirEntry{}, left: most, most: most}
}

func (c *dirCache) get(key string) *dirEntry {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.young[key]; e != nil {
		return e
	}
	e := c.old[key]
	if e != nil {
		c.add(key, e)
	}
	return e
}

func (c *dirCache) put(key string, e *dirEntry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.add(key, e)
}

func (c *dirCache) add(key string, e *dirEntry) {
	if before := c.young[key]; before != nil {
		c.left += before.weight()
	}
	if c.left -= e.weight(); c.left < 0 {
		c.old, c.young, c.left = c.young, map[string]*dirEntry{}, c.most-e.weight()
	}
	c.young[key] = e
}
