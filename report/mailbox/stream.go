// SPDX-License-Identifier: BSD-2-Clause

package mailbox

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"strconv"
)

// chunk is how much is read at once, in octets.
const chunk = 256 << 10

// lookAhead is how far a Content-Length is followed to see whether it leads to the next
// message, in octets. It is less than a chunk.
const lookAhead = 192 << 10

// stream reads one file's octets: it finds out what they are.
func (w *walker) stream(name string, r io.Reader) error {
	w.opened++
	counted := &counter{r: r, tick: func(n int64) {
		w.octets += n
		if w.Progress != nil {
			w.Progress(name, w.octets)
		}
	}}
	in := bufio.NewReaderSize(counted, 4096)
	if magic, err := in.Peek(2); err == nil && magic[0] == 0x1f && magic[1] == 0x8b {
		z, err := gzip.NewReader(in)
		if err != nil {
			w.problem(name, -1, wrap("gzip", err))
			return nil
		}
		in = bufio.NewReaderSize(z, 4096)
	}
	s := &scanner{walker: w, name: name, in: in, eol: '\n'}
	w.msg.File = name
	return s.run()
}

// counter counts octets as they are read.
type counter struct {
	r    io.Reader
	tick func(int64)
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	if n > 0 {
		c.tick(int64(n))
	}
	return n, err
}

// scanner reads one file through a window of one chunk.
type scanner struct {
	*walker
	name   string
	in     io.Reader
	win    []byte // what was read and not yet used
	at     int64  // offset of win's first octet in the file
	eof    bool
	eol    byte // the octet that ends a line
	last   byte // the message's last octet before the window
	failed error
}

// fill reads until the window is full or the file ends.
func (s *scanner) fill() {
	if s.eof {
		return
	}
	if err := s.ctx.Err(); err != nil { // a file without end has no other
		s.eof, s.win = true, nil
		return
	}
	n := copy(s.buf, s.win)
	for n < len(s.buf) {
		m, err := s.in.Read(s.buf[n:])
		n += m
		if err != nil {
			s.eof = true
			if !errors.Is(err, io.EOF) {
				s.failed = err
			}
			break
		}
	}
	s.win = s.buf[:n]
}

// take moves the window forward.
func (s *scanner) take(n int) {
	s.win = s.win[n:]
	s.at += int64(n)
}

func (s *scanner) run() error {
	s.fill()
	if len(s.win) > 0 && bytes.IndexByte(s.win, '\n') < 0 && bytes.IndexByte(s.win, '\r') >= 0 {
		s.eol = '\r'
	}
	if n := len(bytes.TrimLeft(s.win, "\r\n")); n < len(s.win) && bytes.HasPrefix(s.win[len(s.win)-n:], fromWord) {
		s.take(len(s.win) - n) // empty lines before the first message
	}
	var err error
	if isFrom(s.line(s.win)) {
		err = s.mbox()
	} else if len(s.win) > 0 {
		err = s.single()
	}
	if s.failed != nil {
		s.problem(s.name, s.at, s.failed)
	}
	if err == nil {
		err = s.ctx.Err()
	}
	return err
}

// begin starts a message at the window's first octet.
func (s *scanner) begin() {
	s.kept = s.kept[:0]
	s.msg.Offset, s.msg.Size, s.msg.Cut, s.msg.Wire, s.last = s.at, 0, false, 0, 0
}

// keep adds the next n octets of the window to the message.
func (s *scanner) keep(n int) {
	room := min(n, s.Keep-len(s.kept))
	s.kept = append(s.kept, s.win[:room]...)
	s.msg.Cut = s.msg.Cut || room < n
	s.msg.Size += int64(n)
	if s.Options.Wire && n > 0 {
		s.msg.Wire += int64(n) + shortEnds(s.win[:n], s.eol, s.last)
		s.last = s.win[n-1]
	}
	s.take(n)
}

// single reads a file that is one message.
func (s *scanner) single() error {
	s.begin()
	for len(s.win) > 0 {
		s.keep(len(s.win))
		s.fill()
	}
	s.msg.Data = s.kept
	return s.deliver()
}

// mbox reads the messages of an mbox file. The window begins with a From_ line.
func (s *scanner) mbox() error {
	for len(s.win) > 0 {
		s.take(len(s.line(s.win)))
		s.begin()
		s.body()
		s.msg.Data = s.unquote(s.kept)
		if err := s.deliver(); err != nil {
			return err
		}
	}
	return nil
}

// body takes the window up to the next From_ line.
func (s *scanner) body() {
	if len(s.win) < lookAhead {
		s.fill()
	}
	first := true
	for len(s.win) > 0 {
		end, found := s.next(first)
		first = false
		if found {
			s.keep(s.withoutBlank(end))
			s.take(s.blank())
			return
		}
		if s.eof {
			s.keep(s.withoutBlank(len(s.win)))
			s.take(len(s.win))
			return
		}
		s.keep(max(len(s.win)-maxFrom, 0)) // a From_ line may begin in what is left
		s.fill()
	}
}

