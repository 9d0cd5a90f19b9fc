// SPDX-License-Identifier: BSD-2-Clause

package arf

import (
	"encoding/json"
	"net/netip"
	"time"
)

// Kind is the form in which a report came; see the package comment.
type Kind string

// The kinds, in the order in which they are looked for.
const (
	KindARF   Kind = "arf"
	KindLoose Kind = "arf-loose"
	KindXARF  Kind = "xarf"
	KindJMRP  Kind = "jmrp"
	KindProse Kind = "prose"
)

// Report is one complaint. Empty fields were not in it and could not be derived.
type Report struct {
	File   string `json:"file"`
	Index  int    `json:"index"`  // of the message, counted from 1
	Offset int64  `json:"offset"` // of the message in its file, in octets
	Kind   Kind   `json:"kind"`
	// Provider is who reports, if the message says so in a way that is known.
	Provider       string     `json:"provider,omitempty"`
	Type           string     `json:"type,omitempty"` // Feedback-Type in lower case: "abuse"
	UserAgent      string     `json:"user_agent,omitempty"`
	Version        string     `json:"version,omitempty"`
	SourceIP       netip.Addr `json:"source_ip,omitzero"`
	SourcePort     int        `json:"source_port,omitempty"`
	Arrival        time.Time  `json:"arrival,omitzero"` // when the original message arrived
	ArrivalRaw     string     `json:"arrival_raw,omitempty"`
	Incidents      int        `json:"incidents"` // 1 unless the report says more
	MailFrom       string     `json:"mail_from,omitempty"`
	RcptTo         []string   `json:"rcpt_to,omitempty"`
	ReportedDomain []string   `json:"reported_domain,omitempty"`
	ReportedURI    []string   `json:"reported_uri,omitempty"`
	AuthResults    []string   `json:"auth_results,omitempty"`
	EnvelopeID     string     `json:"envelope_id,omitempty"`
	ReportingMTA   string     `json:"reporting_mta,omitempty"`
	// AuthFailure has the fields of RFC 6591 and RFC 7489: "Auth-Failure", "DKIM-Domain".
	AuthFailure map[string]string `json:"auth_failure,omitempty"`
	Report      Envelope          `json:"report"`   // the message that brought the report
	Original    Original          `json:"original"` // the message that is complained of
	// Derived names the fields that the report lacks, and where their values are from.
	Derived  map[string]string `json:"derived,omitempty"`
	Problems []string          `json:"problems,omitempty"` // what could not be read
	// Extra has the other fields of the report, by name, in its order.
	Extra Extras `json:"extra,omitempty"`

	lines []string // the report's own lines, for the arfparse format
}

// Envelope is what the report's message says of itself.
type Envelope struct {
	From      string    `json:"from,omitempty"`
	Date      time.Time `json:"date,omitzero"`
	Subject   string    `json:"subject,omitempty"`
	MessageID string    `json:"message_id,omitempty"`

	subjectRaw string
	hasSubject bool
}

// Original is what the header of the original message says.
type Original struct {
	From            string    `json:"from,omitempty"`
	To              string    `json:"to,omitempty"`
	Subject         string    `json:"subject,omitempty"`
	SubjectRaw      string    `json:"subject_raw,omitempty"` // before decoding, if that made a difference
	MessageID       string    `json:"message_id,omitempty"`
	Date            time.Time `json:"date,omitzero"`
	FeedbackID      string    `json:"feedback_id,omitempty"`
	ListID          string    `json:"list_id,omitempty"`
	ListUnsubscribe string    `json:"list_unsubscribe,omitempty"`
}

// Extra is a field that has no place of its own.
type Extra struct{ Name, Value string }

// Extras are such fields in the order of the report.
type Extras []Extra

// MarshalJSON writes an object of strings by name. A name that stands several times has its
// values one a line.
func (x Extras) MarshalJSON() ([]byte, error) {
	out := make(map[string]string, len(x))
	for _, e := range x {
		if before, again := out[e.Name]; again {
			e.Value = before + "\n" + e.Value
		}
		out[e.Name] = e.Value
	}
	return json.Marshal(out)
}

func (r *Report) problem(text string) { r.Problems = append(r.Problems, text) }

// derive marks a field's value as taken from somewhere else than the report.
func (r *Report) derive(field, from string) {
	if r.Derived == nil {
		r.Derived = map[string]string{}
	}
	r.Derived[field] = from
}
