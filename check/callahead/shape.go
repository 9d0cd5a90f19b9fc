// SPDX-License-Identifier: BSD-2-Clause

package callahead

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"rcptgate"
	"rcptgate/backend"
	"rcptgate/kit/smtpcode"
	"rcptgate/store"
)

// maxShape is how much of a reply's text makes its shape, in octets. What follows is
// advice to the reader.
const maxShape = 1024

// masked stands for whatever belongs to one question.
const masked = "*"

// shapeID names a shape: a hash, so that all gateways give it the same name.
type shapeID uint64

// shape is what remains of a refusal when everything that belongs to one question is
// masked: the recipient in all its spellings, other addresses, host names, IP addresses,
// numbers, times, ids and URLs. A server that refuses two recipients for the same reason
// does so in the same shape, whatever the language of its text.
//
// The sender that was asked with is part of the shape: a server may refuse <> alone.
type shape struct {
	id   shapeID
	text string // code and masked text, for people
	// others are the readings in which a recipient's name that is an ordinary word
	// ("user@", "mailbox@") is taken for a word of the text.
	others []shapeID
}

// is reports whether one of the readings of s is the shape id.
func (s *shape) is(id shapeID) bool {
	if s.id == id {
		return true
	}
	for _, other := range s.others {
		if other == id {
			return true
		}
	}
	return false
}

// shapeOf gives the shape of a refusal of m, asked with sender by a host called hostname.
func shapeOf(rep *backend.Reply, m rcptgate.Mailbox, sender, hostname string) shape {
	k := masker{local: strings.ToLower(m.Local), hostname: hostname}
	text := rep.Text[:min(len(rep.Text), maxShape)]
	text = k.whole(strings.ToLower(strings.ToValidUTF8(text, "?")), m)
	k.words(text)
	head := strconv.Itoa(rep.Code) + " "
	if rep.Enhanced != "" {
		head += rep.Enhanced + " "
	}
	s := shape{text: head + k.reading(func(int) bool { return true })}
	head = sender + "\x00" + head
	s.id = hash(sender + "\x00" + s.text)
	n := k.names
	if n == 0 {
		return s
	}
	for _, keep := range []func(i int) bool{
		func(int) bool { return false },
		func(i int) bool { return i == 0 },
		func(i int) bool { return i == n-1 },
	} {
		if id := hash(head + k.reading(keep)); !s.is(id) {
			s.others = append(s.others, id)
		}
	}
	return s
}

func hash(s string) shapeID {
	sum := sha256.Sum256([]byte(s))
	return shapeID(binary.BigEndian.Uint64(sum[:]))
}

// A finding keeps the shape of the reply to a made-up recipient as its text:
// "shape 0123456789abcdef <sender>: 550 5.1.1 * user unknown". Stores may cut it.
const shapeWord = "shape "

func writeShape(s *shape, sender string) string {
	return fmt.Sprintf("%s%016x <%s>: %s", shapeWord, uint64(s.id), sender, s.text)
}

// readShape reads what writeShape wrote into a finding.
func readShape(a *store.Answer) (n note, ok bool) {
	rest, ok := strings.CutPrefix(a.Text, shapeWord)
	if !ok || a.Class != store.Selective || len(rest) < 16 {
		return n, false
	}
	id, err := strconv.ParseUint(rest[:16], 16, 64)
	if err != nil {
		return n, false
	}
	_, text, _ := strings.Cut(rest[16:], ">: ")
	return note{id: shapeID(id), text: text, means: saysUnknown, at: a.Learnt}, true
}

// masker takes a text apart into words.
type masker struct {
	local, hostname string
	out             []word
	names           int // words that are the recipient's local part
}

type word struct {
	text string
	name bool // it is the local part, or just the same word
}

// whole masks the recipient wherever it stands as a whole.
func (k *masker) whole(text string, m rcptgate.Mailbox) string {
	path := strings.ToLower(m.Path)
	_, domain, _ := strings.Cut(path, "@")
	for _, s := range []string{path, k.local + "@" + m.Domain, m.Domain, domain} {
		if len(s) > 2 {
			text = replaceWhole(text, s)
		}
	}
	if strings.ContainsFunc(k.local, func(r rune) bool { return !letterOrDigit(r) }) && len(k.local) > 2 {
		text = replaceWhole(text, k.local) // a name such as john.doe is not a word of a text
	}
	return text
}

// replaceWhole masks s where no letter or digit is next to it. Writing without spaces
// between words (Japanese) has letters of another script there, which are not part of s.
func replaceWhole(text, s string) string {
	var b strings.Builder
	for {
		i := strings.Index(text, s)
		if i < 0 {
			b.WriteString(text)
			return b.String()
		}
		end := i + len(s)
		before, _ := utf8.DecodeLastRuneInString(text[:i])
		after, _ := utf8.DecodeRuneInString(text[end:])
		b.WriteString(text[:i])
		if asciiWord(before) || asciiWord(after) {
			b.WriteString(s)
		} else {
			b.WriteString(masked)
		}
		text = text[end:]
	}
}

func asciiWord(r rune) bool { return r < utf8.RuneSelf && letterOrDigit(r) }

