// SPDX-License-Identifier: BSD-2-Clause

package wire

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"rcptgate/kit/keyfile"
)

// ClockSkew is how far the asker's clock may be from the agent's.
const ClockSkew = 60 * time.Second

const (
	requestLabel = "rcptgate quota 1 request\n"
	replyLabel   = "rcptgate quota 1 reply\n"
	tokenLabel   = "rcptgate quota 1 http\n"
	minSecret    = 16 // octets
	maxSecret    = 64
	maxKeys      = 16
)

// Reasons why a request or a reply is not believed.
var (
	ErrNotSigned = errors.New("there is no MAC")
	ErrNoSuchKey = errors.New("it is signed with a key that is not in the key file here: the key files of the gateway and of the agent must hold the same key")
	ErrBadMAC    = errors.New("the MAC is wrong: the key has the same name in the key files of the gateway and of the agent, but another secret")
	ErrClock     = errors.New("the clocks are more than a minute apart")
	ErrNotOurs   = errors.New("it answers another question")
)

// Silent adds to the error of a signed question that got no reply what may be the cause: an
// agent does not answer what it does not believe. Other errors are given back as they are.
func Silent(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, io.EOF) {
		return fmt.Errorf("%w (an agent is silent if its key file does not hold the gateway's key: compare key_file on both sides, and see the agent's log)", err)
	}
	return err
}

// Keys are the keys of a key file. The first signs, all are believed, so that a key can be
// changed on one machine after the other. The nil Keys has none.
type Keys struct{ list []key }

type key struct {
	id     string
	secret []byte
	token  string
}

// ParseKeys reads the text of a key file: one "id hex" a line, 16 to 64 octets of secret in
// hexadecimal; empty lines and lines that begin with # are skipped. Errors name the line, not
// what stands there.
func ParseKeys(text []byte) (*Keys, error) {
	keys := &Keys{}
	n := 0
	for l := range strings.Lines(string(text)) {
		n++
		l = strings.TrimSpace(l)
		if l == "" || l[0] == '#' {
			continue
		}
		words := strings.Fields(l)
		if len(words) != 2 || !isToken(words[0], maxKey) {
			return nil, fmt.Errorf("line %d: expected a name of 1 to %d letters, digits, \"-\" or \"_\", a space, and the key in hexadecimal, as echo \"g1 $(openssl rand -hex 32)\" prints them", n, maxKey)
		}
		secret, err := hex.DecodeString(words[1])
		if err != nil || len(secret) < minSecret || len(secret) > maxSecret {
			return nil, fmt.Errorf("line %d: the key must have %d to %d hexadecimal digits", n, 2*minSecret, 2*maxSecret)
		}
		if keys.find(words[0]) != nil {
			return nil, fmt.Errorf("line %d: a second key %q", n, words[0])
		}
		k := key{id: words[0], secret: secret}
		k.token = hex.EncodeToString(k.hmac(tokenLabel))
		if keys.list = append(keys.list, k); len(keys.list) > maxKeys {
			return nil, fmt.Errorf("line %d: more than %d keys", n, maxKeys)
		}
	}
	if len(keys.list) == 0 {
		return nil, errors.New("it has no key")
	}
	return keys, nil
}

// LoadKeys reads a key file, which other users must not be able to read or change
// ([keyfile.Read]).
func LoadKeys(path string) (*Keys, error) {
	text, err := keyfile.Read(path)
	if err != nil {
		return nil, err
	}
	keys, err := ParseKeys(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return keys, nil
}

func (k *Keys) first() *key {
	if k == nil || len(k.list) == 0 {
		return nil
	}
	return &k.list[0]
}

func (k *Keys) find(id string) *key {
	if k == nil {
		return nil
	}
	for i := range k.list {
		if k.list[i].id == id {
			return &k.list[i]
		}
	}
	return nil
}

func (k *key) hmac(parts ...string) []byte {
	h := hmac.New(sha256.New, k.secret)
	for _, p := range parts {
		h.Write([]byte(p))
	}
	return h.Sum(nil)
}

func (k *key) sum(parts ...string) string {
	return base64.RawURLEncoding.EncodeToString(k.hmac(parts...)[:16])
}

// VerifyRequest says why a request is not to be believed: [ErrNotSigned], [ErrNoSuchKey],
// [ErrBadMAC] or, if all else is right, [ErrClock].
func (k *Keys) VerifyRequest(r *Request, now time.Time) error {
	if r.mac == "" {
		return ErrNotSigned
	}
	key := k.find(r.KeyID)
	if key == nil {
		return ErrNoSuchKey
	}
	if !hmac.Equal([]byte(r.mac), []byte(key.sum(requestLabel, r.signed))) {
		return ErrBadMAC
	}
	if skew := now.Sub(r.Time); skew > ClockSkew || skew < -ClockSkew {
		return ErrClock
	}
	return nil
}

// VerifyReply says why a reply is not the answer to a request that Sign made: [ErrNotSigned],
// [ErrNotOurs], [ErrNoSuchKey] or [ErrBadMAC].
func (k *Keys) VerifyReply(r *Reply, to *Request) error {
	if r.mac == "" {
		return ErrNotSigned
	}
	if r.ID != to.ID || r.User != to.User || to.mac == "" {
		return ErrNotOurs
	}
	key := k.find(r.KeyID)
	if key == nil {
		return ErrNoSuchKey
	}
	if !hmac.Equal([]byte(r.mac), []byte(key.sum(replyLabel, to.mac, r.signed))) {
		return ErrBadMAC
	}
	return nil
}

// Token is what stands behind "Authorization: Bearer" (RFC 6750) in a question over HTTP:
// HMAC-SHA-256 of "rcptgate quota 1 http", LF, with the first key, in hexadecimal. Whoever
// reads it on the way cannot sign datagrams with it. It is "" without a key.
func (k *Keys) Token() string {
	if key := k.first(); key != nil {
		return key.token
	}
	return ""
}

// Accepts reports whether token is that of one of the keys.
func (k *Keys) Accepts(token string) bool {
	if k == nil {
		return false
	}
	right := false
	for i := range k.list {
		if hmac.Equal([]byte(token), []byte(k.list[i].token)) {
			right = true
		}
	}
	return right
}

// Holds reports whether text is the secret of one of the keys, in hexadecimal.
func (k *Keys) Holds(text string) bool {
	secret, err := hex.DecodeString(text)
	if k == nil || err != nil {
		return false
	}
	right := false
	for i := range k.list {
		if hmac.Equal(secret, k.list[i].secret) {
			right = true
		}
	}
	return right
}
