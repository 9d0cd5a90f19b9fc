// SPDX-License-Identifier: BSD-2-Clause

package differential

import "fmt"

// Answer is what the gate should make of a recipient.
type Answer string

// The answers.
const (
	Taken   Answer = "taken"
	Refuse  Answer = "refused"
	PutOff  Answer = "put off"
	Unclear Answer = "unclear" // no reply
)

// Answered returns what the reply with the gate is.
func (o *Outcome) Answered() Answer {
	switch o.Gated.Code / 100 {
	case 2:
		return Taken
	case 4:
		return PutOff
	case 5:
		return Refuse
	}
	return Unclear
}

// A Fixed world holds one mistake that was made, or would be easy to make. All its recipients have the same fate.
type Fixed struct {
	World
	// Alone is what the MTA alone does, Right what the gate should say.
	Alone Fate
	Right Answer
}

// fixed returns the fixed worlds.
func fixed() []Fixed {
	var all []Fixed
	for _, w := range append(append(sendmailWorlds(), postfixWorlds()...), otherSettings()...) {
		if w.World.MTA != "" {
			all = append(all, w)
			continue
		}
		for _, mta := range []MTA{Sendmail, Postfix} {
			both := w
			both.World.MTA = mta
			all = append(all, both)
		}
	}
	return all
}

// tables is short for the entries of a table.
type tables = map[string]string

// sendmailWorlds are about rules that only Sendmail has, or that both have alike.
func sendmailWorlds() []Fixed {
	viaSales := World{
		MTA: Sendmail, Aliases: tables{"sales": "good@rela.test", "help": "gone@rela.test", "team": "good@rela.test"},
		Virtual: tables{"x@virt.test": "ann", "team@loc.test": "gone@rela.test", "team@[127.0.0.1]": "bob"}, Routes: tables{"rela.test": "$behind", "old.test": "local:sales"},
		MC: "LOCAL_DOMAIN(`[127.0.0.1]')",
	}
	return []Fixed{
		{world(viaSales, "mailertable names the local mailer and a user", "help@old.test"), Delivered, Taken},
		{world(viaSales, "percent sign in the local part", "ann%loc.test@loc.test"), Delivered, Taken},
		{world(viaSales, "address literal of this host", "team@[127.0.0.1]"), Delivered, Taken},
		{World{
			Name: "alias target in a domain that has a section too", Aliases: tables{"staff": "ann@loc.test"}, Sections: []string{"rela.test", "loc.test"},
			Recipients: []string{"staff@loc.test", "ann@loc.test"},
		}, Delivered, Taken},
		{World{
			Name: "virtusertable outside its own domains", MTA: Sendmail, Gate: ofSendmail, Aliases: tables{"info": "good@rela.test"},
			Virtual: tables{"good@rela.test": "gone@rela.test"}, Recipients: []string{"info@loc.test"},
		}, Delivered, Taken},
		{World{
			Name: "virtusertable outside its own domains, which are not known", MTA: Sendmail, Aliases: tables{"info": "good@rela.test"},
			Virtual: tables{"good@rela.test": "gone@rela.test"}, Recipients: []string{"info@loc.test"},
		}, Delivered, Taken},
		{World{
			Name: "circle back to a virtual user", MTA: Sendmail, Local: []string{"loc.test", "virt.test"}, Virtual: tables{"good@virt.test": "ann"},
			Aliases: tables{"ann": "good@virt.test", "good": "gone@rela.test"}, Recipients: []string{"good@virt.test"},
		}, Delivered, Taken},
		{World{
			Name: "detail inside quotes", MTA: Sendmail, Virtual: tables{"team@catch.test": "gone@rela.test", "@catch.test": "ann"},
			Recipients: []string{`"team+new"@catch.test`},
		}, Delivered, Taken},
		{World{Name: "quotes around a part of the name", MTA: Sendmail, Aliases: tables{"a": "gone@rela.test"}, Recipients: []string{`"a"nn@loc.test`}}, Delivered, Taken},
		{World{Name: "backslash inside quotes", MTA: Sendmail, Aliases: tables{"ann": "gone@rela.test"}, Virtual: tables{"x@virt.test": "ann"}, Recipients: []string{`"\ann"@loc.test`}}, Delivered, Taken},
		{World{Name: "backslash without quotes", MTA: Sendmail, Aliases: tables{"ann": "gone@rela.test"}, Virtual: tables{"x@virt.test": "ann"}, Recipients: []string{`\ann@loc.test`, `\ann@mx.gate.test`}}, Delivered, Taken},
		{World{Name: "access map quarantines", MTA: Sendmail, Access: tables{"To:desk@rela.test": "QUARANTINE:x"}, Recipients: []string{"desk@rela.test"}}, Held, Taken},
		{World{
			Name: "deep alias chain", MTA: Sendmail, Gate: ofSendmail, Aliases: chain(13), Recipients: []string{"deep0@loc.test"},
		}, Bounced, Refuse},
		{World{Name: "virtual domain without the name", MTA: Sendmail, Gate: ofSendmail, Virtual: tables{"x@virt.test": "ann"}, Recipients: []string{"absent@virt.test"}}, Bounced, Refuse},
		{World{Name: "mail hub", MTA: Sendmail, Gate: ofSendmail, MC: "define(`MAIL_HUB', `esmtp:$behind')", Recipients: []string{"good@loc.test"}}, Delivered, Taken},
		{World{
			Name: "stickyhost does not follow aliases", MTA: Sendmail, Gate: ofSendmail, MC: "define(`MAIL_HUB', `esmtp:$behind')\nFEATURE(`stickyhost')",
			Aliases: tables{"good": "gone@rela.test"}, Recipients: []string{"good@loc.test"},
		}, Delivered, Taken},
		{World{
			Name: "two backends, the first is busy", MTA: Sendmail, Routes: tables{"rela.test": "esmtp:$busy:$behind"}, Sections: []string{},
			Gate: twoBackends, Recipients: []string{"good@rela.test"},
		}, Delivered, Taken},
		{World{
			Name: "two next hops of the MTA's, the first is busy", MTA: Sendmail, Routes: tables{"rela.test": "esmtp:$busy:$behind"}, Sections: []string{},
			Recipients: []string{"good@rela.test"},
		}, Delivered, Taken},
		{World{
			Name: "two backends, the first is busy, and the second refuses", MTA: Sendmail, Routes: tables{"rela.test": "esmtp:$busy:$behind"}, Sections: []string{},
			Gate: twoBackends, Recipients: []string{"gone@rela.test"},
		}, Bounced, Refuse},
		{World{
			Name: "two next hops of the MTA's, the first is busy, and the second refuses", MTA: Sendmail, Routes: tables{"rela.test": "esmtp:$busy:$behind"}, Sections: []string{},
			Recipients: []string{"gone@rela.test"},
		}, Bounced, Refuse},
		{World{Name: "target that no table knows", Aliases: tables{"old": "nil"}, Recipients: []string{"old@loc.test"}}, Bounced, Refuse},
	}
}

