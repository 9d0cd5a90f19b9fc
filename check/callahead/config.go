// SPDX-License-Identifier: BSD-2-Clause

package callahead

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"rcptgate/address"
	"rcptgate/backend"
	"rcptgate/config/setting"
)

// Config is the [callahead] section.
type Config struct {
	// Sender is the reverse-path of probes.
	Sender string `toml:"sender" doc:"reverse-path of probes; \"<>\" is the null sender, which no backend should refuse" example:"\"<>\""`
	// FallbackSender is tried when Sender is refused.
	FallbackSender string `toml:"fallback_sender" doc:"sender to retry with when the first is refused; the default is postmaster at hostname" example:"\"postmaster@mx1.example.org\""`
	// UnknownCodes are the enhanced codes that mean "no such mailbox" in a 5xx reply.
	UnknownCodes UnknownCodes `toml:"unknown_codes" doc:"enhanced status codes that mean \"no such mailbox\" in a 5xx reply; x stands for any class" example:"[\"x.1.1\", \"5.4.1\"]"`
	// Classify says how the meaning of a refusal is found out.
	Classify string `toml:"classify" doc:"how to find out what a refusal (5xx) means. \"experiment\" compares it with the server's reply to a made-up recipient, and asks about a recipient that is known to be good before it believes a new kind of refusal. \"words\" goes by code and text alone" oneof:"experiment,words"`
	// AcceptAllTest has a made-up recipient asked about after a valid answer.
	AcceptAllTest bool `toml:"accept_all_test" doc:"find out, with a made-up recipient, which backends take every name"`

	backend.Config
}

// DefaultConfig is what an empty [callahead] section means.
func DefaultConfig() Config {
	return Config{Sender: "<>", UnknownCodes: DefaultUnknownCodes(), Classify: "experiment", AcceptAllTest: true, Config: backend.DefaultConfig()}
}

// Validate reports settings that cannot be meant.
func (c Config) Validate() error {
	var errs []error
	if _, err := readSender(c.Sender); err != nil {
		errs = append(errs, &setting.KeyError{Key: "sender", Err: err})
	}
	if c.FallbackSender != "" {
		if _, err := readSender(c.FallbackSender); err != nil {
			errs = append(errs, &setting.KeyError{Key: "fallback_sender", Err: err})
		}
	}
	return errors.Join(append(errs, c.Config.Validate())...)
}

// Fallback is the effective fallback sender: FallbackSender, or postmaster at our own
// name when that is a domain; "" when there is none.
func (c Config) Fallback(hostname string) string {
	sender, _ := readSender(c.FallbackSender)
	if name := address.Domain(hostname); sender == "" && strings.Contains(name, ".") {
		sender = "postmaster@" + name
	}
	return sender
}

