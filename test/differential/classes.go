// SPDX-License-Identifier: BSD-2-Clause

package differential

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"
)

// Class names why the gate takes a recipient that the MTA then bounces. docs/operations.md lists the classes under "Mail
// that still bounces".
type Class string

// The classes.
const (
	Unnamed         Class = ""                 // none of the others
	Exempt          Class = "exempt"           // postmaster and abuse
	NotRouted       Class = "not routed"       // no server is responsible, and no table decides
	Listed          Class = "listed"           // relay_recipient_maps lists it, and the server behind refuses it
	TargetUnknown   Class = "unknown target"   // an alias stands for a local name that does not exist
	TargetElsewhere Class = "target elsewhere" // an alias stands for an address in a domain without a section
	TargetVirtual   Class = "virtual target"   // an alias stands for a name of a virtual domain that is absent, or rewritten in turn
	Circle          Class = "circle"           // an alias leads back to itself
	OwnList         Class = "unlisted domain"  // the local domains are not written out
)

// classes are all that have a name.
func classes() []Class {
	return []Class{Exempt, NotRouted, Listed, TargetUnknown, TargetElsewhere, TargetVirtual, Circle, OwnList}
}

// classify finds the class of an accepted bounce: from the reason that the gate gave, and from what the world's tables
// make of the recipient.
func (w *World) classify(o *Outcome) Class {
	switch o.Reason {
	case "exempt":
		return Exempt
	case "not-routed":
		return NotRouted
	}
	ends := w.walk(o.Recipient)
	for _, class := range classes() {
		if slices.Contains(ends, class) {
			return class
		}
	}
	return Unnamed
}

// walk follows an address through the tables and returns what could have the gate take it.
func (w *World) walk(address string) (ends []Class) {
	seen := map[string]bool{}
	queue := []string{address}
	for first := true; len(queue) > 0; first = false {
		local, domain := w.split(queue[0])
		queue = queue[1:]
		key := local + "@" + domain
		if local == "postmaster" || local == "abuse" {
			ends = append(ends, Exempt)
		}
		if seen[key] {
			ends = append(ends, Circle)
			continue
		}
		seen[key] = true
		if w.Unlisted && slices.Contains(w.Local, domain) {
			ends = append(ends, OwnList)
		}
		if w.MTA == Sendmail && !first && !slices.Contains(w.Local, domain) && (w.Virtual[local+"@"+domain] != "" || w.Virtual["@"+domain] != "") {
			ends = append(ends, TargetVirtual)
		}
		if targets := w.targets(local, domain); targets != "" {
			for _, target := range strings.Split(targets, ", ") {
				queue = append(queue, strings.ReplaceAll(target, "%1", local))
			}
			continue
		}
		if end := w.end(local, domain, first); end != Unnamed {
			ends = append(ends, end)
		}
	}
	return ends
}

// end says why an address that no table holds may be taken.
func (w *World) end(local, domain string, first bool) Class {
	name, _, _ := strings.Cut(local, "+")
	here := slices.Contains(w.Local, domain)
	switch {
	case here:
		return TargetUnknown
	case w.Maps["relay_recipient_maps"][local+"@"+domain] != "", w.Maps["relay_recipient_maps"][name+"@"+domain] != "":
		return Listed
	case slices.Contains(w.VirtualDomains, domain):
		return TargetVirtual
	case !first && !slices.Contains(w.Sections, domain):
		return TargetElsewhere
	}
	return Unnamed
}

// split parts an address, without quotes, backslashes, source route and case; a bare name is the MTA's own.
func (w *World) split(address string) (local, domain string) {
	if strings.HasPrefix(address, "@") {
		_, address, _ = strings.Cut(address, ":")
	}
	at := strings.LastIndex(address, "@")
	if at < 0 {
		at, address = len(address), address+"@"+ownName
	}
	local = strings.ToLower(strings.NewReplacer(`"`, "", `\`, "").Replace(address[:at]))
	return local, strings.ToLower(strings.Trim(address[at:], "@."))
}

// targets finds what an address stands for in one of the tables, with and without its detail.
func (w *World) targets(local, domain string) string {
	name, _, _ := strings.Cut(local, "+")
	for _, l := range []string{local, name} {
		if w.Virtual[l+"@"+domain] != "" {
			return w.Virtual[l+"@"+domain]
		}
		if slices.Contains(w.Local, domain) && w.Aliases[l] != "" {
			return w.Aliases[l]
		}
	}
	return w.Virtual["@"+domain]
}

// explain adds the reasons of the gate's decision log, whose lines come a moment after the answers.
func (b *Bench) explain(t testing.TB, outcomes []Outcome) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		why := reasons(b.gate.Log())
		missing := false
		for i, o := range outcomes {
			path := o.Recipient
			if path[0] == '@' { // a source route, which the gate leaves out
				_, path, _ = strings.Cut(path, ":")
			}
			outcomes[i].Reason = why[path]
			missing = missing || o.Compare() == Accepted && why[path] == ""
		}
		if !missing || time.Now().After(end) {
			return
		}
	}
}

// reasons finds the reason that the decision log gives for each recipient.
func reasons(log string) map[string]string {
	found := map[string]string{}
	for _, line := range strings.Split(log, "\n") {
		var d struct{ Recipient, Reason string }
		if json.Unmarshal([]byte(line), &d) == nil && d.Recipient != "" {
			found[d.Recipient] = d.Reason
		}
	}
	return found
}
