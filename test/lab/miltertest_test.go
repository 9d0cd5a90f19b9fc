// SPDX-License-Identifier: BSD-2-Clause

package lab

import "testing"

// miltertest talks to a filter here, and distinguishes a refusal from a continue.
func TestMiltertest(t *testing.T) {
	Need(t, MiltertestKit)
	w := startWitness(t, "tcp", "127.0.0.1:0", "", false)
	Miltertest(t, "inet:"+itoa(portOf(w.listener))+"@127.0.0.1", `
conn = mt.connect(socket, 40, 0.05)
if conn == nil then error("no connection") end
if mt.conninfo(conn, "client.test", "127.0.0.9") ~= nil then error("conninfo") end
if mt.getreply(conn) ~= SMFIR_CONTINUE then error("conninfo answer") end
mt.helo(conn, "client.test")
if mt.getreply(conn) ~= SMFIR_CONTINUE then error("helo answer") end
mt.mailfrom(conn, "<sender@client.test>")
if mt.getreply(conn) ~= SMFIR_CONTINUE then error("mail answer") end
mt.macro(conn, SMFIC_RCPT, "{rcpt_mailer}", "smtp", "{rcpt_host}", "[127.0.0.1]:25", "{rcpt_addr}", "good@pf.test")
mt.rcptto(conn, "<good@pf.test>")
if mt.getreply(conn) ~= SMFIR_CONTINUE then error("good recipient refused") end
mt.rcptto(conn, "<nobody@pf.test>")
if mt.getreply(conn) ~= SMFIR_REPLYCODE then error("unknown recipient taken") end
mt.disconnect(conn)
`)
}
