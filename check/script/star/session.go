// SPDX-License-Identifier: BSD-2-Clause

package star

import (
	"strings"

	"go.starlark.net/starlark"

	"rcptgate"
	"rcptgate/address"
)

// Client is the connection: the argument of connect and helo.
type Client struct {
	object
	c     *Call
	notes Notes
}

var clientClass = newClass("client", "the connected client: the argument of connect() and helo(), and the client attribute of other objects",
	member[*Client]{name: "ip", sign: "string", doc: "the client's IP address, \"192.0.2.1\" or \"2001:db8::1\"; \"\" for a local client. It has the attribute .is6", get: (*Client).ip},
	member[*Client]{name: "name", sign: "string", doc: "its host name in DNS, as verified by the MTA. Without one, the address in brackets, or \"\"", get: func(x *Client) starlark.Value { return text(x.c.query().ClientName) }},
	member[*Client]{name: "helo", sign: "string", doc: "the name in HELO or EHLO; \"\" before that command", get: func(x *Client) starlark.Value { return text(x.c.query().Helo) }},
	member[*Client]{name: "port", sign: "int", doc: "its port; 0 if unknown", get: func(x *Client) starlark.Value { return starlark.MakeInt(int(x.session().Port)) }},
	member[*Client]{name: "auth_user", sign: "string", doc: "the authenticated user; \"\" if the client has not authenticated. Known from MAIL on", get: func(x *Client) starlark.Value { return text(x.c.query().AuthUser) }},
	member[*Client]{name: "tls", sign: "string or None", doc: "the TLS version, such as \"TLSv1.3\"; None without TLS. Known from MAIL on", get: func(x *Client) starlark.Value { return orNone(x.session().TLSVersion) }},
	member[*Client]{name: "tls_cipher", sign: "string or None", doc: "the TLS cipher; None without TLS", get: func(x *Client) starlark.Value { return orNone(x.session().TLSCipher) }},
	member[*Client]{name: "trusted", sign: "bool", doc: "whether it is in one of the trusted networks", get: (*Client).trusted},
	member[*Client]{name: "local", sign: "bool", doc: "whether the mail was submitted locally on this machine and not over SMTP", get: func(x *Client) starlark.Value { return starlark.Bool(x.session().Local) }},
	member[*Client]{name: "listener", sign: "string", doc: "the socket that the MTA uses, such as \"unix:/run/rcptgate/milter.sock\"", get: func(x *Client) starlark.Value { return text(x.session().Listener) }},
	member[*Client]{name: "mta", sign: "string", doc: "\"sendmail\", \"postfix\" or \"unknown\"", get: func(x *Client) starlark.Value { return text(x.session().MTA.String()) }},
	member[*Client]{name: "notes", sign: "notes", doc: "values that the script keeps until the connection ends", get: func(x *Client) starlark.Value { x.notes = Notes{c: x.c, of: ofClient}; return &x.notes }},
)

// noSession stands in where a front has no connection to speak of.
var noSession rcptgate.Session //nolint:gochecknoglobals // never written

func (c *Call) session() *rcptgate.Session {
	if s := c.query().Session; s != nil {
		return s
	}
	return &noSession
}

func (x *Client) session() *rcptgate.Session { return x.c.session() }

func (x *Client) ip() starlark.Value {
	if a := x.c.query().Client; a.IsValid() {
		return text(a.Unmap().String())
	}
	return text("")
}

func (x *Client) trusted() starlark.Value {
	if x.c.Env == nil || x.c.Env.Trusted == nil {
		return starlark.False
	}
	a := x.c.query().Client
	return starlark.Bool(a.IsValid() && x.c.Env.Trusted(a))
}

// String and the rest make Client a value.
func (x *Client) String() string                           { return "client " + x.c.query().Client.String() }
func (*Client) Type() string                               { return clientClass.name }
func (*Client) Hash() (uint32, error)                      { return unhashable("a client") }
func (x *Client) AttrNames() []string                      { return clientClass.names }
func (x *Client) Attr(name string) (starlark.Value, error) { return clientClass.attr(x, name) }

