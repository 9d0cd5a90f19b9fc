// SPDX-License-Identifier: BSD-2-Clause

package script

import (
	"fmt"
	"strings"

	"rcptgate/check/script/star"
)

// manual is the reference of what scripts can use, as Markdown.
func manual() string {
	var b strings.Builder
	b.WriteString(`# What a script can use

Made by "rcptgate script api" from the code; [script.md](script.md) is the introduction.

The language is Starlark
([specification](https://github.com/bazelbuild/starlark/blob/master/spec.md)),
a small dialect of Python. It has no while, recursion, classes or exceptions, and no imports
other than load().

## Functions that a script defines

| function | argument | called |
|---|---|---|
| ` + "`connect(client)`" + ` | [client](#client) | when a client connects |
| ` + "`helo(client)`" + ` | [client](#client) | when the client sends HELO or EHLO |
| ` + "`sender(mail)`" + ` | [mail](#mail) | at MAIL |
| ` + "`recipient(rcpt)`" + ` | [rcpt](#rcpt) | at RCPT, once for each recipient |
| ` + "`message(msg)`" + ` | [msg](#msg) | at the end of the message |

All are optional. A function returns ` + "`None`" + ` to continue, or the result of accept(), reject(),
tempfail(), discard() or hold(). A result at connect or HELO takes effect in the reply to MAIL.

## Built-in functions

`)
	members(&b, star.Functions())
	b.WriteString("\n`print()` writes to the log, as log() does. Starlark's own modules are available: `json.encode`,\n`json.decode`, `json.encode_indent`, `math`, and `time` (`time.now()`, `time.parse_time()`,\n`time.parse_duration()`, `time.time()`). `config.NAME` is a value of `options` in `[script]`.\n\n## dns\n\nAt most 10 queries in one call. `None` means that the query failed, an empty list that there are no\nrecords.\n\n")
	members(&b, star.DNSFunctions())
	b.WriteString(`
## Addresses

Addresses are strings. Mailbox addresses are in the form in which they are compared: without
brackets, in lower case, without needless quotes. Every string has these attributes:

| attribute | of "ann+news@example.org" |
|---|---|
| ` + "`.local`" + ` | "ann+news" |
| ` + "`.user`" + ` | "ann", without the detail |
| ` + "`.detail`" + ` | "news" |
| ` + "`.domain`" + ` | "example.org" |
| ` + "`.null`" + ` | False; True for "", the null sender <> |
| ` + "`.is6`" + ` | False; True for an IPv6 address |
`)
	for _, c := range star.Classes() {
		fmt.Fprintf(&b, "\n## %s\n\n%s\n\n", c.Name, wrapped(upper(strings.TrimSuffix(c.Doc, ", and:")+".")))
		members(&b, c.Members)
	}
	b.WriteString(`
## Functions for tests

In files that end in "_test.star", in addition to those above:

| function | |
|---|---|
| ` + "`client(ip=, name=, helo=, auth_user=, tls=, local=)`" + ` | makes a client |
| ` + "`mail(sender=, args=, size=, ...)`" + ` | makes a mail; also takes the arguments of client() |
| ` + "`rcpt(address=, sender=, target=, mailer=, host=, accepted=, ...)`" + ` | makes a recipient |
| ` + "`message(text= or file=, recipients=, sender=, ...)`" + ` | makes a message |
| ` + "`edits(msg)`" + ` | the changes made, such as "add header X-Note: no subject" |
| ` + "`body(msg)`" + ` | the new body; "" if it is unchanged |
| ` + "`assert.eq(got, want)`, `.ne`, `.true(x)`, `.false(x)`, `.lt(less, more)`, `.contains(x, part)`" + ` | report an assertion that does not hold, with its line |
| ` + "`assert.action(verdict, \"reject\", text=\"\")`" + ` | checks the result of a function; None is "continue" |
| ` + "`assert.fails(function, text=\"\")`" + ` | calls a function and checks that it fails |
| ` + "`clock.set(\"2026-11-28 18:30\")`, `clock.advance(\"1h\")`" + ` | set the time of now(), counters and memories |
| ` + "`dns.fake({\"mx example.org\": [\"mx1.example.org\"], \"a x.example\": None})`" + ` | sets the answers of DNS; nothing else exists |
| ` + "`exists.fake({\"ann@example.org\": \"valid\"})`" + ` | sets the results of rcpt.exists() |
| ` + "`site.fake(local=[...], trusted=[...])`" + ` | sets the local domains and trusted networks |
| ` + "`viruses.fake([\"Eicar\"])`" + ` | scan() finds a virus in messages with one of these subjects; the subject is its name |
`)
	return b.String()
}

// wrapped breaks text into lines of at most 100 characters.
func wrapped(s string) string {
	var b strings.Builder
	used := 0
	for i, w := range strings.Fields(s) {
		if n := len([]rune(w)); i > 0 && used+1+n > 100 {
			b.WriteByte('\n')
			used = n
		} else {
			if i > 0 {
				b.WriteByte(' ')
				used++
			}
			used += n
		}
		b.WriteString(w)
	}
	return b.String()
}

func upper(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

// members writes a table of what there is.
func members(b *strings.Builder, list []star.MemberDoc) {
	b.WriteString("| name | type, or arguments and result | |\n|---|---|---|\n")
	for _, m := range list {
		fmt.Fprintf(b, "| `%s` | %s | %s |\n", m.Name, cell(m.Sign), cell(m.Doc))
	}
}

// cell writes text into a table.
func cell(s string) string { return strings.ReplaceAll(s, "|", `\|`) }
