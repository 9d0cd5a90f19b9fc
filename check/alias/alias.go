// SPDX-License-Identifier: BSD-2-Clause

package alias

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"rcptgate"
	"rcptgate/route"
	"rcptgate/table"
)

// SourceName begins this check's notes in a trace.
const SourceName = "tables"

// Router finds who is responsible for a mailbox: a *route.Router.
type Router interface {
	Route(q *rcptgate.Query) *route.Route
}

// Options are what a Check is made of. All are needed.
type Options struct {
	Config Config
	Router Router
	// Open gives the table of a file, kept fresh. What is not a map file (class files,
	// passwd) has the type table.Text and its name as it is; see NamesFormat.
	Open func(use Use, spec table.Spec) (table.Table, error)
	// Published is the table of "memcached:"; nil when no memcached is configured.
	Published *Published
}

// Check follows local names. It does not change once made, owns none of its tables,
// and is safe for concurrent use.
type Check struct {
	router     Router
	files      []source
	virtual    []source // Postfix
	virtusers  []source // Sendmail
	users      []source
	local      domainList
	relay      []source // relay_recipient_maps
	accessMaps []source // Sendmail
	relayTo    domainList
	delimiter  string
	includes   *includes
	reads      bool // files has names that other gateways publish: absence from them proves nothing
}

// New makes a Check.
func New(opt Options) (*Check, error) {
	if opt.Router == nil || opt.Open == nil {
		return nil, errors.New("aliases: router and tables are needed")
	}
	cfg := &opt.Config
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("[aliases]: %w", err)
	}
	c := &Check{router: opt.Router, delimiter: cfg.Delimiter, includes: newIncludes()}
	local, relayTo := readDomains(cfg.Domains), readDomains(cfg.RelayDomains)
	c.local, c.relayTo = local.domainList, relayTo.domainList
	c.relayTo.below, c.relayTo.dotted = true, !cfg.RelaySubdomains
	if err := c.openFiles(&opt); err != nil {
		return nil, fmt.Errorf("[aliases]: %w", err)
	}
	var users []table.Spec
	if cfg.Passwd != "" {
		users = append(users, table.Spec{Type: table.Text, Name: cfg.Passwd})
	}
	for _, group := range []struct {
		use   Use
		specs []table.Spec
		to    *[]source
	}{
		{UseMap, cfg.VirtualAliasMaps, &c.virtual},
		{UseMap, cfg.VirtUserTable, &c.virtusers},
		{UseMap, cfg.RelayRecipientMaps, &c.relay},
		{UseMap, cfg.Access, &c.accessMaps},
		{UseClass, local.files, &c.local.tables},
		{UseMap, local.maps, &c.local.tables},
		{UseClass, relayTo.files, &c.relayTo.tables},
		{UseMap, relayTo.maps, &c.relayTo.tables},
		{UseUsers, users, &c.users},
	} {
		for _, spec := range group.specs {
			t, err := opt.Open(group.use, spec)
			if err != nil {
				return nil, fmt.Errorf("[aliases]: %w", err)
			}
			*group.to = append(*group.to, source{Table: t, text: spec.String()})
		}
	}
	return c, nil
}

// openFiles opens the alias databases.
func (c *Check) openFiles(opt *Options) error {
	for _, f := range opt.Config.Files {
		s := source{text: f.String()}
		switch {
		case !f.Published():
			t, err := opt.Open(UseAliases, f.Spec)
			if err != nil {
				return err
			}
			s.Table = t
		case opt.Published == nil:
			return fmt.Errorf("files: %q needs [cache] memcached", f)
		default:
			s.Table, s.published, c.reads = opt.Published, opt.Published, true
		}
		c.files = append(c.files, s)
	}
	return nil
}

// isLocal finds a domain among the local ones. A bare name is local.
func (c *Check) isLocal(ctx context.Context, domain string) (locality, error) {
	if domain == "" {
		return listed, nil
	}
	return c.local.find(ctx, domain)
}

// Check follows the query's target if a table holds it (see the package comment). An
// error is a table that could not be read. It does not allocate for names in domains
// that are not local.
func (c *Check) Check(ctx context.Context, q *rcptgate.Query) (rcptgate.Verdict, error) {
	if len(c.accessMaps) > 0 {
		if v, err := c.access(ctx, q); err != nil || v.Action != rcptgate.Continue {
			return v, err
		}
	}
	local, err := c.isLocal(ctx, q.Target.Domain)
	if err != nil {
		return rcptgate.Verdict{}, err
	}
	if local == foreign && q.NextHop.Mailer == "local" {
		local = listed
	}
	if local == foreign && len(c.virtual)+len(c.virtusers)+len(c.relay) == 0 {
		return rcptgate.Verdict{}, nil
	}
	return c.follow(ctx, q, local)
}

