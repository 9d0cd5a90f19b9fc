// SPDX-License-Identifier: BSD-2-Clause

package rules

import "rcptgate"

// usesTLS reports whether the client uses TLS, as far as the front knows.
func usesTLS(q *rcptgate.Query) bool { return q.Session != nil && q.Session.TLSVersion != "" }

// recipients is how many recipients the message has with this one.
func recipients(q *rcptgate.Query) int64 { return int64(q.Accepted) + 1 }

func lower(s string) string { return rcptgate.FoldCase(s) }
