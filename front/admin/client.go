// SPDX-License-Identifier: BSD-2-Clause

package admin

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"syscall"
	"time"

	"rcptgate/unit"
	"rcptgate/view"
)

// ErrUnreachable says that no daemon answers on the socket (exit status 69).
var ErrUnreachable = errors.New("the daemon cannot be reached")

// ErrTruncated says that an export ended before its last line.
var ErrTruncated = errors.New("the daemon ended the list before it was complete")

// Refusal is the daemon's own error.
type Refusal struct {
	Status int // HTTP's
	Text   string
}

// Error is the daemon's text.
func (r *Refusal) Error() string { return r.Text }

// NotFound reports whether the daemon has no such thing: nothing is remembered of
// an address, or a command is not offered.
func (r *Refusal) NotFound() bool { return r.Status == http.StatusNotFound }

// BadRequest reports whether what was asked or sent is at fault.
func (r *Refusal) BadRequest() bool { return r.Status == http.StatusBadRequest }

// Unconfigured reports whether a command was about something that is not configured.
func (r *Refusal) Unconfigured() bool { return r.Status == http.StatusConflict }

// Part reports whether a command was done on this gateway alone.
func (r *Refusal) Part() bool { return r.Status == http.StatusServiceUnavailable }

// Client asks the daemon. Methods are safe for concurrent use; contexts bound them,
// and a daemon that sends nothing for 90 s is given up.
type Client struct {
	path string
	http *http.Client
}

// NewClient makes a client for the socket at path; it connects when it is used.
func NewClient(path string) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{Timeout: 2 * time.Second}).DialContext(ctx, "unix", path)
	}
	return newClient(path, dial)
}

// newClient makes a client with connections of dial's.
func newClient(path string, dial func(ctx context.Context, network, address string) (net.Conn, error)) *Client {
	moving := func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return &movingConn{conn}, nil
	}
	return &Client{path: path, http: &http.Client{Transport: &http.Transport{
		DialContext: moving, MaxIdleConnsPerHost: 4, IdleConnTimeout: 5 * time.Second, DisableCompression: true,
	}}}
}

// Close ends idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// movingConn gives up when nothing moves, however long the whole takes.
type movingConn struct{ net.Conn }

const clientStall = 90 * time.Second // a check may take the daemon 60 s

func (c *movingConn) Read(p []byte) (int, error) {
	_ = c.SetReadDeadline(time.Now().Add(clientStall))
	return c.Conn.Read(p)
}

func (c *movingConn) Write(p []byte) (int, error) {
	_ = c.SetDeadline(time.Now().Add(clientStall)) // writing moves too: the answer comes after
	return c.Conn.Write(p)
}

func (c *Client) do(ctx context.Context, method, path string, body io.Reader) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://rcptgate"+path, body)
	if err != nil {
		return nil, fmt.Errorf("ask the daemon: %w", err)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		var cause *url.Error
		if errors.As(err, &cause) {
			err = cause.Err
		}
		return nil, fmt.Errorf("%w on %s: %w%s", ErrUnreachable, c.path, err, nextStep(err))
	}
	if resp.StatusCode == http.StatusOK {
		return resp, nil
	}
	defer func() { _ = resp.Body.Close() }()
	var text errorBody
	if json.NewDecoder(io.LimitReader(resp.Body, maxRequest)).Decode(&text) != nil || text.Error == "" {
		text.Error = "the daemon answered " + resp.Status
	}
	return nil, &Refusal{resp.StatusCode, text.Error}
}

// nextStep says what to do about a socket that cannot be opened; "" if it was opened.
func nextStep(err error) string {
	switch {
	case errors.Is(err, fs.ErrPermission):
		return "\nOnly root, the daemon's user and the socket's group may use it: try sudo, or see \"admin_group\" in rcptgate.toml(5)"
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return "\nStart the daemon (systemctl start rcptgate, or rcptgate serve), or name its configuration with -c FILE"
	}
	return ""
}

// maxReply bounds an answer that is read as a whole.
const maxReply = 64 << 20

func (c *Client) call(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		data, err := json.Marshal(in)
		if err != nil {
			return fmt.Errorf("ask the daemon: %w", err)
		}
		body = bytes.NewReader(data)
	}
	resp, err := c.do(ctx, method, path, body) //nolint:bodyclose // decode closes it
	if err != nil {
		return err
	}
	return decode(resp, out)
}

func decode(resp *http.Response, out any) error {
	defer func() { _ = resp.Body.Close() }()
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxReply)).Decode(out); err != nil {
		return fmt.Errorf("%w: read its answer: %w", ErrUnreachable, err)
	}
	return nil
}

// Version tells what is running.
func (c *Client) Version(ctx context.Context) (v Version, err error) {
	return v, c.call(ctx, http.MethodGet, "/v1/version", nil, &v)
}

// Check puts one question.
func (c *Client) Check(ctx context.Context, req CheckRequest) (r Result, err error) {
	return r, c.call(ctx, http.MethodPost, "/v1/check", req, &r)
}

