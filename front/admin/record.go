// SPDX-License-Identifier: BSD-2-Clause

package admin

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"rcptgate"
	"rcptgate/kit/term"
	"rcptgate/store"
)

// exportVersion is the version of the format in docs/cache-export.md.
const exportVersion = 1

// exportHead is the first line of an export, exportEnd the last.
type exportHead struct {
	Version  int       `json:"rcptgate_cache"`
	Host     string    `json:"host,omitempty"`
	Exported time.Time `json:"exported"`
}

type exportEnd struct {
	End     bool   `json:"end"`
	Records int    `json:"records"`
	Error   string `json:"error,omitempty"` // places that could not be read
}

// Record is what is remembered of one recipient, in JSON.
type Record struct {
	Key       string     `json:"key,omitempty"`
	KeyBytes  []byte     `json:"key_base64,omitempty"` // instead of key when that is no UTF-8
	Source    string     `json:"source,omitempty"`     // in cache show: the place that knew it
	Server    string     `json:"server,omitempty"`     // and which of its servers, when several gateways share it
	Standing  *Answer    `json:"standing,omitempty"`   // valid or unknown, or a finding
	Transient *Answer    `json:"passing,omitempty"`    // full, refused or deferred
	Doubt     *Doubt     `json:"doubt,omitempty"`
	Tried     *time.Time `json:"tried,omitempty"` // when the last refresh began
}

// Answer is one remembered result in JSON.
type Answer struct {
	Class    string     `json:"class"`
	Code     int        `json:"code,omitempty"`
	Enhanced string     `json:"enhanced,omitempty"`
	Text     string     `json:"text,omitempty"`
	Backend  string     `json:"backend,omitempty"`
	Learnt   time.Time  `json:"learnt"`
	Refresh  *time.Time `json:"refresh,omitempty"`
	Expire   time.Time  `json:"expire"`
}

// Doubt is what speaks against a valid answer.
type Doubt struct {
	Count int       `json:"count"`
	First time.Time `json:"first"`
	Last  time.Time `json:"last"`
}

// Name is the record's key, whichever way it is written.
func (r *Record) Name() string {
	if len(r.KeyBytes) > 0 {
		return string(r.KeyBytes)
	}
	return r.Key
}

// Spelling is the key as people read and write it.
func (r *Record) Spelling() string {
	name := r.Name()
	if key, finding, err := r.key(); err == nil && finding {
		return store.KeyText(key)
	}
	return store.Spelling(name)
}

func recordOf(key string, rec store.Record) Record {
	key = store.KeyText(key)
	out := Record{Standing: answerOf(&rec.Standing), Transient: answerOf(&rec.Transient), Tried: whenUTC(rec.Tried)}
	if utf8.ValidString(key) {
		out.Key = key
	} else {
		out.KeyBytes = []byte(key)
	}
	if rec.Doubt.Count > 0 {
		out.Doubt = &Doubt{rec.Doubt.Count, rec.Doubt.First.UTC(), rec.Doubt.Last.UTC()}
	}
	return out
}

func answerOf(a *store.Answer) *Answer {
	if a.Class == store.None {
		return nil
	}
	return &Answer{
		Class: a.Class.String(), Code: a.Code, Enhanced: a.Enhanced, Text: a.Text, Backend: a.Backend,
		Learnt: a.Learnt.UTC(), Refresh: whenUTC(a.Refresh), Expire: a.Expire.UTC(),
	}
}

func whenUTC(t time.Time) *time.Time { return when(t.UTC()) }

// Bounds of what an import takes.
const (
	maxKey    = 1024
	maxAhead  = time.Hour                 // clocks differ
	maxLife   = 10 * 366 * 24 * time.Hour //
	maxAnswer = 16 << 10                  // octets of text
)

