// SPDX-License-Identifier: BSD-2-Clause

package script

import (
	"testing"

	"rcptgate"
)

// ten is a script of ten statements, of the kind that sites have.
const ten = `
INSIDE = patterns(["@example.org", "@.example.org"])
FARM = re(r"@[a-z0-9-]+\.farm\.example\.net$")
NETS = cidr(["10.0.0.0/8", "192.168.0.0/16"])

def recipient(r):
    if r.client.auth_user:
        return None
    sender = r.sender
    if sender.user == "ann" and sender in INSIDE and r.address not in INSIDE:
        return discard()
    if r.address == "ann@example.org" and FARM.search(sender):
        return discard()
    if r.client.ip in NETS:
        return None
    if r.size > 50000000:
        return reject("Too large")
    if r.client.helo == "localhost":
        return reject("Not you")
`

func BenchmarkRecipient(b *testing.B) {
	for name, script := range map[string]string{"ten statements": ten, "one": "def recipient(r):\n  if r.address == 'x@y': return reject()"} {
		b.Run(name, func(b *testing.B) {
			p := program(b, script, nil)
			f := p.hook(rcptgate.StageRcpt)
			q := question("bob@example.org")
			q.Trace.Explain = false
			ctx := b.Context()
			b.ReportAllocs()
			for b.Loop() {
				if _, err := f.Check(ctx, q); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
