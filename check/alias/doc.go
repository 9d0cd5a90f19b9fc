// SPDX-License-Identifier: BSD-2-Clause

// Package alias knows the local names: what the MTA's own tables hold is known here,
// and stands for other mailboxes about which the following steps are asked.
//
// It reads the tables that the MTA reads, the way it reads them: alias databases
// (aliases(5) of Sendmail and of Postfix), Sendmail's virtusertable (cf/README) and
// Postfix's virtual_alias_maps (virtual(5)), Sendmail's access map (cf/README), the list of local domains
// (/etc/mail/local-host-names), Postfix's relay_recipient_maps (postconf(5)) and
// passwd(5). Look-ups are in lower case, then as the
// name was written, since makemap -f keeps case; a local part that needs quotes also with
// these, since newaliases and postmap keep them.
//
// # One recipient
//
//  0. The access map: what it says of the address that the client gave is the verdict,
//     unless that is OK, RELAY, SKIP or QUARANTINE. FEATURE lookupdotdomain (keys such
//     as ".example.com") is not known.
//  1. virtual_alias_maps, then virtusertable, in every domain: the whole address and,
//     without its detail, the shorter ones, then the whole domain. What is found takes
//     the recipient's place and is looked up again. An address that the MTA hands to
//     another server has been through its virtusertable: ours is not asked again.
//  2. In a local domain: the alias databases, by the local part alone: user+detail,
//     user+* (Sendmail), user. What is found is followed too.
//  3. What ends here: relay_recipient_maps of Postfix; who is listed exists, who is not,
//     in one of relay_domains, is refused.
//  4. Where it ends otherwise, per target: a program, a file, an unreadable :include: and
//     an address for which nobody here is responsible count as taken, and one of them is
//     enough. \user, a bare name that no table holds, a local user of passwd and who is
//     listed in relay_recipient_maps are mailboxes that exist: the steps that follow do
//     not ask whether they do, but still see them. An address in a domain with
//     a [[domain]] section that has backends is asked about by the steps that follow. An
//     address in a domain that is written out in domains, without such a section, that no
//     table holds is refused.
//
// A recipient that no table holds goes on to the following steps, but for one of a
// domain written out in domains, for which nobody else is responsible, which is
// refused: 550 5.1.1. Never refused so are postmaster and abuse. A name in passwd exists
// where the MTA would deliver with its mailer "local", and no server is asked about it;
// where the MTA does not say with what it would deliver, it is not refused.
//
// A table that could not be read is an error ("could not find out"), never absence.
//
// # Names for other gateways
//
// A [Publisher] puts the names of the alias databases into memcached, and [Published]
// is the table of those that other gateways have put there. It can hold less than it
// should at any time: where it is among the files nobody is refused for being absent,
// and a memcached that cannot be asked is absence too. See
// docs/decisions/0305-published-names.md.
//
// # Limits
//
// Targets are followed 16 levels deep, at most 256 names and 4,096 targets a question; beyond, and
// in a circle, a recipient counts as taken. The same holds for more than 16 targets to
// ask about. Files of :include: are read up to 1 MiB, at most 8 at a time, for 2 s at
// most, and 256 of them are kept, for a second. Programs are never run. Users that only
// a name service knows (LDAP, NIS) are not in passwd(5): whoever has such leaves their
// domain out of the domains written out.
package alias
