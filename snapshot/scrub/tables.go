package scrub

import "github.com/stead-env/stead/snapshot"

func secret(reason string, patterns ...string) []rule {
	return table(snapshot.Secret, reason, patterns)
}
func left(reason string, patterns ...string) []rule { return table(snapshot.Noise, reason, patterns) }
func kept(reason string, patterns ...string) []rule { return table(snapshot.Made, reason, patterns) }

func table(class snapshot.Class, reason string, patterns []string) []rule {
	var t []rule
	for _, p := range patterns {
		t = append(t, rule{p, class, reason})
	}
	return t
}

func all(tables ...[]rule) []rule {
	var t []rule
	for _, part := range tables {
		t = append(t, part...)
	}
	return t
}

// secrets are told by their path: they are never read. For the patterns see index.
var secrets = all(
	secret("names this very machine",
		"/etc/machine-id", "/var/lib/dbus/machine-id", "/etc/hostname", "/etc/hostid", "/etc/ssh/ssh_host_*", "/etc/adjtime",
		"/etc/udev/rules.d/70-persistent-*", "/etc/sysconfig/network-scripts/ifcfg-*", "/var/lib/systemd/random-seed",
		"/var/lib/systemd/credential.secret", "/var/lib/urandom/**", "/var/lib/cloud/**", "/var/lib/yum/uuid",
		"/var/lib/dnf/uuid", "/etc/popularity-contest.conf", "/var/lib/NetworkManager/secret_key", "/etc/machine-info"),
	secret("names this machine's disks",
		"/etc/fstab", "/etc/crypttab", "/etc/lvm/devices/**", "/etc/lvm/backup/**", "/etc/lvm/archive/**", "/etc/lvm/cache/**",
		"/etc/iscsi/**", "/etc/multipath/**", "/etc/mdadm/mdadm.conf", "/etc/mdadm.conf", "/etc/zfs/zpool.cache",
		"/etc/blkid.tab", "/etc/initramfs-tools/conf.d/resume"),
	secret("password hashes",
		"/etc/shadow", "/etc/gshadow", "/etc/shadow-", "/etc/gshadow-", "/etc/shadow.*", "/etc/gshadow.*",
		"/etc/security/opasswd", "/etc/master.passwd", "**/.htpasswd*", "**/htpasswd*", "**/*.htpasswd", "**/.htdigest"),
	secret("names people",
		"/etc/passwd-", "/etc/group-", "/etc/subuid-", "/etc/subgid-", "/var/lib/AccountsService/**", "/var/lib/extrausers/**",
		"/etc/ssh/authorized_keys/**", "/etc/ssh/authorized_keys.d/**", "**/authorized_keys", "**/authorized_keys2"),
	secret("says who may become root", "/etc/sudoers.d/**", "/etc/doas.conf"),
	secret("private keys",
		"/etc/ssl/private/**", "/etc/pki/tls/private/**", "/etc/pki/consumer/**", "/etc/pki/entitlement/**",
		"/etc/letsencrypt/**", "/etc/pki/nssdb/key*", "/etc/pki/CA/private/**", "/etc/ssl/**/private/**!",
		"/etc/dehydrated/**", "/var/lib/dehydrated/**", "**/.acme.sh/**", "/etc/dkimkeys/**",
		"/etc/opendkim/keys/**", "/etc/bind/rndc.key", "/etc/rndc.key", "/etc/bind/*.private", "/etc/named.keys",
		"/var/lib/puppet/ssl/**", "/etc/puppetlabs/puppet/ssl/**", "/var/lib/docker/swarm/**", "/etc/docker/key.json",
		"/etc/kubernetes/**", "/var/lib/kubelet/**", "/var/lib/rancher/**", "/etc/rancher/**", "/etc/chef/*.pem",
		"/etc/salt/pki/**", "/etc/corosync/authkey", "/etc/pacemaker/authkey", "/etc/munge/munge.key", "/etc/secureboot/**",
		"**/id_rsa", "**/id_dsa", "**/id_ecdsa", "**/id_ed25519", "**/id_ecdsa_sk", "**/id_ed25519_sk",
		"**/*.ppk", "**/*.p12", "**/*.pfx", "**/*.jks", "**/*.keystore", "**/*.kdbx", "**/*.keytab"),
	secret("Kerberos", "/etc/krb5.keytab", "/var/kerberos/**", "/var/lib/krb5kdc/**", "/etc/krb5kdc/**"),
	secret("network credentials",
		"/etc/NetworkManager/system-connections/**", "/etc/wpa_supplicant/**", "/etc/wpa_supplicant.conf", "/etc/wireguard/**",
		"/etc/ipsec.d/**", "/etc/ipsec.secrets", "/var/lib/ipsec/**", "/etc/ipsec.conf", "/etc/strongswan/**", "/etc/swanctl/**", "/etc/racoon/**",
		"/etc/openvpn/**", "/etc/ppp/*-secrets", "/etc/ppp/peers/**", "/etc/chatscripts/**", "/etc/iwd/**", "/var/lib/iwd/**",
		"/etc/netplan/**", "/etc/chrony/chrony.keys", "/etc/chrony.keys", "/etc/ntp.keys", "/etc/ntp/keys", "/var/lib/tailscale/**",
		"/etc/hostapd/**", "/etc/freeradius/**", "/etc/raddb/**", "/var/lib/bluetooth/**", "/var/lib/zerotier-one/**"),
	secret("credentials of package archives",
		"/etc/apt/auth.conf", "/etc/apt/auth.conf.d/**", "/etc/sysconfig/rhn/**", "/etc/rhsm/**", "/var/lib/rhsm/**",
		"/etc/zypp/credentials.d/**", "/etc/ubuntu-advantage/**", "/var/lib/ubuntu-advantage/**", "/etc/landscape/**"),
	secret("credentials of services",
		"/etc/credstore/**", "/etc/credstore.encrypted/**", "/run/credentials/**", "/run/secrets/**", "/etc/secrets/**",
		"/var/lib/sss/**", "/etc/sssd/**", "/var/lib/samba/**", "/etc/samba/*.tdb", "/etc/samba/smbpasswd", "/var/lib/ipa-client/**",
		"/etc/ipa/**", "/etc/ldap.secret", "/etc/pam_ldap.secret", "/etc/libnss-ldap.secret", "/etc/nslcd.conf", "/etc/mysql/debian.cnf", "/etc/exim4/passwd.client",
		"/etc/postfix/sasl_passwd*", "/etc/postfix/sasl/**", "/etc/sasldb2", "/etc/sasl2/sasldb2", "/etc/msmtprc", "/etc/vault.d/**",
		"/etc/dovecot/private/**", "/etc/dovecot/users", "/etc/dovecot/passwd*", "/etc/cups/subscriptions.conf*",
		"/etc/cups/printers.conf*", "/etc/cups/ssl/**", "/var/lib/snmp/**", "/etc/snmp/snmpd.local.conf", "/etc/cockpit/ws-certs.d/**",
		"/etc/rabbitmq/**", "/var/lib/rabbitmq/.erlang.cookie", "**/.erlang.cookie", "/etc/smbcredentials", "/etc/cifs-credentials",
		"/etc/davfs2/secrets", "/etc/fetchmailrc", "/etc/gitlab/gitlab-secrets.json", "/etc/gitlab-runner/config.toml",
		"/etc/rsyncd.secrets", "/etc/grafana/**", "/etc/jupyter/**", "/etc/containers/auth.json", "/etc/nut/upsd.users"),
	secret("credentials in a home",
		"**/.netrc", "**/_netrc", "**/.pgpass", "**/.my.cnf", "**/.mylogin.cnf", "**/.aws/**", "**/.kube/**", "**/.docker/**",
		"**/.dockercfg", "**/.ssh/**", "**/.gnupg/**", "**/.git-credentials", "**/.npmrc", "**/.yarnrc.yml", "**/.pypirc",
		"**/.gem/credentials", "**/.azure/**", "**/.config/gcloud/**", "**/.config/gh/**", "**/.config/hub", "**/.config/glab-cli/**",
		"**/.config/rclone/**", "**/.rclone.conf", "**/.config/containers/auth.json", "**/.config/composer/auth.json",
		"**/.composer/auth.json", "**/.cargo/credentials", "**/.cargo/credentials.toml", "**/.m2/settings.xml",
		"**/.m2/settings-security.xml", "**/.gradle/gradle.properties", "**/.terraform.d/**", "**/.terraformrc", "**/.vault-token",
		"**/.s3cfg", "**/.boto", "**/.mc/config.json", "**/.smbcredentials", "**/.fetchmailrc", "**/.msmtprc", "**/.mbsyncrc",
		"**/.offlineimaprc", "**/.lftp/**", "**/.Xauthority", "**/.ICEauthority", "**/.password-store/**", "**/.config/age/**",
		"**/.config/sops/**", "**/.local/share/keyrings/**", "**/.gnome2/keyrings/**", "**/.pki/**", "**/.krb5/**", "**/.k5login",
		"**/.vnc/passwd", "**/.config/op/**", "**/.oci/**", "**/.databrickscfg", "**/.snowsql/**", "**/.cloudflared/**",
		"**/.config/doctl/**", "**/.config/hcloud/**", "**/.rediscli_auth", "**/.dbshell", "**/.rhosts", "/etc/hosts.equiv"),
	secret("a database dump", "**/*.dump", "**/*.sql.gz", "**/*.sql.xz", "**/*.sql.bz2", "**/*.sql.zst", "**/dump.rdb"),
	secret("a crash dump", "/var/crash/**!", "/var/lib/systemd/coredump/**!", "/var/lib/apport/coredump/**!", "/var/spool/abrt/**!"),
)

