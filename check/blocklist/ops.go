// SPDX-License-Identifier: BSD-2-Clause

package blocklist

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"rcptgate"
	"rcptgate/config/setting"
	"rcptgate/unit"
	"rcptgate/view"
)

// ops are the commands that the daemon answers.
func ops() []unit.Op {
	return []unit.Op{
		{
			Use: "list [LIST]", Short: "list the clients that are listed", Args: cobra.MaximumNArgs(1),
			Long: "list shows who is listed, on one list or on all: until when, and for what.",
		},
		{
			Use: "show CLIENT", Short: "show why a client is listed, or what would list it", Args: cobra.ExactArgs(1),
			Long: "show says for each list whether it has an address, with its evidence, or why it never\nlists it.",
		},
		{
			Use: "add LIST CLIENT [EVIDENCE]", Short: "list a client", Args: cobra.RangeArgs(2, 3),
			Flags: []unit.Flag{{Name: "for", Doc: "how long, at most the list's for_max; the default is the list's for"}},
			Long:  "add lists an address. Lists in DNS (never_dns) are not asked; networks that are never\nlisted are an error.\nExit code 75: memcached could not be reached, and the other gateways hear of it when it is back.",
		},
		{
			Use: "remove LIST CLIENT", Short: "end a listing", Args: cobra.ExactArgs(2),
			Long: "remove ends the listing of an address at once, on the other gateways within seconds.\nEvidence that comes later lists it again: name its network in never to keep it off the list.\nExit code 75: memcached could not be reached, and the other gateways keep it until it is back.",
		},
		{
			Use: "export LIST", Short: "print a list for other programs", Args: cobra.ExactArgs(1), Lines: true,
			Flags: []unit.Flag{{Name: "format", Default: "text", Doc: "text, cidr, texthash, rbldnsd, json or nft"}},
			Long:  "export prints a list in a format that other programs read. A list in rehearsal is empty.",
		},
		{
			Use: "stats", Short: "count what the lists have done", Args: cobra.NoArgs,
			Long: "stats counts, for each list, what it has listed, spared and refused since the daemon\nstarted.",
		},
	}
}

// do answers them. They fail because of what was asked, or reach this gateway alone.
func (u *live) do(ctx context.Context, op string, args []string) ([]view.Table, error) {
	tables, err := u.answer(ctx, op, args)
	_, part := errors.AsType[*unit.PartError](err)
	_, missing := errors.AsType[*unit.ConfigError](err)
	if err == nil || part || missing || errors.Is(err, unit.ErrNoOp) {
		return tables, err
	}
	return nil, &unit.InputError{Err: err}
}

func (u *live) answer(ctx context.Context, op string, args []string) ([]view.Table, error) {
	args, flags := unit.SplitFlags(args)
	switch op {
	case "list":
		return u.opList(args)
	case "show":
		return u.opShow(ctx, args)
	case "stats":
		return []view.Table{u.stats()}, nil
	}
	l, err := u.named(args)
	if err != nil {
		return nil, err
	}
	switch op {
	case "export":
		return l.opExport(flags["format"])
	case "add":
		return l.opAdd(ctx, args, flags["for"])
	case "remove":
		return l.opRemove(ctx, args)
	}
	return nil, unit.ErrNoOp
}

const noLists = "no blocklist is configured"

var errArguments = errors.New("arguments are missing")

// named finds the list that the first argument names.
func (u *live) named(args []string) (*List, error) {
	if len(args) == 0 {
		return nil, errArguments
	}
	var names []string
	for _, l := range u.lists() {
		if l.name == args[0] {
			return l, nil
		}
		names = append(names, l.name)
	}
	if len(names) == 0 {
		return nil, &unit.ConfigError{Err: errors.New(noLists + ": there is no [[blocklist]] section")}
	}
	return nil, fmt.Errorf("there is no blocklist %q; there are: %s", args[0], strings.Join(names, ", "))
}

func (u *live) opList(args []string) ([]view.Table, error) {
	if len(args) == 0 {
		return []view.Table{listings(u.lists(), 0, u.now())}, nil
	}
	l, err := u.named(args)
	if err != nil {
		return nil, err
	}
	return []view.Table{listings([]*List{l}, 0, u.now())}, nil
}