// next finds the From_ line that ends the message in the window: where its Content-Length
// says, or the first that looks like one.
func (s *scanner) next(first bool) (int, bool) {
	if first {
		if isFrom(s.line(s.win)) {
			return 0, true // an empty message
		}
		if end, ok := s.byLength(); ok {
			return end, true
		}
	}
	for i := 0; ; {
		n := bytes.Index(s.win[i:], fromWord)
		if n < 0 {
			return 0, false
		}
		i += n
		if i > 0 && s.win[i-1] == s.eol && isFrom(s.line(s.win[i:])) && (s.emptyBefore(i) || s.headerAfter(i)) {
			return i, true
		}
		i += len(fromWord)
	}
}

// byLength follows the header's Content-Length (mboxcl, mboxcl2), if it leads to a From_
// line or to the end of the file.
func (s *scanner) byLength() (int, bool) {
	head := s.win[:min(len(s.win), lookAhead/2)]
	if n := bytes.Index(head, append([]byte{s.eol}, fromWord...)); n >= 0 {
		head = head[:n+1] // a header without an empty line ends there: many of them are not read again and again
	}
	header, _ := Split(head)
	length, ok := contentLength(header)
	if !ok || length > lookAhead/2 {
		return 0, false
	}
	end := len(header) + length
	if end > len(s.win) {
		return 0, false
	}
	for range 2 { // at most one empty line is between the messages
		if rest := s.win[end:]; (len(rest) == 0 && s.eof) || isFrom(s.line(rest)) {
			return end, true
		} else if n := blankLine(rest); n > 0 {
			end += n
		} else {
			break
		}
	}
	return 0, false
}

// contentLength gives the value of a header's Content-Length field.
func contentLength(header []byte) (int, bool) {
	for len(header) > 0 {
		line := header
		if n := bytes.IndexByte(header, '\n'); n >= 0 {
			line = header[:n]
			header = header[n+1:]
		} else {
			header = nil
		}
		if name, value, ok := bytes.Cut(line, []byte(":")); ok && bytes.EqualFold(name, []byte("Content-Length")) {
			n, err := strconv.Atoi(string(bytes.TrimSpace(value)))
			return n, err == nil && n >= 0
		}
	}
	return 0, false
}

// withoutBlank leaves out the empty line that an mbox has after each message, unless it is
// the one that ends the header.
func (s *scanner) withoutBlank(end int) int {
	data := s.win[:end]
	if header, _ := Split(data); s.msg.Size == 0 && len(header) == end {
		return end
	}
	for _, blank := range [...]string{"\r\n\r\n", "\n\n", "\r\r"} {
		if bytes.HasSuffix(data, []byte(blank)) {
			return end - len(blank)/2
		}
	}
	return end
}

// blank is the length of the empty lines at the beginning of the window.
func (s *scanner) blank() int {
	return len(s.win) - len(bytes.TrimLeft(s.win, "\r\n"))
}

// blankLine is the length of the line end that data begins with.
func blankLine(data []byte) int {
	switch {
	case bytes.HasPrefix(data, []byte("\r\n")):
		return 2
	case len(data) > 0 && (data[0] == '\n' || data[0] == '\r'):
		return 1
	}
	return 0
}

// line gives the first line of data with its end.
func (s *scanner) line(data []byte) []byte {
	head := data[:min(len(data), maxFrom)]
	if n := bytes.IndexByte(head, s.eol); n >= 0 {
		return data[:n+1]
	}
	return head
}

// emptyBefore reports whether the line before the one at i is empty.
func (s *scanner) emptyBefore(i int) bool {
	before := bytes.TrimSuffix(s.win[:i-1], []byte("\r"))
	return len(before) == 0 || before[len(before)-1] == s.eol
}

// headerAfter reports whether the line after the one at i looks like a header field: some
// programs forget the empty line before From_.
func (s *scanner) headerAfter(i int) bool {
	rest := s.win[i:]
	rest = rest[len(s.line(rest)):]
	name, _, ok := bytes.Cut(s.line(rest), []byte(":"))
	return ok && len(name) > 0 && bytes.IndexFunc(name, func(r rune) bool { return r <= ' ' || r > '~' }) < 0
}

// unquote takes one ">" from lines that begin with ">From ", ">>From " and so on, as mboxrd
// has them. For mboxo, which quotes "From " alone, this is right except for lines that had
// ">From " in the original.
func (s *scanner) unquote(data []byte) []byte {
	if !bytes.Contains(data, quoted) {
		return data
	}
	out := data[:0]
	for len(data) > 0 {
		line := data
		if n := bytes.IndexByte(data, s.eol); n >= 0 {
			line = data[:n+1]
		}
		data = data[len(line):]
		if line[0] == '>' && bytes.HasPrefix(bytes.TrimLeft(line, ">"), fromWord) {
			line = line[1:]
		}
		out = append(out, line...)
	}
	return out
}