// Mail is a transaction: the argument of sender.
type Mail struct {
	object
	c     *Call
	notes Notes
}

var mailClass = newClass("mail", "the MAIL command: the argument of sender()",
	member[*Mail]{name: "client", sign: "client", doc: "the client", get: func(x *Mail) starlark.Value { return &x.c.client }},
	member[*Mail]{name: "sender", sign: "address", doc: "the reverse-path (MAIL FROM) without brackets, in lower case as it is compared; \"\" is the null sender <>", get: func(x *Mail) starlark.Value { return text(x.c.sender()) }},
	member[*Mail]{name: "size", sign: "int", doc: "the size in octets that the client announced (SIZE=); 0 if it announced none", get: func(x *Mail) starlark.Value { return starlark.MakeInt64(x.c.query().Size) }},
	member[*Mail]{name: "args", sign: "list of strings", doc: "the ESMTP arguments of MAIL as the client wrote them, such as [\"SIZE=1000\", \"BODY=8BITMIME\"]", get: (*Mail).args},
	member[*Mail]{name: "queue_id", sign: "string", doc: "the MTA's queue ID of the message; Postfix has none before the first recipient", get: func(x *Mail) starlark.Value { return text(x.c.query().QueueID) }},
	member[*Mail]{name: "accepted", sign: "int", doc: "the number of recipients of this message accepted so far", get: func(x *Mail) starlark.Value { return starlark.MakeInt(x.c.query().Accepted) }},
	member[*Mail]{name: "notes", sign: "notes", doc: "values that the script keeps until the transaction ends", get: func(x *Mail) starlark.Value { x.notes = Notes{c: x.c, of: ofMail}; return &x.notes }},
)

// argsMax bounds the arguments of MAIL that a script sees; a milter's frame bounds their size.
const argsMax = 100

func (x *Mail) args() starlark.Value {
	var list []starlark.Value
	for arg := range strings.SplitSeq(x.c.session().Mail.Args, "\x00") {
		if arg != "" && len(list) < argsMax {
			list = append(list, text(strings.Clone(arg)))
		}
	}
	return starlark.NewList(list)
}

// String and the rest make Mail a value.
func (x *Mail) String() string                           { return "mail from <" + x.c.query().Sender + ">" }
func (*Mail) Type() string                               { return mailClass.name }
func (*Mail) Hash() (uint32, error)                      { return unhashable("a mail") }
func (x *Mail) AttrNames() []string                      { return mailClass.names }
func (x *Mail) Attr(name string) (starlark.Value, error) { return mailClass.attr(x, name) }

// Rcpt is a recipient: the argument of recipient.
type Rcpt struct {
	object
	c *Call
}

var rcptClass = newClass("rcpt", "one recipient: the argument of recipient(), and of functions that rules call. It has all attributes of mail, and:",
	append(with(mailClass, func(x *Rcpt) *Mail { return &x.c.mail }),
		member[*Rcpt]{name: "address", sign: "address", doc: "the recipient as it is compared, with the domain and the local part in lower case", get: func(x *Rcpt) starlark.Value { return text(canonical(&x.c.query().Recipient)) }},
		member[*Rcpt]{name: "verbatim", sign: "address", doc: "the recipient as the client wrote it, without brackets", get: func(x *Rcpt) starlark.Value { return text(x.c.query().Recipient.Path) }},
		member[*Rcpt]{name: "target", sign: "address", doc: "the address that the MTA rewrote the recipient to (virtusertable); the recipient itself if it was not rewritten", get: func(x *Rcpt) starlark.Value { return text(canonical(&x.c.query().Target)) }},
		member[*Rcpt]{name: "mailer", sign: "string", doc: "the MTA's mailer or transport, such as \"smtp\" or \"local\"", get: func(x *Rcpt) starlark.Value { return text(x.c.query().NextHop.Mailer) }},
		member[*Rcpt]{name: "host", sign: "string", doc: "the MTA's next hop for the recipient", get: func(x *Rcpt) starlark.Value { return text(x.c.query().NextHop.Host) }},
		member[*Rcpt]{name: "known", sign: "bool", doc: "whether the mailbox is already known to exist", get: func(x *Rcpt) starlark.Value { return starlark.Bool(x.c.query().Known) }},
		member[*Rcpt]{name: "index", sign: "int", doc: "the number of recipients accepted before this one", get: func(x *Rcpt) starlark.Value { return starlark.MakeInt(x.c.query().Accepted) }},
		member[*Rcpt]{name: "exists", sign: "() -> string", doc: "checks whether the mailbox exists, as the gate would after the script. The answer is remembered; repeated calls ask the next hop only once. Returns \"valid\", \"unknown\", \"full\", \"refused\" (for another reason), \"unsure\" (no answer could be obtained) or \"unchecked\" (this recipient or this client is not checked)", call: (*Call).exists},
	)...)

