// SPDX-License-Identifier: BSD-2-Clause

package report

import (
	"bufio"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	netmail "net/mail"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"rcptgate/kit/exit"
	"rcptgate/kit/term"
	"rcptgate/mail"
	"rcptgate/report/arf"
	"rcptgate/report/benford"
	"rcptgate/report/mailbox"
	"rcptgate/report/maillog"
	"rcptgate/view"
)

// subjects counts what was odd about Subject fields.
type subjects struct{ missing, empty, undecoded int }

func (s *subjects) report(w io.Writer) {
	if s.missing+s.empty+s.undecoded > 0 {
		fmt.Fprintf(w, "rcptgate: left out: %s without a Subject, %d with an empty one; not decoded and counted as it is: %d\n", term.Count(s.missing, "message"), s.empty, s.undecoded)
	}
}

// length is a subject's length in the unit that was asked for.
func (f *benfordFlags) length(raw string) uint64 {
	if f.unit == "raw" {
		return uint64(len(raw))
	}
	text, ok := mail.DecodeWordsOK(raw)
	if !ok {
		f.subject.undecoded++
	}
	if f.unit == "octets" {
		return uint64(len(text))
	}
	return uint64(utf8.RuneCountInString(text)) // #nosec G115 -- a count
}

// message takes the number of a message.
func (f *benfordFlags) message(m *mailbox.Message) {
	var header mail.Header
	if f.what == "subject" || f.what == "nrcpt" || f.by != "" {
		head, _ := m.Header()
		header, _ = mail.ParseHeader(head)
	}
	group := func() string { return f.groupOf(header) }
	switch f.what {
	case "message", "body":
		f.add(f.sizeOf(m), group)
	case "nrcpt":
		f.add(recipients(header), group)
	default:
		field := header.Get("Subject")
		switch {
		case field == nil:
			f.subject.missing++
		case field.Value() == "":
			f.subject.empty++
		default:
			f.add(f.length(field.Value()), group)
		}
	}
}

// sizeOf is the size of a message or of its body, as it is stored or as it is on the wire.
func (f *benfordFlags) sizeOf(m *mailbox.Message) uint64 {
	size := m.Size
	if f.size == "wire" {
		size = m.Wire
	}
	if f.what == "body" {
		head, _ := m.Header()
		if f.size == "wire" {
			size -= mailbox.WireSize(head)
		} else {
			size -= int64(len(head))
		}
	}
	return uint64(max(size, 0)) // #nosec G115 -- not negative
}

// recipients counts the addresses in To, Cc and Bcc.
func recipients(h mail.Header) (n uint64) {
	for _, name := range []string{"To", "Cc", "Bcc"} {
		for _, value := range h.Values(name) {
			list, err := netmail.ParseAddressList(value)
			if err != nil {
				n += uint64(strings.Count(value, "@")) // #nosec G115 -- a count
				continue
			}
			n += uint64(len(list))
		}
	}
	return n
}

// groupOf is the group of a message by its header.
func (f *benfordFlags) groupOf(h mail.Header) string {
	switch f.by {
	case "day":
		date, err := arf.ParseDate(h.Value("Date"))
		if err != nil {
			return ""
		}
		return date.UTC().Format("2006-01-02")
	case "sender-net":
		return mail.Network(h.SourceIP())
	}
	return domainOf(h.Value("From"))
}

// domainOf gives the domain of an address as it stands in a header or a log.
func domainOf(address string) string {
	i := strings.LastIndexByte(address, '@')
	if i < 0 {
		return ""
	}
	return strings.ToLower(strings.TrimRight(strings.TrimSpace(address[i+1:]), ">. "))
}

// findLogs looks whether the files are mail logs, though --log does not say so.
func (f *benfordFlags) findLogs(cmd *cobra.Command, paths []string) error {
	if f.log || f.what == "number" || f.what == "mailbox" {
		return nil
	}
	logs := 0
	for _, path := range paths {
		if info, err := os.Stat(path); path != "-" && (err != nil || info.IsDir()) {
			continue
		}
		in, closeIn, err := openInput(cmd, path)
		if err != nil {
			continue // it is reported when it is read
		}
		buffered := bufio.NewReaderSize(in, 4096)
		head, _ := buffered.Peek(4096)
		if maillog.Begins(head) {
			logs++
		}
		if path == "-" {
			cmd.SetIn(buffered)
		} else {
			closeIn()
		}
	}
	switch {
	case logs == 0:
		return nil
	case logs < len(paths):
		return errors.New("some of the files are mail logs and some are not: read them by themselves")
	case f.what == "body":
		return errors.New("the files are mail logs, which have no body sizes")
	}
	f.log = true
	return nil
}