func (c *Check) follow(ctx context.Context, q *rcptgate.Query, local locality) (rcptgate.Verdict, error) {
	w := walk{Check: c, ctx: ctx, q: q}
	m := q.Target
	if name := q.NextHop.Addr; q.NextHop.Mailer == "local" && name != "" && !strings.Contains(name, "@") && len(c.virtusers) == 0 && !strings.EqualFold(name, m.Local) {
		// Sendmail's virtusertable made a local name of the address.
		m = mailbox(name)
		w.note("the MTA delivers to the local name " + name)
	}
	held := w.lookup(&m, local.any(), 0)
	switch {
	case !held && m.Domain != q.Target.Domain && w.err == nil:
		v, _ := c.ownUser(ctx, q, &m) // the MTA knows its own users, also if passwd cannot be read
		return v, nil
	case w.taken || (held && len(w.homes) == 0 && never(q.Target.Local)):
		return rcptgate.Verdict{Action: rcptgate.Accept, Reason: rcptgate.ReasonLocal, Source: rcptgate.SourceAlias}, nil
	case len(w.homes) > 0:
		return known().FollowTo(w.homes, w.targets), nil
	case w.err != nil:
		return rcptgate.Verdict{}, w.err
	case !held:
		return c.absent(ctx, q, local)
	case len(w.targets) == 1 && same(&w.targets[0], &q.Target):
		return rcptgate.Verdict{}, nil // it stands for itself, and the MTA's next hop is its own
	case len(w.targets) > 0 && w.refusal.Action != rcptgate.Tempfail:
		return known().FollowTo(nil, w.targets), nil
	case len(w.targets) == 0 && w.refusal.Action.Refuses():
		return w.refusal, nil
	}
	// Nobody to ask, and nobody who refuses for good: an empty list, or one whose
	// members are put off only in part.
	w.note("nobody to ask: counts as taken")
	return rcptgate.Verdict{Action: rcptgate.Accept, Reason: rcptgate.ReasonLocal, Source: rcptgate.SourceAlias}, nil
}

// absent says what becomes of a recipient that no table holds.
func (c *Check) absent(ctx context.Context, q *rcptgate.Query, local locality) (rcptgate.Verdict, error) {
	note := func(text string) {
		if q.Trace.Explain {
			q.Trace.Note(SourceName + ": " + text)
		}
	}
	listing, err := c.relayed(ctx, &q.Target)
	switch {
	case err != nil:
		return rcptgate.Verdict{}, err
	case listing == relayKnown:
		note(q.Target.Path + " is in relay_recipient_maps")
		q.Known = true
		return known(), nil
	case listing == relayUnknown && !never(q.Target.Local):
		note(q.Target.Path + " is not in relay_recipient_maps, and its domain is in relay_domains")
		return unknownUser(), nil
	case q.NextHop.Mailer == "local":
		if v, err := c.ownUser(ctx, q, &q.Target); q.Known || (err != nil && local == writtenOut && !c.reads) {
			return v, err
		}
	}
	switch {
	case local != writtenOut:
		if local == listed {
			note("no table holds " + q.Target.Path + "; its domain is not written out in [aliases] domains")
		}
		return rcptgate.Verdict{}, nil
	case never(q.Target.Local):
		return rcptgate.Verdict{}, nil
	case c.reads:
		note("no table holds " + q.Target.Path + "; names that other gateways publish may be missing")
		return rcptgate.Verdict{}, nil
	case c.router.Route(q) != nil:
		note("no table holds " + q.Target.Path + "; its domain has a route")
		return rcptgate.Verdict{}, nil
	}
	if q.NextHop.Mailer == "" {
		user, err := c.isUser(ctx, q.Target.Local)
		if err != nil {
			return rcptgate.Verdict{}, err
		}
		if user {
			note(q.Target.Local + " is a local user (" + c.users[0].text + "); the MTA does not say whether it delivers locally")
			return rcptgate.Verdict{}, nil
		}
	}
	note("no table holds " + q.Target.Path)
	return unknownUser(), nil
}

// ownUser says of a name that the MTA delivers locally whether it is a local user, who needs no server to know him.
func (c *Check) ownUser(ctx context.Context, q *rcptgate.Query, m *rcptgate.Mailbox) (rcptgate.Verdict, error) {
	user, err := c.isUser(ctx, m.Local)
	if err != nil || !user {
		return rcptgate.Verdict{}, err
	}
	if q.Trace.Explain {
		q.Trace.Note(SourceName + ": " + m.Local + " is a local user (" + c.users[0].text + "): exists")
	}
	q.Known = true
	return known(), nil
}

// known lets the following steps decide about a mailbox that exists, or about what stands for the recipient.
func known() rcptgate.Verdict {
	return rcptgate.Verdict{Reason: rcptgate.ReasonLocal, Source: rcptgate.SourceAlias}
}

// unknownUser refuses a name that no table holds.
func unknownUser() rcptgate.Verdict {
	return rcptgate.Verdict{
		Action: rcptgate.Reject, Code: 550, Enhanced: "5.1.1", Text: rcptgate.TextUnknownUser,
		Reason: rcptgate.ReasonUnknownUser, Source: rcptgate.SourceAlias,
	}
}

// never reports whether a local part is one that every domain must have (RFC 5321
// section 4.5.1, RFC 2142): what the tables lead to is then a mistake in them.
func never(local string) bool {
	return strings.EqualFold(local, "postmaster") || strings.EqualFold(local, "abuse")
}
