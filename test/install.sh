#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
#
# Prepares the lab of real mail servers: Sendmail, Postfix, Dovecot and miltertest. Each is unpacked from Debian's own
# packages into a private directory, because the packages conflict with each other. Nothing is installed into the
# system and no service is started. The only traces outside the directory are the users and groups that Postfix and
# Sendmail need.
#
# Usage: test/install.sh              prepare (takes a second once it is done)
#        test/install.sh KIT...       prepare, and fetch these optional kits too
#        test/install.sh --plan KIT   print the packages that the kit would contain on this machine
#        test/install.sh --where      print the directory
#
# RCPTGATE_LAB names the directory (default /var/cache/rcptgate-lab). It must not lie below a world-writable directory
# (Sendmail refuses that) nor below one that other users may not enter (Postfix's daemons run as "postfix").
#
# Needs root, Debian, and on the first run Debian's package archive. Exit codes: 0 ready, 69 not possible here.
set -euo pipefail
export LC_ALL=C DEBIAN_FRONTEND=noninteractive

lab=${RCPTGATE_LAB:-/var/cache/rcptgate-lab}
[ "${1:-}" = --where ] && { echo "$lab"; exit 0; }

fail() { echo "test/install.sh: $*" >&2; exit 69; }
[ "$(id -u)" = 0 ] || fail "the lab of real mail servers needs root"
command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || fail "the lab of real mail servers needs Debian's apt-get and dpkg-deb"

# Each kit is a separate directory. It holds the packages named here, even if the system has them too, and the libraries
# they need that the system lacks. Optional kits are fetched when a test first asks for them.
kits=(postfix sendmail dovecot miltertest database maps memcached)
optional=(exim slapd cyrus clients clamav dns nftables chromium mimedefang services sasl)
declare -A packages=(
	[postfix]="postfix"
	[sendmail]="sendmail-bin sendmail-base sendmail-cf m4"
	[dovecot]="dovecot-core dovecot-lmtpd"
	[miltertest]="miltertest"
	[database]="db5.3-util"
	[maps]="postfix-cdb postfix-lmdb tinycdb lmdb-utils"
	[memcached]="memcached libcache-memcached-perl libstring-crc32-perl"
	[clients]="netcat-openbsd curl"
	[services]="socat lighttpd"
	[sasl]="sasl2-bin libsasl2-2 libsasl2-modules libsasl2-modules-db"
	[exim]="exim4-daemon-light exim4-base"
	[slapd]="slapd ldap-utils"
	[cyrus]="cyrus-common cyrus-imapd"
	[clamav]="clamav-daemon clamav-base"
	[chromium]="chromium chromium-common fonts-dejavu-core"
	# Perl libraries are listed one by one, because plan skips those of the system. The package does not depend on
	# Net::DNS and IO::Socket::SSL, but MIMEDefang does not start without them.
	[mimedefang]="mimedefang libmilter1.0.1 libmime-tools-perl libmailtools-perl libtimedate-perl libio-stringy-perl libconvert-binhex-perl libunix-syslog-perl libnet-dns-perl libdigest-hmac-perl libio-socket-ssl-perl libnet-ssleay-perl libnet-smtp-ssl-perl libarchive-zip-perl"
	[dns]="bind9-dnsutils bind9-libs rbldnsd"
	[nftables]="nftables"
)

# apt is shown a system on which nothing is installed. It then lists everything a kit needs. No installed package can
# conflict (another mail server) or be left out because it is already installed. The system's locks are not taken.
private_apt() {
	apt-get -o Dir::State::status=/dev/null -o Debug::NoLocking=1 -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache= \
		-o APT::Sandbox::User=root -o Acquire::Retries=3 "$@"
}

installed() { # PACKAGE: whether the system has it
	[ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

plan() { # KIT: the packages to unpack, one per line
	local file name list
	list=$(private_apt install -y --no-install-recommends --print-uris ${packages[$1]}) || return 1
	sed -n "s/^'[^']*' \([^ ]*\) .*/\1/p" <<<"$list" | while read -r file; do
		name=${file%%_*}
		case " ${packages[$1]} " in *" $name "*) echo "$name" && continue ;; esac
		case $name in
		libc6 | lib*-perl) ;; # from the system
		lib*) installed "$name" || echo "$name" ;;
		esac
	done
}