// noise is what comes and goes by itself, or what the lock has already. Folders
// below logs and spools are Place's to judge: daemons expect them.
var noise = all(
	left(snapshot.Kernel, "/boot/**", "/lib/modules/**", "/usr/lib/modules/**", "/lib/firmware/**", "/usr/lib/firmware/**"),
	left("byte code", "**/__pycache__/**", "**/*.pyc", "**/*.pyo"),
	left("a log", "/var/log/**!"),
	left("a spool", "/var/spool/**!", "/var/mail/**", "/var/spool/cron/crontabs/**"),
	left("a cache", "/var/cache/**!", "**/.cache/**", "**/.ccache/**", "/etc/ld.so.cache~", "/var/lib/man-db/**!",
		"/var/lib/mlocate/**!", "/var/lib/plocate/**!", "/var/lib/PackageKit/**!", "/var/lib/swcatalog/**!", "/var/lib/app-info/**!",
		"/var/lib/command-not-found/**!", "/var/lib/fwupd/**!", "/var/lib/systemd/catalog/database"),
	left("an archive's index", "/var/lib/apt/lists/**!", "/var/lib/apt/mirrors/**!", "/var/lib/apt/periodic/**!", "/var/lib/apt/daily_lock"),
	left("an older copy", "/var/backups/**!", "/var/lib/dpkg/*-old", "/var/lib/dpkg/available", "/var/lib/apt/extended_states.*",
		"/etc/ca-certificates.conf.dpkg-old", "/var/lib/sgml-base/supercatalog.old", "/etc/sgml/catalog.old", "/etc/xml/*.old",
		"/var/lib/ucf/*.[0-9]", "**/*.dpkg-tmp", "**/*.ucf-old", "**/*.swp"),
	left("a package manager at work", "/var/lib/dpkg/updates/**!", "/var/lib/dpkg/parts/**!", "/var/lib/dpkg/tmp.ci/**",
		"**/*.dpkg-new"),
	left("a lock file", "/etc/.pwd.lock", "/var/lib/dpkg/lock", "/var/lib/dpkg/lock-frontend", "/var/lib/dpkg/triggers/Lock",
		"/var/lib/apt/lists/lock", "/var/lock/**!", "/etc/.updated", "/var/.updated", "/var/lib/dpkg/methlock", "/etc/subuid.lock", "/etc/subgid.lock",
		"/etc/passwd.lock", "/etc/group.lock", "/etc/shadow.lock", "/etc/gshadow.lock"),
	left("a debconf database", "/var/cache/debconf/**!", "/var/lib/debconf/**!"),
	left("a history", "**/.bash_history", "**/.zsh_history", "**/.sh_history", "**/.ash_history", "**/.history", "**/.python_history",
		"**/.psql_history", "**/.mysql_history", "**/.sqlite_history", "**/.rediscli_history", "**/.node_repl_history", "**/.irb_history",
		"**/.lesshst", "**/.viminfo", "**/.wget-hsts", "**/.mongorc.js", "**/.octave_hist", "**/.fish_history", "**/fish_history"),
	left("leases", "/var/lib/dhcp/**!", "/var/lib/dhclient/**!", "/var/lib/dhcpcd/**!", "/var/lib/NetworkManager/**!", "/var/lib/misc/dnsmasq.leases"),
	left("temporary", "/tmp/**", "/var/tmp/**", "/run/**", "/var/run/**"),
	left("made by the kernel", "/proc/**", "/sys/**", "/dev/**"),
	left("lost and found", "**/lost+found/**"),
)

