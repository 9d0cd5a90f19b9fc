// SPDX-License-Identifier: BSD-2-Clause

package blocklist

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"rcptgate"
)

// ExportConfig is a file that a list is written to.
type ExportConfig struct {
	Format string `toml:"format" doc:"\"text\" (networks), \"cidr\" and \"texthash\" (for Postfix), \"rbldnsd\" (a combined data set), \"json\", \"nft\" (commands for nft -f)" oneof:"text,cidr,texthash,rbldnsd,json,nft"`
	File   string `toml:"file" doc:"the file. It is replaced when the list has changed, at most every ten seconds" example:"\"/var/lib/rcptgate/virus.zone\""`
}

// formats are the forms in which a list is given to other programs.
var formats = map[string]func(w *bufio.Writer, l *List, list []rcptgate.Listing, now time.Time){
	"text": func(w *bufio.Writer, _ *List, list []rcptgate.Listing, _ time.Time) {
		for i := range list {
			fmt.Fprintln(w, plain(list[i].Network))
		}
	},
	// cidr_table(5).
	"cidr": func(w *bufio.Writer, l *List, list []rcptgate.Listing, _ time.Time) {
		for i := range list {
			fmt.Fprintf(w, "%s %s\n", list[i].Network, l.restriction())
		}
	},
	// access(5): networks are written without what belongs to hosts. For reliable IPv6 networks
	// there is cidr_table(5).
	"texthash": func(w *bufio.Writer, l *List, list []rcptgate.Listing, _ time.Time) {
		for i := range list {
			for _, key := range accessKeys(list[i].Network) {
				fmt.Fprintf(w, "%s %s\n", key, l.restriction())
			}
		}
	},
	// rbldnsd(8), "combined". Clients of such zones test whether 127.0.0.2 and ::FFFF:7F00:2 are
	// there (RFC 5782 section 5).
	"rbldnsd": func(w *bufio.Writer, l *List, list []rcptgate.Listing, _ time.Time) {
		text := strings.ReplaceAll(rcptgate.CleanText(l.cfg.Text), "$", "$$")
		for _, part := range []struct {
			set, test string
			v4        bool
		}{{"ip4set", "127.0.0.2", true}, {"ip6trie", "::ffff:7f00:2", false}} {
			fmt.Fprintf(w, "$DATASET %s:%s-%s @\n:127.0.0.2:%s\n%s\n", part.set, l.name, part.set, text[:min(len(text), 200)], part.test)
			for i := range list {
				if list[i].Network.Addr().Is4() == part.v4 {
					fmt.Fprintln(w, plain(list[i].Network))
				}
			}
		}
	},
	"json": func(w *bufio.Writer, l *List, list []rcptgate.Listing, _ time.Time) {
		type object struct {
			Network  string    `json:"network"`
			First    time.Time `json:"first"`
			Last     time.Time `json:"last"`
			Until    time.Time `json:"until"`
			Count    int       `json:"count"`
			Evidence string    `json:"evidence"`
			QueueID  string    `json:"queue_id,omitempty"`
		}
		objects := make([]object, 0, len(list))
		for _, e := range list {
			objects = append(objects, object{plain(e.Network), e.First.UTC(), e.Last.UTC(), e.Until.UTC(), e.Count, e.Evidence, e.QueueID})
		}
		encode := json.NewEncoder(w)
		encode.SetIndent("", "  ")
		_ = encode.Encode(map[string]any{"list": l.name, "listed": objects}) // the writer keeps its error
	},
	// nft(8): sets of the type ipv4_addr and ipv6_addr with "flags interval, timeout". A file is
	// one transaction: the sets are emptied first, since what was removed has to leave them, and
	// adding an element that is there leaves it its old time.
	"nft": func(w *bufio.Writer, l *List, list []rcptgate.Listing, now time.Time) {
		name := strings.ReplaceAll(l.name, "-", "_")
		fmt.Fprintf(w, "flush set inet mail %s\nflush set inet mail %s6\n", name, name)
		for i := range list {
			set := name
			if list[i].Network.Addr().Is6() {
				set += "6"
			}
			seconds := max(int(list[i].Until.Sub(now)/time.Second), 1)
			fmt.Fprintf(w, "add element inet mail %s { %s timeout %ds }\n", set, plain(list[i].Network), seconds)
		}
	},
}

