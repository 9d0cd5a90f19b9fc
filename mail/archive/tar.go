// SPDX-License-Identifier: BSD-2-Clause

package archive

import (
	"archive/tar"
	"bytes"
	"io"
)

// tarIn lists the tar file in compressed data, or else gives the data's own name.
func (l *lister) tarIn(in io.Reader, name string) error {
	unpacked := l.unpacking(in)
	head := make([]byte, 512)
	n, err := io.ReadFull(unpacked, head)
	if Kind(head[:n]) != "tar" {
		if err == io.EOF || err == io.ErrUnexpectedEOF { // short; gzip makes the latter of its own
			_, err = unpacked.Read(head)
			err = ignoreEOF(err)
		}
		if addErr := l.add(Entry{Name: name, Size: -1}); addErr != nil {
			return addErr
		}
		return err
	}
	return l.tar(io.MultiReader(bytes.NewReader(head), unpacked))
}

// tar lists a tar file. A file whose header has several names is listed by each of them:
// programs that do not know sparse files take another one than those that do.
func (l *lister) tar(in io.Reader) error {
	r := tar.NewReader(in)
	for {
		h, err := r.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		e := Entry{Name: h.Name, Size: max(-1, h.Size)}
		if h.Typeflag == tar.TypeXGlobalHeader { // not a file: what it says holds for those that follow
			e = Entry{Size: -1}
		}
		for _, e.Name = range []string{e.Name, h.PAXRecords["path"], h.PAXRecords["GNU.sparse.name"]} {
			if err := l.add(e); err != nil {
				return err
			}
		}
	}
}
