#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
#
# Prepares the programs that "make bench-peers" measures beside rcptgate: MIMEDefang with memcached, and Exim, each
# unpacked from Debian's own packages into a private directory next to the lab of test/install.sh (which brings Postfix),
# since the mail servers' packages exclude each other. Nothing is installed into the system and no service is started,
# so there is nothing for policy-rc.d to forbid; the only trace outside the directory are the users "defang" and
# "Debian-exim", whom the two refuse to run without.
#
# Usage: bench/peers/install.sh            prepare (a second when it is already done)
#        bench/peers/install.sh --where    print the directory
#
# RCPTGATE_PEERS names the directory (default /var/cache/rcptgate-peers). It must be enterable by every user.
#
# Needs: root, Debian, and on a first run Debian's package archive. Exit codes: 0 ready, 69 not possible here.
set -euo pipefail
export LC_ALL=C DEBIAN_FRONTEND=noninteractive

dir=${RCPTGATE_PEERS:-/var/cache/rcptgate-peers}
[ "${1:-}" = --where ] && { echo "$dir"; exit 0; }

fail() { echo "bench/peers/install.sh: $*" >&2; exit 69; }
[ "$(id -u)" = 0 ] || fail "the programs to compare with need root"
command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || fail "the programs to compare with need Debian's apt-get and dpkg-deb"

kits=(mimedefang exim)
# Debian's mimedefang 3.3 does not name Net::DNS and IO::Socket::SSL among what it needs, and does not start without.
declare -A packages=(
	[mimedefang]="mimedefang memcached libcache-memcached-fast-perl libnet-dns-perl libio-socket-ssl-perl"
	[exim]="exim4-daemon-light exim4-base"
)

# What the directory was made from: a change of this file makes it anew.
want=$(sha256sum <"$0" | cut -d' ' -f1)
mkdir -p "$dir"
chmod 755 "$dir"
exec 9>"$dir/lock"
flock 9

account() { # NAME: a system user and its group
	getent group "$1" >/dev/null || groupadd --system "$1"
	getent passwd "$1" >/dev/null ||
		useradd --system --gid "$1" --home-dir /nonexistent --no-create-home --shell /usr/sbin/nologin --badname "$1"
}
account defang
account Debian-exim
[ "$(cat "$dir/ready" 2>/dev/null)" = "$want" ] && exit 0
rm -f "$dir/ready"
echo "preparing MIMEDefang and Exim in $dir"

# apt is shown a copy of the system's package list without any mail server, and so names what a kit lacks here and
# removes nothing.
awk -v RS= '!/(^|\n)Package: (postfix|sendmail|rmail|exim|mimedefang|memcached)/ { print $0 "\n" }' /var/lib/dpkg/status >"$dir/status"
private_apt() {
	apt-get -o Dir::State::status="$dir/status" -o Debug::NoLocking=1 -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache= \
		-o APT::Sandbox::User=root -o Acquire::Retries=3 "$@"
}
plan() { # KIT: the names of its packages and of the libraries missing here
	private_apt install -y --no-install-recommends --print-uris ${packages[$1]} |
		sed -n "s/^'[^']*' \([^_ ]*\)_[^ ]* .*/\1/p" |
		while read -r name; do
			case " ${packages[$1]} lib " in *" $name "*) echo "$name" && continue ;; esac
			case $name in lib*) echo "$name" ;; esac
		done
}
plan exim >/dev/null 2>&1 || apt-get -o Acquire::Retries=3 update -qq || fail "apt-get update failed"

for kit in "${kits[@]}"; do
	rm -rf "$dir/$kit" "$dir/debs"
	mkdir -p "$dir/$kit" "$dir/debs"
	names=$(plan "$kit")
	[ -n "$names" ] || fail "apt-get finds no packages for $kit: are Debian's own sources configured?"
	(cd "$dir/debs" && private_apt download -qq $names) || fail "the packages of $kit could not be fetched: $names"
	for deb in "$dir"/debs/*.deb; do
		dpkg-deb -x "$deb" "$dir/$kit"
		dpkg-deb -f "$deb" Package Version | paste -sd' ' | sed 's/Package: //; s/Version: //' >>"$dir/$kit/packages"
	done
	find "$dir/$kit" -xdev \( -perm -4000 -o -perm -2000 \) -type f -exec chmod ug-s {} + # a private copy needs none
	chmod -R go-w "$dir/$kit"
	echo "  $kit: $(paste -sd, "$dir/$kit/packages")"
done
rm -rf "$dir/debs" "$dir/status"

# A library that is missing shows here and not as a server that does not start.
for kit in "${kits[@]}"; do
	missing=$(find "$dir/$kit" -type f \( -path '*/bin/*' -o -path '*/sbin/*' \) -exec \
		env LD_LIBRARY_PATH="$(find "$dir/$kit" -type d -path '*/lib/*-linux-gnu' | paste -sd:)" ldd {} + 2>/dev/null |
		grep 'not found' | sort -u || true)
	[ -z "$missing" ] || fail "$kit lacks libraries: $missing"
done
echo "$want" >"$dir/ready"
