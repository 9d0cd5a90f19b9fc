// SPDX-License-Identifier: BSD-2-Clause

package mail

import (
	"bytes"
	"fmt"
	"io"
	"iter"
)

// lines gives where each line begins and ends, its line end included. It looks at every octet
// twice at most, whatever the line ends are.
func lines(data []byte) iter.Seq2[int, int] {
	return func(yield func(int, int) bool) {
		lf, cr := -1, -1 // the next ones, from where we are
		for at := 0; at < len(data); {
			if lf < at {
				lf = next(data, at, '\n')
			}
			if cr < at {
				cr = next(data, at, '\r')
			}
			end := min(lf, cr) + 1
			if cr+1 == lf {
				end = lf + 1
			}
			end = min(end, len(data))
			if !yield(at, end) {
				return
			}
			at = end
		}
	}
}

// next gives where the next c is; len(data) stands for nowhere.
func next(data []byte, at int, c byte) int {
	if i := bytes.IndexByte(data[at:], c); i >= 0 {
		return at + i
	}
	return len(data)
}

// line is one line of a message.
type line struct {
	start, textEnd, end int // offsets: textEnd is before the line end
	text                []byte
	cut                 bool // text is only the beginning
	bare                bool // it ends in a bare CR
}

// newLine is a line as it stands in the message at an offset.
func newLine(raw []byte, at int) line {
	text := trimEOL(raw)
	return line{start: at, textEnd: at + len(text), end: at + len(raw), text: text, bare: len(text) < len(raw) && raw[len(raw)-1] == '\r'}
}

// lineMax is how much of a line is looked at, and lineWindow how much is read at once.
const (
	lineMax    = 4 << 10
	lineWindow = 64 << 10
)

// readLines gives the lines of in to take, without keeping more than a window of it in memory.
func readLines(in io.Reader, take func(line)) error {
	r := lineReader{take: take, window: make([]byte, 0, lineWindow)}
	for {
		n, err := in.Read(r.window[len(r.window):cap(r.window)])
		r.window = r.window[:len(r.window)+n]
		if err != nil && err != io.EOF {
			return fmt.Errorf("read a message: %w", err)
		}
		if len(r.window) == cap(r.window) || err == io.EOF {
			r.lines(err == io.EOF)
		}
		if err == io.EOF {
			return nil
		}
	}
}

// lineReader is the state of readLines.
type lineReader struct {
	take   func(line)
	offset int    // of the window
	window []byte // begins with a line, or with more of a long one
	long   []byte // the beginning of a line that is longer than a window
	start  int    // of that line
}

// lines takes the whole lines of the window, and moves the rest to its beginning.
func (r *lineReader) lines(last bool) {
	rest := len(r.window)
	for start, end := range lines(r.window) {
		text := trimEOL(r.window[start:end])
		// A CR at the end of the window may have its LF behind it.
		if !last && end == len(r.window) && (len(text) == end-start || r.window[end-1] == '\r') {
			rest = start
			break
		}
		l := newLine(r.window[start:end], r.offset+start)
		if r.long != nil {
			l.start, l.text, l.cut, r.long = r.start, r.long, true, nil
		}
		r.take(l)
	}
	if rest == 0 && !last { // a line as long as the window: all but a CR is not needed
		if r.long == nil {
			r.long, r.start = bytes.Clone(r.window[:lineMax]), r.offset
		}
		rest = len(r.window) - 1
	}
	r.offset += rest
	r.window = append(r.window[:0], r.window[rest:]...)
}
