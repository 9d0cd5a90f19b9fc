// SPDX-License-Identifier: BSD-2-Clause

package alias

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"rcptgate"
	"rcptgate/address"
	"rcptgate/route"
	"rcptgate/table"
	"rcptgate/table/lists"
)

// SourceName begins this check's notes in a trace.
const SourceName = "tables"

// Router finds who is responsible for a mailbox: a *route.Router.
type Router interface {
	Route(q *rcptgate.Query) *route.Route
}

// Options are what a Check is made of. All but Effective and Published are needed.
type Options struct {
	Config Config
	// Effective is what Config means; nil: the MTA's configuration is read now.
	Effective *Effective
	Router    Router
	// Open gives the table of a file, kept fresh. What is not a map file (class files,
	// passwd) has the type table.Text and its name as it is; see NamesFormat.
	Open func(use Use, spec table.Spec) (table.Table, error)
	// Published is the table of "memcached:"; nil when no memcached is configured.
	Published Published
}

// Published is the table of the names that other gateways publish (package names).
type Published interface {
	table.Table
	// Find looks for a key in lower case, then as it was written. Further keys are likely to
	// be looked up next. Key is the one that was found. An error says that the names could
	// not be asked for.
	Find(ctx context.Context, folded, written string, further []string) (value, key string, found bool, err error)
}

// Check follows local names. It does not change once made, owns none of its tables,
// and is safe for concurrent use.
type Check struct {
	router     Router
	files      []source
	users      []source
	local      lists.Domains
	accessMaps []source // Sendmail

	virtual            []source // Postfix
	virtualTo          lists.Domains
	recipientCanonical []source
	canonical          []source
	relay              []source // relay_recipient_maps
	relayTo            lists.Domains
	myOrigin           string
	propagate          []string

	virtusers  []source // Sendmail
	virtuserTo lists.Domains
	ownOnly    bool // it holds in local domains and those of virtuserTo alone
	maxAliases int

	postfix, sendmail bool // whose settings there are
	delimiter         string
	hub, sticky       bool
	writes            bool // domains are written out
	partial           bool // names may be missing: absence proves nothing
	includes          *includes
}

// New makes a Check.
func New(opt Options) (*Check, error) {
	if opt.Router == nil || opt.Open == nil {
		return nil, errors.New("aliases: router and tables are needed")
	}
	if err := opt.Config.Validate(); err != nil {
		return nil, fmt.Errorf("[aliases]: %w", err)
	}
	eff := opt.Effective
	if eff == nil {
		var err error
		if eff, err = opt.Config.Effective(); err != nil {
			return nil, err
		}
	}
	c := &Check{
		router: opt.Router, includes: newIncludes(), delimiter: eff.delimiter, hub: eff.hub, sticky: eff.sticky, partial: eff.Source.Partial,
		myOrigin: address.Domain(eff.MyOrigin), propagate: eff.Propagate, maxAliases: eff.MaxAliasRecursion,
		postfix: eff.Postfix != "" || eff.MyOrigin != "" || len(eff.VirtualAliasMaps)+len(eff.VirtualAliasDomains)+
			len(eff.RelayRecipientMaps)+len(eff.CanonicalMaps)+len(eff.RecipientCanonicalMaps) > 0,
		sendmail: eff.Sendmail != "" || eff.MaxAliasRecursion > 0 || len(eff.VirtUserTable)+len(eff.Access) > 0,
	}
	if err := c.open(&opt, eff); err != nil {
		return nil, fmt.Errorf("[aliases]: %w", err)
	}
	return c, nil
}