// String and the rest make Rcpt a value.
func (x *Rcpt) String() string                           { return "recipient <" + x.c.query().Recipient.Path + ">" }
func (*Rcpt) Type() string                               { return rcptClass.name }
func (*Rcpt) Hash() (uint32, error)                      { return unhashable("a recipient") }
func (x *Rcpt) AttrNames() []string                      { return rcptClass.names }
func (x *Rcpt) Attr(name string) (starlark.Value, error) { return rcptClass.attr(x, name) }

func (*Call) exists(x *Rcpt, b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	c := x.c // in tests, not the call that is running
	switch err := starlark.UnpackArgs(b.Name(), args, kwargs); {
	case err != nil:
		return nil, err
	case c.Query == nil:
		return nil, errOver
	case c.Env.Exists == nil:
		return starlark.String("unchecked"), nil
	}
	v := c.Env.Exists(c.context(), c.Query)
	return starlark.String(existence(&v)), nil
}

// existence is the word for what the rest of the chain says.
func existence(v *rcptgate.Verdict) string {
	action := v.Action
	if v.Would != rcptgate.Continue {
		action = v.Would
	}
	switch {
	case v.Reason == rcptgate.ReasonUnknownUser && action == rcptgate.Reject:
		return "unknown"
	case v.Reason == rcptgate.ReasonMailboxFull, v.Reason == rcptgate.ReasonTooLarge:
		return "full"
	case action == rcptgate.Reject:
		return "refused"
	case action == rcptgate.Tempfail:
		return "unsure"
	case v.Reason == rcptgate.ReasonValid, v.Reason == rcptgate.ReasonLocal:
		return "valid"
	}
	return "unchecked"
}

// part gives an attribute of a string that is an address: of a mailbox or a host.
func (c *Call) part(s, name string) (starlark.Value, error) {
	switch name {
	case "null":
		return starlark.Bool(s == ""), nil
	case "is6":
		return starlark.Bool(isIP6(s)), nil
	}
	m := address.Parse(s)
	switch name {
	case "domain":
		return text(m.Domain), nil
	case "local":
		return text(rcptgate.FoldCase(m.Local)), nil
	}
	user, _, detail := address.SplitDetail(m.Local, c.delimiters())
	if name == "user" {
		return text(rcptgate.FoldCase(user)), nil
	}
	return text(rcptgate.FoldCase(detail)), nil
}

func (c *Call) delimiters() string {
	if c != nil && c.Env != nil && c.Env.Language != nil {
		return c.Env.Language.Delimiters
	}
	return "+"
}

// sender is the reverse-path as it is compared. The last one is remembered: recipients of
// one message have the same.
func (c *Call) sender() string {
	if path := c.query().Sender; path != c.path {
		m := address.Parse(path)
		c.path, c.canonical = path, canonical(&m)
	}
	return c.canonical
}

// canonical writes a mailbox as it is compared: as patterns see it.
func canonical(m *rcptgate.Mailbox) string {
	if m.IsZero() {
		return ""
	}
	return strings.TrimSuffix(m.Key(true), "@")
}
