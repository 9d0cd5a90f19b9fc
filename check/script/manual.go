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
a small Python: without while, recursion, classes, exceptions and imports other than load().

## Functions of the script

| function | argument | called |
|---|---|---|
| ` + "`connect(client)`" + ` | [client](#client) | when a client connects |
| ` + "`helo(client)`" + ` | [client](#client) | when it says HELO or EHLO |
| ` + "`sender(mail)`" + ` | [mail](#mail) | at MAIL |
| ` + "`recipient(rcpt)`" + ` | [rcpt](#rcpt) | at RCPT, once for each recipient |
| ` + "`message(msg)`" + ` | [msg](#msg) | at the end of the message |

Each may be left out. They return ` + "`None`" + `, which goes on, or what accept(), reject(), tempfail(),
discard() or hold() make. What is said at connect and HELO is answered to MAIL.

## Words

`)
	members(&b, star.Functions())
	b.WriteString("\n`print()` writes to the log as log() does. From Starlark: `json.encode`, `json.decode`,\n`json.encode_indent`, the module `math`, and `time` (`time.now()`, `time.parse_time()`,\n`time.parse_duration()`, `time.time()`). `config.NAME` is a value of `options` in `[script]`.\n\n## dns\n\nAt most 10 questions in one call. `None` means that it could not be found out, an empty list that\nthere is nothing.\n\n")
	members(&b, star.DNSFunctions())
	b.WriteString(`
## Addresses

Addresses are strings. Those of mailboxes are written as they are compared: without brackets, in
lower case, without needless quotes. These attributes can be asked of any string:

| attribute | of "ann+news@example.org" |
|---|---|
| ` + "`.local`" + ` | "ann+news" |
| ` + "`.user`" + ` | "ann": without the detail |
| ` + "`.detail`" + ` | "news" |
| ` + "`.domain`" + ` | "example.org" |
| ` + "`.null`" + ` | False; True of "", the null sender <> |
| ` + "`.is6`" + ` | False; True of an IPv6 address |
`)
	for _, c := range star.Classes() {
		fmt.Fprintf(&b, "\n## %s\n\n%s\n\n", c.Name, wrapped(upper(strings.TrimSuffix(c.Doc, ", and:")+".")))
		members(&b, c.Members)
	}
	b.WriteString(`
## Words of tests

In files that end in "_test.star", beside those above:

| word | does |
|---|---|
| ` + "`client(ip=, name=, helo=, auth_user=, tls=, local=)`" + ` | makes a client |
| ` + "`mail(sender=, args=, size=, ...)`" + ` | makes a mail; takes what client() takes, too |
| ` + "`rcpt(address=, sender=, target=, mailer=, host=, accepted=, ...)`" + ` | makes a recipient |
| ` + "`message(text= or file=, recipients=, sender=, ...)`" + ` | makes a message |
| ` + "`edits(msg)`" + ` | what was changed: "add header X-Note: no subject" |
| ` + "`body(msg)`" + ` | the new body; "" if it stays |
| ` + "`assert.eq(got, want)`, `.ne`, `.true(x)`, `.false(x)`, `.lt(less, more)`, `.contains(x, part)`" + ` | note what does not hold, with its line |
| ` + "`assert.action(verdict, \"reject\", text=\"\")`" + ` | compares what a function returned; None is "continue" |
| ` + "`assert.fails(function, text=\"\")`" + ` | calls a function that has to fail |
| ` + "`clock.set(\"2026-11-28 18:30\")`, `clock.advance(\"1h\")`" + ` | the time of now(), counters and memories |
| ` + "`dns.fake({\"mx example.org\": [\"mx1.example.org\"], \"a x.example\": None})`" + ` | what DNS says; nothing else exists |
| ` + "`exists.fake({\"ann@example.org\": \"valid\"})`" + ` | what rcpt.exists() says |
| ` + "`site.fake(local=[...], trusted=[...])`" + ` | local domains and trusted networks |
| ` + "`viruses.fake([\"Eicar\"])`" + ` | subjects of messages in which scan() finds a virus of that name |
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
