// SPDX-License-Identifier: BSD-2-Clause

package differential

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
)

// generator makes random worlds; the same seed makes the same world.
type generator struct {
	*rand.Rand
	mta MTA
}

// Generate returns the world of a seed: at most recipients of them, all different.
func Generate(mta MTA, seed uint64, recipients int) World {
	g := &generator{Rand: rand.New(rand.NewPCG(seed, uint64(len(mta)))), mta: mta}
	w := World{
		Name: fmt.Sprintf("seed %d", seed), MTA: mta, Aliases: tables{}, Virtual: tables{},
		Routes: tables{"rela.test": "$behind"}, Unlisted: g.one(4),
	}
	if g.one(3) {
		w.Local = []string{"loc.test", "own.test"}
	}
	if g.one(3) {
		w.Sections = []string{} // the MTA's own next hop
	}
	for _, name := range names() {
		if g.one(2) {
			w.Aliases[name] = g.targets()
		}
		if g.one(4) {
			w.Aliases[name+"+new"] = g.targets()
		}
		if g.one(2) {
			w.Virtual[name+"@virt.test"] = g.virtual()
		}
		if g.one(8) {
			w.Virtual[name+"+new@virt.test"] = g.virtual()
		}
		if g.one(8) {
			w.Virtual[name+"@loc.test"] = g.virtual()
		}
		if g.one(8) {
			w.Virtual[name+"@rela.test"] = g.virtual()
		}
	}
	if g.one(2) {
		w.Virtual["@catch.test"] = g.virtual()
	}
	g.extras(&w)
	w.Recipients = g.recipients(recipients)
	return w
}

// one is true once in n times.
func (g *generator) one(n int) bool { return g.IntN(n) == 0 }

// pick returns one of the words.
func (g *generator) pick(words ...string) string { return words[g.IntN(len(words))] }

// mended reports whether the fixed world of the name matches. Random worlds leave out what known.go lists.
func (g *generator) mended(name string) bool {
	return !slices.Contains(knownMismatches(), string(g.mta)+": "+name)
}

// names are the local parts that worlds are made of: two accounts, two mailboxes of the server behind, one that it
// refuses, one that it puts off, and names that only tables know.
func names() []string {
	return strings.Fields("ann bob good fine gone later staff info sales team ghost")
}

// targets are what an alias stands for.
func (g *generator) targets() string {
	list := []string{g.target()}
	for g.one(3) {
		list = append(list, g.target())
	}
	return strings.Join(list, ", ")
}

func (g *generator) target() string {
	name := g.pick(names()...)
	switch g.IntN(12) {
	case 0:
		return `\` + name
	case 1:
		return name + "+new"
	case 2:
		return g.pick("/dev/null", `"|/bin/true"`)
	case 3, 4, 5:
		return name
	}
	return name + "@" + g.pick("loc.test", "virt.test", "rela.test", "rela.test", "rela.test")
}

// virtual is what an address of the virtual table stands for.
func (g *generator) virtual() string {
	name := g.pick(names()...)
	if g.one(3) {
		return name
	}
	if g.mta == Sendmail && g.one(8) {
		return g.pick("error:nouser Not here", "error:5.7.1:550 Not you", "%1@rela.test", "%1")
	}
	if g.mta == Postfix && g.one(4) {
		return name + "@rela.test, " + g.pick(names()...) + "@loc.test"
	}
	return name + "@" + g.pick("loc.test", "virt.test", "rela.test", "rela.test")
}

// extras are tables that only one MTA has.
func (g *generator) extras(w *World) {
	switch {
	case g.mta == Sendmail && g.one(3):
		w.Access = tables{}
		for _, name := range names() {
			if g.one(3) {
				w.Access["To:"+name+"@"+g.pick("loc.test", "virt.test", "rela.test")] = g.pick("OK", "REJECT", "RELAY", "ERROR:5.7.1:550 Not here", "450 4.2.1 Later")
			}
		}
	case g.mta == Postfix && g.one(3):
		w.Maps = map[string]map[string]string{"relay_recipient_maps": {}}
		for _, name := range names() {
			if g.one(2) {
				w.Maps["relay_recipient_maps"][name+"@rela.test"] = "x"
			}
		}
	}
}

// recipients are addresses in usual and odd spellings, each once.
func (g *generator) recipients(n int) []string {
	var list []string
	seen := map[string]bool{}
	for range 4 * n {
		if r := g.recipient(); !seen[r] && len(list) < n {
			seen[r] = true
			list = append(list, r)
		}
	}
	return list
}

func (g *generator) recipient() string {
	name := g.pick(append(names(), "postmaster", "absent")...)
	domain := g.pick("loc.test", "virt.test", "rela.test", "catch.test", "own.test", ownName)
	switch g.IntN(16) {
	case 0:
		name = strings.ToUpper(name[:1]) + name[1:]
	case 1, 2:
		name += g.pick("+new", "+other", "+new+more", "+")
	case 3:
		name = `"` + name + `"`
	case 4:
		name = `"` + name + `+new"`
	case 5:
		if g.mended("percent sign in the local part") {
			name += "%" + domain
		}
	case 6:
		domain += "."
	case 7:
		domain = strings.ToUpper(domain)
	case 8:
		return name
	case 9:
		return "@" + g.pick("loc.test", "rela.test") + ":" + name + "@" + domain
	case 10:
		name = g.pick("+new", "a b", name+"."+name, "!"+name, name+"-new", `\`+name)
		if strings.Contains(name, " ") {
			name = `"` + name + `"`
		}
	case 11:
		if g.mended("percent sign in the local part") {
			name = domain + "!" + name
		}
	}
	return name + "@" + domain
}
