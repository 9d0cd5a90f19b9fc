// SPDX-License-Identifier: BSD-2-Clause

package setting

// Form says what a duration is written like, for errors about values of another type.
func (Duration) Form() string { return `a duration such as "30s", "15m" or "31d"` }

// Form says what a socket address is written like.
func (Socket) Form() string { return "a socket address: " + socketForms }

// Form says what a network is written like.
func (Network) Form() string { return `a network such as "192.0.2.0/24" or "2001:db8::1"` }
