// SPDX-License-Identifier: BSD-2-Clause

package callahead

import (
	"strings"
	"testing"

	"rcptgate/store"
)

var classifyTests = []struct {
	name     string
	code     int
	enhanced string
	text     string
	want     store.Class
}{
	// 2xx
	{"ok", 250, "2.1.5", "Ok", store.Valid},
	{"bare ok", 250, "", "", store.Valid},
	{"will forward", 251, "", "User not local; will forward", store.Valid},
	{"ok whatever the enhanced code says", 250, "5.1.1", "fine", store.Valid},

	// unknown, by enhanced code
	{"postfix unknown", 550, "5.1.1", "<u@x.example>: Recipient address rejected: User unknown in relay recipient table", store.Unknown},
	{"dovecot lmtp unknown", 550, "5.1.1", "<u@x.example> User doesn't exist: u@x.example", store.Unknown},
	{"other address status", 550, "5.1.0", "Address rejected", store.Unknown},
	{"bad system address", 550, "5.1.2", "Host unknown", store.Unknown},
	{"null MX", 556, "5.1.10", "Recipient address has null MX", store.Unknown},
	{"exchange online", 550, "5.4.1", "Recipient address rejected: Access denied. AS(201806281)", store.Unknown},
	{"exchange on premises", 550, "5.1.10", "RESOLVER.ADR.RecipientNotFound; not found", store.Unknown},
	{"first digit wrong", 550, "4.1.1", "unknown", store.Unknown},
	{"first digit wrong, left in the text", 550, "", "4.1.1 relay says unknown", store.Unknown},
	{"553 with the code", 553, "5.1.1", "no such mailbox", store.Unknown},
	{"in the text", 550, "", "sorry, no mailbox here by that name (#5.1.1)", store.Unknown},
	{"in the text of another code", 554, "", "sorry, no mailbox here by that name. (#5.1.1)", store.Unknown},
	{"in the second line", 553, "", "sorry\nno mailbox here (#5.1.1)", store.Unknown},
	{"a hash before it", 550, "", "Ticket #77: relay problem #5.1.1", store.Unknown},
	{"5.4.1 is of class 5", 550, "4.4.1", "no answer from host", store.Refused},

	// unknown, bare 550
	{"bare 550", 550, "", "No such user here", store.Unknown},
	{"bare 550 without text", 550, "", "", store.Unknown},
	{"exim unknown user", 550, "", "Unknown user", store.Unknown},
	{"exim unrouteable", 550, "", "Unrouteable address", store.Unknown},
	{"rfc text", 550, "", "Requested action not taken: mailbox unavailable", store.Unknown},
	{"domino", 550, "", "u@x.example... User not listed in Domino Directory", store.Unknown},
	{"words inside the address", 550, "", "<relay-sender-list@x.example>: no such user", store.Unknown},
	{"words inside a bare address", 550, "", "blacklist@relay.example unknown", store.Unknown},

	// bare 550 about something else
	{"exim relay", 550, "", "relay not permitted", store.Refused},
	{"relaying", 550, "", "Relaying denied", store.Refused},
	{"sendmail bare", 550, "", "<u@x.example>... Relaying denied. Proper authentication required.", store.Refused},
	{"exim sender verify", 550, "", "Verification failed for <a@b.example>\nNo Such User Here\nSender verify failed", store.Refused},
	{"exim default deny", 550, "", "Administrative prohibition", store.Refused},
	{"client", 550, "", "Client host rejected: cannot find your hostname", store.Refused},
	{"your host", 550, "", "Your host is not welcome", store.Refused},
	{"helo", 550, "", "Access from invalid HELO name", store.Refused},
	{"ehlo", 550, "", "EHLO argument does not match calling host", store.Refused},
	{"authentication", 550, "", "Authentication is required for that", store.Refused},
	{"hmailserver relay", 550, "", "Delivery is not allowed to this address.", store.Refused},
	{"block list", 550, "", "192.0.2.1 is on our blacklist, see https://lists.example/", store.Refused},
	{"listed", 550, "", "192.0.2.1 is listed by zen.spamhaus.org", store.Refused},
	{"mailing list", 550, "", "only members may write to this list", store.Refused},

	// other 5xx
	{"postfix relay", 554, "5.7.1", "<u@x.example>: Relay access denied", store.Refused},
	{"postfix helo", 504, "5.5.2", "<gw>: Helo command rejected: need fully-qualified hostname", store.Refused},
	{"postfix sender domain", 550, "5.1.8", "<p@gw.example>: Sender address rejected: Domain not found", store.Refused},
	{"postfix sender domain null mx", 550, "5.7.27", "<p@gw.example>: Sender address rejected: Domain gw.example does not accept mail (nullMX)", store.Refused},
	{"postfix unlisted sender", 550, "5.1.0", "<p@gw.example>: Sender address rejected: User unknown in virtual alias table", store.Refused},
	{"postfix client", 554, "5.7.1", "<unknown[192.0.2.1]>: Client host rejected: Access denied", store.Refused},
	{"qmail foreign host", 553, "", "sorry, that domain isn't in my list of allowed rcpthosts (#5.7.1)", store.Refused},
	{"qmail foreign host 550", 550, "", "sorry, not here (#5.7.1)", store.Refused},
	{"bare 553", 553, "", "sorry, that domain isn't in my list of allowed rcpthosts", store.Refused},
	{"bare 554", 554, "", "No such user", store.Refused},
	{"disabled", 550, "5.2.1", "Mailbox disabled", store.Refused},
	{"auth", 530, "5.7.0", "Authentication required", store.Refused},
	{"unspecific", 550, "5.0.0", "Command rejected", store.Refused},
	{"552 about size, bare", 552, "", "Message exceeds the fixed maximum size", store.Refused},
	{"521", 521, "5.2.1", "does not accept mail", store.Refused},

	// full
	{"dovecot full", 552, "5.2.2", "<u@x.example> Quota exceeded (mailbox for user is full)", store.Full},
	{"dovecot full, temporarily", 452, "4.2.2", "<u@x.example> Quota exceeded", store.Full},
	{"exchange full", 554, "5.2.2", "mailbox full", store.Full},
	{"450 full", 450, "4.2.2", "over quota", store.Full},
	{"in the text, full", 552, "", "over quota (#5.2.2)", store.Full},
	{"bare 552", 552, "", "Requested mail action aborted: exceeded storage allocation for this mailbox", store.Full},
	{"bare 452", 452, "", "User is over QUOTA", store.Full},
	{"the word is in the address only", 552, "", "<quota@x.example> message too big", store.Refused},

	{"rfc text of 552", 552, "", "Requested mail action aborted: exceeded storage allocation", store.Full},
	{"storage full", 552, "", "recipient storage full, try again later", store.Full},
	{"full under the code of unknown", 552, "5.1.1", "<u@x.example>: Recipient overquota", store.Full},
	{"full in German", 552, "5.1.1", "Postfach voll", store.Full},
	{"full in Greek", 552, "", "Το γραμματοκιβώτιο είναι πλήρες", store.Full},
	{"full in Japanese", 552, "", "メールボックスの容量が不足しています", store.Full},
	{"bare 550 about quota", 550, "", "Mailbox quota exceeded", store.Full},
	{"a quoted second code", 554, "", "550 5.2.2 <u@x.example>... Mailbox full", store.Full},
	{"a quoted full under unknown", 550, "5.1.1", "<u@x.example>: undeliverable address: host x.example said: 552 5.2.2 Mailbox full", store.Full},
	{"a quoted second code, whatever the words", 554, "", "550 5.2.2 <u@x.example>: κλειστό", store.Full},
	{"a quoted full under unknown, whatever the words", 550, "5.1.1", "<u@x.example>: undeliverable address: host x.example said: 552 5.2.2 rejected", store.Full},
	{"552 without storage", 552, "", "\"RCPT TO\" mailbox unavailable", store.Refused},
	{"the system's storage", 452, "", "Requested action not taken: insufficient system storage", store.Deferred},
	{"a quoted unknown", 554, "", "550 5.1.1 <u@x.example>... User unknown", store.Unknown},

	// words of URLs do not count, and relaying is not an unknown user
	{"a list in a URL", 550, "", "Address verification failed. See https://lists.example/list?x", store.Unknown},
	{"stalwart while starting", 550, "5.1.2", "Relay not allowed.", store.Refused},
	{"not a gateway", 550, "", "not local host example.com, not a gateway", store.Refused},
	{"harvest prevention", 550, "", "Too many invalid recipients", store.Refused},

	// says nothing of the recipient
	{"421", 421, "4.3.2", "Service shutting down", store.None},
	{"421 about a mailbox", 421, "4.1.1", "unknown", store.None},
	{"454 TLS", 454, "4.7.0", "TLS required", store.None},
	{"exchange back pressure", 452, "4.3.1", "Insufficient system resources", store.None},
	{"message size", 552, "5.3.4", "Message size exceeds fixed limit", store.None},
	{"postfix server configuration", 451, "4.3.0", "<u@x.example>: Temporary lookup failure", store.None},
	{"5.3.0", 554, "5.3.0", "mail for x.example loops back to myself", store.None},
	{"too many recipients", 452, "4.5.3", "Too many recipients", store.None},
	{"no reply code", 0, "", "", store.None},
	{"3xx", 354, "", "go ahead", store.None},
	{"6xx", 600, "5.1.1", "", store.None},

	// deferred
	{"greylisted", 450, "4.2.0", "<u@x.example>: Recipient address rejected: Greylisted", store.Deferred},
	{"throttled", 451, "4.7.500", "Server busy. Please try again later", store.Deferred},
	{"450 for unknown", 450, "4.1.1", "<u@x.example>: Recipient address rejected: unverified address", store.Deferred},
	{"450 with 5.1.1", 450, "5.1.1", "unknown user", store.Deferred},
	{"450 with #5.1.1", 450, "", "no such user (#5.1.1)", store.Deferred},
	{"bare 450", 450, "", "mailbox busy", store.Deferred},
	{"bare 452", 452, "", "Too many recipients", store.Deferred},
	{"bare 451", 451, "", "local error", store.Deferred},
}

