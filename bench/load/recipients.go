// SPDX-License-Identifier: BSD-2-Clause

package load

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// listLimit bounds a file of recipients, in lines.
const listLimit = 10_000_000

// Recipients is an endless supply of recipients: the same over and over from a list or a pattern, in an order that
// jumps about, or each once in order. It is not safe for concurrent use.
type Recipients struct {
	list           []string // of a file; else the pattern's parts
	prefix, suffix string
	width          int

	size   uint64
	stride uint64
	next   uint64
}

// Pattern makes recipients of a text in which "%d" (or "%07d") stands for a number from 0 to size-1. A text without it
// is one recipient.
func Pattern(text string, size int) (*Recipients, error) {
	before, after, found := strings.Cut(text, "%")
	if size < 1 {
		return nil, fmt.Errorf("recipient pattern %q: %d recipients; at least 1 is needed", text, size)
	}
	if !found {
		return &Recipients{list: []string{text}, size: 1, stride: 1}, nil
	}
	digits, suffix, ok := strings.Cut(after, "d")
	width, err := strconv.Atoi("0" + digits)
	if !ok || err != nil || width > 20 || strings.Contains(suffix, "%") {
		return nil, fmt.Errorf("recipient pattern %q: expected one number, written %%d or %%07d", text)
	}
	return &Recipients{prefix: before, suffix: suffix, width: width, size: uint64(size), stride: 1}, nil
}

// File reads recipients from a file, one a line; empty lines and lines that begin with "#" do not count.
func File(name string) (*Recipients, error) {
	f, err := os.Open(name) //nolint:gosec // the user names it
	if err != nil {
		return nil, fmt.Errorf("reading recipients: %w", err)
	}
	defer f.Close() //nolint:errcheck // only read
	r := &Recipients{stride: 1}
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		text := strings.TrimSpace(lines.Text())
		if text == "" || text[0] == '#' {
			continue
		}
		if len(r.list) == listLimit {
			return nil, fmt.Errorf("reading recipients from %s: more than %d", name, listLimit)
		}
		r.list = append(r.list, text)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("reading recipients from %s: %w", name, err)
	}
	if len(r.list) == 0 {
		return nil, fmt.Errorf("reading recipients from %s: it has none", name)
	}
	r.size = uint64(len(r.list))
	return r, nil
}

// Size is the number of different recipients.
func (r *Recipients) Size() int { return int(r.size) } //nolint:gosec // made from an int

// Shuffled gives the same recipients in an order in which neighbours are far apart, so that no cache line or map bucket
// is helped by the one before it. Every size recipients each comes once.
func (r *Recipients) Shuffled() *Recipients {
	c := *r
	c.next = 0
	c.stride = r.size*61/99 + 1 // about the golden section
	for gcd(c.stride, c.size) != 1 {
		c.stride++
	}
	return &c
}

func gcd(a, b uint64) uint64 {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

// Append appends the next recipient to buf.
func (r *Recipients) Append(buf []byte) []byte {
	n := r.next
	r.next = (r.next + r.stride) % r.size
	if r.list != nil {
		return append(buf, r.list[n]...)
	}
	buf = append(buf, r.prefix...)
	var number [20]byte
	digits := strconv.AppendUint(number[:0], n, 10)
	for i := len(digits); i < r.width; i++ {
		buf = append(buf, '0')
	}
	buf = append(buf, digits...)
	return append(buf, r.suffix...)
}