// parseRecord reads and judges one line of an export: what an import lets in must
// be nothing that the gate could not have learnt itself.
func parseRecord(line []byte, now time.Time) (string, store.Record, error) {
	var r Record
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	if err := d.Decode(&r); err != nil {
		return "", store.Record{}, fmt.Errorf("not a record: %w", err)
	}
	key, finding, err := r.key()
	if err != nil {
		return "", store.Record{}, err
	}
	standing, err := r.Standing.answer(now, func(c store.Class) bool {
		if finding {
			return c == store.AcceptAll || c == store.Selective
		}
		return c == store.Valid || c == store.Unknown
	})
	if err != nil {
		return "", store.Record{}, fmt.Errorf("standing: %w", err)
	}
	passing, err := r.Transient.answer(now, func(c store.Class) bool {
		return !finding && (c == store.Full || c == store.Refused || c == store.Deferred)
	})
	if err != nil {
		return "", store.Record{}, fmt.Errorf("passing: %w", err)
	}
	rec := store.Record{Standing: standing, Transient: passing}
	if rec.IsZero() {
		return "", store.Record{}, errors.New("it has no answer")
	}
	if r.Doubt != nil && r.Doubt.Count > 0 && r.Doubt.Count < 1000 {
		rec.Doubt = store.Doubt{Count: r.Doubt.Count, First: r.Doubt.First, Last: r.Doubt.Last}
	}
	if r.Tried != nil && r.Tried.Before(now) {
		rec.Tried = *r.Tried
	}
	return key, rec, nil
}

// key gives the store's key of the record, and whether that is a finding's.
func (r *Record) key() (key string, finding bool, err error) {
	key = r.Name()
	if r.Standing != nil {
		class, _ := store.ParseClass(r.Standing.Class)
		finding = class == store.AcceptAll || class == store.Selective
	}
	if err := checkKey(key, finding); err != nil {
		return "", false, err
	}
	if finding {
		name, ok := store.ParseFinding(key)
		if !ok {
			return "", false, fmt.Errorf("key %q does not name a domain and a server, as \"@example.com smtp:[192.0.2.1]:25\" does", key)
		}
		key = name
	}
	return key, finding, nil
}

func checkKey(key string, finding bool) error {
	at := strings.LastIndexByte(key, '@')
	switch {
	case key == "":
		return errors.New("it has no key")
	case len(key) > maxKey:
		return fmt.Errorf("the key has %s, %d are allowed", term.Count(len(key), "octet"), maxKey)
	case at < 0:
		return fmt.Errorf("key %q has no domain", key)
	case strings.ContainsAny(key, "\r\n\x00"):
		return fmt.Errorf("key %q holds a line end or NUL", key)
	case key[at+1:] != strings.ToLower(key[at+1:]) && !finding:
		return fmt.Errorf("the domain of key %q is not in lower case", key)
	}
	return nil
}

func (a *Answer) answer(now time.Time, allowed func(store.Class) bool) (store.Answer, error) {
	if a == nil {
		return store.Answer{}, nil
	}
	class, ok := store.ParseClass(a.Class)
	switch {
	case !ok || !allowed(class):
		return store.Answer{}, fmt.Errorf("class %q is not allowed here", a.Class)
	case a.Code != 0 && (a.Code < 200 || a.Code > 599):
		return store.Answer{}, fmt.Errorf("code %d is not an SMTP reply code", a.Code)
	case class.Refuses() && a.Code < 400:
		return store.Answer{}, fmt.Errorf("code %d does not refuse, class %s does", a.Code, class)
	case class == store.Valid && a.Code >= 300:
		return store.Answer{}, fmt.Errorf("code %d refuses, class %s does not", a.Code, class)
	case a.Learnt.After(now.Add(maxAhead)):
		return store.Answer{}, fmt.Errorf("it was learnt in the future, %s", a.Learnt.Format(time.RFC3339))
	case a.Expire.Sub(now) > maxLife:
		return store.Answer{}, fmt.Errorf("it expires too late, %s", a.Expire.Format(time.RFC3339))
	case len(a.Text) > maxAnswer || len(a.Backend) > maxKey || len(a.Enhanced) > 16:
		return store.Answer{}, errors.New("a text in it is too long")
	}
	out := store.Answer{
		Class: class, Code: a.Code, Enhanced: rcptgate.CleanText(a.Enhanced), Text: rcptgate.CleanText(a.Text),
		Backend: rcptgate.CleanText(a.Backend), Learnt: a.Learnt, Expire: a.Expire,
	}
	if a.Refresh != nil {
		out.Refresh = *a.Refresh
	}
	return out, nil
}