// open opens every table.
func (c *Check) open(opt *Options, eff *Effective) error {
	if err := c.openFiles(opt, eff); err != nil {
		return err
	}
	c.local = lists.ReadDomains(eff.Domains, lists.WrittenOut)
	c.local.Add(eff.loose, lists.Listed)
	c.relayTo, c.virtualTo, c.virtuserTo = readAbove(eff.RelayDomains), readAbove(eff.VirtualAliasDomains), readAbove(eff.VirtuserDomains)
	c.relayTo.Dotted = !eff.subdomains
	c.writes, c.ownOnly = len(eff.Domains) > 0, eff.VirtuserDomains != nil
	var users []table.Spec
	if eff.Passwd != "" {
		users = append(users, table.Spec{Type: table.Text, Name: eff.Passwd})
	}
	for _, group := range []struct {
		use   Use
		specs []table.Spec
		to    *[]source
	}{
		{UseMap, eff.VirtualAliasMaps, &c.virtual},
		{UseMap, eff.RecipientCanonicalMaps, &c.recipientCanonical},
		{UseMap, eff.CanonicalMaps, &c.canonical},
		{UseMap, eff.VirtUserTable, &c.virtusers},
		{UseMap, eff.RelayRecipientMaps, &c.relay},
		{UseMap, eff.Access, &c.accessMaps},
		{UseUsers, users, &c.users},
	} {
		for _, spec := range group.specs {
			t, err := opt.Open(group.use, spec)
			if err != nil {
				return err
			}
			*group.to = append(*group.to, source{Table: t, text: spec.String()})
		}
	}
	file := func(spec table.Spec) (table.Table, error) { return opt.Open(UseClass, spec) }
	keyed := func(spec table.Spec) (table.Table, error) { return opt.Open(UseMap, spec) }
	for _, list := range []*lists.Domains{&c.local, &c.relayTo, &c.virtualTo, &c.virtuserTo} {
		if err := list.Open(file, keyed); err != nil {
			return err
		}
	}
	return nil
}

// readAbove reads a list whose entries with a leading dot stand for the domains below them.
func readAbove(list []string) lists.Domains {
	d := lists.ReadDomains(list, lists.WrittenOut)
	d.Below, d.Dotted = true, true
	return d
}

// openFiles opens the alias databases.
func (c *Check) openFiles(opt *Options, eff *Effective) error {
	for _, f := range eff.Files {
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
			s.Table, s.published, c.partial = opt.Published, opt.Published, true
		}
		c.files = append(c.files, s)
	}
	return nil
}

// isLocal finds a domain among the local ones. A bare name is local.
func (c *Check) isLocal(ctx context.Context, domain string) (lists.Standing, error) {
	if domain == "" {
		return lists.Listed, nil
	}
	return c.local.Find(ctx, domain)
}

// Local reports whether this machine delivers a domain's mail, or expands its names. "" is
// the domain of a bare name.
func (c *Check) Local(ctx context.Context, domain string) (bool, error) {
	in, err := c.isLocal(ctx, domain)
	if in.Any() || err != nil {
		return in.Any(), err
	}
	return c.isVirtual(ctx, domain, false)
}

// isVirtual reports whether a domain's names stand in virtual_alias_maps or virtusertable
// alone.
func (c *Check) isVirtual(ctx context.Context, domain string, local bool) (bool, error) {
	if local {
		return false, nil
	}
	in, err := c.virtualTo.Find(ctx, domain)
	if in.Any() || err != nil {
		return in.Any(), err
	}
	in, err = c.virtuserTo.Find(ctx, domain)
	return in.Any(), err
}

// onlyPostfix reports whether the tables are Postfix's, and none is Sendmail's.
func (c *Check) onlyPostfix() bool { return c.postfix && !c.sendmail }

// knowsUsers reports whether passwd(5) and the tables are all that knows local names.
func (c *Check) knowsUsers() bool { return len(c.users) > 0 && c.writes && !c.partial && !c.hub }

// discards reports whether Postfix throws away mail for a local name that has no alias.
func (c *Check) discards(local string) bool {
	return strings.EqualFold(local, "mailer-daemon") && (c.postfix || !c.sendmail)
}

// rewrites reports whether a table may hold names of domains that are not local.
func (c *Check) rewrites() bool {
	return len(c.virtual)+len(c.virtusers)+len(c.relay)+len(c.canonical)+len(c.recipientCanonical) > 0 || !c.virtualTo.Empty()
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
	if local == lists.Absent && q.NextHop.Mailer == "local" {
		local = lists.Listed
	}
	if local == lists.Absent && !c.rewrites() {
		return rcptgate.Verdict{}, nil
	}
	return c.follow(ctx, q, local)
}

