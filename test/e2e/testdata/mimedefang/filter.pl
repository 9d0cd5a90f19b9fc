# -*- Perl -*-
# SPDX-License-Identifier: BSD-2-Clause
#
# What many mimedefang-filters do: refuse senders, refuse pairs of sender and recipient, refuse attachments by their
# names, also inside zip files, mark mail from outside, add and remove header fields and recipients, append a disclaimer.
# filter.star next to this file does the same.

use strict;
use warnings;

our ($AdminAddress, $AdminName, $DaemonAddress) = ('postmaster@gate.test', 'Postmaster', 'mimedefang@gate.test');
our ($Sender, $Subject); # set by MIMEDefang

my $bad = '\.(exe|scr|pif|bat|com|vbs|js)\.*$';
my $refused;

sub plain { my $address = lc $_[0]; $address =~ s/^<|>$//g; return $address }

sub filter_sender {
	my ($sender) = @_;
	return ('REJECT', 'Mail from evil.test is not taken.', 554, '5.7.1') if plain($sender) =~ /\@evil\.test$/;
	return ('CONTINUE', 'ok');
}

sub filter_recipient {
	my ($recipient, $sender) = @_;
	my ($to, $from) = (plain($recipient), plain($sender));
	return ('REJECT', 'This mailbox takes mail from partners only.', 550, '5.7.1')
		if $to eq 'boss@in.test' and $from !~ /\@(partner|inside)\.test$/;
	return ('REJECT', 'This list is for members.', 550, '5.7.2') if $to eq 'all@in.test' and $from !~ /\@inside\.test$/;
	return ('TEMPFAIL', 'Closed at night, try again later.', 451, '4.7.1') if $to eq 'night@in.test' and $from ne '';
	return ('CONTINUE', 'ok');
}

sub filter_begin {
	my ($entity) = @_;
	$refused = 0;
	return;
}

sub look_at {
	my ($entity) = @_;
	return if $refused;
	my $path = defined $entity->bodyhandle ? $entity->bodyhandle->path : undef;
	if (re_match($entity, $bad) or defined $path and re_match_in_zip_directory($path, $bad)) {
		$refused = 1;
		action_bounce('Programs are not taken.', 550, '5.7.1');
	}
	return;
}

sub filter {
	my ($entity, $name, $ext, $type) = @_;
	look_at($entity);
	return action_accept();
}

sub filter_multipart {
	my ($entity) = @_;
	look_at($entity);
	return action_accept();
}

sub filter_end {
	my ($entity) = @_;
	return if message_rejected();
	action_delete_all_headers('X-Internal');
	action_change_header('Subject', "[EXT] $Subject") if plain($Sender) !~ /\@inside\.test$/ and defined $Subject and $Subject ne '';
	action_add_header('X-Checked', 'yes, by the gate');
	my $head = $entity->head;
	add_recipient('<archive@in.test>') if defined $head->get('X-Archive');
	delete_recipient('<copy@in.test>') if defined $head->get('X-Spam');
	if (defined $head->get('X-Note')) {
		append_text_boilerplate($entity, "-- \nThis mail passed the gate of in.test.", 0);
	}
	return;
}

1;