// readSender reads a sender setting: "<>" or "" is the null sender, anything else an
// address with a domain, with or without brackets. What it gives can be written into MAIL
// as it is: nothing that is wrong with the sender may look like a fault of recipients.
func readSender(s string) (string, error) {
	bare := strings.TrimSuffix(strings.TrimPrefix(s, "<"), ">")
	if bare == "" {
		return "", nil
	}
	m := address.Parse(bare)
	sender := m.Local + "@" + m.Domain
	plain := func(r rune) bool { return r > ' ' && r < 0x7f && !strings.ContainsRune(`<>@"\`, r) }
	unfit := func(s string) bool { return s == "" || strings.ContainsFunc(s, func(r rune) bool { return !plain(r) }) }
	if unfit(m.Local) || unfit(m.Domain) || len(sender) > maxPath {
		return "", fmt.Errorf("%q cannot be a sender; expected \"<>\" or an address in ASCII such as \"postmaster@mx1.example.org\"", s)
	}
	return sender, nil
}

// Life is how long answers of one class are remembered.
type Life struct {
	Expire setting.Duration `toml:"expire" doc:"how long the answer is used" max:"366d"`
}

// RefreshedLife is the life of an answer that is asked again before it ends.
type RefreshedLife struct {
	Refresh setting.Duration `toml:"refresh" doc:"age from which using the answer asks the server again in the background; 10m or more" max:"366d"`
	Expire  setting.Duration `toml:"expire" doc:"maximum time that the answer is used; using it never prolongs it" max:"366d"`
}

// Lives is what the [cache] section says about how long answers are remembered.
type Lives struct {
	Valid        RefreshedLife `toml:"valid" doc:"the backend accepts the mailbox"`
	Unknown      Life          `toml:"unknown" doc:"the backend has no such mailbox; keep this short, or mail to new mailboxes is refused"`
	Full         Life          `toml:"full" doc:"the mailbox is full; keep this short, or mail to a mailbox that was emptied is refused"`
	Refused      Life          `toml:"refused" doc:"the backend refuses for a reason other than a missing mailbox"`
	Deferred     Life          `toml:"deferred" doc:"the backend said 4xx; keep this short, it only absorbs bursts"`
	AcceptAll    Life          `toml:"accept_all" doc:"whether the backend accepts every name of a domain"`
	PositiveOnly bool          `toml:"positive_only" doc:"keep no refusals: ask again each time"`
}

// DefaultLives is what an empty [cache] section means.
func DefaultLives() Lives {
	life := func(d time.Duration) Life { return Life{setting.Duration(d)} }
	const day = 24 * time.Hour
	return Lives{
		Valid:   RefreshedLife{setting.Duration(day), setting.Duration(31 * day)},
		Unknown: life(15 * time.Minute), Full: life(25 * time.Second), Refused: life(5 * time.Minute),
		Deferred: life(30 * time.Second), AcceptAll: life(time.Hour),
	}
}

// Validate reports lives that cannot be meant.
func (l Lives) Validate() error {
	if bad := checkValid(l.Valid.Refresh.Std(), l.Valid.Expire.Std()); bad != nil {
		return bad
	}
	return nil
}

// checkValid holds the life of a valid answer against itself and the pace of refreshes.
func checkValid(refresh, expire time.Duration) *setting.KeyError {
	r, e, least := setting.Duration(refresh), setting.Duration(expire), setting.Duration(refreshApart)
	switch {
	case expire < refresh:
		return &setting.KeyError{Key: "valid.expire", Err: fmt.Errorf("%q is less than refresh, %q", e, r)}
	case refresh < refreshApart && refresh < expire:
		return &setting.KeyError{Key: "valid.refresh", Err: fmt.Errorf(
			"%q is too short: answers are not refreshed more often than every %q; expected at least %q, or the value of expire to turn refreshes off", r, least, least)}
	}
	return nil
}

// RefreshedLifeChange changes a RefreshedLife for one domain.
type RefreshedLifeChange struct {
	Refresh *setting.Duration `toml:"refresh" doc:"age from which the server is asked again in the background; 10m or more" max:"366d"`
	Expire  *setting.Duration `toml:"expire" doc:"maximum time that the answer is used" max:"366d"`
}

// DomainConfig is what a [[domain]] section says about call-ahead. What is unset is
// as in [cache] and [callahead].
type DomainConfig struct {
	Unreachable   *string `toml:"unreachable" doc:"what to do when no server can be asked and nothing is remembered: \"tempfail\" (451 4.4.1, the default) or \"accept\"" oneof:"tempfail,accept"`
	LocalCase     *string `toml:"local_case" doc:"whether case matters in local parts: \"ignore\" (the default) or \"keep\"" oneof:"ignore,keep"`
	Classify      *string `toml:"classify" doc:"how to find out what a refusal means: \"experiment\" or \"words\"; the default is as in [callahead]" oneof:"experiment,words"`
	AcceptAllTest *bool   `toml:"accept_all_test" doc:"find out, with a made-up recipient, whether the backend takes every name; the default is as in [callahead]"`
	// Room is for backends that refuse a full mailbox at RCPT.
	Room *setting.Duration `toml:"room" doc:"for servers that refuse a full mailbox in reply to RCPT (Postfix with a quota policy service, Exim, LMTP servers): a valid answer older than this is asked again while the sender waits, with the message's size where the server offers SIZE. If the server cannot be asked, the valid answer applies. The default is 0: valid answers are refreshed in the background only" min:"0s" max:"31d" example:"\"5m\""`

	Valid        *RefreshedLifeChange `toml:"valid" doc:"as in [cache]" example:"{ refresh = \"1d\", expire = \"31d\" }"`
	Unknown      *Life                `toml:"unknown" doc:"as in [cache]" example:"{ expire = \"15m\" }"`
	Full         *Life                `toml:"full" doc:"as in [cache]" example:"{ expire = \"25s\" }"`
	Refused      *Life                `toml:"refused" doc:"as in [cache]" example:"{ expire = \"5m\" }"`
	Deferred     *Life                `toml:"deferred" doc:"as in [cache]" example:"{ expire = \"30s\" }"`
	AcceptAll    *Life                `toml:"accept_all" doc:"as in [cache]" example:"{ expire = \"1h\" }"`
	PositiveOnly *bool                `toml:"positive_only" doc:"as in [cache]"`
}

// settings is what holds for one [[domain]] section, ready for use.
type settings struct {
	refresh, expire   time.Duration // valid
	unknown, full     time.Duration
	refused, deferred time.Duration
	acceptAll         time.Duration
	positiveOnly      bool
	foldLocal         bool
	acceptUnreachable bool
	rejectFull        bool
	testAcceptAll     bool
	byWords           bool          // no experiments
	room              time.Duration // a valid answer older than this is asked again at once; 0: never
}

// newSettings joins what a section says with what holds for all. The error's key
// counts from the section.
func newSettings(cfg *Config, lives *Lives, d *DomainConfig) (*settings, *setting.KeyError) {
	if d == nil {
		d = new(DomainConfig)
	}
	l, testAcceptAll, classify, room := *lives, cfg.AcceptAllTest, cfg.Classify, setting.Duration(0)
	if d.Valid != nil {
		set(&l.Valid.Refresh, d.Valid.Refresh)
		set(&l.Valid.Expire, d.Valid.Expire)
	}
	for _, c := range []struct{ own, given *Life }{
		{&l.Unknown, d.Unknown}, {&l.Full, d.Full}, {&l.Refused, d.Refused}, {&l.Deferred, d.Deferred}, {&l.AcceptAll, d.AcceptAll},
	} {
		set(c.own, c.given)
	}
	set(&l.PositiveOnly, d.PositiveOnly)
	set(&testAcceptAll, d.AcceptAllTest)
	set(&classify, d.Classify)
	set(&room, d.Room)
	if bad := checkValid(l.Valid.Refresh.Std(), l.Valid.Expire.Std()); bad != nil && d.Valid != nil {
		return nil, bad
	}
	return &settings{
		refresh: l.Valid.Refresh.Std(), expire: l.Valid.Expire.Std(),
		unknown: l.Unknown.Expire.Std(), full: l.Full.Expire.Std(), refused: l.Refused.Expire.Std(),
		deferred: l.Deferred.Expire.Std(), acceptAll: l.AcceptAll.Expire.Std(), positiveOnly: l.PositiveOnly,
		foldLocal: d.LocalCase == nil || *d.LocalCase != "keep", acceptUnreachable: d.Unreachable != nil && *d.Unreachable == "accept",
		testAcceptAll: testAcceptAll, byWords: classify == "words", room: room.Std(),
	}, nil
}

// set has a section's own value count, where it has one.
func set[T any](own, given *T) {
	if given != nil {
		*own = *given
	}
}
