// SPDX-License-Identifier: BSD-2-Clause

// Package bdb reads the hash and btree files of Berkeley DB: what Sendmail's
// newaliases and makemap, and Postfix's postalias and postmap, leave next to the
// text they were given. It only reads, takes no lock, and needs no library.
//
// # Source
//
// The format has no specification. What follows is put together from Berkeley
// DB's public sources (src/dbinc/db_page.h and db_upgrade.h for the structures,
// src/db/db_conv.c for byte order and checksums, src/hash/hash.c for the order of
// buckets, and the checks of db_verify(1)), and was held against the files that
// libdb 5.3 writes.
//
// # Files and pages
//
// A file is an array of pages of equal size, a power of two from 512 to 65,536
// octets; a page's number is its place. Integers are in the byte order of the
// machine that made the file, which the magic number betrays. Page 0 is the meta
// page:
//
//	 0  8  log sequence number        28  4  first free page
//	 8  4  page number, 0             32  4  last page
//	12  4  magic: 0x061561 hash,      36  4  partitions
//	       0x053162 btree             40  8  cached counts of keys and records
//	16  4  version                    48  4  flags of the type
//	20  4  page size                  52 20  file identity
//	24  1  encryption, 0 none         72     fields of the type
//	25  1  page type, 8 or 9         492  4  checksum of the first 512 octets
//	26  1  1 checksums, 6 partitioned
//
// Every other page begins with 26 octets: log sequence number (8), page number
// (4), previous page (4), next page (4), number of items (2), offset of the lowest
// item (2; on overflow pages the octets used), level (1) and type (1). In files
// with checksums two unused octets and a checksum (4) follow. Then come the items'
// offsets, two octets each; the items themselves fill the page from its end. The
// checksum is h = 33h + octet over the page, its own four octets taken as zero.
//
// Overflow pages (type 7) hold a key or value too large for a page: a chain by
// next page, of which the item names the first page and the whole length.
//
// # Hash (versions 7 to 10)
//
// The meta page goes on with the highest bucket (72), high mask (76), low mask
// (80), fill factor (84), number of keys (88), the hash of a well-known string
// (92), and 32 spares (96). Bucket b begins at page b + spares[bits(b)], bits being
// the length of b as a binary number, and goes on along next page. The hash is
// h = 16777619h ^ octet; a key belongs to bucket h & high mask, or if there is no
// such bucket h & low mask. Pages have type 13, sorted by key, or before version
// 9 type 2, unsorted; a page never written is zero and an empty bucket. Items are
// alternately keys and values; an item ends where its predecessor begins and its
// first octet is its type: 1 octets, 2 several values (each between two copies of
// its length, two octets each), 3 overflow (page at 4, length at 8), 4 a tree of
// values (root at 4).
//
// Scan goes through the buckets by number, as a cursor of the library and so
// makemap -u, postmap -s and db_dump do.
//
// # Btree (versions 8 to 10)
//
// The root's number stands at 88 of the meta page. Items begin at multiples of
// four with a length (2) and a type (1), whose top bit marks a deleted item: 1
// octets from 3 on, 2 a tree of values (root at 4), 3 overflow (page at 4, length
// at 8). Internal pages (type 3) have the child's page at 4, a count at 8 and the
// separating key from 12 on; leaves (type 5) have keys and values alternately,
// where duplicates share one key item, and are chained both ways. Leaves are
// level 1. Trees of values, in hash files too, are either sorted (internal 3,
// leaf 12) or by record number (internal 4: page at 0, count at 4; leaf 6).
//
// # Versions
//
// Hash 7 and btree 8 are those of the 3.x releases from 3.1 on, hash 8 of the 4.x
// releases before 4.6, hash 9 of 4.6 to 5.3, btree 9 of 4.x to 5.3, and 10 of 6.0
// and later. For what is read here they differ little. In the meta page of hash 7
// and btree 8 the last page's number was part of a log sequence number and is not
// looked at. Hash pages were unsorted before version 9. Overflow pages counted
// references before 4.3, for the sake of internal pages, whose keys are not read.
// Version 10 knows items kept in files next to the database; these are refused.
//
// What is proved, and how: Debian 12's programs write version 9 alone, of every page
// size, in both byte orders, with and without checksums, and these are read entry by
// entry with db_dump (TestRandomDatabases). No program that writes 7, 8 or 10 could
// be had: for these, files of version 9 are given the other version's header and page
// types (TestOlderVersions). Such a file that is refused, or whose
// "rcptgate table dump" differs from db_dump, is worth a report.
//
// # What is checked
//
// Everything that says where to read, before it is followed: magic, version, page
// size, masks, page numbers, types, levels, item offsets (an item lies inside its
// page, items fill the page without gaps), the length of overflow items against
// their chains, and links both ways. No page is used twice, so that work and
// memory are bounded by the file: at most three items (key, value, previous key)
// and a page for each level are held. Beyond that, what a damaged or half-written
// file may show: a key in a bucket it does not hash to, keys out of order on a
// sorted page or in a tree, a zeroed page where the writer must have written one,
// duplicates where the file forbids them, checksums. (In a hash file made with a
// fill factor, as neither MTA does, any bucket but the last may never have been
// written: there a zeroed page can pass for an empty bucket.)
//
// Values are octets, so damage inside a value shows only with checksums; and a file
// of which some pages are old and some new shows as far as the above goes. The
// count of keys in a hash file's meta page begins with the size that the writer
// asked for (4,096 in both MTAs), and those of btree files are written only by
// db_stat: Info.Entries is -1, but a hash file that misses keys of the count is
// refused.
//
// # Limits
//
// Refused, with an error that says so: files of Berkeley DB 1.85, 2 and 3.0;
// encrypted, partitioned, compressed, recno, queue and heap files; a file of
// several databases (subdatabases: neither MTA makes any); hash and order
// functions other than the library's own (the MTAs could not look up in those
// either); items above 64 MiB.
package bdb