// listings are what lists hold, at most limit if that is not 0.
func listings(lists []*List, limit int, now time.Time) view.Table {
	t := listingsTable()
	for _, l := range lists {
		l.Each(func(e rcptgate.Listing) bool {
			if limit > 0 && len(t.Rows) >= limit {
				t.More++
				return true
			}
			t.Add("", l.name, plain(e.Network), e.Until.Sub(now), e.First, e.Count, e.Evidence, e.QueueID)
			return true
		})
	}
	return t
}

// parseClient reads a client as commands and the log show it: an address, or a network as one
// of the lists has it.
func parseClient(text string, lists []*List) (netip.Addr, error) {
	if p, err := netip.ParsePrefix(text); err == nil {
		for _, l := range lists {
			if network, ok := l.table.Load().network(p.Addr()); ok && network == p {
				return p.Addr(), nil
			}
		}
		return p.Addr(), fmt.Errorf("%s is not a network of the size that is listed: expected an address", text)
	}
	client, err := netip.ParseAddr(text)
	if err != nil {
		return client, fmt.Errorf("%q is not an address", text)
	}
	return client, nil
}

func (u *live) opShow(ctx context.Context, args []string) ([]view.Table, error) {
	if len(args) == 0 {
		return nil, errArguments
	}
	client, err := parseClient(args[0], u.lists())
	if err != nil {
		return nil, err
	}
	_ = u.exchange.ask(ctx, u.lists(), client, publishTime, u.now())
	t := view.Table{
		Name: "show", Title: client.String(), Empty: noLists,
		Columns: view.Columns("list", "List", "state", "State", "network", "Network", "left", "Time left", "first", "First", "last", "Last", "count", "Count", "evidence", "Evidence", "queue_id", "Queue id"),
	}
	now := u.now()
	for _, l := range u.lists() {
		e := l.table.Load().get(client)
		why := l.never.has(client)
		switch {
		case why != "":
			t.Add("", l.name, "never listed: "+why)
		case e == nil:
			t.Add("", l.name, "not listed")
		case !e.removed.IsZero():
			t.Add("", l.name, "removed", plain(e.Network), nil, e.First, e.removed, e.Count, e.Evidence, e.QueueID)
		case !e.active(now):
			t.Add("", l.name, "ended", plain(e.Network), nil, e.First, e.Last, e.Count, e.Evidence, e.QueueID)
		default:
			state := "listed"
			if !l.enforced {
				state = "listed, rehearsed"
			}
			t.Add("", l.name, state, plain(e.Network), e.Until.Sub(now), e.First, e.Last, e.Count, e.Evidence, e.QueueID)
		}
	}
	return []view.Table{t}, nil
}

func (l *List) opExport(format string) ([]view.Table, error) {
	write := formats[format]
	if write == nil {
		return nil, fmt.Errorf("%q is not a format: expected text, cidr, texthash, rbldnsd, json or nft", format)
	}
	var b bytes.Buffer
	w := bufio.NewWriter(&b)
	write(w, l, l.exported(), l.now())
	_ = w.Flush() // to memory
	t := view.Table{Name: "export", Columns: view.Columns("line", "Line")}
	for line := range strings.Lines(b.String()) {
		t.Add("", strings.TrimSuffix(line, "\n"))
	}
	return []view.Table{t}, nil
}