func TestClassify(t *testing.T) {
	for _, tt := range classifyTests {
		t.Run(tt.name, func(t *testing.T) {
			if got := Classify(tt.code, tt.enhanced, tt.text, DefaultUnknownCodes()); got != tt.want {
				t.Errorf("Classify(%d, %q, %q) = %v, want %v", tt.code, tt.enhanced, tt.text, got, tt.want)
			}
		})
	}
}

func TestClassifyConfiguredCodes(t *testing.T) {
	var codes UnknownCodes
	for _, s := range []string{"x.1.6", "5.2.1"} {
		var c UnknownCode
		if err := c.UnmarshalText([]byte(s)); err != nil {
			t.Fatal(err)
		}
		if c.String() != s {
			t.Errorf("%q is written as %q", s, c)
		}
		codes = append(codes, c)
	}
	for _, tt := range []struct {
		enhanced string
		want     store.Class
	}{{"5.1.6", store.Unknown}, {"5.2.1", store.Unknown}, {"4.2.1", store.Refused}, {"5.1.1", store.Refused}} {
		if got := Classify(554, tt.enhanced, "", codes); got != tt.want {
			t.Errorf("554 %s = %v, want %v", tt.enhanced, got, tt.want)
		}
	}
}

func TestUnknownCodeErrors(t *testing.T) {
	for _, s := range []string{"", "5.1", "x", "x.x.1", "4.1.1", "2.1.5", "5.1.1111", "5.1.1 ", "5.3.0", "x.3.1", "550"} {
		var c UnknownCode
		if err := c.UnmarshalText([]byte(s)); err == nil {
			t.Errorf("%q was taken as %v", s, c)
		} else if !strings.Contains(err.Error(), `"x.1.1"`) {
			t.Errorf("%q: error does not say what is allowed: %v", s, err)
		}
	}
}

// FuzzClassify holds what must be true of every reply, however mad.
func FuzzClassify(f *testing.F) {
	for _, tt := range classifyTests {
		f.Add(tt.code, tt.enhanced, tt.text)
	}
	f.Fuzz(func(t *testing.T, code int, enhanced, text string) {
		class := Classify(code, enhanced, text, DefaultUnknownCodes())
		ok := false
		switch class {
		case store.Valid:
			ok = code/100 == 2
		case store.Unknown, store.Refused:
			ok = code/100 == 5
		case store.Deferred:
			ok = code/100 == 4 && code != 421 && code != 454
		case store.Full:
			ok = (code/100 == 4 || code/100 == 5) && code != 421 && code != 454
		case store.None:
			ok = code/100 != 2
		}
		if !ok {
			t.Errorf("Classify(%d, %q, %q) = %v", code, enhanced, text, class)
		}
	})
}
