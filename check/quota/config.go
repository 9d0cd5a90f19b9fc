// SPDX-License-Identifier: BSD-2-Clause

package quota

import (
	"errors"
	"strconv"
	"strings"
	"time"

	"rcptgate/check/quota/directory"
	"rcptgate/check/quota/source"
	"rcptgate/config/setting"
)

// Config is the [quota] section.
type Config struct {
	Sources     []source.Spec     `toml:"sources" doc:"sources to ask how much room a mailbox has, in order; the first that knows the mailbox decides. {backend} is the host of the route's first server, {mailhost} the store that [quota.ldap] has found. Without sources here or in a [[domain]] section, quotas are not checked" example:"[\"udp:10.0.0.5:8049\", \"policy:{backend}:12340\"]"`
	KeyFile     string            `toml:"key_file" doc:"the key that the gateways and the quota agents share: one \"id hex\" a line, the first signs. Without it udp: and tcp: sources answer yes or no only, which anyone on the network could forge" example:"\"/etc/rcptgate/quota.key\""`
	DoveadmKey  string            `toml:"doveadm_key_file" doc:"file with the API key of doveadm: sources, or with user:password. Whoever has it can read and delete every mailbox: prefer the quota agent" example:"\"/etc/rcptgate/doveadm.key\""`
	DoveadmRoot string            `toml:"doveadm_root" doc:"name of the quota root that counts for doveadm: sources; empty: the first that Dovecot lists" example:"\"User quota\""`
	Timeout     setting.Duration  `toml:"timeout" doc:"how long a sender waits for the answer about one mailbox, from all sources together. An answer that comes later is remembered" min:"10ms" max:"30s"`
	User        string            `toml:"user" doc:"how the store calls a mailbox: {address}, {local} and {domain} are replaced. A detail (user+detail) is removed first. A name without a domain is {local} by itself" example:"\"{local}\""`
	Soft        Percent           `toml:"soft" doc:"share of the limit below which an answer is kept; above it the store is asked for every message. Sources may say so themselves" example:"\"90%\""`
	Keep        setting.Duration  `toml:"keep" doc:"how long an answer is kept at most; how long depends on the room that is left and on how fast it shrinks" min:"0s" max:"1d"`
	FullKeep    setting.Duration  `toml:"full_keep" doc:"how long a refusal is kept at most: 25s for a mailbox that has just filled up, longer the longer it has been full" min:"0s" max:"1h"`
	TooLarge    string            `toml:"too_large" doc:"reply for a message larger than the whole mailbox may hold: \"reject\" (552 5.2.3), \"tempfail\" (452 4.2.2) or \"accept\"" oneof:"reject,tempfail,accept"`
	Unreachable string            `toml:"unreachable" doc:"what to do when no source answers: \"continue\" takes the recipient, \"tempfail\" says 451 4.3.0" oneof:"continue,tempfail"`
	Enforce     *bool             `toml:"enforce" doc:"false: rehearse this check. Sources are asked, and what would have been refused is logged and counted, but nothing is refused. true: it refuses even where the gate rehearses"`
	Hold        Percent           `toml:"hold" doc:"if a source reports within an hour that more than this share of its mailboxes (and at least 20) have just filled up, its refusals are held back and the postmaster is notified; \"100%\" means never" example:"\"20%\""`
	Grace       setting.Size      `toml:"grace" doc:"what the store accepts above the limit for the last message (Dovecot's quota_storage_grace). It applies to sources that show the limit without it: doveadm: and limits from a directory" example:"\"10MB\""`
	Hosts       []setting.Network `toml:"hosts" doc:"networks in which the stores that {mailhost} names must lie" example:"[\"10.0.0.0/24\"]"`
	LDAP        directory.Config  `toml:"ldap" doc:"the directory that says which store holds a mailbox, what the store calls it and which limit it has"`
	Mailboxes   int               `toml:"mailboxes" doc:"mailboxes of which an answer is remembered; each takes at most 128 octets with a name of up to 64" min:"1000" max:"100000000" restart:"true"`
}

// DefaultConfig is what an empty [quota] section means.
func DefaultConfig() Config {
	return Config{
		Timeout: setting.Duration(500 * time.Millisecond), User: "{address}", Soft: 90, Keep: setting.Duration(time.Hour), FullKeep: setting.Duration(5 * time.Minute),
		TooLarge: "reject", Unreachable: "continue", Hold: 20, Mailboxes: 200_000, LDAP: directory.Defaults(),
	}
}

// Validate reports settings that cannot be meant.
func (c Config) Validate() error {
	var errs []error
	rest := strings.NewReplacer("{address}", "", "{local}", "", "{domain}", "").Replace(c.User)
	switch {
	case c.User == rest:
		errs = append(errs, setting.Keyf("user", "%q names no part of the address: {address}, {local} or {domain}", c.User))
	case strings.ContainsAny(rest, "{} \t\r\n"):
		errs = append(errs, setting.Keyf("user", "%q: only {address}, {local} and {domain} are replaced", c.User))
	}
	for _, s := range c.Sources {
		if s.NeedsDirectory() && len(c.Hosts) == 0 {
			errs = append(errs, setting.Keyf("hosts", "source %q asks the host that the directory names: list the networks in which such hosts may lie", s))
			break
		}
	}
	return errors.Join(errs...)
}

// DomainConfig is what a [[domain]] section says about quotas.
type DomainConfig struct {
	Quota      *[]source.Spec `toml:"quota" doc:"sources to ask how much room the domain's mailboxes have, instead of sources in [quota]; [] turns the check off" example:"[\"policy:10.0.0.7:12340\"]"`
	ProbeSizes *bool          `toml:"probe_sizes" doc:"false: refuse only mailboxes that are full already, whatever the message's size. Otherwise a sender who tries sizes can find out how full a mailbox is"`
}

// Percent is a share, "90%".
type Percent float64

// Share is the percentage as a part of 1.
func (p Percent) Share() float64 { return float64(p) / 100 }

// String writes "90%".
func (p Percent) String() string { return strconv.FormatFloat(float64(p), 'f', -1, 64) + "%" }

// MarshalText writes p as String does.
func (p Percent) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// Form says what a value looks like, for the configuration's reference.
func (Percent) Form() string { return `a percentage from "0%" to "100%"` }

// UnmarshalText reads "90%".
func (p *Percent) UnmarshalText(text []byte) error {
	number, ok := strings.CutSuffix(string(text), "%")
	n, err := strconv.ParseFloat(number, 64)
	if !ok || err != nil || !(n >= 0 && n <= 100) {
		return errors.New(strconv.Quote(string(text)) + ` is not a percentage from "0%" to "100%"`)
	}
	*p = Percent(n)
	return nil
}