func (l *List) opAdd(ctx context.Context, args []string, life string) ([]view.Table, error) {
	if len(args) < 2 {
		return nil, errArguments
	}
	client, err := netip.ParseAddr(args[1])
	if err != nil {
		return nil, fmt.Errorf("%q is not an address", args[1])
	}
	var d setting.Duration
	if life != "" {
		if d, err = setting.ParseDuration(life); err != nil {
			return nil, fmt.Errorf("--for: %w", err)
		}
		if d.Std() > l.cfg.longest() {
			return nil, fmt.Errorf("--for: %s is longer than the longest listing, %s (see for_max)", d, setting.Duration(l.cfg.longest()))
		}
	}
	evidence := "added by hand"
	if len(args) > 2 {
		evidence = args[2]
	}
	e, err := l.list(client, evidence, "", d.Std())
	if err != nil {
		return nil, err
	}
	if err := l.exchange.tell(ctx, l, e); err != nil {
		return nil, &unit.PartError{Err: fmt.Errorf("%s was put on blocklist %q on this gateway; the others do not know of it until memcached is back: %w", client, l.name, err)}
	}
	t := listings(nil, 0, l.now())
	if e, ok := l.Listed(client); ok {
		t.Add("", l.name, plain(e.Network), e.Until.Sub(l.now()), e.First, e.Count, e.Evidence, e.QueueID)
	}
	return []view.Table{t}, nil
}

func (l *List) opRemove(ctx context.Context, args []string) ([]view.Table, error) {
	if len(args) < 2 {
		return nil, errArguments
	}
	client, err := parseClient(args[1], []*List{l})
	if err != nil {
		return nil, err
	}
	asked := l.exchange.ask(ctx, []*List{l}, client, publishTime, l.now()) // it may be listed on another gateway only
	e := l.remove(client)
	switch {
	case e == nil && asked != nil:
		return nil, &unit.PartError{Err: fmt.Errorf("%s is not on blocklist %q of this gateway; the others could not be asked: %w", client, l.name, asked)}
	case e == nil:
		return nil, fmt.Errorf("%s is not on blocklist %q", client, l.name)
	}
	if err := l.exchange.tell(ctx, l, e); err != nil {
		return nil, &unit.PartError{Err: fmt.Errorf("%s was removed from blocklist %q on this gateway; the others keep it until memcached is back: %w", client, l.name, err)}
	}
	t := view.Table{Name: "removed", Title: "Removed", Columns: view.Columns("list", "List", "client", "Client")}
	t.Add("", l.name, client.String())
	return []view.Table{t}, nil
}

// shownMax bounds the listings on the status page.
const shownMax = 50

// show describes the lists, and who is on them.
func (u *live) show() []view.Table {
	if len(u.lists()) == 0 {
		return nil
	}
	return []view.Table{u.stats(), listings(u.lists(), shownMax, u.now())}
}

// stats counts what the lists have done.
func (u *live) stats() view.Table {
	t := statsTable()
	for _, l := range u.lists() {
		mode, n := "refuses", 0
		if !l.enforced {
			mode = "rehearses"
		}
		l.Each(func(rcptgate.Listing) bool { n++; return true })
		t.Add("", l.name, mode, n, l.listed.Load(), l.spared.Load(), l.refused.Load(), l.table.Load().evicted.Load())
	}
	return t
}

// statsTable is the table "blocklists" without rows.
func statsTable() view.Table {
	return view.Table{
		Name: "blocklists", Title: "Blocklists",
		Doc: "the lists of [[blocklist]]; shown if there is one",
		Columns: view.Explained(
			"list", "List", "its name",
			"mode", "Mode", "refuses, or rehearses: clients are let through and the log says what would have been",
			"listed", "Listed now", "clients on it now",
			"begun", "Listings", "clients put on it since the start",
			"spared", "Spared", "viruses whose sender was not listed, because most of its mail is clean",
			"refused", "Refused", "times that a listed client was refused",
			"evicted", "Evicted", "clients dropped before their end to make room for others",
		),
	}
}

// listingsTable is the table "listed" without rows.
func listingsTable() view.Table {
	return view.Table{
		Name: "listed", Title: "Listed clients", Empty: "nobody is listed",
		Doc: "the clients on them, at most 50 here; \"rcptgate blocklist list\" has them all",
		Columns: view.Explained(
			"list", "List", "name of the list",
			"client", "Client", "its address or network",
			"left", "Time left", "time until the entry ends",
			"first", "First", "when it was first listed",
			"count", "Count", "how often it was listed",
			"evidence", "Evidence", "why",
			"queue_id", "Queue id", "the MTA's queue id of the last mail that was a reason",
		),
	}
}
