// SPDX-License-Identifier: BSD-2-Clause

package admin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"rcptgate"
	"rcptgate/config/setting"
	"rcptgate/kit/exit"
	"rcptgate/kit/term"
	"rcptgate/unit"
	"rcptgate/view"
)

// maxCheck bounds the recipients of one command line.
const maxCheck = 10_000

type checkFlags struct {
	request CheckRequest
	json    bool
	offline bool
	stage   string
	file    string
}

func (k commands) check() *cobra.Command {
	var f checkFlags
	cmd := &cobra.Command{
		Use:   "check [RECIPIENT...]",
		Short: "show the verdict on recipients, and how it came about",
		Long: `check asks the running daemon, over its admin socket, the question that an MTA would
ask, and prints the verdict and its trace. What is learnt is remembered, as for any
other question. It does not count as mail: the log has it as msg=check, and decisions, rule
hits, room in mailboxes, limits on clients, and what a script counts and keeps stay as they are.

With --stage message the whole message in --file is put to the steps that look at messages
(viruses, the script), for the recipients given, or else those of its To, Cc and Bcc; --stage
connect, helo and mail put what the other options say to the steps of these stages, and need no
recipient. Such questions are answered by this program itself, as with --offline.

With --offline this program answers the question itself, with the same configuration. It
does not use what the daemon remembers, and keeps nothing.

Exit codes: 0 all recipients would be accepted, 67 one is unknown, 77 one is refused for
another reason, 75 one cannot be decided at the moment, 69 the daemon is not reachable,
64 the command line is wrong, 65 a recipient is not an address (then no question is asked
about any). With several recipients the code is that of the first one that would not be
accepted. In rehearsal the code is that of the verdict that is held back.`,
		RunE: func(cmd *cobra.Command, args []string) error { return k.runCheck(cmd, &f, args) },
	}
	flags := cmd.Flags()
	flags.StringVar(&f.request.Sender, "sender", "", "reverse-path `ADDRESS` of the message (default <>)")
	flags.StringVar(&f.request.Client, "client", "", "`IP` address of the sending client")
	flags.StringVar(&f.request.Helo, "helo", "", "`NAME` that the client said in HELO")
	flags.StringVar(&f.request.Host, "host", "", "the MTA's `NEXTHOP` for the recipient, as in {rcpt_host}")
	flags.StringVar(&f.request.Mailer, "mailer", "", "the MTA's `MAILER` for the recipient, as in {rcpt_mailer} (default esmtp when --host is given)")
	flags.StringVar(&f.request.Addr, "addr", "", "the `ADDRESS` after the MTA's rewriting, as in {rcpt_addr}")
	flags.Func("size", "the message's `SIZE`, as in MAIL's SIZE parameter: octets, or 20M", func(text string) error {
		size, err := setting.ParseSize(text)
		f.request.Size = int64(size)
		return err
	})
	flags.StringVar(&f.request.Auth, "auth", "", "`USER` as whom the client authenticated")
	flags.StringVar(&f.stage, "stage", "rcpt", "the `STAGE` that is asked: connect, helo, mail, rcpt or message")
	flags.StringVar(&f.file, "file", "", "`FILE` with the message, for --stage message")
	flags.BoolVar(&f.json, "json", false, "print one JSON object for each recipient")
	flags.BoolVar(&f.offline, "offline", false, "ask this program itself, not the running daemon")
	return cmd
}

// asker puts one question: the daemon's client, or an offline gate.
type asker func(ctx context.Context, req CheckRequest) (Result, error)

func (k commands) runCheck(cmd *cobra.Command, f *checkFlags, recipients []string) error {
	if len(recipients) == 0 && f.stage == rcptgate.StageRcpt.String() {
		return exit.With(exit.Usage, errors.New("name a recipient: rcptgate check ann@example.org"))
	}
	if f.file != "" && f.stage != rcptgate.StageMessage.String() {
		return exit.With(exit.Usage, errors.New("--file is for --stage message: a message is looked at in that stage alone"))
	}
	if len(recipients) > maxCheck {
		return exit.With(exit.Usage, fmt.Errorf("%s given, at most %d are allowed", term.Count(len(recipients), "recipient"), maxCheck))
	}
	if f.request.Host != "" && f.request.Mailer == "" {
		f.request.Mailer = "esmtp"
	}
	load := k.Load
	if !f.offline && f.stage == rcptgate.StageRcpt.String() {
		load = k.Reach // the daemon answers, with the configuration that it has
	}
	c, err := load(cmd)
	if c == nil {
		return err
	}
	if err != nil {
		warnOf(cmd, err)
	}
	if f.stage != rcptgate.StageRcpt.String() {
		return k.checkStage(cmd, c, f, recipients)
	}
	for _, recipient := range recipients { // before anybody is asked about one of them
		if err := f.judge(recipient, c.KnowsLocalNames()); err != nil {
			return err
		}
	}
	ask, done, err := k.asker(cmd.Context(), c, f.offline)
	if err != nil {
		return err
	}
	defer done()
	code := exit.OK
	for _, recipient := range recipients {
		result, err := ask(cmd.Context(), f.about(recipient))
		if err != nil {
			return clientError(err)
		}
		if err := printResult(cmd.OutOrStdout(), &result, f.json); err != nil {
			return err
		}
		if code == exit.OK {
			code = exitCodeOf(&result)
		}
	}
	return exit.Quietly(code)
}

