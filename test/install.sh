#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
#
# Prepares the lab of real mail servers: Sendmail, Postfix, Dovecot and miltertest, each unpacked from Debian's own
# packages into a private directory, since the packages exclude each other. Nothing is installed into the system and no
# service is started; the only trace outside the directory are the users and groups Postfix and Sendmail insist on.
#
# Usage: test/install.sh            prepare (a second when it is already done)
#        test/install.sh --where    print the directory
#
# RCPTGATE_LAB names the directory (default /var/cache/rcptgate-lab). It must not lie below a world-writable directory
# (Sendmail refuses that) nor below one that other users may not enter (Postfix's daemons run as "postfix").
#
# Needs: root, Debian, and on a first run Debian's package archive. Exit codes: 0 ready, 69 not possible here.
set -euo pipefail
export LC_ALL=C DEBIAN_FRONTEND=noninteractive

lab=${RCPTGATE_LAB:-/var/cache/rcptgate-lab}
[ "${1:-}" = --where ] && { echo "$lab"; exit 0; }

fail() { echo "test/install.sh: $*" >&2; exit 69; }
[ "$(id -u)" = 0 ] || fail "the lab of real mail servers needs root"
command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || fail "the lab of real mail servers needs Debian's apt-get and dpkg-deb"

# Each kit is a directory of its own: the packages named here, and the libraries they need that the system lacks.
kits=(postfix sendmail dovecot miltertest database maps memcached)
declare -A packages=(
	[postfix]="postfix"
	[sendmail]="sendmail-bin sendmail-base sendmail-cf m4"
	[dovecot]="dovecot-core dovecot-lmtpd"
	[miltertest]="miltertest"
	[database]="db5.3-util"
	[maps]="postfix-cdb postfix-lmdb tinycdb lmdb-utils"
	[memcached]="memcached libcache-memcached-perl libstring-crc32-perl"
)

# What a complete lab was made from: a change of this file has every kit looked at again.
want=$(sha256sum <"$0" | cut -d' ' -f1)

mkdir -p "$lab"
chmod 755 "$lab"
exec 9>"$lab/lock"
flock 9

accounts() {
	getent group postfix >/dev/null || groupadd --system postfix
	getent group postdrop >/dev/null || groupadd --system postdrop
	getent passwd postfix >/dev/null ||
		useradd --system --gid postfix --home-dir /nonexistent --no-create-home --shell /usr/sbin/nologin postfix
	getent group smmsp >/dev/null || groupadd --system smmsp
	getent passwd smmsp >/dev/null ||
		useradd --system --gid smmsp --home-dir /nonexistent --no-create-home --shell /usr/sbin/nologin smmsp
}

accounts
# What killed test processes have left of their servers' directories.
[ ! -d "$lab/run" ] || find "$lab/run" -mindepth 1 -maxdepth 1 -mmin +1440 -exec rm -rf {} +
if [ "$(cat "$lab/ready" 2>/dev/null)" = "$want" ]; then
	exit 0
fi
rm -f "$lab/ready"
echo "preparing the lab of real mail servers in $lab"

# apt is shown the system without any mail server, so that it names what a kit needs here without removing anything.
# The status file is a copy; no lock of the system is taken and nothing is installed.
private_apt() {
	apt-get -o Dir::State::status="$lab/status" -o Debug::NoLocking=1 -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache= \
		-o APT::Sandbox::User=root -o Acquire::Retries=3 "$@"
}
awk -v RS= '!/(^|\n)Package: (postfix|sendmail|rmail|exim|dovecot|miltertest)/ { print $0 "\n" }' /var/lib/dpkg/status >"$lab/status"

plan() { # KIT: the archive files of its packages and of the libraries missing here, one "URI FILE" a line
	private_apt install -y --no-install-recommends --print-uris ${packages[$1]} |
		sed -n "s/^'\([^']*\)' \([^ ]*\) .*/\1 \2/p"
}
# The archive may be out of reach for minutes, and another apt may hold the lists' lock: what needs it is tried this
# often, with pauses of 10, 20, 40, 80 and 120 s between.
tries=6
pause() { # TRY
	local seconds=$((10 << ($1 - 1)))
	echo "  the package archive cannot be reached; once more in $((seconds < 120 ? seconds : 120)) s" >&2
	sleep $((seconds < 120 ? seconds : 120))
}
update() { # the package lists: old ones name files that the archive has replaced
	apt-get -o Acquire::Retries=3 -o Acquire::http::Timeout=30 -o DPkg::Lock::Timeout=120 update -qq
}

wanted() { # KIT: of "URI FILE" lines those that are unpacked: what the kit names, and libraries
	local uri file name
	while read -r uri file; do
		name=${file%%_*}
		case " ${packages[$1]} " in *" $name "*) echo "$name" && continue ;; esac
		case $name in lib*) echo "$name" ;; esac
	done
}

download() { # KIT
	local names
	names=$(plan "$1" | wanted "$1") || return 1
	[ -n "$names" ] || { echo "apt-get finds no packages for $1: are Debian's own sources configured?" >&2; return 1; }
	(cd "$lab/debs" && private_apt -o Acquire::http::Timeout=30 download -qq $names)
}

fetch() { # KIT, with new package lists if the present ones do not do
	local try
	for ((try = 1; ; try++)); do
		download "$1" && return
		[ "$try" -lt "$tries" ] || fail "the packages of $1 could not be fetched"
		[ "$try" = 1 ] || pause $((try - 1))
		rm -f "$lab"/debs/* # what an old list named
		update || true # the next download tells whether that was enough
	done
}

for kit in "${kits[@]}"; do
	# A kit stays as it is while its packages are the same: a new one does not pull the others from under running tests.
	[ "$(cat "$lab/$kit/made-from" 2>/dev/null)" = "${packages[$kit]}" ] && continue
	rm -rf "$lab/$kit" "$lab/debs"
	mkdir -p "$lab/$kit" "$lab/debs"
	fetch "$kit"
	for deb in "$lab"/debs/*.deb; do
		dpkg-deb -x "$deb" "$lab/$kit"
		dpkg-deb -f "$deb" Package Version | paste -sd' ' | sed 's/Package: //; s/Version: //' >>"$lab/$kit/packages"
	done
	# Set-id bits have no place in a private copy.
	find "$lab/$kit" -xdev \( -perm -4000 -o -perm -2000 \) -type f -exec chmod ug-s {} +
	chmod -R go-w "$lab/$kit"
	echo "${packages[$kit]}" >"$lab/$kit/made-from"
	echo "  $kit: $(paste -sd, "$lab/$kit/packages")"
done
rm -rf "$lab/debs" "$lab/status"

# A library that is missing shows here and not as a server that does not start.
for kit in "${kits[@]}"; do
	libs=$(find "$lab/$kit" -type d \( -path '*/lib/*-linux-gnu' -o -path '*/lib/postfix' -o -path '*/lib/dovecot' -o -path '*/lib/libmilter' \) | paste -sd:)
	missing=$(find "$lab/$kit" -type f \( -path '*/bin/*' -o -path '*/sbin/*' -o -path '*/libexec/*' \) -exec \
		env LD_LIBRARY_PATH="$libs" ldd {} + 2>/dev/null | grep 'not found' | sort -u || true)
	[ -z "$missing" ] || fail "$kit lacks libraries: $missing"
done
echo "$want" >"$lab/ready"
