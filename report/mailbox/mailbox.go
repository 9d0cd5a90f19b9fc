// SPDX-License-Identifier: BSD-2-Clause

package mailbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// DefaultKeep is how much of a message is held unless the options say otherwise, in octets.
const DefaultKeep = 8 << 20

// Message is one message. It is the reader's: its octets hold until the function that was
// given it returns.
type Message struct {
	File   string // the file or, for standard input, "-"
	Index  int    // counted from 1 over everything that was read
	Offset int64  // where the message begins in its (uncompressed) file, in octets
	// Data is the message without mbox's From_ line and quoting, at most Options.Keep octets.
	// It has the line ends of the file.
	Data []byte
	// Size is the size of the whole message as it is stored, without the From_ line, in octets.
	Size int64
	Cut  bool // the message is larger than what Data has
	// Wire is Size with CRLF at the end of each line, as SMTP has it; 0 without Options.Wire.
	Wire int64
}

// Options are how to read.
type Options struct {
	Keep    int  // octets of a message that are held; 0 means DefaultKeep
	Recurse bool // also read the folders below a folder
	Wire    bool // give the size on the wire too
	// Stdin is what "-" stands for; nil means that it is an error.
	Stdin io.Reader
	// Problem is told what could not be read; nil means that nobody wants to know. Offset is
	// -1 where none applies.
	Problem func(file string, offset int64, err error)
	// Progress is told from time to time how many octets were read from files.
	Progress func(file string, octets int64)
}

// ErrNothing is returned when none of the paths could be read.
var ErrNothing = errors.New("nothing to read")

// Walk reads the files and folders named and calls each for every message. It returns the
// first error of each, the context's, or ErrNothing if no path could be read at all.
func Walk(ctx context.Context, paths []string, o Options, each func(*Message) error) error {
	if o.Keep <= 0 {
		o.Keep = DefaultKeep
	}
	w := &walker{Options: o, ctx: ctx, each: each, buf: make([]byte, chunk)}
	for _, path := range paths {
		if err := w.path(path); err != nil {
			return err
		}
	}
	if w.opened == 0 {
		return ErrNothing
	}
	return nil
}

type walker struct {
	Options
	ctx    context.Context
	each   func(*Message) error
	msg    Message
	buf    []byte // the file's octets on their way; reused
	kept   []byte // the message's octets; reused
	octets int64  // read so far, over all files
	opened int
}

// path reads one path of the command line.
func (w *walker) path(path string) error {
	if path == "-" {
		if w.Stdin == nil {
			w.problem(path, -1, errors.New("standard input cannot be read here"))
			return nil
		}
		return w.stream(path, w.Stdin)
	}
	info, err := os.Stat(path)
	if err != nil {
		w.problem(path, -1, err)
		return nil
	}
	if info.IsDir() {
		return w.folder(path)
	}
	return w.file(path)
}

// file reads a regular file. Errors of the file are reported; those returned end the walk.
func (w *walker) file(path string) error {
	f, err := os.Open(path) // #nosec G304 -- reading the named mailboxes is the purpose
	if err != nil {
		w.problem(path, -1, err)
		return nil
	}
	defer f.Close()
	return w.stream(path, f)
}

func (w *walker) problem(file string, offset int64, err error) {
	if w.Problem != nil {
		w.Problem(file, offset, err)
	}
}

// deliver hands a message to the caller.
func (w *walker) deliver() error {
	if err := w.ctx.Err(); err != nil {
		return err
	}
	w.msg.Index++
	return w.each(&w.msg)
}

// folder reads a Maildir, an MH folder or, with Recurse, whatever is below it.
func (w *walker) folder(path string) error {
	names, err := list(path)
	if err != nil {
		w.problem(path, -1, err)
		return nil
	}
	isMaildir := slices.Contains(names, "cur") && slices.Contains(names, "new")
	isMH := slices.Contains(names, ".mh_sequences") || slices.ContainsFunc(names, isNumber)
	if !isMaildir && !isMH && !w.Recurse {
		w.problem(path, -1, errors.New("neither a Maildir nor an MH folder; -r reads what is below it"))
		return nil
	}
	if isMaildir {
		for _, sub := range []string{"cur", "new"} {
			if err := w.messages(filepath.Join(path, sub), func(name string) bool { return !strings.HasPrefix(name, ".") }); err != nil {
				return err
			}
		}
	} else if isMH {
		slices.SortFunc(names, byNumber)
		if err := w.files(path, names, isNumber); err != nil {
			return err
		}
	}
	if !w.Recurse {
		return nil
	}
	return w.below(path, names, isMaildir, isMH)
}