// about is the question about one recipient.
func (f *checkFlags) about(recipient string) CheckRequest {
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
		return exit.With(exit.Usage, err)
	case strings.TrimSpace(recipient) != recipient, strings.ContainsAny(q.Target.Domain, " \t"):
		bad = fmt.Errorf("%q is not an address: it contains blanks", recipient)
	case q.Target.Local == "":
		bad = fmt.Errorf("%q is not an address: there is nothing before the \"@\"", recipient)
	case q.Target.Domain == "" && !local:
		bad = fmt.Errorf("%q has no domain, and without [aliases] the gate knows no local names", recipient)
	}
	return exit.With(exit.Data, bad)
}

// asker asks the daemon, or, offline, a host of its own.
func (k commands) asker(ctx context.Context, c *unit.Config, offline bool) (ask asker, done func(), err error) {
	if !offline {
		client := NewClient(SocketOf(c).Address)
		return client.Check, client.Close, nil
	}
	h, err := k.Offline(ctx, c)
	if err != nil {
		return nil, nil, err
	}
	ask = func(ctx context.Context, req CheckRequest) (Result, error) {
		q, err := req.Query()
		if err != nil {
			return Result{}, exit.With(exit.Usage, err)
		}
		v := h.Gate.Ask(ctx, q)
		return NewResult(q, &v, time.Now()), nil
	}
	return ask, h.Stop, nil
}

// exitCodeOf is the code for one verdict. A rehearsed refusal counts as one: the
// question is what the gate thinks of the recipient.
func exitCodeOf(r *Result) int {
	action := r.Action
	if r.Would != "" {
		action = r.Would
	}
	switch {
	case action == rcptgate.Reject.String() && r.Reason == string(rcptgate.ReasonUnknownUser):
		return exit.UnknownUser
	case action == rcptgate.Reject.String(), action == rcptgate.Discard.String(), action == rcptgate.DiscardRecipient.String():
		return exit.Refused
	case action == rcptgate.Tempfail.String():
		return exit.Tempfail
	}
	return exit.OK
}

func printResult(w io.Writer, r *Result, asJSON bool) error {
	if asJSON {
		return term.JSON(w, r)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s", view.Clean(r.Recipient), r.Action)
	if r.Would != "" {
		fmt.Fprintf(&b, " (rehearsal: would %s)", r.Would)
	}
	if r.Target != "" {
		fmt.Fprintf(&b, " (as %s)", view.Clean(r.Target))
	}
	b.WriteByte('\n')
	if r.Code != 0 {
		reply := strings.Join(strings.Fields(fmt.Sprintf("%d %s", r.Code, r.Enhanced)), " ")
		fmt.Fprintf(&b, "  reply    %s %s\n", view.Clean(reply), indented(r.Text, 11))
	}
	fmt.Fprintf(&b, "  reason   %s\n", orDash(r.Reason))
	fmt.Fprintf(&b, "  from     %s\n", origin(r))
	fmt.Fprintf(&b, "  took     %.3f ms\n", r.ElapsedMS)
	for _, edit := range r.Edits {
		fmt.Fprintf(&b, "  change   %s\n", view.Clean(edit))
	}
	for _, step := range r.Trace {
		fmt.Fprintf(&b, "  step     %s: %s, %.3f ms\n", stepName(&step), stepWord(&step), step.ElapsedMS)
		for _, note := range step.Notes {
			fmt.Fprintf(&b, "             %s\n", view.Clean(note))
		}
		if step.Error != "" {
			fmt.Fprintf(&b, "             error: %s\n", view.Clean(step.Error))
		}
	}
	_, err := io.WriteString(w, indented(b.String(), 0))
	return err
}

// stepName is the step's word, and whom it was asked about if that was an alias's target.
func stepName(step *Step) string {
	if step.Target == "" {
		return step.Step
	}
	return step.Step + " for " + view.Clean(step.Target)
}

func stepWord(step *Step) string {
	if step.Reason == "" {
		return "no objection"
	}
	return step.Action + ", " + step.Reason
}

// origin says where a verdict came from and how long it holds.
func origin(r *Result) string {
	parts := []string{strings.TrimSpace(orDash(r.Source) + " " + view.Clean(r.Server))}
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

func ageWords(seconds int64) string { return view.Duration(time.Duration(seconds) * time.Second) }

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// indented writes a text of several lines so that its further lines stand below the first,
// and nothing in it commands the terminal.
func indented(text string, columns int) string {
	lines := strings.Split(text, "\n")
	for i := range lines {
		lines[i] = view.Clean(lines[i])
	}
	return strings.Join(lines, "\n"+strings.Repeat(" ", columns))
}
