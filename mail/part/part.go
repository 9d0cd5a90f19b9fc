// SPDX-License-Identifier: BSD-2-Clause

package part

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"rcptgate/mail"
	"rcptgate/mail/archive"
)

// Part is a message or a part of one.
type Part struct {
	Type        string // "text/plain", in lower case; that too if the part does not say
	Charset     string // as it is written, or ""
	Disposition string // "attachment", "inline", ... in lower case, or ""
	Depth       int    // 0 is the message itself
	Parent      *Part
	Parts       []*Part // of a multipart, or the message in a message/rfc822

	view  *View
	part  *mail.Part
	names []string
	known bool // size and digest
	size  int64
	sum   string

	listed *archive.Listing
	limits archive.Limits // of listed
	change *change        // nil: none
	spot   *spot          // where text can be appended, once it was looked for
}

// Header gives the part's fields: of the message itself all, of other parts those whose names
// begin with "Content-".
func (p *Part) Header() mail.Header { return p.part.Header }

// Filename gives the name that most programs show: see [mail.Part.Filename].
func (p *Part) Filename() string { return p.part.Filename() }

// Names gives every spelling of the name that some program may find: see [mail.Part.Names].
func (p *Part) Names() []string {
	if p.names == nil {
		p.names = p.part.Names()
	}
	return p.names
}

// Ext gives the extension of Filename in lower case, without its dot, or "".
func (p *Part) Ext() string { return mail.Ext(p.Filename()) }

// Exts gives the extensions of all Names.
func (p *Part) Exts() (out []string) {
	seen := map[string]bool{}
	for _, name := range p.Names() {
		if ext := mail.Ext(name); ext != "" && !seen[ext] {
			seen[ext] = true
			out = append(out, ext)
		}
	}
	return out
}

// IsMultipart reports whether the part is a multipart in which others were found. One in which
// none were is shown as an attachment by some programs, and may be one.
func (p *Part) IsMultipart() bool { return p.part.IsMultipart() && len(p.Parts) > 0 }

// IsAttachment reports whether programs show the part as an attachment and not as text: it is
// neither text nor a multipart, says that it is an attachment, or has a name.
func (p *Part) IsAttachment() bool {
	return p.Disposition == "attachment" || p.Filename() != "" || !strings.HasPrefix(p.Type, "text/") && !p.IsMultipart()
}

// raw reads the part as it stands in the message.
func (p *Part) raw() *io.SectionReader {
	return io.NewSectionReader(p.view.body(), int64(p.part.Body), int64(max(0, p.part.End-p.part.Body)))
}

// Open reads the part without its transfer encoding. Multiparts and messages are read as they
// stand.
func (p *Part) Open() io.Reader {
	if p.IsMultipart() {
		return p.raw()
	}
	return mail.NewDecoder(p.part.Encoding(), p.raw())
}

// Size gives the part's size in octets without its transfer encoding. It reads the part once.
func (p *Part) Size() (int64, error) {
	err := p.measure()
	return p.size, err
}

// SHA256 gives the digest of the part without its transfer encoding, in hexadecimal digits.
func (p *Part) SHA256() (string, error) {
	err := p.measure()
	return p.sum, err
}

func (p *Part) measure() error {
	if p.known {
		return nil
	}
	hash := sha256.New()
	n, err := io.Copy(hash, p.Open())
	if err != nil {
		return fmt.Errorf("read a part: %w", err)
	}
	p.known, p.size, p.sum = true, n, hex.EncodeToString(hash.Sum(nil))
	return nil
}

// Text gives the beginning of the part as UTF-8, at most max octets and [TextMax]: without its
// transfer encoding and character set, HTML as it is. Octets that are not of the character
// set are replaced.
func (p *Part) Text(max int) (string, error) {
	max = min(max, TextMax)
	if max <= 0 {
		return "", nil
	}
	data, err := io.ReadAll(io.LimitReader(p.Open(), int64(max)+1))
	if err != nil {
		return "", fmt.Errorf("read a part: %w", err)
	}
	cut := len(data) > max
	if cut {
		data = data[:max]
		for i := 1; i < utf8.UTFMax && i <= len(data); i++ { // half a character is not wrong
			if utf8.RuneStart(data[len(data)-i]) {
				if !utf8.FullRune(data[len(data)-i:]) {
					data = data[:len(data)-i]
				}
				break
			}
		}
	}
	out, _ := mail.ToUTF8(p.Charset, data)
	if cut {
		out = strings.TrimRight(out, "\uFFFD")
	}
	if len(out) > max {
		out = strings.ToValidUTF8(out[:max], "")
	}
	return out, nil
}

// Archive lists what is in the part, if it is an archive: see [archive.List]. It reads the part
// once, zip files with compressed files in them twice. The list is kept for limits that are
// the same. All archives of a message together are unpacked to [UnpackedMax] octets.
func (p *Part) Archive(limits archive.Limits) (archive.Listing, error) {
	if p.listed != nil && p.limits == limits {
		return *p.listed, nil
	}
	v, within := p.view, limits
	if within.Unpacked <= 0 {
		within.Unpacked = archive.DefaultLimits().Unpacked
	}
	within.Unpacked = max(1, min(within.Unpacked, v.unpack))
	l, err := archive.List(p.Open, within, v.worked)
	v.unpack -= l.Unpacked
	if err != nil {
		return l, fmt.Errorf("read a part: %w", err)
	}
	p.listed, p.limits = &l, limits
	return l, nil
}
