-- SPDX-License-Identifier: BSD-2-Clause
-- Drives the front with miltertest(8), a client that others wrote. The socket comes
-- in the variable "socket". The filter behind refuses "unknown" and "full".

local function must(err, what)
	if err ~= nil then
		error(what .. ": " .. tostring(err))
	end
end

local function reply(conn, want, what)
	local got = mt.getreply(conn)
	if got ~= want then
		error(what .. ": reply " .. string.char(got) .. ", wanted " .. string.char(want))
	end
end

local conn = mt.connect(socket, 40, 0.05)
if conn == nil then
	error("cannot connect to " .. socket)
end
must(mt.negotiate(conn, nil, nil, nil), "negotiate")
if not mt.test_action(conn, SMFIF_SETSYMLIST) then
	error("the filter asks for no macros")
end
if not mt.test_option(conn, SMFIP_NOBODY) or not mt.test_option(conn, SMFIP_NOHDRS) then
	error("the filter wants header or body")
end
if mt.test_option(conn, SMFIP_NOCONNECT) or mt.test_option(conn, SMFIP_NR_CONN) or mt.test_option(conn, SMFIP_NORCPT) then
	error("the filter does not want connect or RCPT")
end
must(mt.conninfo(conn, "client.example", "127.0.0.2"), "connect")
reply(conn, SMFIR_CONTINUE, "connect")
must(mt.helo(conn, "client.example"), "HELO")

for n = 1, 3 do
	mt.macro(conn, SMFIC_MAIL, "i", "QID" .. n)
	must(mt.mailfrom(conn, "<sender@example.org>", "SIZE=100"), "MAIL")
	mt.macro(conn, SMFIC_RCPT, "{rcpt_mailer}", "smtp", "{rcpt_host}", "[127.0.0.1]:25", "{rcpt_addr}", "good@example.com")
	must(mt.rcptto(conn, "<good@example.com>"), "RCPT good")
	reply(conn, SMFIR_CONTINUE, "RCPT good")
	must(mt.rcptto(conn, "<unknown@example.com>", "NOTIFY=NEVER"), "RCPT unknown")
	reply(conn, SMFIR_REPLYCODE, "RCPT unknown")
	must(mt.rcptto(conn, "<full@example.com>"), "RCPT full")
	reply(conn, SMFIR_REPLYCODE, "RCPT full")
	must(mt.rcptto(conn, "<good@example.com>"), "RCPT good again")
	reply(conn, SMFIR_CONTINUE, "RCPT good again")
	if n == 2 then
		must(mt.abort(conn), "abort")
	else
		must(mt.eom(conn), "end of message")
		reply(conn, SMFIR_CONTINUE, "end of message")
	end
end
must(mt.disconnect(conn), "quit")
