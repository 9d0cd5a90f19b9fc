// SPDX-License-Identifier: BSD-2-Clause

package antivirus

import (
	"encoding/base64"
	"io"
	"slices"
	"strings"
)

// The EICAR test file (eicar.org, "Anti Malware Testfile") in two halves, the second one
// backwards: neither this source nor the program is to be taken for it.
const (
	eicarHead = `X5O!P%@AP[4\PZX54(P^)7CC)7}$EICAR-STA`
	eicarTail = `*H+H$!ELIF-TSET-SURIVITNA-DRADN`
)

func eicar() []byte {
	tail := []byte(eicarTail)
	slices.Reverse(tail)
	return append([]byte(eicarHead), tail...)
}

const (
	sampleHead = "Received: from localhost by localhost; Thu, 1 Jan 1970 00:00:00 +0000\r\n" +
		"From: self-test@rcptgate.invalid\r\nTo: self-test@rcptgate.invalid\r\nSubject: self-test of the virus scanner\r\nMIME-Version: 1.0\r\n" +
		"Content-Type: multipart/mixed; boundary=\"self-test\"\r\n\r\n--self-test\r\nContent-Type: text/plain\r\n\r\n"
	sampleBreak = "\r\n--self-test\r\nContent-Type: application/octet-stream\r\nContent-Disposition: attachment; filename=\"eicar.com\"\r\n" +
		"Content-Transfer-Encoding: base64\r\n\r\n"
	sampleEnd = "\r\n--self-test--\r\n"
	padding   = "This text is as long as the largest message that is scanned.\r\n"
)

func sampleTail() string {
	return sampleBreak + base64.StdEncoding.EncodeToString(eicar()) + sampleEnd
}

// sampleMin is the size of the smallest sample, in octets.
func sampleMin() int64 { return int64(len(sampleHead) + len(sampleTail())) }

// newSample is a message of a size, at least sampleMin, with the test file at its end: a
// scanner that does not look at all of it does not find it.
func newSample(size int64) io.Reader {
	text := io.LimitReader(&repeated{text: padding}, size-sampleMin())
	return io.MultiReader(strings.NewReader(sampleHead), text, strings.NewReader(sampleTail()))
}

// repeated reads a text over and over.
type repeated struct {
	text string
	at   int
}

func (r *repeated) Read(p []byte) (n int, _ error) {
	for n < len(p) {
		c := copy(p[n:], r.text[r.at:])
		n, r.at = n+c, (r.at+c)%len(r.text)
	}
	return n, nil
}
