// SPDX-License-Identifier: BSD-2-Clause

package rules

import (
	"errors"
	"fmt"
	"strings"

	"rcptgate/config/setting"
	"rcptgate/kit/smtpcode"
	"rcptgate/table"
)

// Config is the section [rules].
type Config struct {
	Local  []string     `toml:"local" doc:"the domains that $local stands for. The default is the local domains of [aliases] and the [[domain]] sections that name servers" example:"[\"example.org\"]"`
	Access []table.Spec `toml:"access" doc:"Sendmail's access maps: their keys Compat:SENDER<@>RECIPIENT decide when the recipient is named, as FEATURE(compat_check) does when the message is delivered. They come before pairs and rules" example:"[\"hash:/etc/mail/access\"]"`
	Pairs  []table.Spec `toml:"pairs" doc:"files of pairs, one a line: SENDER RECIPIENT ACTION [CODE] [TEXT]. They come before the rules" example:"[\"texthash:/etc/rcptgate/pairs\"]"`

	check *Check // of the setup that was built of it; nil: there are no rules
}

// ListConfig is a section [[list]].
type ListConfig struct {
	Name    string       `toml:"name" doc:"rules name the list as list:NAME" example:"\"good\""`
	Entries []string     `toml:"entries" doc:"patterns of the kind that the condition wants in which the list is named" example:"[\"@partner.example\", \"ann@example.net\"]"`
	Table   []table.Spec `toml:"table" doc:"map files whose keys are exact patterns (no globs, no regular expressions); values are ignored. Changes to a file take effect at once" example:"[\"hash:/etc/mail/good\"]"`
}

// RuleConfig is a section [[rule]].
type RuleConfig struct {
	Name       string   `toml:"name" doc:"what log, metrics and commands call the rule; the default is its number" example:"\"inside list\""`
	Sender     []string `toml:"sender" doc:"patterns of the reverse-path (MAIL FROM), which anybody can forge" example:"[\"ann@$local\"]"`
	Recipient  []string `toml:"recipient" doc:"patterns of the recipient as the client wrote it" example:"[\"all@example.org\", \"!@$local\"]"`
	Target     []string `toml:"target" doc:"patterns of the recipient as the MTA has rewritten it (virtusertable); the recipient itself if it did not" example:"[\"ann@store.example.org\"]"`
	Client     []string `toml:"client" doc:"addresses and networks of the client; $trusted, $own (this machine), $backends" example:"[\"192.0.2.0/24\", \"!$trusted\"]"`
	ClientName []string `toml:"client_name" doc:"patterns of the client's name in DNS, as the MTA has verified it" example:"[\".dsl.example.net\"]"`
	Helo       []string `toml:"helo" doc:"patterns of the name that the client gave in HELO or EHLO; $own is hostname" example:"[\"$own\"]"`
	Auth       *bool    `toml:"auth" doc:"whether the client has authenticated"`
	AuthUser   []string `toml:"auth_user" doc:"patterns of the user as whom the client has authenticated" example:"[\"kiosk\", \"list:inside-only\"]"`
	TLS        *bool    `toml:"tls" doc:"whether the client uses TLS"`
	Size       *Range   `toml:"size" doc:"the size that the client announced in MAIL (SIZE=), in octets; a client that announced none does not match" example:"\">25MB\""`
	Rcpts      *Range   `toml:"rcpts" doc:"how many recipients the message has, this one included, not counting refused ones" example:"\">100\""`
	At         []Window `toml:"at" doc:"days and times of the machine's own clock" example:"[\"Mon-Fri 18:00-08:00\", \"Sat,Sun\"]"`
	Mailer     []string `toml:"mailer" doc:"patterns of the MTA's mailer or transport for the recipient" example:"[\"local\"]"`
	Action     Action   `toml:"action" doc:"reject; tempfail; discard (this recipient); discard_message (for all recipients); pass (no further rule); accept (no further step: whether the mailbox exists is not asked); hold (the MTA keeps the message for a person); call (a function of the script decides)"`
	Call       string   `toml:"call" doc:"with action = \"call\": the function of the script that decides. It is called with the recipient; if it returns None, the rules that follow are asked" example:"\"quiet_hours\""`
	Code       int      `toml:"code" doc:"reply code; the default is 550, or 451 with tempfail" example:"551"`
	Enhanced   string   `toml:"enhanced" doc:"enhanced status code; the default is 5.7.1, or 4.7.1 with tempfail" example:"\"5.7.1\""`
	Text       string   `toml:"text" doc:"the text for the sender" example:"\"This list is for members.\""`
	Enforce    *bool    `toml:"enforce" doc:"false: rehearse this rule. It is only logged and counted, and the rules after it decide. true: it acts even where the gate rehearses"`
	Expect     []string `toml:"expect" doc:"questions and what the rules must answer: SENDER [CIRCUMSTANCE...] -> RECIPIENT: ACTION [CODE]. They are checked by \"config check\" and before every reload" example:"[\"x@evil.example -> all@example.org: reject\"]"`
}