// below reads the folders in a folder and, if that is of no kind of its own, its files.
func (w *walker) below(path string, names []string, isMaildir, isMH bool) error {
	for _, name := range names {
		full := filepath.Join(path, name)
		info, err := os.Lstat(full) // a link could lead round in a circle
		switch {
		case err != nil:
			w.problem(full, -1, err)
		case info.IsDir() && !(isMaildir && (name == "cur" || name == "new" || name == "tmp")):
			if err := w.folder(full); err != nil {
				return err
			}
		case info.Mode().IsRegular() && !isMaildir && !isMH:
			if err := w.file(full); err != nil {
				return err
			}
		}
	}
	return nil
}

// messages reads the files of a folder that holds one message each.
func (w *walker) messages(path string, want func(string) bool) error {
	names, err := list(path)
	if err != nil {
		w.problem(path, -1, err)
		return nil
	}
	return w.files(path, names, want)
}

func (w *walker) files(path string, names []string, want func(string) bool) error {
	w.opened++ // an empty folder was read too
	for _, name := range names {
		if !want(name) {
			continue
		}
		full := filepath.Join(path, name)
		if info, err := os.Lstat(full); err != nil || !info.Mode().IsRegular() {
			continue // removed meanwhile, or not a message
		}
		if err := w.file(full); err != nil {
			return err
		}
	}
	return nil
}

// list gives the names in a folder, sorted.
func list(path string) ([]string, error) {
	f, err := os.Open(path) // #nosec G304 -- see file
	if err != nil {
		return nil, err
	}
	defer f.Close()
	names, err := f.Readdirnames(-1)
	slices.Sort(names)
	return names, err
}

func isNumber(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}

// byNumber sorts the names of an MH folder as numbers.
func byNumber(a, b string) int {
	if len(a) != len(b) && isNumber(a) && isNumber(b) {
		return len(a) - len(b)
	}
	return strings.Compare(a, b)
}

// Header gives the message's header, with the empty line that ends it, and its body.
func (m *Message) Header() (header, body []byte) { return Split(m.Data) }

// Split parts a message at its first empty line; line ends are LF, CRLF or a bare CR. The
// empty line belongs to the header. A message without one has no body.
func Split(data []byte) (header, body []byte) {
	for i := 0; i < len(data); {
		n := bytes.IndexAny(data[i:], "\r\n")
		if n < 0 {
			break
		}
		end := i + n
		next := end + 1
		if data[end] == '\r' && next < len(data) && data[next] == '\n' {
			next++
		}
		if n == 0 {
			return data[:next], data[next:]
		}
		i = next
	}
	return data, nil
}

// WireSize is the size of text in octets with CRLF at the end of each line, whether it has LF,
// CRLF or, without any LF, a bare CR.
func WireSize(text []byte) int64 {
	eol := byte('\n')
	if bytes.IndexByte(text, '\n') < 0 {
		eol = '\r'
	}
	return int64(len(text)) + shortEnds(text, eol, 0)
}

// shortEnds counts the ends of lines that are one octet, eol; before is the octet before text.
func shortEnds(text []byte, eol, before byte) int64 {
	if eol == '\r' {
		return int64(bytes.Count(text, []byte{'\r'}))
	}
	n := bytes.Count(text, []byte{'\n'}) - bytes.Count(text, []byte("\r\n"))
	if before == '\r' && len(text) > 0 && text[0] == '\n' {
		n--
	}
	return int64(n)
}

// wrap says where an error happened.
func wrap(what string, err error) error { return fmt.Errorf("%s: %w", what, err) }
