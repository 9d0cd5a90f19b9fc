// SPDX-License-Identifier: BSD-2-Clause

package admin

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"rcptgate"
	"rcptgate/address"
	"rcptgate/front/listen"
	"rcptgate/store"
)

// pattern reads what a user writes: an address, "@domain", or "" for everything.
func (s *Server) pattern(text string) (store.Pattern, error) {
	if text == "" {
		return store.Pattern{}, nil
	}
	if domain, ok := strings.CutPrefix(text, "@"); ok {
		if domain == "" || strings.ContainsAny(domain, "@ \r\n\x00") {
			return store.Pattern{}, bad("%q is not a domain; expected \"@example.com\"", text)
		}
		return store.Pattern{Domain: address.Domain(domain)}, nil
	}
	m := address.Parse(text)
	if m.Local == "" || m.Domain == "" || rcptgate.HasControl(text) {
		return store.Pattern{}, bad("%q is not an address; expected \"someone@example.com\" or \"@example.com\"", text)
	}
	fold := s.FoldCase == nil || s.FoldCase(m.Domain)
	return store.Pattern{Address: m.Key(fold)}, nil
}

func (s *Server) cacheShow(r *http.Request) (any, error) {
	p, err := s.pattern(r.URL.Query().Get("address"))
	if err != nil {
		return nil, err
	}
	if p.Address == "" {
		return nil, bad("an address is needed, as in \"someone@example.com\"; \"@example.com\" is another request")
	}
	rec, source, ok := s.Memory.Recall(r.Context(), p.Address)
	if !ok {
		return nil, &failure{http.StatusNotFound, fmt.Errorf("%s: %w", p.Address, store.ErrNotFound)}
	}
	out := recordOf(p.Address, rec)
	out.Source, out.Server = source, s.server(source, p.Address)
	return out, nil
}

// server names the server of a shared place that key lies on; "" for any other place.
func (s *Server) server(source, key string) string {
	named, ok := s.Memory.(interface{ Server(key string) string })
	if source != rcptgate.SourceMemcached || !ok {
		return ""
	}
	return named.Server(key)
}

// DomainRecord is what is remembered of a domain as a whole.
type DomainRecord struct {
	Domain     string   `json:"domain"`
	Recipients int      `json:"recipients"`     // of which something is remembered
	Findings   []Record `json:"findings"`       // at each backend: whether it takes every name
	More       int      `json:"more,omitempty"` // findings left out
}

// maxFindings bounds one answer: a domain has one finding a backend.
const maxFindings = 200

func (s *Server) cacheDomain(r *http.Request) (any, error) {
	p, err := s.pattern("@" + r.URL.Query().Get("domain"))
	if err != nil {
		return nil, err
	}
	out := DomainRecord{Domain: p.Domain, Findings: []Record{}}
	var keys []string
	err = s.Memory.Range(r.Context(), p, func(key string, _ store.Record) bool {
		switch {
		case store.IsRecipient(key):
			out.Recipients++
		case len(keys) < maxFindings:
			keys = append(keys, key)
		default:
			out.More++
		}
		return true
	})
	if err != nil && len(keys)+out.Recipients == 0 {
		return nil, err
	}
	slices.Sort(keys)
	for _, key := range keys {
		if rec, source, ok := s.Memory.Recall(r.Context(), key); ok {
			found := recordOf(key, rec)
			found.Source, found.Server = source, s.server(source, key)
			out.Findings = append(out.Findings, found)
		}
	}
	if len(out.Findings)+out.Recipients == 0 {
		return nil, &failure{http.StatusNotFound, fmt.Errorf("@%s: %w", p.Domain, store.ErrNotFound)}
	}
	return out, nil
}

func (s *Server) cacheStats(*http.Request) (any, error) {
	out := []Place{}
	for _, st := range s.Memory.Stats() {
		out = append(out, placeOf(&st))
	}
	return out, nil
}

// Place is the state of one store in JSON.
type Place struct {
	Name     string `json:"name"`
	Entries  int64  `json:"entries"`
	Refusals int64  `json:"refusals"`
	Capacity int64  `json:"capacity"`
	Hits     uint64 `json:"hits"`
	Misses   uint64 `json:"misses"`
	Errors   uint64 `json:"errors"`
	Evicted  uint64 `json:"evicted"`
	Detail   string `json:"detail,omitempty"`
	// Servers are those that a shared place lies on. What it holds is not known: its
	// entries, refusals and capacity are 0.
	Servers []PlaceServer `json:"servers,omitempty"`
}