func (c *Check) follow(ctx context.Context, q *rcptgate.Query, local lists.Standing) (rcptgate.Verdict, error) {
	w := walk{Check: c, ctx: ctx, q: q}
	m := q.Target
	own := c.sendmailName(q)
	if own != "" {
		m = mailbox(own)
	}
	renamed := own != "" && !strings.EqualFold(own, q.Target.Local)
	if renamed {
		w.note("the MTA delivers to the local name " + own)
	}
	held := false
	switch {
	case strings.HasPrefix(own, `\`): // past the aliases
		held, m = true, bare(own[1:])
		w.user(&m)
	case own != "":
		held = w.viaAlias(&m, 0)
	default:
		held = w.lookup(&m, local.Any(), "", 0)
	}
	switch {
	case !held && renamed && w.err == nil: // the MTA knows its own users
		if v, _ := c.ownUser(ctx, q, &m); q.Known {
			return v, nil
		}
		w.note(own + " is left to the MTA")
		return accepted(), nil
	case w.taken || (held && len(w.homes) == 0 && reserved(q.Target.Local)):
		return accepted(), nil
	case len(w.homes) > 0:
		return known().FollowTo(w.homes, w.targets), nil
	case w.err != nil:
		return rcptgate.Verdict{}, w.err
	case !held:
		return c.absent(ctx, q, local)
	case len(w.targets) == 1 && address.Same(w.targets[0], q.Target):
		return rcptgate.Verdict{}, nil // it stands for itself, and the MTA's next hop is its own
	case len(w.targets) > 0 && w.refusal.Action != rcptgate.Tempfail:
		return known().FollowTo(nil, w.targets), nil
	case len(w.targets) == 0 && w.refusal.Action.Refuses():
		return w.refusal, nil
	}
	// There is no server to ask, and not every target is refused for good: an empty list, or one
	// whose members are put off only in part.
	w.note("no server to ask: counts as accepted")
	return accepted(), nil
}

// sendmailName is the local name to which Sendmail says that it delivers: its rules and its
// virtusertable have made it of the address. "" if it does not say so; Postfix always gives
// an address with a domain.
func (c *Check) sendmailName(q *rcptgate.Query) string {
	name := q.NextHop.Addr
	if q.NextHop.Mailer != "local" || strings.Contains(name, "@") || c.onlyPostfix() {
		return ""
	}
	if strings.Contains(name, `"`) && (name[0] != '"' || name[len(name)-1] != '"') {
		return strings.ReplaceAll(name, `"`, "") // "a"nn is ann to its local mailer
	}
	return name
}

// absent says what becomes of a recipient that no table holds.
func (c *Check) absent(ctx context.Context, q *rcptgate.Query, local lists.Standing) (rcptgate.Verdict, error) {
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
	case listing == relayUnknown && !reserved(q.Target.Local):
		note(q.Target.Path + " is not in relay_recipient_maps, and its domain is in relay_domains")
		return unknownUser(), nil
	case q.NextHop.Mailer == "local":
		if v, err := c.ownUser(ctx, q, &q.Target); q.Known || (err != nil && local == lists.WrittenOut && !c.partial) {
			return v, err
		}
	}
	virtual, err := c.isVirtual(ctx, q.Target.Domain, local.Any())
	switch {
	case err != nil:
		return rcptgate.Verdict{}, err
	case local.Any() && c.discards(q.Target.Local):
		note("Postfix throws away mail for " + q.Target.Local)
		return accepted(), nil
	case local != lists.WrittenOut && !virtual:
		if local == lists.Listed {
			note("no table holds " + q.Target.Path + "; its domain is not written out in [aliases] domains")
		}
		return rcptgate.Verdict{}, nil
	case reserved(q.Target.Local):
		return rcptgate.Verdict{}, nil
	case c.partial:
		note("no table holds " + q.Target.Path + "; names may be missing here that the MTA knows")
		return rcptgate.Verdict{}, nil
	case local.Any() && c.hub:
		note("no table holds " + q.Target.Path + "; another server may know the user (mail_hub)")
		return rcptgate.Verdict{}, nil
	case c.router.Route(q) != nil:
		note("no table holds " + q.Target.Path + "; its domain has a route")
		return rcptgate.Verdict{}, nil
	}
	if q.NextHop.Mailer == "" && local.Any() {
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

// ownUser reports whether a name that the MTA delivers locally is a local user, who exists
// whatever a server says.
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

// accepted takes a recipient about whom no server need be asked.
func accepted() rcptgate.Verdict {
	return rcptgate.Verdict{Action: rcptgate.Accept, Reason: rcptgate.ReasonLocal, Source: rcptgate.SourceAlias}
}

// reserved reports whether a local part is one that every domain must have: what the tables
// lead to is then a mistake in them.
func reserved(local string) bool { return rcptgate.Reserved(local) }
