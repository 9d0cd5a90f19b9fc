// SPDX-License-Identifier: BSD-2-Clause

package mail

import (
	"bytes"
	"iter"
)

// lines gives where each line begins and ends, its line end included. It looks at every octet
// twice at most, whatever the line ends are.
func lines(data []byte) iter.Seq2[int, int] {
	return func(yield func(int, int) bool) {
		lf, cr := -1, -1 // the next ones, from where we are
		for at := 0; at < len(data); {
			if lf < at {
				lf = next(data, at, '\n')
			}
			if cr < at {
				cr = next(data, at, '\r')
			}
			end := min(lf, cr) + 1
			if cr+1 == lf {
				end = lf + 1
			}
			end = min(end, len(data))
			if !yield(at, end) {
				return
			}
			at = end
		}
	}
}

// next gives where the next c is; len(data) stands for nowhere.
func next(data []byte, at int, c byte) int {
	if i := bytes.IndexByte(data[at:], c); i >= 0 {
		return at + i
	}
	return len(data)
}