// PlaceServer is the state of one server of a shared place in JSON.
type PlaceServer struct {
	Name      string     `json:"name"`
	Alive     bool       `json:"alive"`
	Since     *time.Time `json:"since,omitempty"`
	Error     string     `json:"error,omitempty"`
	Hits      uint64     `json:"hits"`
	Misses    uint64     `json:"misses"`
	Errors    uint64     `json:"errors"`
	Bad       uint64     `json:"bad"` // values that were not believed
	LatencyMS float64    `json:"latency_ms"`
}

func placeOf(st *store.Stats) Place {
	p := Place{
		Name: st.Name, Entries: st.Entries, Refusals: st.Refusals, Capacity: st.Capacity,
		Hits: st.Hits, Misses: st.Misses, Errors: st.Errors, Evicted: st.Evicted, Detail: st.Detail,
	}
	for _, s := range st.Servers {
		p.Servers = append(p.Servers, PlaceServer{
			Name: s.Name, Alive: s.Alive, Since: when(s.Since), Error: s.Error, Hits: s.Hits, Misses: s.Misses,
			Errors: s.Errors, Bad: s.Bad, LatencyMS: float64(s.Latency.Microseconds()) / 1000,
		})
	}
	return p
}

// ForgetRequest says what is to be forgotten: addresses and "@domain", or, so that
// an empty list can do no harm, everything by its own word.
type ForgetRequest struct {
	Patterns   []string `json:"patterns,omitempty"`
	Everything bool     `json:"everything,omitempty"`
}

// Forgotten is what a forget did.
type Forgotten struct {
	Records int `json:"records"`
	// Incomplete says which places could not forget yet; empty when all did.
	Incomplete string `json:"incomplete,omitempty"`
}

func (s *Server) cacheForget(r *http.Request) (any, error) {
	var req ForgetRequest
	if err := readJSON(r, &req); err != nil {
		return nil, err
	}
	if req.Everything == (len(req.Patterns) > 0) {
		return nil, bad("forget takes either patterns or everything")
	}
	patterns := []store.Pattern{{}}
	if !req.Everything {
		patterns = patterns[:0]
		for _, text := range req.Patterns {
			p, err := s.pattern(text)
			if err == nil && p == (store.Pattern{}) {
				err = bad("an empty pattern is not allowed")
			}
			if err != nil {
				return nil, err // before anything is forgotten
			}
			patterns = append(patterns, p)
		}
	}
	var done Forgotten
	var failed []error
	for _, p := range patterns {
		n, err := s.Memory.Forget(r.Context(), p)
		done.Records += n
		failed = append(failed, err)
		s.Log.Info("forgot", "pattern", p.String(), "records", n)
	}
	if err := errors.Join(failed...); err != nil {
		done.Incomplete = err.Error()
	}
	return done, nil
}

// cacheExport streams what matches. A reader that stalls for 30 s ends it; the last
// line tells a whole export from one that was cut off.
func (s *Server) cacheExport(w http.ResponseWriter, r *http.Request) {
	p, err := s.pattern(r.URL.Query().Get("pattern"))
	if err != nil {
		s.answer(w, r, func(*http.Request) (any, error) { return nil, err })
		return
	}
	listen.Working(r.Context())
	w.Header().Set("Content-Type", "application/x-ndjson")
	out := bufio.NewWriterSize(&timedWriter{w, http.NewResponseController(w), s.stall}, 32<<10)
	lines := json.NewEncoder(out)
	lines.SetEscapeHTML(false)
	host := ""
	if s.Hostname != nil {
		host = s.Hostname()
	}
	_ = lines.Encode(exportHead{exportVersion, host, time.Now().UTC().Truncate(time.Second)})
	n, alive := 0, true
	err = s.Memory.Range(r.Context(), p, func(key string, rec store.Record) bool {
		n++
		alive = lines.Encode(recordOf(key, rec)) == nil
		return alive
	})
	if !alive || r.Context().Err() != nil {
		return
	}
	end := exportEnd{End: true, Records: n}
	if err != nil {
		end.Error = err.Error()
	}
	_ = lines.Encode(end)
	_ = out.Flush()
}

// timedBody bounds the reading of a request's body, and only that: a deadline that
// passed later would look like a client that has gone, and cancel what is in progress.
type timedBody struct {
	io.ReadCloser
	control *http.ResponseController
	stall   time.Duration
	until   time.Time // zero: stall from each read on
	read    func()    // called at the end
}

