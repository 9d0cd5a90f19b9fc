// SPDX-License-Identifier: BSD-2-Clause

package backend

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"rcptgate"
)

// Reply is what a backend said to RCPT, or to whatever failed before it.
type Reply struct {
	Code     int    // 200 to 599
	Enhanced string // enhanced status code (RFC 3463), "5.1.1"; empty if none was sent
	// Text is without codes; lines are separated by "\n". It has been through
	// rcptgate.CleanText.
	Text string
	// Elapsed is how long the probe took on its connection, waiting for one left out.
	Elapsed time.Duration

	// The connection on which the question was put: its age at that time, counted from
	// the attempt to connect, the recipients that it had been asked about before, and
	// how many of those were refused (4xx and 5xx). A caller may distrust a refusal on
	// an old connection, or on one that has carried refusals, and ask again with
	// Probe.Fresh.
	ConnAge                time.Duration
	ConnAsked, ConnRefused int
}

// Bounds of a reply. RFC 5321 section 4.5.3.1.5 has 512 octets a line; more is seen.
const (
	replyLineMax  = 2048 // octets, line end included
	replyLinesMax = 100
	readBuffer    = 4096
)

// errGarbage is wrapped by every error about octets that are not a reply.
var errGarbage = errors.New("not an SMTP reply")

func garbage(format string, args ...any) error {
	return fmt.Errorf("%w: %s", errGarbage, fmt.Sprintf(format, args...))
}

// replyReader reads replies from src. It never reads more than it has room for, and
// time is bounded by src.
type replyReader struct {
	src  io.Reader
	buf  [readBuffer]byte
	r, w int // what is read and not yet used: buf[r:w]
}

// pending reports whether octets have been read that belong to no reply yet.
func (r *replyReader) pending() bool { return r.r < r.w }

// next reads one reply. With text unset, that of a 2xx is not kept: what is
// said to RSET and MAIL is not needed.
func (r *replyReader) next(text bool) (Reply, error) {
	var rep Reply
	var all []byte
	for n := 0; ; n++ {
		line, err := r.line()
		if err != nil {
			return Reply{}, err
		}
		if n == replyLinesMax {
			return Reply{}, garbage("more than %d lines", replyLinesMax)
		}
		code, more, rest, err := splitLine(line)
		if err != nil {
			return Reply{}, err
		}
		if n > 0 && code != rep.Code {
			return Reply{}, garbage("codes %d and %d in one reply", rep.Code, code)
		}
		rep.Code = code
		if text || code >= 300 {
			all = rep.addLine(all, rest, n, more)
		}
		if !more {
			if all != nil {
				rep.Text = string(all)
			}
			rep.Text = rcptgate.CleanText(rep.Text)
			return rep, nil
		}
	}
}

// addLine collects the text of line n, its enhanced code split off. A reply of one
// line becomes Text at once; all is used only for longer ones.
func (rep *Reply) addLine(all, rest []byte, n int, more bool) []byte {
	enhanced, after := splitEnhanced(rest, rep.Code)
	if rep.Enhanced == "" {
		rep.Enhanced = string(enhanced) // RFC 2034 has it on every line, go-smtp on the last
	}
	if string(enhanced) == rep.Enhanced {
		rest = after
	}
	if n == 0 && !more {
		rep.Text = string(rest)
		return nil
	}
	if n > 0 {
		all = append(all, '\n')
	}
	all = append(all, rest...)
	if all == nil {
		all = []byte{}
	}
	return all
}

// line gives the next line without its end, valid until the next call. LF alone ends
// a line too: RFC 5321 forbids sending it, and servers do.
func (r *replyReader) line() ([]byte, error) {
	for {
		if i := bytes.IndexByte(r.buf[r.r:r.w], '\n'); i >= 0 {
			line := r.buf[r.r : r.r+i]
			r.r += i + 1
			if i >= replyLineMax {
				return nil, garbage("a line over %d octets", replyLineMax)
			}
			return bytes.TrimSuffix(line, []byte{'\r'}), nil
		}
		if r.w-r.r >= replyLineMax {
			return nil, garbage("a line over %d octets", replyLineMax)
		}
		if err := r.fill(); err != nil {
			return nil, err
		}
	}
}

func (r *replyReader) fill() error {
	if r.r > 0 {
		r.w = copy(r.buf[:], r.buf[r.r:r.w])
		r.r = 0
	}
	n, err := r.src.Read(r.buf[r.w:])
	r.w += n
	switch {
	case n > 0:
		return nil
	case err == nil:
		return io.ErrNoProgress
	case errors.Is(err, io.EOF) && r.w > 0:
		return io.ErrUnexpectedEOF
	}
	return err
}

// splitLine takes a reply line apart (RFC 5321 section 4.2): three digits, then
// "-", a space or the end of the line.
func splitLine(line []byte) (code int, more bool, rest []byte, err error) {
	if len(line) < 3 || line[0] < '2' || line[0] > '5' || !digit(line[1]) || !digit(line[2]) {
		return 0, false, nil, garbage("line begins %.20q", line)
	}
	code = int(line[0]-'0')*100 + int(line[1]-'0')*10 + int(line[2]-'0')
	switch {
	case len(line) == 3:
		return code, false, nil, nil
	case line[3] == ' ' || line[3] == '-':
		return code, line[3] == '-', line[4:], nil
	}
	return 0, false, nil, garbage("line begins %.20q", line)
}

// unimplemented reports the codes for a command that the server does not know, or not
// at this point (RFC 5321 section 4.2.4).
func unimplemented(code int) bool { return code >= 500 && code <= 504 }

func digit(c byte) bool { return c >= '0' && c <= '9' }

// splitEnhanced takes the enhanced code (RFC 2034 section 4) off a line's text. One
// whose class is not the reply's is left where it is.
func splitEnhanced(text []byte, code int) (enhanced, rest []byte) {
	if len(text) < 5 || int(text[0]-'0') != code/100 || text[1] != '.' || code/100 == 3 {
		return nil, text
	}
	i := 2
	for part := range 2 {
		start := i
		for i < len(text) && digit(text[i]) && i-start < 3 {
			i++
		}
		if i == start {
			return nil, text
		}
		if part == 0 {
			if i == len(text) || text[i] != '.' {
				return nil, text
			}
			i++
		}
	}
	if i < len(text) && text[i] != ' ' {
		return nil, text
	}
	return text[:i], bytes.TrimLeft(text[i:], " ")
}

// firstWord is the server's name in a banner or an EHLO reply.
func firstWord(text string) string {
	text, _, _ = strings.Cut(text, "\n")
	word, _, _ := strings.Cut(strings.TrimLeft(text, " "), " ")
	return word
}