// ofSendmail and ofPostfix have the gate read the MTA's own configuration.
const (
	ofSendmail = "sendmail = \"$etc\""
	ofPostfix  = "postfix = \"$etc\""
)

// twoBackends is a section with the busy server first.
const twoBackends = "[[domain]]\nname = \"rela.test\"\nbackend = [\"smtp:$busy\", \"smtp:$behind\"]"

// world is a world with a name and recipients of its own.
func world(w World, name string, recipients ...string) World {
	w.Name, w.Recipients = name, recipients
	return w
}

// chain is a chain of aliases that ends at ann: deep0, deep1, and so on, n in all.
func chain(n int) tables {
	t := tables{}
	for i := range n {
		t[fmt.Sprintf("deep%d", i)] = fmt.Sprintf("deep%d", i+1)
	}
	t[fmt.Sprintf("deep%d", n-1)] = "ann"
	return t
}

// postfixWorlds are about the tables of Postfix.
func postfixWorlds() []Fixed {
	return []Fixed{
		{World{
			Name: "local aliases do not go back to virtual aliases", MTA: Postfix, Aliases: tables{"staff": "ann"}, Virtual: tables{"ann@loc.test": "gone@rela.test"}, Main: tables{"myorigin": "loc.test"},
			Recipients: []string{"staff@loc.test"},
		}, Delivered, Taken},
		{World{
			Name: "local aliases do not go back to virtual aliases, which would save it", MTA: Postfix, Gate: ofPostfix, Aliases: tables{"staff": "ghost"},
			Virtual: tables{"ghost@" + ownName: "good@rela.test"}, Recipients: []string{"staff@loc.test"},
		}, Bounced, Refuse},
		{World{
			Name: "relay_recipient_maps refuse recipients, not targets", MTA: Postfix, Virtual: tables{"info@virt.test": "good@rela.test"},
			Maps: map[string]map[string]string{"relay_recipient_maps": {"fine@rela.test": "x"}}, Recipients: []string{"info@virt.test"},
		}, Delivered, Taken},
		{World{
			Name: "transport to local for a domain outside mydestination", MTA: Postfix, Virtual: tables{"ann": "gone@rela.test"},
			Routes: tables{"rela.test": "$behind", "own.test": "local:"}, Recipients: []string{"ann@own.test"},
		}, Delivered, Taken},
		{World{Name: "mailer-daemon", MTA: Postfix, Recipients: []string{"mailer-daemon@loc.test", "MAILER-DAEMON@loc.test"}}, Delivered, Taken},
		{World{
			Name: "detail inside quotes", MTA: Postfix, Virtual: tables{"team@catch.test": "gone@rela.test", "@catch.test": "ann"},
			Recipients: []string{`"team+new"@catch.test`},
		}, Bounced, Refuse},
		{World{Name: "deep alias chain", MTA: Postfix, Aliases: chain(13), Recipients: []string{"deep0@loc.test"}}, Delivered, Taken},
		{World{
			Name: "alias to an absent name of a virtual domain", MTA: Postfix, Gate: ofPostfix, Aliases: tables{"info": "absent@virt.test"}, Virtual: tables{"x@virt.test": "ann"},
			Recipients: []string{"info@loc.test"},
		}, Bounced, Refuse},
		{World{
			Name: "two backends, the first is busy", MTA: Postfix, Routes: tables{"rela.test": "smtp:$busy, $behind"}, Sections: []string{},
			Gate: twoBackends, Recipients: []string{"good@rela.test"},
		}, Delivered, Taken},
		{World{
			Name: "two next hops of the MTA's, the first is busy", MTA: Postfix, Routes: tables{"rela.test": "smtp:$busy, $behind"}, Sections: []string{},
			Recipients: []string{"good@rela.test"},
		}, Delivered, Taken},
		{World{
			Name: "two backends, the first is busy, and the second refuses", MTA: Postfix, Routes: tables{"rela.test": "smtp:$busy, $behind"}, Sections: []string{},
			Gate: twoBackends, Recipients: []string{"gone@rela.test"},
		}, Bounced, Refuse},
		{World{
			Name: "two next hops of the MTA's, the first is busy, and the second refuses", MTA: Postfix, Routes: tables{"rela.test": "smtp:$busy, $behind"}, Sections: []string{},
			Recipients: []string{"gone@rela.test"},
		}, Bounced, Refuse},
		{World{
			Name: "address beyond ASCII before a server without SMTPUTF8", MTA: Postfix, Sections: []string{}, Recipients: []string{"gööd@rela.test"},
		}, Bounced, Refuse},
	}
}

// otherSettings are about settings of Postfix other than its tables.
func otherSettings() []Fixed {
	return []Fixed{
		{World{
			Name: "recipient_canonical_maps", MTA: Postfix, Gate: ofPostfix, Maps: map[string]map[string]string{"recipient_canonical_maps": {"old@rela.test": "good@rela.test"}},
			Virtual: tables{"x@virt.test": "ann"}, Recipients: []string{"old@rela.test"},
		}, Delivered, Taken},
		{World{
			Name: "propagate_unmatched_extensions is empty", MTA: Postfix, Gate: ofPostfix, Main: tables{"propagate_unmatched_extensions": ""},
			Virtual: tables{"info@virt.test": "good@rela.test"}, Recipients: []string{"info+new@virt.test"},
		}, Delivered, Taken},
		{World{
			Name: "myorigin is elsewhere", MTA: Postfix, Gate: ofPostfix, Main: tables{"myorigin": "rela.test"}, Virtual: tables{"info@virt.test": "good"},
			Aliases: tables{"good": "gone@rela.test", "info": "good"}, Recipients: []string{"info@virt.test", "info@loc.test"},
		}, Delivered, Taken},
	}
}