func (b *timedBody) Read(p []byte) (int, error) {
	until := b.until
	if until.IsZero() {
		until = time.Now().Add(b.stall)
	}
	_ = b.control.SetReadDeadline(until)
	n, err := b.ReadCloser.Read(p)
	if err != nil {
		_ = b.control.SetReadDeadline(time.Time{})
		b.read()
	}
	return n, err
}

// timedWriter gives each write of an answer its own time.
type timedWriter struct {
	http.ResponseWriter
	control *http.ResponseController
	stall   time.Duration
}

func (w *timedWriter) Write(p []byte) (int, error) {
	_ = w.control.SetWriteDeadline(time.Now().Add(w.stall))
	return w.ResponseWriter.Write(p)
}

// Imported is what an import did. Bad lines are left out and named, the others
// are taken: each record stands for itself.
type Imported struct {
	Taken     int      `json:"taken"`
	Kept      int      `json:"kept"`    // what was known was newer
	Expired   int      `json:"expired"` // ended meanwhile
	Bad       int      `json:"bad"`
	Errors    []string `json:"errors,omitempty"` // of the first 20 bad lines: "line 7: ..."
	Truncated bool     `json:"truncated,omitempty"`
}

const (
	maxLine      = 64 << 10
	maxLineNotes = 20
)

func (im *Imported) fault(line int, err error) {
	im.Bad++
	if len(im.Errors) < maxLineNotes {
		im.Errors = append(im.Errors, fmt.Sprintf("line %d: %v", line, err))
	}
}

func (s *Server) cacheImport(r *http.Request) (any, error) {
	began := time.Now()
	lines := &lineReader{in: bufio.NewReaderSize(r.Body, maxLine)}
	head, err := lines.next()
	var h exportHead
	if err != nil || json.Unmarshal(head, &h) != nil || h.Version == 0 {
		return nil, bad("line 1: this is not a cache export, which begins with {\"rcptgate_cache\":%d,...}", exportVersion)
	}
	if h.Version != exportVersion {
		return nil, bad("line 1: the export has version %d, this program reads version %d", h.Version, exportVersion)
	}
	im := Imported{Truncated: true}
	for {
		line, err := lines.next()
		switch {
		case errors.Is(err, io.EOF):
			s.Log.Info("imported answers", "taken", im.Taken, "kept", im.Kept, "expired", im.Expired, "bad", im.Bad)
			return im, nil
		case errors.Is(err, errLongLine):
			im.fault(lines.number, err)
		case err != nil:
			return nil, bad("line %d: read import: %w (%d records before it were taken)", lines.number, err, im.Taken)
		case len(line) == 0:
		case isEnd(line):
			im.Truncated = false
		default:
			s.importLine(lines.number, line, began, &im)
		}
	}
}

func isEnd(line []byte) bool {
	var end exportEnd
	return bytes.HasPrefix(line, []byte(`{"end"`)) && json.Unmarshal(line, &end) == nil && end.End
}

func (s *Server) importLine(number int, line []byte, began time.Time, im *Imported) {
	key, rec, err := parseRecord(line, began)
	switch {
	case err != nil:
		im.fault(number, err)
	case !rec.Expire().After(began):
		im.Expired++
	default:
		if s.merge(key, rec, began) {
			im.Taken++
		} else {
			im.Kept++
		}
	}
}

// merge keeps, of what is known and what comes in, the answers learnt later. What
// is forgotten while the import runs stays forgotten.
func (s *Server) merge(key string, in store.Record, began time.Time) (taken bool) {
	s.Memory.Learn(key, began, func(old store.Record) store.Record {
		out := old
		if in.Standing.Alive(began) && (!old.Standing.Alive(began) || in.Standing.Learnt.After(old.Standing.Learnt)) {
			out.Standing, out.Doubt, out.Tried, taken = in.Standing, in.Doubt, in.Tried, true
		}
		if in.Transient.Alive(began) && (!old.Transient.Alive(began) || in.Transient.Learnt.After(old.Transient.Learnt)) {
			out.Transient, taken = in.Transient, true
		}
		return out
	})
	return taken
}

var errLongLine = fmt.Errorf("the line is longer than %d octets", maxLine)

// lineReader gives lines of bounded length, each valid until the next, and goes on after one
// that is too long.
type lineReader struct {
	in     *bufio.Reader
	number int
}

func (l *lineReader) next() ([]byte, error) {
	l.number++
	line, err := l.in.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		for errors.Is(err, bufio.ErrBufferFull) {
			_, err = l.in.ReadSlice('\n')
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
		return nil, errLongLine
	}
	if errors.Is(err, io.EOF) && len(line) > 0 {
		err = nil
	}
	return bytes.TrimRight(line, "\r\n"), err
}
