// SPDX-License-Identifier: BSD-2-Clause

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"rcptgate"
	"rcptgate/backend"
	"rcptgate/check/callahead"
	"rcptgate/front/admin"
	"rcptgate/store/ram"
	"rcptgate/store/tiers"
)

// maxCheck bounds the recipients of one command line.
const maxCheck = 10_000

type checkFlags struct {
	request admin.CheckRequest
	json    bool
	offline bool
}

func newCheckCommand() *cobra.Command {
	var f checkFlags
	cmd := &cobra.Command{
		Use:   "check RECIPIENT...",
		Short: "ask for the verdict on recipients, and how it came about",
		Long: `check puts the question that an MTA would put to the running daemon, over its admin
socket, and prints the verdict and its trace. What is learnt is remembered, as for any
other question.

With --offline the question is put to this program itself, with the same configuration:
without what the daemon remembers, and nothing is kept.

Exit codes: 0 all recipients would be taken, 67 one is unknown, 77 one is refused for
another reason, 75 one cannot be decided at the moment, 69 the daemon is not reachable,
64 the command line is wrong, 65 a recipient is no address: then nobody is asked about
any. With several recipients the code is that of the first one that would not be taken.
In rehearsal the code is that of the verdict that is held back.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return check(cmd, &f, args) },
	}
	flags := cmd.Flags()
	flags.StringVar(&f.request.Sender, "sender", "", "reverse-path `ADDRESS` of the message (default <>)")
	flags.StringVar(&f.request.Client, "client", "", "`IP` address of the sending client")
	flags.StringVar(&f.request.Helo, "helo", "", "`NAME` that the client said in HELO")
	flags.StringVar(&f.request.Host, "host", "", "the MTA's `NEXTHOP` for the recipient, as in {rcpt_host}")
	flags.StringVar(&f.request.Mailer, "mailer", "", "the MTA's `MAILER` for the recipient, as in {rcpt_mailer} (default esmtp when --host is given)")
	flags.StringVar(&f.request.Addr, "addr", "", "the `ADDRESS` after the MTA's rewriting, as in {rcpt_addr}")
	flags.StringVar(&f.request.Auth, "auth", "", "`USER` that the client authenticated as")
	flags.BoolVar(&f.json, "json", false, "print one JSON object a recipient")
	flags.BoolVar(&f.offline, "offline", false, "ask this program itself, not the running daemon")
	return cmd
}

// asker puts one question: the daemon's client, or an offline gate.
type asker func(ctx context.Context, req admin.CheckRequest) (admin.Result, error)

func check(cmd *cobra.Command, f *checkFlags, recipients []string) error {
	if len(recipients) > maxCheck {
		return exitWith(exitUsage, fmt.Errorf("%d recipients given, at most %d are allowed", len(recipients), maxCheck))
	}
	if f.request.Host != "" && f.request.Mailer == "" {
		f.request.Mailer = "esmtp"
	}
	l, err := loadConfig(cmd)
	if err != nil {
		return err
	}
	for _, recipient := range recipients { // before anybody is asked about one of them
		if err := f.judge(recipient, l.Aliases.Active()); err != nil {
			return err
		}
	}
	ask, done, err := newAsker(l, f.offline)
	if err != nil {
		return err
	}
	defer done()
	code := exitOK
	for _, recipient := range recipients {
		result, err := ask(cmd.Context(), f.about(recipient))
		if err != nil {
			return clientError(err)
		}
		if err := printResult(cmd.OutOrStdout(), &result, f.json); err != nil {
			return err
		}
		if code == exitOK {
			code = exitCodeOf(&result)
		}
	}
	return exitQuietly(code)
}

// about is the question about one recipient.
func (f *checkFlags) about(recipient string) admin.CheckRequest {
	req := f.request
	req.Recipient = recipient
	return req
}

// judge refuses what no MTA would ask: to say of a typing error that it would be taken
// misleads. local: the gate knows names without a domain. An address that an MTA should
// not have taken, but might, is put to the gate as it is.
func (f *checkFlags) judge(recipient string, local bool) error {
	req := f.about(recipient)
	q, err := req.Query()
	var bad error
	switch {
	case recipient == "":
		bad = errors.New("an empty recipient")
	case err != nil:
		return exitWith(exitUsage, err)
	case strings.TrimSpace(recipient) != recipient, strings.ContainsAny(q.Target.Domain, " \t"):
		bad = fmt.Errorf("%q is no address: there are blanks in it", recipient)
	case q.Target.Local == "":
		bad = fmt.Errorf("%q is no address: nothing stands before the \"@\"", recipient)
	case q.Target.Domain == "" && !local:
		bad = fmt.Errorf("%q has no domain, and without [aliases] the gate knows no local names", recipient)
	}
	return exitWith(exitData, bad)
}

func newAsker(l *loaded, offline bool) (ask asker, done func(), err error) {
	if !offline {
		client := admin.NewClient(l.adminSocket().Address)
		return client.Check, client.Close, nil
	}
	log := slog.New(slog.DiscardHandler)
	names, closeNames, err := offlineNames(l)
	if err != nil {
		return nil, nil, err
	}
	b := base{
		backends: backend.NewSet(l.Callahead.Config, l.Hostname, log),
		memory:   tiers.New(ram.New(ram.Options{})),
		probes:   callahead.NewState(nil),
		tables:   newTables(log, true),
		names:    names,
		log:      log,
	}
	down := func() { b.tables.close(); b.probes.Close(); b.backends.Close(); closeNames() }
	setup, err := newSetup(&l.Config, b)
	if err != nil {
		down()
		return nil, nil, exitWith(exitConfig, l.file.Place(err))
	}
	var gate rcptgate.Gate
	gate.Swap(setup)
	ask = func(ctx context.Context, req admin.CheckRequest) (admin.Result, error) {
		q, err := req.Query()
		if err != nil {
			return admin.Result{}, exitWith(exitUsage, err)
		}
		v := gate.Ask(ctx, q)
		return admin.NewResult(q, &v, time.Now()), nil
	}
	return ask, func() { gate.Close(); down() }, nil
}

// clientError gives the exit code for what went wrong between us and the daemon.
func clientError(err error) error {
	var refusal *admin.Refusal
	var exit *exitError
	switch {
	case errors.As(err, &exit):
		return err
	case errors.Is(err, admin.ErrUnreachable), errors.Is(err, admin.ErrTruncated):
		return exitWith(exitUnavailable, err)
	case errors.As(err, &refusal) && refusal.BadRequest():
		return exitWith(exitData, err)
	case errors.As(err, &refusal) && refusal.NotFound():
		return exitWith(exitUnknownUser, err)
	}
	return exitWith(exitSoftware, err)
}

// exitCodeOf is the code for one verdict. A rehearsed refusal counts as one: the
// question is what the gate thinks of the recipient.
func exitCodeOf(r *admin.Result) int {
	action := r.Action
	if r.Would != "" {
		action = r.Would
	}
	switch {
	case action == rcptgate.Reject.String() && r.Reason == string(rcptgate.ReasonUnknownUser):
		return exitUnknownUser
	case action == rcptgate.Reject.String(), action == rcptgate.Discard.String():
		return exitRefused
	case action == rcptgate.Tempfail.String():
		return exitTempfail
	}
	return exitOK
}

func printResult(w io.Writer, r *admin.Result, asJSON bool) error {
	if asJSON {
		enc := json.NewEncoder(w)
		enc.SetEscapeHTML(false)
		return enc.Encode(r)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s", printable(r.Recipient), r.Action)
	if r.Would != "" {
		fmt.Fprintf(&b, " (rehearsal: would %s)", r.Would)
	}
	if r.Target != "" {
		fmt.Fprintf(&b, " (as %s)", printable(r.Target))
	}
	b.WriteByte('\n')
	if r.Code != 0 {
		reply := strings.Join(strings.Fields(fmt.Sprintf("%d %s", r.Code, r.Enhanced)), " ")
		fmt.Fprintf(&b, "  reply    %s %s\n", reply, strings.ReplaceAll(r.Text, "\n", "\n           "))
	}
	fmt.Fprintf(&b, "  reason   %s\n", orDash(r.Reason))
	fmt.Fprintf(&b, "  from     %s\n", origin(r))
	fmt.Fprintf(&b, "  took     %.3f ms\n", r.ElapsedMS)
	for _, step := range r.Trace {
		fmt.Fprintf(&b, "  step     %s: %s, %.3f ms\n", stepName(&step), stepWord(&step), step.ElapsedMS)
		for _, note := range step.Notes {
			fmt.Fprintf(&b, "             %s\n", printable(note))
		}
		if step.Error != "" {
			fmt.Fprintf(&b, "             error: %s\n", printable(step.Error))
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// stepName is the step's word, and whom it was asked about if that was an alias's target.
func stepName(step *admin.Step) string {
	if step.Target == "" {
		return step.Step
	}
	return step.Step + " for " + printable(step.Target)
}

func stepWord(step *admin.Step) string {
	if step.Reason == "" {
		return "nothing against it"
	}
	return step.Action + ", " + step.Reason
}

// origin says where a verdict came from and how long it holds.
func origin(r *admin.Result) string {
	parts := []string{strings.TrimSpace(orDash(r.Source) + " " + printable(r.Server))}
	if r.Backend != "" {
		parts = append(parts, r.Backend)
	}
	if r.AgeS != nil {
		parts = append(parts, "learnt "+ageWords(*r.AgeS)+" ago")
	}
	if r.ExpiresS != nil {
		parts = append(parts, "ends in "+ageWords(*r.ExpiresS))
	}
	return strings.Join(parts, ", ")
}

func ageWords(seconds int64) string { return (time.Duration(seconds) * time.Second).String() }

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// printable keeps another's text from commanding the terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || (r >= 0x80 && r < 0xa0) {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
}