// Validate reports what cannot be meant.
func (c ListConfig) Validate() error {
	if c.Name == "" {
		return errors.New("a list needs a name")
	}
	if strings.ContainsAny(c.Name, " \t!:") {
		return setting.Keyf("name", "%q: no blanks, \":\" or \"!\" are allowed", c.Name)
	}
	return errors.Join(noAliases("table", c.Table)...)
}

// Validate reports maps that are none of pairs.
func (c Config) Validate() error {
	return errors.Join(append(noAliases("access", c.Access), noAliases("pairs", c.Pairs)...)...)
}

func noAliases(key string, specs []table.Spec) (errs []error) {
	for _, s := range specs {
		if s.Type == table.Text {
			errs = append(errs, setting.Keyf(key, "%q: text: is the form of aliases; write texthash:%s", s, s.Name))
		}
	}
	return errs
}

// maxName bounds a rule's name, in octets: it stands in every log line and metric.
const maxName = 64

// Validate reports what does not fit together.
func (c RuleConfig) Validate() error {
	var errs []error
	if len(c.Name) > maxName || strings.ContainsFunc(c.Name, func(r rune) bool { return r < ' ' || r == 0x7f }) || c.Name != strings.TrimSpace(c.Name) {
		errs = append(errs, setting.Keyf("name", "%q: expected up to %d printable characters", c.Name, maxName))
	}
	if c.Name == nameAccess || c.Name == namePairs {
		errs = append(errs, setting.Keyf("name", "%q is reserved for what [rules] %s decides", c.Name, c.Name))
	}
	class := map[Action]int{Reject: 5, Tempfail: 4}[c.Action]
	switch {
	case c.Action == Call && c.Call == "":
		errs = append(errs, setting.Keyf("action", "\"call\" needs call = \"NAME\", a function of the script"))
	case c.Action != Call && c.Call != "":
		errs = append(errs, setting.Keyf("call", "action %q calls nothing: write action = \"call\"", c.Action))
	}
	switch {
	case class == 0 && c.Code != 0:
		errs = append(errs, setting.Keyf("code", "action %q has no reply code", c.Action))
	case class != 0 && c.Code != 0 && (c.Code/100 != class || c.Code%100 > 59):
		errs = append(errs, setting.Keyf("code", "%d is not a code for action %q; expected %d00 to %d59", c.Code, c.Action, class, class))
	case c.Code == 421 || c.Code == 521 || c.Code == 556:
		errs = append(errs, setting.Keyf("code", "%d would end the client's session, and concern its other recipients", c.Code))
	}
	switch {
	case class == 0 && c.Enhanced != "":
		errs = append(errs, setting.Keyf("enhanced", "action %q has no status code", c.Action))
	case c.Enhanced != "" && (!smtpcode.Is(c.Enhanced) || int(c.Enhanced[0]-'0') != class):
		errs = append(errs, setting.Keyf("enhanced", "%q is not a status code for action %q, such as \"%d.7.1\"", c.Enhanced, c.Action, class))
	}
	if (c.Action == Pass || c.Action == Accept || c.Action == Call) && c.Text != "" {
		errs = append(errs, setting.Keyf("text", "action %q has no text", c.Action))
	}
	return errors.Join(errs...)
}

// Action is what a rule does. The zero Action rejects.
type Action uint8

// The actions.
const (
	Reject Action = iota
	Tempfail
	Discard
	DiscardMessage
	Pass
	Accept
	Hold
	Call
)

var actionWords = [...]string{"reject", "tempfail", "discard", "discard_message", "pass", "accept", "hold", "call"}

// String gives the action's word.
func (a Action) String() string { return actionWords[a] }

// ParseAction reads an action's word.
func ParseAction(s string) (Action, error) {
	for i, word := range actionWords {
		if s == word {
			return Action(i), nil // #nosec G115 -- few
		}
	}
	return 0, fmt.Errorf("%q is not an action: expected %s", s, strings.Join(actionWords[:], ", "))
}

// UnmarshalText reads an action's word.
func (a *Action) UnmarshalText(text []byte) (err error) {
	*a, err = ParseAction(string(text))
	return err
}

// MarshalText writes the action's word.
func (a Action) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// Form says what an action is written like.
func (Action) Form() string {
	return `"` + strings.Join(actionWords[:len(actionWords)-1], `", "`) + `" or "` + actionWords[len(actionWords)-1] + `"`
}