// readLogs takes the numbers of mail logs.
func (f *benfordFlags) readLogs(cmd *cobra.Command, paths []string) (damaged bool, err error) {
	problem := func(file string, err error) {
		damaged = true
		fmt.Fprintf(cmd.ErrOrStderr(), "rcptgate: %s: %s\n", view.Clean(file), view.Clean(err.Error()))
	}
	err = maillog.Walk(cmd.Context(), paths, cmd.InOrStdin(), problem, func(e *maillog.Entry) error {
		group := func() string {
			switch f.by {
			case "day":
				return e.Day
			case "sender-net":
				return mail.Network(e.Client)
			}
			if e.Unsure { // what is cut off is the domain
				return ""
			}
			return domainOf(e.Sender)
		}
		switch {
		case e.Kind == maillog.Subject && f.what == "subject":
			f.add(f.length(e.Subject), group)
		case e.Kind == maillog.Message && f.what == "message":
			f.add(e.Size, group)
		case e.Kind == maillog.Message && f.what == "nrcpt":
			f.add(e.Rcpts, group)
		}
		return nil
	})
	return damaged, readError(err)
}

// readError gives a reading's error its exit code.
func readError(err error) error {
	switch {
	case errors.Is(err, maillog.ErrNothing), errors.Is(err, mailbox.ErrNothing):
		return exit.Quietly(exit.NoInput)
	case errors.Is(err, context.Canceled):
		return exit.With(exit.Tempfail, errors.New("interrupted"))
	}
	return err
}

// readNumbers takes numbers, one a line.
func (f *benfordFlags) readNumbers(cmd *cobra.Command, paths []string) (damaged bool, err error) {
	read := 0
	for _, path := range paths {
		in, closeIn, err := openInput(cmd, path)
		if err != nil {
			damaged = true
			fmt.Fprintf(cmd.ErrOrStderr(), "rcptgate: %s\n", view.Clean(err.Error()))
			continue
		}
		read++
		bad, err := f.numbers(in)
		closeIn()
		if err != nil {
			damaged = true
			fmt.Fprintf(cmd.ErrOrStderr(), "rcptgate: %s: %s\n", view.Clean(path), view.Clean(err.Error()))
		}
		if bad > 0 {
			damaged = true
			fmt.Fprintf(cmd.ErrOrStderr(), "rcptgate: %s: left out %s: not a number\n", view.Clean(path), term.Count(bad, "line"))
		}
	}
	if read == 0 {
		return true, exit.Quietly(exit.NoInput)
	}
	return damaged, nil
}

// openInput opens a file, or standard input, decompressed if it is compressed with gzip.
func openInput(cmd *cobra.Command, path string) (io.Reader, func(), error) {
	in, closeIn := cmd.InOrStdin(), func() {}
	if path != "-" {
		file, err := os.Open(path) // #nosec G304 -- the file that was named
		if err != nil {
			return nil, nil, err
		}
		in, closeIn = file, func() { _ = file.Close() } // only read
	}
	buffered := bufio.NewReader(in)
	if magic, _ := buffered.Peek(2); string(magic) != "\x1f\x8b" {
		return buffered, closeIn, nil
	}
	z, err := gzip.NewReader(buffered)
	if err != nil {
		closeIn()
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	return z, closeIn, nil
}

// numbers counts the numbers of a stream and gives how many lines are none.
func (f *benfordFlags) numbers(in io.Reader) (bad int, err error) {
	lines := bufio.NewReaderSize(in, 4096)
	for {
		line, more, err := lines.ReadLine()
		if errors.Is(err, io.EOF) {
			return bad, nil
		}
		if err != nil {
			return bad, err
		}
		text := strings.TrimSpace(string(line))
		n, ok := benford.ParseNumber(text)
		switch {
		case more: // longer than any number
			bad++
			for more && err == nil {
				_, more, err = lines.ReadLine()
			}
		case ok:
			f.count.Add(n)
		case text != "" && !strings.HasPrefix(text, "#"):
			bad++
		}
	}
}

// readSizes takes the sizes of the files and folders themselves.
func (f *benfordFlags) readSizes(cmd *cobra.Command, paths []string) (damaged bool, err error) {
	read := 0
	for _, path := range paths {
		var size int64
		err := filepath.WalkDir(path, func(_ string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			info, err := d.Info()
			if err == nil {
				size += info.Size()
			}
			return nil // removed meanwhile
		})
		if err != nil {
			damaged = true
			fmt.Fprintf(cmd.ErrOrStderr(), "rcptgate: %s\n", view.Clean(err.Error()))
			continue
		}
		read++
		f.count.Add(uint64(size)) // #nosec G115 -- a sum of sizes
	}
	if read == 0 {
		return true, exit.Quietly(exit.NoInput)
	}
	return damaged, nil
}
