// SPDX-License-Identifier: BSD-2-Clause

package doctor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/miekg/dns"
	"github.com/spf13/cobra"

	"rcptgate/address"
	"rcptgate/kit/exit"
	"rcptgate/kit/term"
	"rcptgate/unit"
)

// Unit describes the doctor, which is a command.
func Unit() unit.Unit {
	return unit.Unit{Name: "doctor", Commands: func(c *unit.CLI) []*cobra.Command { return []*cobra.Command{command(c)} }}
}

type flags struct {
	postfix, sendmail, exim, fromIP, helo string
	resolvers, logs                       []string
	json, quiet, verbose, strict, https   bool
}

func command(cli *unit.CLI) *cobra.Command {
	var f flags
	cmd := &cobra.Command{
		Use:   "doctor [DOMAIN...]",
		Short: "find out why mail for a domain goes astray",
		Long: `doctor joins what DNS says of a domain (MX, SPF, DMARC), what the MTA's own files say, the
gate's configuration, and the servers behind it. Each finding names the file and line or
the record, and what to write instead. Without a DOMAIN it looks at the whole installation:
the domains of the gate's sections and of the MTA's files.

It changes nothing. DNS queries leave the machine, and SMTP dialogues (never as far as DATA)
with the servers that the gate's configuration names; with --https also a request for the
MTA-STS policy; nothing else.

Exit codes: 0 nothing is wrong, 78 something is (with --strict warnings count too), 75
something could not be found out, 64 the command line is wrong, 65 a DOMAIN is not one.`,
		RunE: func(cmd *cobra.Command, args []string) error { return f.run(cmd, cli, args) },
	}
	set := cmd.Flags()
	set.StringVar(&f.postfix, "postfix", "", "Postfix's configuration `DIR` (default /etc/postfix if it has a main.cf)")
	set.StringVar(&f.sendmail, "sendmail", "", "Sendmail's configuration `FILE` (default /etc/mail/sendmail.cf if it exists)")
	set.StringVar(&f.exim, "exim", "", "Exim's configuration `FILE` (default /etc/exim4/update-exim4.conf.conf if it exists)")
	set.StringArrayVar(&f.resolvers, "resolver", nil, "ask this name server `ADDRESS`, not those of resolv.conf (repeatable)")
	set.StringArrayVar(&f.logs, "log", nil, "look in this mail log `FILE` for clients that gave up (repeatable)")
	set.StringVar(&f.fromIP, "from-ip", "", "the `IP` address that others see mail of this machine come from")
	set.StringVar(&f.helo, "helo", "", "the `NAME` that this machine says in EHLO (default hostname of the configuration)")
	set.BoolVar(&f.https, "https", false, "read the domain's MTA-STS policy from its web server too")
	set.BoolVar(&f.json, "json", false, "print JSON")
	set.BoolVarP(&f.quiet, "quiet", "q", false, "print only what is wrong")
	set.BoolVarP(&f.verbose, "verbose", "v", false, "print also what is in order")
	set.BoolVar(&f.strict, "strict", false, "count warnings as wrong")
	return cmd
}

func (f *flags) run(cmd *cobra.Command, cli *unit.CLI, args []string) error {
	domains, err := parseDomains(args)
	if err != nil {
		return exit.With(exit.Data, err)
	}
	d, err := f.doctor(cmd, cli)
	if err != nil {
		return err
	}
	report := d.Run(cmd.Context(), domains)
	if f.json {
		err = term.JSON(cmd.OutOrStdout(), report)
	} else {
		err = report.Print(cmd.OutOrStdout(), f.quiet, f.verbose)
	}
	return errors.Join(err, exit.Quietly(report.Exit(f.strict)))
}

// parseDomains checks that the arguments are domains, and writes them as DNS has them.
func parseDomains(args []string) (out []string, err error) {
	for _, arg := range args {
		domain := address.Domain(arg)
		if _, ok := dns.IsDomainName(domain); !ok || !strings.Contains(domain, ".") || strings.ContainsAny(domain, "[]@:/ ") {
			return nil, fmt.Errorf("%q is not a domain", arg)
		}
		out = append(out, domain)
	}
	return out, nil
}

// doctor gathers what is known of this machine.
func (f *flags) doctor(cmd *cobra.Command, cli *unit.CLI) (*Doctor, error) {
	d := &Doctor{DNS: SystemResolver("/etc/resolv.conf"), Logs: f.logs, FromIP: outgoing(), Self: interfaceAddresses(), Now: time.Now}
	if f.https {
		d.Fetch = fetchPolicy
	}
	if len(f.resolvers) > 0 {
		d.DNS.Servers, d.DNS.Search = nil, 0
		for _, r := range f.resolvers {
			if _, _, err := net.SplitHostPort(r); err != nil {
				r = net.JoinHostPort(strings.Trim(r, "[]"), "53")
			}
			d.DNS.Servers = append(d.DNS.Servers, r)
		}
	}
	if f.fromIP != "" {
		ip, err := netip.ParseAddr(f.fromIP)
		if err != nil {
			return nil, exit.With(exit.Usage, fmt.Errorf("--from-ip: %q is not an address", f.fromIP))
		}
		d.FromIP = ip
	}
	if err := f.readGate(cmd, cli, d); err != nil {
		return nil, err
	}
	if f.helo != "" {
		d.Hostname = f.helo
	}
	d.Hostname = strings.ToLower(d.Hostname)
	return d, f.readMTAs(cmd.Context(), d)
}

// systemdSocket is the socket that rcptgate-postfix.socket opens for the gate.
const systemdSocket = postfixQueue + "rcptgate/milter.sock"

// readGate reads the gate's configuration. One that is not there at all is no mistake.
func (f *flags) readGate(cmd *cobra.Command, cli *unit.CLI, d *Doctor) error {
	c, err := cli.Load(cmd)
	if err != nil {
		return err
	}
	d.Hostname = c.Core().Hostname
	if c.File == nil {
		return nil
	}
	host, err := cli.Offline(cmd.Context(), c)
	if err != nil {
		return err
	}
	defer host.Stop()
	d.Deadline = c.Core().Deadline.Std()
	if d.Gate, err = gateOf(c, host.Warnings()); err != nil {
		return err
	}
	if _, err := os.Stat(systemdSocket); err == nil {
		d.Gate.Sockets = append(d.Gate.Sockets, "unix:"+systemdSocket)
	}
	return nil
}

// readMTAs reads the configurations that are named, or found where they usually are.
func (f *flags) readMTAs(ctx context.Context, d *Doctor) error {
	for _, m := range []struct {
		named, usual string
		read         func(string) (*MTA, error)
	}{
		{f.postfix, "/etc/postfix/main.cf", func(path string) (*MTA, error) { return readPostfix(ctx, path) }},
		{f.sendmail, "/etc/mail/sendmail.cf", func(path string) (*MTA, error) { return readSendmail(ctx, path) }},
		{f.exim, "/etc/exim4/update-exim4.conf.conf", readExim},
	} {
		path := m.named
		if path == "" {
			if _, err := os.Stat(m.usual); err != nil {
				continue
			}
			path = m.usual
		}
		mta, err := m.read(path)
		if err != nil {
			return exit.With(exit.Config, err)
		}
		d.MTAs = append(d.MTAs, mta)
	}
	return nil
}