case ${1:-} in
--plan)
	[ -n "${packages[${2:-}]-}" ] || fail "no kit is called \"${2:-}\""
	plan "$2"
	exit
	;;
-*) fail "unknown option $1" ;;
esac
for kit in "$@"; do
	case " ${optional[*]} " in *" $kit "*) ;; *) fail "no optional kit is called $kit" ;; esac
done

# The state of a complete lab: when this file changes, every kit is checked again.
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
# Remove server directories that killed test processes left behind. Other tests may be running meanwhile.
[ ! -d "$lab/run" ] || find "$lab/run" -ignore_readdir_race -mindepth 1 -maxdepth 1 -mmin +1440 -exec rm -rf {} +

made() { # KIT: whether it exists and was made from the packages named above
	[ "$(cat "$lab/$1/made-from" 2>/dev/null)" = "${packages[$1]}" ]
}

todo=()
[ "$(cat "$lab/ready" 2>/dev/null)" = "$want" ] || todo=("${kits[@]}")
for kit in "$@"; do made "$kit" || todo+=("$kit"); done
[ ${#todo[@]} -gt 0 ] || exit 0
echo "preparing the lab of real mail servers in $lab"

# The archive may be unreachable for minutes, and another apt may hold the lock of the lists. Downloads are therefore
# tried this many times, with pauses of 10, 20, 40, 80 and 120 s in between.
tries=6
pause() { # TRY
	local seconds=$((10 << ($1 - 1)))
	echo "  the package archive cannot be reached; trying again in $((seconds < 120 ? seconds : 120)) s" >&2
	sleep $((seconds < 120 ? seconds : 120))
}
update() { # updates the package lists: old ones name files that the archive has replaced
	apt-get -o Acquire::Retries=3 -o Acquire::http::Timeout=30 -o DPkg::Lock::Timeout=120 update -qq
}

download() { # KIT
	local names
	names=$(plan "$1") || return 1
	[ -n "$names" ] || { echo "apt-get finds no packages for $1: are Debian's own sources configured?" >&2; return 1; }
	(cd "$lab/debs" && private_apt -o Acquire::http::Timeout=30 download -qq $names)
}

fetch() { # KIT: downloads it, and updates the package lists if they are too old
	local try
	for ((try = 1; ; try++)); do
		download "$1" && return
		[ "$try" -lt "$tries" ] || fail "the packages of $1 could not be fetched"
		[ "$try" = 1 ] || pause $((try - 1))
		rm -f "$lab"/debs/* # from an old list
		update || true # the next download shows whether that was enough
	done
}

unpack() { # KIT
	rm -rf "$lab/$1" "$lab/debs"
	mkdir -p "$lab/$1" "$lab/debs"
	fetch "$1"
	for deb in "$lab"/debs/*.deb; do
		dpkg-deb -x "$deb" "$lab/$1"
		dpkg-deb -f "$deb" Package Version | paste -sd' ' | sed 's/Package: //; s/Version: //' >>"$lab/$1/packages"
	done
	# A private copy needs no setuid or setgid bits.
	find "$lab/$1" -xdev \( -perm -4000 -o -perm -2000 \) -type f -exec chmod ug-s {} +
	chmod -R go-w "$lab/$1"
	echo "  $1: $(paste -sd, "$lab/$1/packages")"
}

libraries() { # KIT: reports missing libraries here and not as a server that does not start
	local libs missing
	libs=$(find "$lab/$1" -type d \( -path '*/lib/*-linux-gnu' -o -path '*/lib/postfix' -o -path '*/lib/dovecot' -o -path '*/lib/cyrus' -o -path '*/lib/libmilter' -o -path '*/pulseaudio' \) | paste -sd:)
	missing=$(find "$lab/$1" -type f \( -path '*/bin/*' -o -path '*/sbin/*' -o -path '*/libexec/*' -o -path '*/lib/chromium/chromium' \) -exec \
		env LD_LIBRARY_PATH="$libs" ldd {} + 2>/dev/null | grep 'not found' | sort -u || true)
	[ -z "$missing" ] || fail "$1 lacks libraries: $missing"
}

for kit in "${todo[@]}"; do
	# A kit stays unchanged while its list of packages is the same, so preparing a new kit does not disturb running tests.
	made "$kit" || unpack "$kit"
	libraries "$kit"
	echo "${packages[$kit]}" >"$lab/$kit/made-from"
done
rm -rf "$lab/debs"
echo "$want" >"$lab/ready"
