// SPDX-License-Identifier: BSD-2-Clause

package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"

	"rcptgate/kit/term"
)

// ErrFrame is wrapped by every error that concerns a frame's form: the peer does
// not speak the protocol, and the connection is of no more use.
var ErrFrame = errors.New("malformed milter frame")

// Limit bounds the frames of one command.
type Limit struct {
	// Max is the largest length a frame may have, command octet included; 0 for a
	// command that is not expected at all.
	Max uint32
	// Skip has the data thrown away as it arrives: Next gives the command alone.
	Skip bool
}

// Limits holds a Limit for every command. It does not change while in use and may
// be shared by any number of readers.
type Limits [256]Limit

// ReadBuffer is the size in octets of a reader's first buffer, which it goes back
// to when a large frame is done with. It holds the macros and the command of
// nearly every recipient.
const ReadBuffer = 2048

const headerLen = 5 // length and command

// Reader cuts a stream of octets into frames. Next never reads; Fill reads once.
// The caller thereby knows when it is about to wait, and several frames that
// arrive together cost one system call. A Reader is not safe for concurrent use.
type Reader struct {
	src    io.Reader
	limits *Limits
	buf    []byte
	begin  int    // first octet not yet consumed
	end    int    // behind the last octet read
	skip   uint32 // octets of a skipped frame still to come
	cmd    byte   // its command

	small []byte     // the first buffer while a large one is used
	big   *sync.Pool // of *[BigBuffer]byte; nil: large buffers are made as they are needed
}

// BigBuffer holds the largest frame of a body that is negotiated without more, and what
// comes before it.
const BigBuffer = FrameMax + ReadBuffer

// Use changes the limits for the frames to come, and has large buffers taken from a pool
// of *[BigBuffer]byte and given back to it.
func (r *Reader) Use(limits *Limits, big *sync.Pool) { r.limits, r.big = limits, big }

// NewReader reads frames from src within limits; src is for Fill alone. Its memory is
// allocated by the first Room.
func NewReader(src io.Reader, limits *Limits) *Reader {
	return &Reader{src: src, limits: limits}
}

// Next gives the next frame if it has arrived completely; ok is false if it has
// not, and more must be read. data is valid until the next call of Room and must not be
// changed. An error wraps ErrFrame and repeats itself.
func (r *Reader) Next() (cmd byte, data []byte, ok bool, err error) {
	if r.skip > 0 && !r.skipOn() {
		return 0, nil, false, nil
	}
	if r.cmd != 0 {
		cmd, r.cmd = r.cmd, 0
		return cmd, nil, true, nil
	}
	have := r.buf[r.begin:r.end]
	if len(have) < headerLen {
		return 0, nil, false, shortHeader(have)
	}
	length := binary.BigEndian.Uint32(have)
	cmd = have[4]
	limit := r.limits[cmd]
	switch {
	case length == 0:
		return 0, nil, false, shortHeader(have)
	case limit.Max == 0:
		return 0, nil, false, fmt.Errorf("%w: unknown command %q", ErrFrame, cmd)
	case length > limit.Max:
		return 0, nil, false, fmt.Errorf("%w: command %q with %s, at most %d are allowed", ErrFrame, cmd, term.Count(length, "octet"), limit.Max)
	case limit.Skip:
		r.begin += headerLen
		r.skip, r.cmd = length-1, cmd
		return r.Next()
	case uint32(len(have)-4) < length:
		return 0, nil, false, nil
	}
	r.begin += 4 + int(length)
	return cmd, have[headerLen : 4+length], true, nil
}

func shortHeader(have []byte) error {
	if len(have) >= 4 && binary.BigEndian.Uint32(have) == 0 {
		return fmt.Errorf("%w: length 0", ErrFrame)
	}
	return nil
}

// skipOn consumes what has arrived of the frame that is skipped, and reports
// whether that was its end.
func (r *Reader) skipOn() bool {
	n := min(uint32(r.end-r.begin), r.skip)
	r.begin += int(n)
	r.skip -= n
	return r.skip == 0
}

// Partial reports whether a frame has begun and not ended, after Next said that it
// has no more.
func (r *Reader) Partial() bool { return r.begin < r.end || r.skip > 0 }

// Room gives memory for what arrives next, which is not empty and holds until the next call.
// It grows with what has arrived, never with what a length promises.
func (r *Reader) Room() []byte {
	switch {
	case r.begin == r.end:
		r.begin, r.end = 0, 0
		if cap(r.buf) != ReadBuffer {
			r.shrink()
		}
	case r.end == len(r.buf) && r.begin > 0:
		r.end = copy(r.buf, r.buf[r.begin:r.end])
		r.begin = 0
	case r.end == len(r.buf):
		r.grow()
	}
	return r.buf[r.end:]
}

// Took says how many octets have been put into what Room gave.
func (r *Reader) Took(n int) { r.end += n }

// Fill waits for more octets and reads what there is, once, into Room.
func (r *Reader) Fill() error {
	room := r.Room()
	n, err := r.src.Read(room)
	if n < 0 || n > len(room) {
		return errors.New("read milter frames: the source gave an impossible count")
	}
	r.Took(n)
	if n > 0 {
		return nil // an error with data comes again without
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return err
}

// grow makes room for a large frame.
func (r *Reader) grow() {
	bigger := r.large()
	r.end = copy(bigger, r.buf[:r.end])
	if cap(r.buf) == ReadBuffer {
		r.small = r.buf
	} else {
		r.giveBack()
	}
	r.buf = bigger
}

func (r *Reader) large() []byte {
	if r.big == nil || len(r.buf) >= BigBuffer {
		return make([]byte, 2*len(r.buf))
	}
	if b, ok := r.big.Get().(*[BigBuffer]byte); ok {
		return b[:]
	}
	return new([BigBuffer]byte)[:]
}

// shrink goes back to the first buffer.
func (r *Reader) shrink() {
	r.giveBack()
	if r.buf = r.small; r.buf == nil {
		r.buf = make([]byte, ReadBuffer)
	}
	r.small = nil
}

func (r *Reader) giveBack() {
	if r.big != nil && cap(r.buf) == BigBuffer {
		r.big.Put((*[BigBuffer]byte)(r.buf[:BigBuffer]))
	}
}
