// SPDX-License-Identifier: BSD-2-Clause

// Package alias knows the local names: what the MTA's own tables hold is known here,
// and stands for other mailboxes about which the following steps are asked.
//
// It reads the tables that the MTA reads, the way it reads them: alias databases
// (aliases(5) of Sendmail and of Postfix), Sendmail's virtusertable and access map
// (cf/README), Postfix's virtual_alias_maps (virtual(5)), canonical maps (canonical(5)) and
// relay_recipient_maps (postconf(5)), the list of local domains
// (/etc/mail/local-host-names) and passwd(5). Which tables these are may come from the MTA's
// own main.cf or sendmail.cf: see [Effective]. Look-ups are in lower case, then as the name
// was written, since makemap -f keeps case; a local part that needs quotes also with these,
// since newaliases and postmap keep them.
//
// # One recipient
//
//  0. The access map: what it says of the address that the client gave is the verdict,
//     unless that is OK, RELAY or SKIP. FEATURE lookupdotdomain (keys such as
//     ".example.com") is not known.
//  1. A name without a domain in {rcpt_addr} is the local name to which Sendmail delivers;
//     it goes to step 3. Otherwise recipient_canonical_maps, canonical_maps and
//     virtual_alias_maps: the whole address and, without its detail, the shorter ones, then
//     the whole domain. What is found takes the recipient's place.
//  2. virtusertable, in its own domains and in local ones, where the MTA has not applied it.
//  3. In a local domain: the alias databases, by the local part alone: user+detail,
//     user+* (Sendmail), user. What is found is followed too. Where only Postfix's tables
//     are configured, its local(8) looks local targets up in the alias databases alone.
//  4. What ends here: a recipient listed in relay_recipient_maps exists; one that is not, in
//     one of relay_domains, is refused. Targets of aliases are not.
//  5. Where it ends otherwise, for each target: a program, a file, an unreadable :include: and
//     an address in a domain that does not concern this gateway count as accepted, and one of
//     them is enough. A user of passwd and a listed recipient exist: the steps that follow do
//     not ask whether they do, but still see them. An address in a domain with a [[domain]]
//     section that has backends is asked about by the steps that follow. A local name that
//     neither a table nor passwd holds is refused where all users are known: domains are
//     written out, no table is missing, and no other server may know the name. So is an
//     absent name of a virtual domain.
//
// A recipient that no table holds goes on to the following steps, except for one of a
// domain written out in domains, or of a virtual domain, without a route, which is
// refused: 550 5.1.1. Never refused so are postmaster and abuse. A name in passwd exists
// where the MTA would deliver with its mailer "local", and no server is asked about it;
// where the MTA does not say with what it would deliver, it is not refused.
//
// A table that could not be read is an error ("could not find out"), never absence.
//
// # Names of other gateways
//
// The alias databases may be those of another gateway, which package names shares. They can
// hold less than they should at any time: where they are among the files no name is refused
// for being absent, and a memcached that cannot be asked is absence too.
//
// # Limits
//
// Targets are followed 16 levels deep, at most 256 names and 4,096 targets a question; beyond, and
// in a circle, a recipient counts as accepted. The same holds for more than 16 targets to
// ask about. Files of :include: are read up to 1 MiB, at most 8 at a time, for 2 s at
// most, and 256 of them are kept, for a second. Programs are never run. Users that only
// a name service knows (LDAP, NIS) are not in passwd(5): sites that have such users leave their
// domain out of the domains written out.
package alias
