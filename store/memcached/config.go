// SPDX-License-Identifier: BSD-2-Clause

package memcached

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"

	"rcptgate/config/setting"
	"rcptgate/kit/keyfile"
	"rcptgate/kit/term"
)

// Config names the memory that is shared with other gateways: part of section [cache].
// The zero Config shares nothing.
type Config struct {
	Servers []Server `toml:"memcached" doc:"memcached servers that all gateways share; use the same list on each gateway. The default port is 11211. Without servers nothing is shared; going from none to some needs a restart" example:"[\"10.0.0.1:11211\", \"10.0.0.2:11211\"]"`
	KeyFile string   `toml:"memcached_key_file" doc:"file of keys that authenticate the values in memcached, the same file on every gateway: one key a line, at least 16 octets long. The first key signs, all keys are believed. Other users must not be able to read the file" example:"\"/etc/rcptgate/cache.key\""`
	Prefix  string   `toml:"memcached_prefix" doc:"prefix of every key in memcached, so that several sites can use one server" example:"\"rg\""`
}

// DefaultPrefix begins every key unless the configuration says otherwise.
const DefaultPrefix = "rg"

// DefaultConfig shares nothing.
func DefaultConfig() Config { return Config{Prefix: DefaultPrefix} }

const (
	defaultPort = "11211"
	maxServers  = 64
	maxPrefix   = 32
	minKey      = 16 // octets of one key
	maxKeys     = 16
)

// Active reports whether anything is shared.
func (c *Config) Active() bool { return len(c.Servers) > 0 }

// Validate reports settings that cannot be meant. It opens no file.
func (c Config) Validate() error {
	var errs []error
	if len(c.Servers) > maxServers {
		errs = append(errs, setting.Keyf("memcached", "%d servers: at most %d are allowed", len(c.Servers), maxServers))
	}
	seen := map[string]bool{}
	for _, s := range c.Servers {
		switch {
		case s.IsZero():
			errs = append(errs, setting.Keyf("memcached", "an empty server; expected \"HOST\", \"HOST:PORT\", \"inet:PORT@HOST\" or \"unix:/path\""))
		case seen[s.Address]:
			errs = append(errs, setting.Keyf("memcached", "%q is named twice", s.Address))
		}
		seen[s.Address] = true
	}
	if c.KeyFile != "" && !filepath.IsAbs(c.KeyFile) {
		errs = append(errs, setting.Keyf("memcached_key_file", "%q is not an absolute path", c.KeyFile))
	}
	if c.Prefix != "" && (len(c.Prefix) > maxPrefix || strings.Trim(c.Prefix, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") != "") {
		errs = append(errs, setting.Keyf("memcached_prefix", "%q is not a prefix: at most %d letters, digits, \"-\", \"_\" and \".\" are allowed", c.Prefix, maxPrefix))
	}
	return errors.Join(errs...)
}

// Server is the address of one server: as setting.Socket, or a bare host, which means port
// 11211.
type Server struct{ setting.Socket }

// ParseServer reads the address of a server.
func ParseServer(s string) (Server, error) {
	sock, err := setting.ParseSocket(s)
	if err != nil {
		if bare, bareErr := setting.ParseSocket("inet:" + defaultPort + "@" + s); bareErr == nil {
			return Server{bare}, nil
		}
		return Server{}, fmt.Errorf("%w; \"HOST\" means port %s", err, defaultPort)
	}
	if _, port, err := net.SplitHostPort(sock.Address); sock.Network == "tcp" && err == nil && port == "0" {
		return Server{}, fmt.Errorf("%q: no server answers on port 0; \"HOST\" means port %s", s, defaultPort)
	}
	return Server{sock}, nil
}

// UnmarshalText reads the address of a server.
func (s *Server) UnmarshalText(text []byte) error {
	parsed, err := ParseServer(string(text))
	if err != nil {
		return err
	}
	*s = parsed
	return nil
}

// ReadKeys reads a key file: one key a line, empty lines and those that begin with "#"
// are skipped. No name gives no keys. A user who can read the file can open and close the
// gate, so it must not be readable by others, nor be another user's.
func ReadKeys(name string) ([][]byte, error) {
	if name == "" {
		return nil, nil
	}
	text, err := keyfile.Read(name)
	if err != nil {
		return nil, err
	}
	return parseKeys(name, text)
}

func parseKeys(name string, text []byte) ([][]byte, error) {
	var keys [][]byte
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Buffer(nil, keyfile.MaxSize+1)
	for n := 1; lines.Scan(); n++ {
		key := bytes.TrimSpace(lines.Bytes())
		if len(key) == 0 || key[0] == '#' {
			continue
		}
		if len(key) < minKey {
			return nil, fmt.Errorf("%s:%d: the key has %s: at least %d are needed, as \"openssl rand -hex 32\" makes them", name, n, term.Count(len(key), "octet"), minKey)
		}
		keys = append(keys, bytes.Clone(key))
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("the key file %s holds no key: one a line, of at least %d octets", name, minKey)
	}
	if len(keys) > maxKeys {
		return nil, fmt.Errorf("the key file %s holds %s: at most %d are allowed", name, term.Count(len(keys), "key"), maxKeys)
	}
	return keys, nil
}
