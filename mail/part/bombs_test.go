// SPDX-License-Identifier: BSD-2-Clause

package part

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"errors"
	"io"
	"strings"
	"testing"

	"rcptgate/mail/archive"
)

// bomb is a gzip file of a tar file with a file of so many zeros.
func bomb(t testing.TB, n int64) string {
	t.Helper()
	var out bytes.Buffer
	z, err := gzip.NewWriterLevel(&out, gzip.BestCompression)
	w := tar.NewWriter(z)
	err = errors.Join(err, w.WriteHeader(&tar.Header{Name: "a", Size: n, Mode: 0o644}))
	if err == nil {
		_, err = io.CopyN(w, zeros{}, n)
	}
	if err = errors.Join(err, w.Close(), z.Close()); err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(out.Bytes())
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// TestManyBombs: what is unpacked counts for the message, and not for each of its parts, and is
// reported while it is unpacked.
func TestManyBombs(t *testing.T) {
	const size, parts = 40 << 20, 60
	part := "--x\nContent-Type: application/gzip\nContent-Transfer-Encoding: base64\n\n" + bomb(t, size) + "\n"
	v := view(t, "Content-Type: multipart/mixed; boundary=x\n\n"+strings.Repeat(part, parts)+"--x--\n")
	worked, most := 0, 0
	v.OnWork(func(n int) error { worked += n; most = max(most, n); return nil })
	list := must[[]*Part](t)(v.Parts())
	for i, p := range list[1:] {
		l := must[archive.Listing](t)(p.Archive(archive.Limits{}))
		if cut := (i+1)*size > UnpackedMax; (l.Problem == "bytes") != cut || l.Kind != "gzip" {
			t.Errorf("part %d: %q, %q", i+1, l.Kind, l.Problem)
		}
	}
	if worked < UnpackedMax || worked > UnpackedMax+8<<20 || most > 1<<20 {
		t.Errorf("%d octets of work, at most %d at once", worked, most)
	}
	stop := errors.New("stop")
	v = view(t, "Content-Type: multipart/mixed; boundary=x\n\n"+part+"--x--\n")
	list = must[[]*Part](t)(v.Parts())
	worked = 0
	v.OnWork(func(n int) error {
		if worked += n; worked > 1<<20 {
			return stop
		}
		return nil
	})
	if _, err := list[1].Archive(archive.Limits{}); !errors.Is(err, stop) || worked > 2<<20 {
		t.Errorf("%v after %d octets", err, worked)
	}
}
