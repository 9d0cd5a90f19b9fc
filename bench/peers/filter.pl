# -*- Perl -*-
# SPDX-License-Identifier: BSD-2-Clause
#
# The filter that a careful postmaster would write for MIMEDefang (mimedefang-filter(5)) to do rcptgate's main job: ask
# the server behind whether it takes the recipient, and remember the answer in memcached: good ones a day, unknown ones
# 15 minutes, failures not at all. It uses Cache::Memcached::Fast, the quickest client Debian has; the connection is
# opened once a worker.
#
# RCPTGATE_PEER_MEMCACHED and RCPTGATE_PEER_BACKEND name memcached's unix socket and the backend's HOST:PORT.

use strict;
use warnings;
use Cache::Memcached::Fast;

our ($AdminAddress, $DaemonAddress) = ('postmaster@gate.test', 'mimedefang@gate.test');

my ($server, $port) = split /:/, $ENV{RCPTGATE_PEER_BACKEND};
my $memory;

sub filter_initialize {
	$memory = Cache::Memcached::Fast->new({
		servers => [$ENV{RCPTGATE_PEER_MEMCACHED}],
		namespace => 'rcpt:',
		connect_timeout => 0.2,
		io_timeout => 0.2,
	});
	return;
}

sub filter_recipient {
	my ($recipient, $sender, $ip, $name, $first, $helo) = @_;
	(my $key = lc $recipient) =~ s/^<|>$//g;
	return ('REJECT', 'Bad recipient address', 501, '5.1.3') if $key =~ /[\s[:cntrl:]]/ or length $key > 200;

	my $known = $memory->get($key);
	if (defined $known) {
		return ('CONTINUE', 'ok') if $known eq 'ok';
		my ($code, $dsn, $text) = split /\t/, $known, 3;
		return ('REJECT', $text, $code, $dsn);
	}
	my ($verdict, $text, $code, $dsn) =
		md_check_against_smtp_server('<>', "<$key>", 'mx.gate.test', $server, $port);
	if ($verdict eq 'CONTINUE') {
		$memory->set($key, 'ok', 86400);
	} elsif ($verdict eq 'REJECT') {
		$memory->set($key, join("\t", $code, $dsn, $text), 900);
	}
	return ($verdict, $text, $code, $dsn);
}

1;
