# What production hosts for the main job share: the marks that years of administration
# leave. Sourced by bash after lib.sh, with out and host set.

# in_host CMD… runs a command on the host.
in_host() { chroot "$host" env DEBIAN_FRONTEND=noninteractive "$@"; }

# marker prints 32 characters that occur nowhere else.
marker() { head -c 16 /dev/urandom | od -An -tx1 | tr -d ' \n'; }

# secret PATH MARKER notes that a file of the host holds something that may not leave it.
secret() { printf '%s\t%s\n' "$2" "$1" >>"$out/SECRETS.new"; }

# key prints a new private key, as PEM.
key() { openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256; }

# local_package builds and installs a package that no archive has.
local_package() {
	local tree=$out/acme-agent
	install -d "$tree"/{DEBIAN,etc/acme,etc/cron.d,lib/systemd/system,usr/bin,usr/lib/acme,usr/share/acme,usr/share/doc/acme-agent}
	printf '%s\n' 'Package: acme-agent' 'Version: 2.4-1local1' 'Architecture: amd64' \
		'Maintainer: Acme Operations <ops@acme.example>' 'Depends: adduser, libcap2-bin, libc6' \
		'Section: admin' 'Priority: optional' 'Description: reports to headquarters' \
		' Built in a hurry, years ago, by someone who has left.' >"$tree/DEBIAN/control"
	printf '%s\n' /etc/acme/agent.conf /etc/cron.d/acme-agent >"$tree/DEBIAN/conffiles"
	cat >"$tree/DEBIAN/postinst" <<'POSTINST'
#!/bin/sh
set -e
[ "$1" = configure ] || exit 0
adduser --system --group --quiet --home /var/lib/acme --gecos "Acme agent" acme
echo "made on $(cat /etc/debian_version)" >/var/lib/acme/first-run
echo "listen = 127.0.0.1:9000" >/etc/acme/generated.conf
chown root:acme /usr/bin/acme-log /etc/acme/generated.conf
chmod 2755 /usr/bin/acme-log
chmod 0640 /etc/acme/generated.conf
setcap cap_net_bind_service+ep /usr/lib/acme/agent-net
POSTINST
	chmod 755 "$tree/DEBIAN/postinst"
	echo 'server = hq.acme.example' >"$tree/etc/acme/agent.conf"
	echo '*/5 * * * * acme /usr/bin/acme-agent --tick' >"$tree/etc/cron.d/acme-agent"
	printf '%s\n' '[Unit]' 'Description=Acme agent' '[Service]' 'User=acme' \
		'ExecStart=/usr/bin/acme-agent' >"$tree/lib/systemd/system/acme-agent.service"
	printf '#!/bin/sh\necho acme-agent 2.4\n' >"$tree/usr/bin/acme-agent"
	printf '#!/bin/sh\nexec logger -t acme "$@"\n' >"$tree/usr/bin/acme-log"
	cp "$host/usr/bin/true" "$tree/usr/lib/acme/agent-net"
	cp "$host/usr/bin/id" "$tree/usr/lib/acme/helper"
	chmod 755 "$tree"/usr/bin/* "$tree/usr/lib/acme/agent-net"
	chmod 4755 "$tree/usr/lib/acme/helper"
	seq 20000 >"$tree/usr/share/acme/table-a"
	ln "$tree/usr/share/acme/table-a" "$tree/usr/share/acme/table-b"
	ln -s table-a "$tree/usr/share/acme/table"
	echo 'Private to Acme.' >"$tree/usr/share/doc/acme-agent/copyright"
	find "$tree" -exec touch -h -d '2019-03-14 15:09:26 UTC' {} +
	dpkg-deb --root-owner-group -Zxz -b "$tree" "$host/root/acme-agent.deb" >&2
	in_host dpkg -i /root/acme-agent.deb >&2
	rm -r "$tree" "$host/root/acme-agent.deb"
}

# administer leaves the marks of the people who look after the host.
administer() {
	in_host update-alternatives --quiet --set awk /usr/bin/mawk
	in_host update-alternatives --quiet --set editor /usr/bin/vim.tiny
	in_host apt-mark hold redis-server openssl >&2
	sed -i 's/^# maxmemory <bytes>/maxmemory 256mb/; s/^save 900 1/save 600 1/' "$host/etc/redis/redis.conf"
	echo 'set mouse=' >>"$host/etc/vim/vimrc.tiny"
	rm "$host/etc/cron.daily/dpkg" # a conffile that was taken away
	rm -r "$host/usr/share/doc/tzdata"

	in_host dpkg-divert --local --rename --quiet --divert /usr/bin/curl.distrib --add /usr/bin/curl
	printf '#!/bin/sh\nexec /usr/bin/curl.distrib --proxy http://proxy.acme.example:3128 "$@"\n' >"$host/usr/bin/curl"
	chmod 755 "$host/usr/bin/curl"
	in_host dpkg-statoverride --force-all --update --add root adm 0750 /usr/bin/wall
	chmod u-s "$host/usr/bin/chfn"

	in_host useradd --uid 1000 --create-home --shell /bin/bash --groups adm,sudo alice
	in_host useradd --uid 1001 --create-home --shell /bin/bash bob
	ln -sf ../usr/share/zoneinfo/Europe/Berlin "$host/etc/localtime"
	echo Europe/Berlin >"$host/etc/timezone"
	echo 'LANG=C.UTF-8' >"$host/etc/default/locale"
	echo '* soft nofile 4096' >"$host/etc/security/limits.d/acme.conf"
	echo prod-7 >"$host/etc/hostname"
	printf '127.0.0.1 localhost\n10.20.30.40 prod-7.acme.example prod-7\n' >"$host/etc/hosts"
	printf '/dev/vda1 / ext4 defaults 0 1\n' >"$host/etc/fstab"
	echo 0123456789abcdef0123456789abcdef >"$host/etc/machine-id"
	in_host ldconfig
	in_host python3 -m compileall -q /usr/lib/python3/dist-packages || true
}

# handiwork makes files that are in no package.
handiwork() {
	local app=$host/opt/acme
	install -d "$app"/{bin,lib,share/deep/er} "$host/usr/local/"{bin,lib/acme,etc}
	printf '#!/usr/bin/python3\nprint("acme")\n' >"$app/bin/acme"
	chmod 755 "$app/bin/acme"
	head -c 300000 /dev/urandom >"$app/lib/blob.bin"
	ln "$app/lib/blob.bin" "$app/share/blob copy.bin"
	ln -s ../lib/blob.bin "$app/share/link"
	ln -s /nowhere/at/all "$app/share/dangling"
	: >"$app/share/empty"
	echo spaces >"$app/share/name with  spaces"
	echo newline >"$app/share/$(printf 'two\nlines')"
	echo latin1 >"$app/share/$(printf 'caf\351')"
	echo quotes >"$app/share/"'a"b\c$d'
	mkfifo "$app/share/pipe"
	echo old >"$app/share/old" && touch -d '1999-12-31 23:59:59.987654321 UTC' "$app/share/old"
	touch -h -d '2011-11-11 11:11:11 UTC' "$app/share/dangling"
	in_host chown alice:adm /opt/acme/share/deep
	chmod 2775 "$app/share/deep"
	chmod 1777 "$app/share/deep/er"
	in_host setfacl -m d:u:redis:rwx,u:redis:rx /opt/acme/lib
	echo acl >"$app/share/acl"
	in_host setfacl -m u:redis:r,g:adm:rw /opt/acme/share/acl
	echo xattr >"$app/share/xattr" && setfattr -n user.acme.origin -v 'built by hand' "$app/share/xattr"
	cp "$host/usr/bin/env" "$host/usr/local/bin/raw" && setcap cap_net_raw=ep "$host/usr/local/bin/raw"
	printf '#!/bin/sh\nexec /opt/acme/bin/acme "$@"\n' >"$host/usr/local/bin/acme" && chmod 4755 "$host/usr/local/bin/acme"
	truncate -s 20M "$app/lib/sparse"

	install -d "$host/srv/www" "$host/var/lib/acme/queue" "$host/var/log/acme"
	echo '<h1>acme</h1>' >"$host/srv/www/index.html"
	head -c 100000 /dev/urandom >"$host/var/lib/acme/queue/0001"
	echo 'Nov 20 02:00:00 prod-7 acme: started' >>"$host/var/log/acme/agent.log"
	echo REDIS0009 >"$host/var/lib/redis/dump.rdb" && in_host chown redis:redis /var/lib/redis/dump.rdb
}

# plant PATH TEXT… writes a secret file of mode 600; the text holds the marker as {}.
plant() {
	local path=$1 m
	shift
	m=$(marker)
	install -d "$(dirname "$host$path")"
	printf '%s\n' "${@//"{}"/$m}" >>"$host$path"
	chmod 600 "$host$path"
	secret "$path" "$m"
}

# plant_key PATH [BEFORE] adds a private key to a file.
plant_key() {
	local pem
	pem=$(key)
	install -d "$(dirname "$host$1")"
	{ [ -z "${2-}" ] || echo "$2"; echo "$pem"; } >>"$host$1"
	secret "$1" "$(sed -n 2p <<<"$pem")"
}

# secrets plants what may not leave: some told by its path, some only by its content.
secrets() {
	local f user m
	rm -f "$host"/etc/ssh/ssh_host_*
	in_host ssh-keygen -A >&2
	for f in "$host"/etc/ssh/ssh_host_{rsa,ed25519}_key; do secret "${f#"$host"}" "$(tail -n 3 "$f" | head -n 1)"; done
	for user in root alice; do
		m=$(openssl passwd -6 "$(marker)")
		in_host usermod -p "$m" $user
		secret /etc/shadow "${m##*\$}"
	done
	plant_key /etc/ssl/private/acme.key
	plant_key /home/alice/.ssh/id_ecdsa
	plant_key /etc/redis/tls.conf '# the certificate of the cluster, for now' # unexpected, world-readable
	plant_key /opt/acme/share/bundle.txt 'see ticket 4711'
	plant_key /usr/local/etc/acme.pem
	plant /root/.netrc 'machine hq.acme.example login ops password {}'
	plant /home/alice/.pgpass 'db.acme.example:5432:prod:app:{}'
	plant /opt/acme/.pgpass 'db.acme.example:5432:prod:app:{}'
	plant /home/alice/.aws/credentials '[default]' 'aws_access_key_id = AKIAIOSFODNN7EXAMPLE' 'aws_secret_access_key = {}'
	plant /home/alice/.bash_history 'mysql -pp{}'
	plant /root/.my.cnf '[client]' 'password = {}'
	plant /etc/apt/auth.conf.d/acme.conf 'machine packages.acme.example login ops password {}'
	plant /etc/apt/sources.list.d/acme.list 'deb http://ops:{}@mirror.example/acme stable main'
	plant /etc/sudoers.d/acme '# {}' 'acme ALL=(root) NOPASSWD: /usr/bin/acme-agent'
	plant /etc/NetworkManager/system-connections/office.nmconnection '[wifi-security]' 'psk={}'
	plant /etc/default/acme-agent 'ACME_PASSWORD={}'
	plant /etc/default/redis-server 'REDIS_PASSWORD={}' # a conffile
	plant /etc/acme/db.ini '[db]' 'host = db.acme.example' 'password = {}'
	plant /etc/systemd/system/acme-report.service '[Service]' 'Environment=GITHUB_TOKEN=ghp_{}abcd' 'ExecStart=/opt/acme/bin/acme'
	plant /var/lib/acme/state.json '{"session": "{}"}'
	plant /srv/www/.env 'APP_KEY={}'
	plant /var/log/acme/debug.log 'authorized with {}'
	plant /var/backups/db.sql "INSERT INTO users VALUES ('admin', '{}');"
	chmod 644 "$host/etc/apt/sources.list.d/acme.list" "$host/etc/systemd/system/acme-report.service" "$host/etc/acme/db.ini"
	cp "$host/etc/shadow" "$host/etc/shadow-"
}

# age leaves all of that on a host that was just made, and lists the secrets.
age() {
	rm -f "$out/SECRETS.new"
	local_package
	administer
	handiwork
	secrets
	rm -f "$host/etc/resolv.conf"
	echo 'nameserver 10.20.30.53' >"$host/etc/resolv.conf"
	mv "$out/SECRETS.new" "$out/SECRETS"
}
