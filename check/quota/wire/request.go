// SPDX-License-Identifier: BSD-2-Clause

package wire

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

const (
	verb    = "CHECK_QUOTA"
	padTo   = 256 // a signed request has at least so many octets
	maxID   = 32
	maxKey  = 16
	macLen  = 22                    // 128 bits in base64url
	trailer = len(" mac=") + macLen // what the mac field takes
	// numbers is what the longest numbers of a reply take: seven names, 18 digits or 10.
	numbers = len(" used= soft= hard= messages= max= age= keep=") + 5*18 + 2*10
)

// Request asks whether a mailbox has room.
type Request struct {
	// User is the mailbox as the store calls it: "ann" or "ann@example.org".
	User string
	// Size is the message's size in octets; 0: not known.
	Size int64
	// ID, Time and KeyID are set by Sign and ParseRequest. Time is the asker's clock.
	ID    string
	Time  time.Time
	KeyID string
	// Plain says that the request had words only, no fields.
	Plain bool

	mac    string // base64url; "": not signed
	signed string // the text that mac covers
	length int    // of the whole line
}

// Signed reports whether the request has a MAC, right or wrong.
func (r *Request) Signed() bool { return r.mac != "" }

// MAC is the request's MAC in base64url; "" if it has none.
func (r *Request) MAC() string { return r.mac }

// AppendPlain adds the plain form, without a line end. It is an error if the form cannot
// express the request: it has no size and no percent-encoding.
func (r *Request) AppendPlain(dst []byte) ([]byte, error) {
	if err := CheckUser(r.User); err != nil {
		return dst, err
	}
	if strings.Contains(r.User, " ") {
		return dst, errors.New("the plain form has no mailbox names with a space")
	}
	dst = append(dst, verb...)
	dst = append(dst, ' ')
	return append(dst, r.User...), nil
}

// AppendFields adds the extended form without a MAC, for a size. The reply to it is plain.
func (r *Request) AppendFields(dst []byte) ([]byte, error) {
	if err := CheckUser(r.User); err != nil {
		return dst, err
	}
	dst = append(append(dst, verb...), ' ')
	dst = appendEscaped(dst, r.User)
	dst = append(dst, " size="...)
	return strconv.AppendInt(dst, max(r.Size, 0), 10), nil
}

// Sign adds the extended form with a new id, the time and a MAC of the first key, and keeps in
// r what the reply is held against. The line is padded, so that the reply is not longer.
func (r *Request) Sign(dst []byte, keys *Keys, now time.Time) ([]byte, error) {
	begin := len(dst)
	dst, err := r.AppendFields(dst)
	if err != nil {
		return dst, err
	}
	key := keys.first()
	if key == nil {
		return dst[:begin], errors.New("there is no key to sign with")
	}
	var id [12]byte
	_, _ = rand.Read(id[:]) // never fails (crypto/rand)
	r.ID, r.Time, r.KeyID = base64.RawURLEncoding.EncodeToString(id[:]), now.Truncate(time.Second), key.id
	dst = append(append(dst, " id="...), r.ID...)
	dst = strconv.AppendInt(append(dst, " t="...), now.Unix(), 10)
	rest := len(" key=") + len(key.id) + trailer
	want := max(padTo, len("QUOTA_UNKNOWN ")+escapedLen(r.User)+numbers+len(" id=")+len(r.ID)+rest)
	if n := min(want, MaxLine) - (len(dst) - begin) - rest - len(" pad="); n > 0 {
		dst = append(dst, " pad="...)
		for range n {
			dst = append(dst, '.')
		}
	}
	dst = append(append(dst, " key="...), key.id...)
	if len(dst)-begin+trailer > MaxLine {
		return dst[:begin], fmt.Errorf("the request has more than %d octets", MaxLine)
	}
	r.signed = string(dst[begin:])
	r.mac = key.sum(requestLabel, r.signed)
	dst = append(append(dst, " mac="...), r.mac...)
	r.length = len(dst) - begin
	return dst, nil
}

// ParseRequest reads a datagram or a line, with or without its line end. It does not check the
// MAC: see [Keys.VerifyRequest].
func ParseRequest(text []byte) (*Request, error) {
	s, err := line(text)
	if err != nil {
		return nil, err
	}
	first, rest := word(s)
	if first != verb {
		return nil, errors.New("the request does not begin with " + verb)
	}
	r := &Request{length: len(s)}
	user, rest := word(rest)
	domain := ""
	if next, after := word(rest); next != "" && !strings.Contains(next, "=") {
		domain, rest = next, after
	}
	r.Plain = strings.TrimLeft(rest, " ") == ""
	if !r.Plain {
		if user, err = unescape(user); err != nil {
			return nil, err
		}
		if domain, err = unescape(domain); err != nil {
			return nil, err
		}
	}
	if r.User = user; domain != "" && user != "" {
		r.User += "@" + domain
	}
	if err = CheckUser(r.User); err != nil {
		return nil, err
	}
	if r.signed, r.mac, rest, err = cutMAC(s, rest); err != nil {
		return nil, err
	}
	if err = eachField(rest, r.set); err != nil {
		return nil, err
	}
	if r.mac != "" && (r.ID == "" || r.KeyID == "" || r.Time.IsZero()) {
		return nil, errors.New("a signed request needs id, t and key")
	}
	return r, nil
}

func (r *Request) set(name, value string) (taken bool, err error) {
	switch name {
	case "size":
		r.Size, err = number(value)
	case "id":
		err = token(&r.ID, value, maxID)
	case "key":
		err = token(&r.KeyID, value, maxKey)
	case "t":
		var n int64
		n, err = number(value)
		r.Time = time.Unix(n, 0)
	case "mac":
		err = errors.New("it is not the last field")
	default:
		return false, nil
	}
	return true, err
}

// cutMAC takes the mac field, the last one, off a line s whose fields are rest.
func cutMAC(s, rest string) (signed, mac, fields string, err error) {
	i := strings.LastIndex(rest, "mac=")
	if i < 0 || (i > 0 && rest[i-1] != ' ') {
		return "", "", rest, nil
	}
	if mac = rest[i+len("mac="):]; len(mac) != macLen || !isToken(mac, macLen) {
		return "", "", "", errors.New("mac is not 22 octets of base64url at the end of the line")
	}
	return strings.TrimSuffix(s[:len(s)-len("mac=")-macLen], " "), mac, rest[:i], nil
}