// restriction is what Postfix does with a listed client: the right-hand side of access(5).
func (l *List) restriction() string {
	v := &l.verdict
	return fmt.Sprintf("%d %s %s", v.Code, v.Enhanced, strings.ReplaceAll(v.Text, "\n", " "))
}

// plain writes a network, one address without its length.
func plain(p netip.Prefix) string {
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.String()
}

// accessKeys are the keys under which Postfix finds a network's clients in an access(5) table. It
// writes an address as inet_ntop(3) does, then cuts groups off its end, up to a colon each time:
// "2001:db8::5", "2001:db8:", "2001:db8". So a network whose last groups are zero is found under
// two keys. One that ends within a group, or has so many zeros that a key would hold clients of
// others too, has none.
func accessKeys(p netip.Prefix) (keys []string) {
	if p.IsSingleIP() {
		return []string{p.Addr().String()}
	}
	if p.Bits()%16 != 0 || p.Bits() == 0 {
		return nil
	}
	octets := p.Addr().As16()
	var groups []string
	for i := 0; i < p.Bits()/8; i += 2 {
		groups = append(groups, fmt.Sprintf("%x", int(octets[i])<<8|int(octets[i+1])))
	}
	keys = append(keys, strings.Join(groups, ":"))
	for from := 1; from < len(groups); from++ { // no client's address begins with a zero
		to := from
		for to < len(groups) && groups[to] == "0" {
			to++
		}
		last := to == len(groups)
		switch zeros := to - from; {
		case zeros == 0:
			continue
		case zeros > 2, zeros == 2 && !last:
			return nil
		case last:
			keys = append(keys, strings.Join(groups[:from], ":")+":")
		}
		from = to
	}
	return keys
}

// exported is what other programs get of a list: nothing in rehearsal, and no network that has
// an address in it which is never listed, since they cannot tell it from the others. It is in
// order.
func (l *List) exported() (list []rcptgate.Listing) {
	if !l.enforced {
		return nil
	}
	spared := l.never.within(l.table.Load().bits[1])
	l.Each(func(e rcptgate.Listing) bool {
		if !spared[e.Network] || e.Network.IsSingleIP() {
			list = append(list, e)
		}
		return true
	})
	slices.SortFunc(list, func(a, b rcptgate.Listing) int {
		return cmp.Or(a.Network.Addr().Compare(b.Network.Addr()), a.Network.Bits()-b.Network.Bits())
	})
	return list
}

// export writes the list to its files; false: not to all of them.
func (l *List) export(now time.Time) (ok bool) {
	ok = true
	if len(l.cfg.Export) == 0 {
		return ok
	}
	list := l.exported()
	for _, x := range l.cfg.Export {
		matter := "blocklist export " + x.File
		err := replaceFile(x.File, 0o644, func(w *bufio.Writer) error {
			formats[x.Format](w, l, list, now)
			return nil
		})
		if err != nil {
			l.notices.Error(matter, "a blocklist cannot be exported", "blocklist", l.name, "file", x.File, "error", err)
			ok = false
			continue
		}
		l.notices.Clear(matter, "")
	}
	return ok
}

// exports is what the files of the lists hold.
type exports map[*List]editionAt

// editionAt is the state of a list that its files have, and when they were last written.
type editionAt struct {
	edition uint64 // one more than the list's; 0: none
	at      time.Time
}

// renew writes the files of a list that has changed, unless that was done a moment ago. What
// could not be written is tried again.
func (x exports) renew(l *List, now time.Time) {
	last := x[l]
	edition, since := l.edition.Load()+l.dns.edition.Load()+1, now.Sub(last.at) // MX hosts of own domains are left out
	if last.edition == edition || since >= 0 && since < exportEvery {
		return
	}
	if last.at = now; l.export(now) {
		last.edition = edition
	}
	x[l] = last
}