func letterOrDigit(r rune) bool {
	return unicode.IsLetter(r) || unicode.IsDigit(r) || unicode.IsMark(r)
}

// words parts a text at white space, and where ASCII and other writing meet: addresses
// and ids are ASCII, and some languages write no spaces.
func (k *masker) words(text string) {
	for text != "" {
		r, _ := utf8.DecodeRuneInString(text)
		ascii := r < utf8.RuneSelf
		end := strings.IndexFunc(text, func(r rune) bool { return unicode.IsSpace(r) || (r < utf8.RuneSelf) != ascii })
		if end < 0 {
			end = len(text)
		}
		run := text[:end]
		text = strings.TrimLeftFunc(text[end:], unicode.IsSpace)
		switch {
		case run == "":
			text = strings.TrimLeftFunc(text, unicode.IsSpace)
		case !ascii:
			k.foreign(run)
		default:
			k.run(run)
		}
	}
}

// foreign takes over a run that is not ASCII, its digits masked.
func (k *masker) foreign(run string) {
	for run != "" {
		digits := strings.IndexFunc(run, unicode.IsDigit)
		if digits < 0 {
			k.add(run)
			return
		}
		if digits > 0 {
			k.add(run[:digits])
		}
		k.add(masked)
		run = strings.TrimLeftFunc(run[digits:], unicode.IsDigit)
	}
}

// run masks a run of ASCII: a URL to its end, else piece by piece.
func (k *masker) run(run string) {
	if scheme := strings.Index(run, "://"); scheme >= 0 {
		begin := strings.LastIndexFunc(run[:scheme], func(r rune) bool { return !letterOrDigit(r) }) + 1
		k.pieces(run[:begin])
		k.add(masked)
		return
	}
	k.pieces(run)
}

const brackets = "<>()[]{},;\"'`#=|"

func (k *masker) pieces(run string) {
	for _, piece := range strings.FieldsFunc(run, func(r rune) bool { return strings.ContainsRune(brackets, r) }) {
		k.piece(strings.Trim(piece, ".:!?"))
	}
}

// piece masks what is an address, a host, a number or an id; the rest it parts further.
func (k *masker) piece(piece string) {
	switch {
	case piece == "" || piece == "-":
	case piece == k.local:
		k.out = append(k.out, word{piece, true})
		k.names++
	case smtpcode.Is(piece):
		k.add(piece)
	case k.belongs(piece):
		k.add(masked)
	default:
		parts := strings.FieldsFunc(piece, func(r rune) bool { return !letterOrDigit(r) && r != '*' })
		for _, part := range parts {
			switch {
			case part == k.local:
				k.out = append(k.out, word{part, true})
				k.names++
			case k.belongs(part):
				k.add(masked)
			default:
				k.add(part)
			}
		}
	}
}

// belongs reports whether a piece is one that another question would not have.
func (k *masker) belongs(piece string) bool {
	switch {
	case piece == k.hostname || calendar[piece] || strings.ContainsAny(piece, "@0123456789"):
		return true
	case strings.Contains(piece, "*"):
		return strings.Trim(piece, "*.-_@/:") == ""
	case hostName(piece) || hexadecimal(piece):
		return true
	}
	_, err := netip.ParseAddr(strings.TrimPrefix(piece, "ipv6:"))
	return err == nil
}

// hostName reports whether a piece looks like "mx1.example.org". "rejected.Please" does
// as well; that costs one word of the shape.
func hostName(piece string) bool {
	labels := strings.Split(piece, ".")
	if len(labels) < 2 || len(labels[len(labels)-1]) < 2 {
		return false
	}
	for _, label := range labels {
		if label == "" || strings.ContainsFunc(label, func(r rune) bool { return !letterOrDigit(r) && r != '-' && r != '_' }) {
			return false
		}
	}
	return true
}

// hexadecimal reports an id without a digit. No English word of eight letters or more
// is made of a to f.
func hexadecimal(piece string) bool {
	return len(piece) >= 8 && strings.Trim(piece, "abcdef-") == ""
}

// calendar is what dates are written with, except numbers.
var calendar = map[string]bool{
	"mon": true, "tue": true, "wed": true, "thu": true, "fri": true, "sat": true, "sun": true,
	"monday": true, "tuesday": true, "wednesday": true, "thursday": true, "friday": true, "saturday": true, "sunday": true,
	"jan": true, "feb": true, "mar": true, "apr": true, "may": true, "jun": true, "jul": true, "aug": true, "sep": true, "oct": true, "nov": true, "dec": true,
	"january": true, "february": true, "march": true, "april": true, "june": true, "july": true, "august": true, "september": true,
	"october": true, "november": true, "december": true, "am": true, "pm": true, "gmt": true, "utc": true,
}

func (k *masker) add(text string) { k.out = append(k.out, word{text: text}) }

// reading writes the words down, one mark for each row of masked ones. mask decides for
// the i-th word that is the recipient's name whether it is masked.
func (k *masker) reading(mask func(i int) bool) string {
	var b strings.Builder
	last, name := "", 0
	for _, w := range k.out {
		text := w.text
		if w.name {
			if mask(name) {
				text = masked
			}
			name++
		}
		if text == masked && last == masked {
			continue
		}
		if b.Len() > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(text)
		last = text
	}
	return b.String()
}
