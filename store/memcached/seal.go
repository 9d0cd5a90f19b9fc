// SPDX-License-Identifier: BSD-2-Clause

package memcached

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
)

// A sealed value ends in the line "mac TAB hex": the first 16 octets of an HMAC-SHA256
// (RFC 2104) over the memcached key, LF, and everything before that line.
const (
	macOctets = 16
	macLine   = len("mac\t") + 2*macOctets + len("\n")
)

var errMAC = errors.New("it is not sealed with a key of this gateway's memcached_key_file: all gateways need the same keys, so compare the file with those of the others")

// sealer signs and verifies values. The zero sealer has no keys: it signs nothing and
// believes everything.
type sealer struct{ keys [][]byte }

// seal gives value with its mac line; a last line without LF gets one.
func (s *sealer) seal(key string, value []byte) []byte {
	out := make([]byte, 0, len(value)+1+macLine)
	out = append(out, value...)
	if len(out) > 0 && out[len(out)-1] != '\n' {
		out = append(out, '\n')
	}
	if len(s.keys) == 0 {
		return out
	}
	sum := mac(s.keys[0], key, out)
	out = append(out, "mac\t"...)
	out = hex.AppendEncode(out, sum[:])
	return append(out, '\n')
}

// open gives what seal was given, or errMAC. Without keys a mac line is taken off
// unread: other gateways may have keys already.
func (s *sealer) open(key string, sealed []byte) ([]byte, error) {
	body, sum, ok := splitMAC(sealed)
	if len(s.keys) == 0 {
		return body, nil
	}
	if !ok {
		return nil, errMAC
	}
	for _, k := range s.keys {
		want := mac(k, key, body)
		if hmac.Equal(want[:], sum) {
			return body, nil
		}
	}
	return nil, errMAC
}

// splitMAC parts a value from its mac line, if it has a well formed one.
func splitMAC(sealed []byte) (body, sum []byte, ok bool) {
	at := len(sealed) - macLine
	if at < 0 || (at > 0 && sealed[at-1] != '\n') || sealed[len(sealed)-1] != '\n' || !bytes.HasPrefix(sealed[at:], []byte("mac\t")) {
		return sealed, nil, false
	}
	sum, err := hex.AppendDecode(nil, sealed[at+len("mac\t"):len(sealed)-1])
	if err != nil {
		return sealed, nil, false
	}
	return sealed[:at], sum, true
}

func mac(secret []byte, key string, body []byte) (sum [macOctets]byte) {
	h := hmac.New(sha256.New, secret)
	h.Write([]byte(key))
	h.Write([]byte{'\n'})
	h.Write(body)
	copy(sum[:], h.Sum(nil))
	return sum
}
