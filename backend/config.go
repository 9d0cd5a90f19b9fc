// SPDX-License-Identifier: BSD-2-Clause

package backend

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"strings"
	"time"

	"rcptgate/config/setting"
)

// The values of Config.TLS.
const (
	TLSOff           = "off"           // never
	TLSOpportunistic = "opportunistic" // if offered, unverified; broken TLS is left out for an hour
	TLSRequired      = "required"      // verified, or no probe
)

// Config is what the [callahead] section says about connections. Zero fields take
// the values of [DefaultConfig], probes_per_second apart.
type Config struct {
	// Timeout bounds one probe, which goes on when the client has stopped waiting.
	Timeout setting.Duration `toml:"timeout" doc:"for one probe, which goes on in the background when the client has stopped waiting"`
	// Connect bounds the look-up of a backend's name, and the TCP connection to each
	// of its addresses.
	Connect setting.Duration `toml:"connect" doc:"for the look-up of a server's name, and for the connection to each of its addresses"`
	// Connections is the most connections to one backend.
	Connections int `toml:"connections" doc:"most connections to one server" max:"10_000"`
	// ProbesPerSecond is the most probes a second to one backend; 0: no limit.
	ProbesPerSecond int `toml:"probes_per_second" doc:"most probes a second to one server; 0 is no limit"`
	// Idle is how long an unused connection is kept.
	Idle setting.Duration `toml:"idle" doc:"how long an unused connection is kept"`
	// ConnectionAge is how long a connection is used at most, from its opening.
	ConnectionAge setting.Duration `toml:"connection_age" doc:"how long a connection is used; a server may keep old data for as long as a session lasts" min:"1s" max:"1d"`
	// ProbesPerConnection and RefusalsPerConnection end a connection before the
	// backend loses patience: Postfix counts RSET as junk after 100
	// (smtpd_junk_command_limit) and delays after 10 errors (smtpd_soft_error_limit).
	ProbesPerConnection   int `toml:"probes_per_connection" doc:"probes after which a connection is ended; Postfix counts RSET as junk after 100"`
	RefusalsPerConnection int `toml:"refusals_per_connection" doc:"refused probes after which a connection is ended; Postfix delays after 10 errors"`
	// Queue is the most probes that wait for a connection to one backend; more fail.
	Queue int `toml:"queue" doc:"most probes that wait for a connection to one server; more fail at once"`
	// TLS is "off", "opportunistic" or "required". Unix sockets never use it.
	TLS string `toml:"tls" doc:"STARTTLS: never, if offered (unverified, and left out for an hour where it is broken), or verified or no probe" oneof:"off,opportunistic,required"`
	// CAFile holds the PEM certificates that "required" trusts instead of the system's.
	CAFile string `toml:"ca_file" doc:"PEM certificates that tls = \"required\" trusts instead of the system's" example:"\"/etc/rcptgate/ca.pem\""`
	// TLSName is the name that "required" expects in the certificate; default is the
	// backend's host as configured.
	TLSName string `toml:"tls_name" doc:"the name that tls = \"required\" expects in the certificate; the default is the server's host as configured" example:"\"mail.example.com\""`
}

// DefaultConfig is what an empty [callahead] section means.
func DefaultConfig() Config {
	return Config{
		Timeout:               setting.Duration(30 * time.Second),
		Connect:               setting.Duration(2 * time.Second),
		Connections:           64,
		Idle:                  setting.Duration(30 * time.Second),
		ConnectionAge:         setting.Duration(5 * time.Minute), // Postfix's smtp_connection_reuse_time_limit
		ProbesPerConnection:   90,
		RefusalsPerConnection: 9,
		Queue:                 4096,
		TLS:                   TLSOpportunistic,
	}
}

func (c Config) withDefaults() Config {
	d := DefaultConfig()
	for _, p := range []struct{ v, d *setting.Duration }{{&c.Timeout, &d.Timeout}, {&c.Connect, &d.Connect}, {&c.Idle, &d.Idle}, {&c.ConnectionAge, &d.ConnectionAge}} {
		if *p.v <= 0 {
			*p.v = *p.d
		}
	}
	for _, p := range []struct{ v, d *int }{
		{&c.Connections, &d.Connections},
		{&c.ProbesPerConnection, &d.ProbesPerConnection},
		{&c.RefusalsPerConnection, &d.RefusalsPerConnection},
		{&c.Queue, &d.Queue},
	} {
		if *p.v <= 0 {
			*p.v = *p.d
		}
	}
	if c.TLS == "" {
		c.TLS = d.TLS
	}
	return c
}

// Validate reports the first setting that cannot be meant, with what is allowed. It
// reads CAFile.
func (c Config) Validate() error {
	for _, f := range []struct {
		name     string
		v        int
		min, max int
	}{
		{"connections", c.Connections, 0, 10_000},
		{"probes_per_second", c.ProbesPerSecond, 0, 1_000_000},
		{"probes_per_connection", c.ProbesPerConnection, 0, 1_000_000},
		{"refusals_per_connection", c.RefusalsPerConnection, 0, 1_000_000},
		{"queue", c.Queue, 0, 1_000_000},
	} {
		if f.v < f.min || f.v > f.max {
			return fmt.Errorf("%s = %d: a number from %d to %d is allowed", f.name, f.v, f.min, f.max)
		}
	}
	for _, f := range []struct {
		name string
		v    setting.Duration
		max  time.Duration
	}{{"timeout", c.Timeout, time.Hour}, {"connect", c.Connect, 5 * time.Minute}, {"idle", c.Idle, time.Hour}} {
		if f.v < 0 || f.v.Std() > f.max {
			return fmt.Errorf("%s = %q: a duration up to %v is allowed", f.name, f.v, setting.Duration(f.max))
		}
	}
	switch c.TLS {
	case "", TLSOff, TLSOpportunistic, TLSRequired:
	default:
		return fmt.Errorf("tls = %q: %q, %q or %q is allowed", c.TLS, TLSOff, TLSOpportunistic, TLSRequired)
	}
	_, err := c.roots()
	return err
}

func (c Config) roots() (*x509.CertPool, error) {
	if c.CAFile == "" {
		return nil, nil // the system's
	}
	pem, err := os.ReadFile(c.CAFile)
	if err != nil {
		return nil, fmt.Errorf("ca_file: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("ca_file = %q: no PEM certificate in it", c.CAFile)
	}
	return pool, nil
}

// settings is a Config as connections use it, together with our own name. It does
// not change once made.
type settings struct {
	Config
	hostname string // as configured, without a trailing dot
	roots    *x509.CertPool
	rootsErr error // why nothing can be verified
}

func newSettings(c Config, hostname string) *settings {
	s := &settings{Config: c.withDefaults(), hostname: strings.TrimRight(hostname, ".")}
	s.roots, s.rootsErr = s.Config.roots()
	return s
}

// tlsConfig is for one connection to a. An opportunistic connection is not verified
// (RFC 7435): whoever could forge the certificate could as well take the offer away.
func (s *settings) tlsConfig(a Address) *tls.Config {
	name := a.Host
	if s.TLSName != "" {
		name = s.TLSName
	}
	return &tls.Config{
		ServerName:         name,
		RootCAs:            s.roots,
		InsecureSkipVerify: s.TLS != TLSRequired, // #nosec G402 -- opportunistic
		MinVersion:         tls.VersionTLS12,
	}
}