// Show gives what is remembered of one address; a Refusal that is NotFound if
// nothing is.
func (c *Client) Show(ctx context.Context, address string) (r Record, err error) {
	return r, c.call(ctx, http.MethodGet, "/v1/cache/show?address="+url.QueryEscape(address), nil, &r)
}

// Domain gives what is remembered of a domain as a whole; a Refusal that is NotFound
// if nothing is.
func (c *Client) Domain(ctx context.Context, domain string) (d DomainRecord, err error) {
	return d, c.call(ctx, http.MethodGet, "/v1/cache/domain?domain="+url.QueryEscape(domain), nil, &d)
}

// Forget forgets addresses and "@domain"s.
func (c *Client) Forget(ctx context.Context, patterns ...string) (f Forgotten, err error) {
	return f, c.call(ctx, http.MethodPost, "/v1/cache/forget", ForgetRequest{Patterns: patterns}, &f)
}

// Flush forgets everything.
func (c *Client) Flush(ctx context.Context) (f Forgotten, err error) {
	return f, c.call(ctx, http.MethodPost, "/v1/cache/forget", ForgetRequest{Everything: true}, &f)
}

// Stats describes the stores from the top.
func (c *Client) Stats(ctx context.Context) (p []Place, err error) {
	return p, c.call(ctx, http.MethodGet, "/v1/cache/stats", nil, &p)
}

// Status describes the daemon and what its units show; name picks one table, "" is all.
func (c *Client) Status(ctx context.Context, name string) (s StatusAnswer, err error) {
	return s, c.call(ctx, http.MethodGet, "/v1/status?unit="+url.QueryEscape(name), nil, &s)
}

// Do has a unit carry out a command.
func (c *Client) Do(ctx context.Context, name, op string, args []string) (t []view.Table, err error) {
	return t, c.call(ctx, http.MethodPost, "/v1/do", DoRequest{name, op, args}, &t)
}

// Config gives the effective configuration as TOML.
func (c *Client) Config(ctx context.Context) (string, error) {
	var out Configuration
	return out.TOML, c.call(ctx, http.MethodGet, "/v1/config", nil, &out)
}

// Reload makes the daemon read its configuration again.
func (c *Client) Reload(ctx context.Context) (r unit.Reloaded, err error) {
	return r, c.call(ctx, http.MethodPost, "/v1/reload", nil, &r)
}

// Export copies the records that match (an address, "@domain", "" for all) to w,
// line by line as docs/cache-export.md describes, and tells progress, unless it is
// nil, how many there were so far. It gives back their number; places that the
// daemon could not read are an error, after what could be read.
func (c *Client) Export(ctx context.Context, pattern string, w io.Writer, progress func(records int)) (int, error) {
	n := -1 // the head is no record
	end, err := c.lines(ctx, pattern, func(line []byte) error {
		if n++; progress != nil && n > 0 && n%1000 == 0 {
			progress(n)
		}
		_, err := w.Write(line)
		return err
	})
	if err == nil && end.Error != "" {
		err = fmt.Errorf("the list lacks what could not be read: %s", end.Error)
	}
	return max(n-1, 0), err // nor is the end
}

// List calls f for every record that matches until f returns an error.
func (c *Client) List(ctx context.Context, pattern string, f func(Record) error) error {
	first := true
	end, err := c.lines(ctx, pattern, func(line []byte) error {
		if first || isEnd(line) {
			first = false
			return nil
		}
		var r Record
		if err := json.Unmarshal(line, &r); err != nil {
			return fmt.Errorf("read list: %w", err)
		}
		return f(r)
	})
	if err == nil && end.Error != "" {
		err = fmt.Errorf("the list lacks what could not be read: %s", end.Error)
	}
	return err
}

func (c *Client) lines(ctx context.Context, pattern string, f func([]byte) error) (end exportEnd, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	resp, err := c.do(ctx, http.MethodGet, "/v1/cache?pattern="+url.QueryEscape(pattern), nil)
	if err != nil {
		return end, err
	}
	defer func() { _ = resp.Body.Close() }()
	in := bufio.NewReaderSize(resp.Body, 2*maxLine)
	for {
		line, err := in.ReadSlice('\n')
		switch {
		case errors.Is(err, io.EOF):
			return end, ErrTruncated
		case err != nil:
			return end, fmt.Errorf("%w: %w", ErrTruncated, err)
		}
		if err := f(line); err != nil {
			return end, err
		}
		if isEnd(line) {
			_ = json.Unmarshal(line, &end)
			return end, nil
		}
	}
}

// Import sends an export to the daemon and tells progress, unless it is nil, how
// many octets have gone.
func (c *Client) Import(ctx context.Context, r io.Reader, progress func(octets int64)) (im Imported, err error) {
	resp, err := c.do(ctx, http.MethodPost, "/v1/cache/import", &countingReader{r: r, progress: progress}) //nolint:bodyclose // decode closes it
	if err != nil {
		return im, err
	}
	return im, decode(resp, &im)
}

type countingReader struct {
	r        io.Reader
	n        int64
	progress func(int64)
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	if c.progress != nil && n > 0 {
		c.progress(c.n)
	}
	return n, err
}
