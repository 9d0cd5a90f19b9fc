// SPDX-License-Identifier: BSD-2-Clause

package wire

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"rcptgate/kit/smtpcode"
)

// The bounds of a reply in ReplyCode, after those of libmilter (smfi_setmlreply:
// MAXREPLYLEN, MAXREPLIES).
const (
	ReplyLineMax  = 980 // octets a line, code and doubled "%" included, CRLF not
	ReplyLinesMax = 32
	// ReplyMax bounds the whole text in octets. Sendmail formats a reply into a buffer
	// of fixed size (2*BUFSIZ, 16,384 with glibc) and cuts off what does not fit, so
	// that a longer reply would lose its last line.
	ReplyMax = 16000
)

// AppendReply appends a frame ReplyCode: code, enhanced code (may be empty) and
// text, whose lines are separated by "\n", as
//
//	550-5.1.1 first line CRLF 550 5.1.1 last line
//
// It forms what both MTAs take. Sendmail and Postfix replace a reply they do not
// like by their default, and Postfix counts the filter as broken. Therefore the
// code, 400 to 599, is the caller's responsibility; everything else is put right
// here: an enhanced code of another class gets the code's class, one that is none
// is left out, "%" is doubled, control characters become spaces, non-ASCII
// characters become "?" unless utf8ok, lines are cut.
func AppendReply(dst []byte, code int, enhanced, text string, utf8ok bool) []byte {
	start := len(dst)
	dst = Begin(dst, ReplyCode)
	class := byte('0' + code/100)
	if !smtpcode.Is(enhanced) {
		enhanced = ""
	}
	if strings.TrimSpace(text) == "" {
		text = "Recipient refused"
		if class == '4' {
			text = "Recipient temporarily refused"
		}
	}
	for n := 1; ; n++ {
		line, rest, more := strings.Cut(text, "\n")
		lineStart := len(dst)
		dst = strconv.AppendInt(dst, int64(code), 10)
		dst = append(dst, '-')
		dst = appendEnhanced(dst, class, enhanced, line)
		dst = appendReplyText(dst, lineStart+ReplyLineMax, line, utf8ok)
		if !more || n == ReplyLinesMax || len(dst)-start > ReplyMax-ReplyLineMax {
			dst[lineStart+3] = ' '
			break
		}
		dst = append(dst, '\r', '\n')
		text = rest
	}
	return End(append(dst, 0), start)
}

// appendEnhanced appends the enhanced code, its class that of the reply. Text that
// begins with a digit needs one: Postfix takes such text for an enhanced code of
// the wrong class and the filter for broken.
func appendEnhanced(dst []byte, class byte, enhanced, line string) []byte {
	switch {
	case enhanced != "":
		dst = append(append(dst, class), enhanced[1:]...)
		return append(dst, ' ')
	case line == "" || line[0] < '0' || line[0] > '9':
		return dst
	}
	if first, _, _ := strings.Cut(line, " "); first[0] != class || !smtpcode.Is(first) {
		return append(dst, class, '.', '0', '.', '0', ' ')
	}
	return dst
}

// appendReplyText appends line until dst is limit octets long.
func appendReplyText(dst []byte, limit int, line string, utf8ok bool) []byte {
	line = strings.TrimRight(line, "\r")
	for i := 0; i < len(line); {
		c := line[i]
		size := 1
		switch {
		case c == '%':
			if len(dst)+2 > limit {
				return dst
			}
			dst = append(dst, '%', '%')
		case c >= utf8.RuneSelf:
			r, n := utf8.DecodeRuneInString(line[i:])
			size = n
			keep := utf8ok && !(r == utf8.RuneError && n == 1) && r >= 0xa0 && r != 0x2028 && r != 0x2029
			if len(dst)+n > limit {
				return dst
			}
			if keep {
				dst = append(dst, line[i:i+n]...)
			} else {
				dst = append(dst, '?')
			}
		default:
			if len(dst) == limit {
				return dst
			}
			if c < ' ' || c == 0x7f {
				c = ' '
			}
			dst = append(dst, c)
		}
		i += size
	}
	return dst
}

// Reply is a ReplyCode frame taken apart.
type Reply struct {
	Code     int
	Enhanced string
	Text     string // lines separated by "\n"
}

// ParseReply reads the data of ReplyCode as strictly as the MTAs do together:
// Sendmail wants one string and no "%" that is not doubled, Postfix wants a space
// or "-" behind the code and no digit of another class behind that.
func ParseReply(data []byte) (Reply, error) {
	text, rest, ok := CutString(data)
	if !ok || len(rest) > 0 {
		return Reply{}, fmt.Errorf("%w: reply code without a final NUL, or with one inside", ErrFrame)
	}
	var r Reply
	lines := strings.Split(string(text), "\r\n")
	for i, line := range lines {
		code, enhanced, words, err := parseReplyLine(line, i == len(lines)-1)
		if err != nil {
			return Reply{}, err
		}
		if i == 0 {
			r = Reply{Code: code, Enhanced: enhanced, Text: words}
			continue
		}
		if code != r.Code {
			return Reply{}, fmt.Errorf("%w: reply with codes %d and %d", ErrFrame, r.Code, code)
		}
		r.Text += "\n" + words
	}
	return r, nil
}

func parseReplyLine(line string, last bool) (code int, enhanced, text string, err error) {
	bad := func(why string) (int, string, string, error) {
		return 0, "", "", fmt.Errorf("%w: reply %q %s", ErrFrame, line, why)
	}
	if len(line) < 4 || (line[0] != '4' && line[0] != '5') {
		return bad("does not begin with a code 400 to 599")
	}
	if code, err = strconv.Atoi(line[:3]); err != nil {
		return bad("does not begin with a code 400 to 599")
	}
	if len(line) > ReplyLineMax || strings.ContainsAny(line, "\r\n") {
		return bad("is too long or broken")
	}
	if last != (line[3] == ' ') || !last && line[3] != '-' {
		return bad("has the wrong octet behind its code")
	}
	text = line[4:]
	if text != "" && text[0] >= '0' && text[0] <= '9' && text[0] != line[0] {
		return bad("has an enhanced code of another class")
	}
	if strings.Contains(strings.ReplaceAll(text, "%%", ""), "%") {
		return bad(`has a "%" that is not doubled`)
	}
	text = strings.ReplaceAll(text, "%%", "%")
	if first, after, _ := strings.Cut(text, " "); smtpcode.Is(first) {
		enhanced, text = first, after
	}
	return code, enhanced, text, nil
}