// made are the paths below /var/lib that a trigger or a package manager made on
// the host, and that programs read. Each stands for the folder and all below it.
var made = all(
	kept("dpkg's records", "/var/lib/dpkg+", "/var/lib/apt/extended_states"),
	kept("rpm's records", "/var/lib/rpm+", "/var/lib/dnf+", "/var/lib/yum+", "/var/lib/alternatives+"),
	kept("Portage's records", "/var/db/pkg+", "/var/lib/portage+", "/var/lib/gentoo+"),
	kept("pacman's records", "/var/lib/pacman+"),
	kept("answers to configuration questions", "/var/lib/ucf+", "/var/lib/pam+", "/var/lib/shells.state"),
	kept("which units packages enabled", "/var/lib/systemd/deb-systemd-helper-enabled+", "/var/lib/systemd/deb-systemd-helper-masked+",
		"/var/lib/systemd/deb-systemd-user-helper-enabled+", "/var/lib/systemd/deb-systemd-user-helper-masked+"),
	kept("TeX's formats, maps and file index", "/var/lib/texmf+", "/var/lib/tex-common+"),
	kept("GHC's package registry", "/var/lib/ghc+", "/var/lib/haskell-packages+"),
	kept("which Pythons are installed", "/var/lib/python+", "/var/lib/python3+"),
	kept("SGML and XML catalogs", "/var/lib/xml-core+", "/var/lib/sgml-base+"),
	kept("dictionaries", "/var/lib/dictionaries-common+", "/var/lib/ispell+", "/var/lib/aspell+", "/var/lib/hunspell+"),
	kept("Emacs add-ons", "/var/lib/emacsen-common+"),
	kept("Vim add-ons", "/var/lib/vim/addons+"),
	kept("Java's trust store", "/var/lib/ca-certificates-java+"),
	kept("OCaml's libraries", "/var/lib/ocaml+"),
	kept("Ruby's gems", "/var/lib/gems+"),
	kept("R's site library", "/var/lib/R+"),
	kept("fonts", "/var/lib/defoma+", "/var/lib/fonts+", "/var/lib/ghostscript+"),
	kept("documentation's index", "/var/lib/doc-base+"),
	kept("initial links of packages", "/var/lib/initscripts+", "/var/lib/insserv+", "/var/lib/update-rc.d+"),
	kept("PHP's modules", "/var/lib/php/modules+"),
	kept("Apache's modules", "/var/lib/apache2/conf+", "/var/lib/apache2/module+", "/var/lib/apache2/site+"),
	kept("dkms's sources", "/var/lib/dkms/mok.pub"),
	kept("links of the standard tree", "/var/run", "/var/lock", "/var/mail"),
)
