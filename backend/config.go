// SPDX-License-Identifier: BSD-2-Clause

package backend

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"os"
	"strings"
	"time"

	"rcptgate/config/setting"
)

// The values of Config.TLS.
const (
	TLSOff           = "off"           // never
	TLSOpportunistic = "opportunistic" // if offered, without verification; skipped for ten minutes where it is broken
	TLSRequired      = "required"      // verified, or no probe
)

// Config is what the [callahead] section says about connections. Zero fields take
// the values of [DefaultConfig], ProbesPerSecond excepted.
type Config struct {
	// Timeout bounds one probe, which goes on after the client has stopped waiting.
	Timeout setting.Duration `toml:"timeout" doc:"time limit for one probe; the probe continues in the background after the client has stopped waiting" min:"1s" max:"1h"`
	// Connect bounds the look-up of a backend's name, and the TCP connection to each
	// of its addresses.
	Connect setting.Duration `toml:"connect" doc:"time limit for looking up a server's name, and for connecting to each of its addresses" min:"1s" max:"5m"`
	// Connections is the most connections to one backend.
	Connections int `toml:"connections" doc:"maximum number of connections to one server" min:"1" max:"10_000"`
	// ProbesPerSecond is the most probes a second to one backend; 0: no limit.
	ProbesPerSecond int `toml:"probes_per_second" doc:"maximum number of probes a second to one server; 0 means no limit" min:"0" max:"1_000_000"`
	// Idle is how long an unused connection is kept.
	Idle setting.Duration `toml:"idle" doc:"how long an unused connection is kept" min:"1s" max:"1h"`
	// ConnectionAge is how long a connection is used at most, from its opening.
	ConnectionAge setting.Duration `toml:"connection_age" doc:"maximum time that a connection is used; Postfix looks for changed hash: maps only between two sessions" min:"1s" max:"1d"`
	// ProbesPerConnection and RefusalsPerConnection end a connection before the
	// backend loses patience: Postfix counts RSET as junk after 100
	// (smtpd_junk_command_limit) and delays after 10 errors (smtpd_soft_error_limit).
	ProbesPerConnection   int `toml:"probes_per_connection" doc:"number of probes after which a connection is closed; Postfix counts RSET as junk after 100" min:"1" max:"1_000_000"`
	RefusalsPerConnection int `toml:"refusals_per_connection" doc:"number of refused probes after which a connection is closed; Postfix delays its replies after 10 errors" min:"1" max:"1_000_000"`
	// Queue is the most probes that wait for a connection to one backend; more fail.
	Queue int `toml:"queue" doc:"maximum number of probes waiting for a connection to one server; further ones fail at once" min:"1" max:"1_000_000"`
	// TLS is "off", "opportunistic" or "required". Unix sockets never use it.
	TLS string `toml:"tls" doc:"STARTTLS: \"off\", \"opportunistic\" (if offered, without verification; skipped for ten minutes where it is broken) or \"required\" (verified, or no probe)" oneof:"off,opportunistic,required"`
	// CAFile holds the PEM certificates that "required" trusts instead of the system's.
	CAFile string `toml:"ca_file" doc:"file of PEM certificates that tls = \"required\" trusts instead of the system's" example:"\"/etc/rcptgate/ca.pem\""`
	// TLSName is the name that "required" expects in the certificate; default is the
	// backend's host as configured.
	TLSName string `toml:"tls_name" doc:"name that tls = \"required\" expects in the certificate; the default is the server's host as configured" example:"\"mail.example.com\""`
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
	c.Timeout, c.Connect = cmp.Or(c.Timeout, d.Timeout), cmp.Or(c.Connect, d.Connect)
	c.Idle, c.ConnectionAge = cmp.Or(c.Idle, d.Idle), cmp.Or(c.ConnectionAge, d.ConnectionAge)
	c.Connections, c.Queue = cmp.Or(c.Connections, d.Connections), cmp.Or(c.Queue, d.Queue)
	c.ProbesPerConnection = cmp.Or(c.ProbesPerConnection, d.ProbesPerConnection)
	c.RefusalsPerConnection = cmp.Or(c.RefusalsPerConnection, d.RefusalsPerConnection)
	c.TLS = cmp.Or(c.TLS, d.TLS)
	return c
}

// Validate reads CAFile and reports what is wrong with it. The limits of the other
// settings are in their tags.
func (c Config) Validate() error {
	_, err := c.roots()
	return err
}

func (c Config) roots() (*x509.CertPool, error) {
	if c.CAFile == "" {
		return nil, nil // the system's
	}
	pem, err := os.ReadFile(c.CAFile)
	if err != nil {
		return nil, setting.Keyf("ca_file", "%w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, setting.Keyf("ca_file", "%q does not contain a PEM certificate", c.CAFile)
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
// (RFC 7435): an attacker who can forge the certificate can as well remove the offer.
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
