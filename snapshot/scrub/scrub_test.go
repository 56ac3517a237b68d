package scrub

import (
	"strings"
	"testing"

	"github.com/stead-env/stead/snapshot"
)

func rules(t testing.TB, keep, drop []string) *Rules {
	t.Helper()
	r, err := New(keep, drop)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

const (
	f = snapshot.Regular
	d = snapshot.Dir
	l = snapshot.Symlink
)

func TestPath(t *testing.T) {
	r := rules(t, nil, nil)
	for _, c := range []struct {
		path string
		t    snapshot.Type
		want snapshot.Class
	}{
		{".", d, ""}, {"etc", d, ""}, {"usr/bin/ls", f, ""}, {"etc/passwd", f, ""}, {"etc/ssh/sshd_config", f, ""},
		{"etc/shadow", f, snapshot.Secret}, {"etc/gshadow-", f, snapshot.Secret}, {"etc/machine-id", f, snapshot.Secret},
		{"etc/ssh/ssh_host_rsa_key", f, snapshot.Secret}, {"etc/ssh/ssh_host_ed25519_key.pub", f, snapshot.Secret},
		{"etc/ssl/private", d, ""}, {"etc/ssl/private/site.key", f, snapshot.Secret},
		{"etc/letsencrypt/live/site", d, snapshot.Secret}, {"etc/sudoers", f, ""}, {"etc/sudoers.d/ops", f, snapshot.Secret},
		{"etc/hostname", f, snapshot.Secret}, {"etc/fstab", f, snapshot.Secret}, {"etc/krb5.keytab", f, snapshot.Secret},
		{"etc/udev/rules.d/70-persistent-net.rules", f, snapshot.Secret},
		{"etc/sysconfig/network-scripts/ifcfg-eth0", f, snapshot.Secret},
		{"etc/NetworkManager/system-connections/wifi", f, snapshot.Secret}, {"etc/apt/auth.conf", f, snapshot.Secret},
		{"etc/apt/auth.conf.d/x", f, snapshot.Secret}, {"etc/ppp/chap-secrets", f, snapshot.Secret},
		{"home/ann/.ssh/known_hosts", f, snapshot.Secret}, {"opt/app/.netrc", f, snapshot.Secret}, {".netrc", f, snapshot.Secret},
		{"srv/a/b/.aws/credentials", f, snapshot.Secret}, {"opt/x/.config/gcloud/db", f, snapshot.Secret},
		{"opt/x/config/gcloud/db", f, ""}, {"opt/x.config/gcloud/db", f, ""}, {"usr/share/gcloud", f, ""},
		{"etc/ssh/authorized_keys/ann", f, snapshot.Secret}, {"etc/ssh/authorized_keys.d/ann", f, snapshot.Secret},
		{"srv/git/authorized_keys", f, snapshot.Secret}, {"opt/x/authorized_keys2", f, snapshot.Secret}, {"usr/lib/x/authorized_keys.py", f, ""},
		{"etc/app/trust.p12", f, snapshot.Secret}, {"var/dumps/all.sql.gz", f, snapshot.Secret}, {"etc/x.gz", f, ""},
		{"root/.bash_history", f, snapshot.Noise}, {"usr/lib/python3/x.pyc", f, snapshot.Noise},
		{"usr/lib/python3/__pycache__", d, snapshot.Noise}, {"usr/lib/python3/__pycache__/x", f, snapshot.Noise},
		{"var/log/syslog", f, snapshot.Noise}, {"var/log/nginx", d, ""}, {"var/log/nginx/access.log", f, snapshot.Noise},
		{"var/cache/ldconfig/aux-cache", f, snapshot.Noise}, {"var/cache/apt/archives/x.deb", f, snapshot.Noise},
		{"var/cache/debconf/config.dat", f, snapshot.Noise}, {"var/lib/apt/lists/x_InRelease", f, snapshot.Noise},
		{"var/lib/dpkg/status-old", f, snapshot.Noise}, {"var/lib/dpkg/status", f, ""}, {"var/backups/dpkg.status.0", f, snapshot.Noise},
		{"var/lib/dpkg/lock", f, snapshot.Noise}, {"boot/vmlinuz-5.10", f, snapshot.Noise}, {"boot", d, ""},
		{"usr/lib/modules/5.10/modules.dep", f, snapshot.Noise}, {"usr/lib/modules-load.d/x.conf", f, ""},
		{"usr/lib/firmware/x.bin", f, snapshot.Noise}, {"proc/1", d, snapshot.Noise}, {"tmp/x", f, snapshot.Noise},
		{"var/lib/acme/state", f, ""}, {"etc/dovecot/users\n", f, ""}, {"etc/\xff/.pgpass", f, snapshot.Secret},
	} {
		if got, reason := r.Path(c.path, c.t); got != c.want || (got != "") != (reason != "") {
			t.Errorf("%s is %q (%s), want %q", c.path, got, reason, c.want)
		}
	}
}

func TestPlace(t *testing.T) {
	r := rules(t, nil, nil)
	for _, c := range []struct {
		path  string
		t     snapshot.Type
		owned bool // the folder around it
		want  snapshot.Class
		keep  bool
	}{
		{"etc/alternatives/vi", l, true, snapshot.Made, false}, {"usr/local/bin/x", f, true, snapshot.Made, false},
		{"opt/app/bin/x", f, false, snapshot.Made, false}, {"lib64", l, true, snapshot.Made, false},
		{"bin", l, true, snapshot.Made, false}, {"vmlinuz", l, true, snapshot.Made, false},
		{"vmlinuz", f, true, snapshot.State, false}, {"lib32/x", f, true, snapshot.Made, false},
		{"opt/app/home/ann/x", f, false, snapshot.State, false}, {"usr/home/ann/x", f, false, snapshot.State, false},
		{"var/lib/dpkg/status", f, true, snapshot.Made, false}, {"var/lib/dpkg/info/x.list", f, true, snapshot.Made, false},
		{"var/lib/apt/extended_states", f, true, snapshot.Made, false}, {"var/lib/texmf/ls-R", f, false, snapshot.Made, false},
		{"var/lib/systemd/deb-systemd-helper-enabled", d, true, snapshot.Made, false},
		{"var/lib/ucf/hashfile", f, true, snapshot.Made, false}, {"var/lib/ucfoo/hashfile", f, true, snapshot.State, false},
		{"var/lib/postgresql/15", d, true, snapshot.State, true}, {"var/lib/postgresql/15/main", d, false, snapshot.State, false},
		{"var/log/nginx", d, true, snapshot.State, true}, {"var/cache/man/de", d, true, snapshot.State, false},
		{"var/lib/x", f, true, snapshot.State, false}, {"home/ann", d, true, snapshot.State, false},
		{"home", d, true, snapshot.State, true}, {"srv", d, true, snapshot.State, true}, {"data", d, true, snapshot.State, false},
		{"srv/www", d, true, snapshot.State, false}, {"etc/app/socket", snapshot.Socket, true, snapshot.State, false},
		{"usr/lib/x/null", snapshot.Char, true, snapshot.State, false}, {"etc/pipe", snapshot.FIFO, true, snapshot.Made, false},
	} {
		got, reason, keep := r.Place(c.path, c.t, c.owned)
		if got != c.want || keep != c.keep || got == snapshot.State && reason == "" {
			t.Errorf("%s is %q (%s) %v, want %q %v", c.path, got, reason, keep, c.want, c.keep)
		}
	}
}

func TestPatternsOfTheUser(t *testing.T) {
	r := rules(t,
		[]string{"/etc/**", "/srv/app", "/var/log/app/*.conf", "/etc/openvpn/**", "/etc/ssl/private/our-ca.pem", "**/.ccache/**", "/opt/[ab]?/x"},
		[]string{"/opt/big/**", "/etc/openvpn/server/*", "/usr/share/**/doc"})
	for _, c := range []struct {
		path       string
		path1      snapshot.Class // what Path says
		place      snapshot.Class
		reasonHint string
	}{
		{"etc/shadow", snapshot.Secret, "", ""},            // /etc/** is too general
		{"etc/ssl/private/x.key", snapshot.Secret, "", ""}, // as well
		{"etc/ssl/private/our-ca.pem", "", snapshot.Made, "kept by"},
		{"etc/openvpn/client.conf", "", snapshot.Made, "kept by"},
		{"etc/openvpn/server/x.conf", snapshot.Noise, "", "dropped by"},
		{"srv/app/index.html", "", snapshot.Made, "kept by /srv/app"}, {"srv/application", "", snapshot.State, ""},
		{"srv/app/.ssh/id_rsa", snapshot.Secret, "", ""},
		{"var/log/app/x.conf", "", snapshot.Made, ""}, {"var/log/app/d/x.conf", snapshot.Noise, "", ""},
		{"opt/big/data", snapshot.Noise, "", "dropped by /opt/big/**"}, {"opt/big", snapshot.Noise, "", ""}, {"opt/bigger", "", snapshot.Made, ""},
		{"usr/share/a/b/doc/x", snapshot.Noise, "", ""}, {"usr/share/doc", snapshot.Noise, "", ""},
		{"home/ann/.ccache/0", "", snapshot.Made, ""}, {"opt/a1/x", "", snapshot.Made, "kept by"},
	} {
		got, reason := r.Path(c.path, f)
		var place snapshot.Class
		if got == "" {
			place, reason, _ = r.Place(c.path, f, true)
		}
		if got != c.path1 || place != c.place || !strings.Contains(reason, c.reasonHint) {
			t.Errorf("%s: %q, %q (%s), want %q, %q", c.path, got, place, reason, c.path1, c.place)
		}
	}
	if g, err := newGlob("/opt/big/**"); err != nil || !g.match("opt/big") {
		t.Error("a folder's pattern ought to match the folder", err)
	}
	for _, bad := range []string{"etc/x", "", "/" + strings.Repeat("x", 2000), "/a[z-a]"} {
		if _, err := New([]string{bad}, nil); err == nil {
			t.Errorf("%.20q is taken", bad)
		}
	}
	one, same := rules(t, nil, nil).Version(), rules(t, nil, nil).Version()
	if one == r.Version() || one != same {
		t.Error("the version doesn't tell rules apart")
	}
}

const passwd = `root:x:0:0:Ops Team:/root:/bin/bash
daemon:*:1:1:daemon:/usr/sbin:/usr/sbin/nologin
redis:$6$salt$hashhash:105:110::/var/lib/redis:/usr/sbin/nologin
nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin
ann:x:1000:1000:Ann Doe,,,:/home/ann:/bin/bash
deploy:x:1001:1001:Deploy Account:/srv/app:/bin/sh
corp:x:3000001:3000001:Corp Person:/home/corp:/bin/bash
+::::::
`

const group = `root:x:0:
adm:x:4:syslog,ann,redis
ssl-cert:x:112:redis,deploy
ann:x:1000:
deploy:x:1001:ann
nogroup:x:65534:
redis:x:110:
`

func TestStands(t *testing.T) {
	r := rules(t, nil, nil)
	keeps := snapshot.Owners{Users: map[uint32]bool{1001: true}, Groups: map[uint32]bool{1001: true}}
	defs := "# x\nUID_MIN\t\t 1000\nUID_MAX 60000\nENV_PATH PATH=/a:/b:/c:/d:/e:/f:/g\n"
	for _, c := range []struct{ path, content, want string }{
		{"etc/passwd", defs + passwd, `root:x:0:0:Ops Team:/root:/bin/bash
daemon:*:1:1:daemon:/usr/sbin:/usr/sbin/nologin
redis:x:105:110::/var/lib/redis:/usr/sbin/nologin
nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin
deploy:x:1001:1001::/nonexistent:/usr/sbin/nologin
`},
		{"etc/shadow", passwd, "root:*:::::::\ndaemon:*:::::::\nredis:*:::::::\nnobody:*:::::::\ndeploy:*:::::::\n"},
		{"etc/group", defs + passwd + group, "root:x:0:\nadm:x:4:redis\nssl-cert:x:112:redis\ndeploy:x:1001:\nnogroup:x:65534:\nredis:x:110:\n"},
		{"etc/group", group, "root:x:0:\nadm:x:4:redis\nssl-cert:x:112:redis\ndeploy:x:1001:\nnogroup:x:65534:\nredis:x:110:\n"},
		{"etc/gshadow", passwd + group, "root:*::\nadm:*::redis\nssl-cert:*::redis\ndeploy:*::\nnogroup:*::\nredis:*::\n"},
		{"etc/passwd", "UID_MIN 500\n" + strings.ReplaceAll(passwd, ":1000:1000:", ":500:500:"), `root:x:0:0:Ops Team:/root:/bin/bash
daemon:*:1:1:daemon:/usr/sbin:/usr/sbin/nologin
redis:x:105:110::/var/lib/redis:/usr/sbin/nologin
nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin
deploy:x:1001:1001::/nonexistent:/usr/sbin/nologin
`},
		// A real shadow given by mistake: nothing of it comes through.
		{"etc/shadow", "root:$6$salt$hash:19000:0:99999:7:::\n", ""},
		{"etc/subuid", "ann:100000:65536\n", ""}, {"etc/subgid", "", ""},
		{"etc/machine-id", "0123\n", ""}, {"var/lib/dbus/machine-id", "", ""}, {"etc/hostname", "db01\n", "localhost\n"},
	} {
		got, reason, ok := r.Stands(c.path, []byte(c.content), keeps)
		if !ok || got == nil || string(got) != c.want || reason == "" {
			t.Errorf("%s: %v %s\n%swant\n%s", c.path, ok, reason, got, c.want)
		}
	}
	if _, _, ok := r.Stands("etc/motd", nil, keeps); ok {
		t.Error("something stands for etc/motd")
	}
	if _, _, ok := r.Stands("etc/shadow", nil, snapshot.Owners{}); !ok {
		t.Error("nothing stands for etc/shadow")
	}
	if _, _, ok := rules(t, []string{"/etc/hostname"}, nil).Stands("etc/hostname", nil, keeps); ok {
		t.Error("something stands for a file that is kept")
	}
}

// What an account's comment tells of a person stays: rooms and telephones of all, and
// names where somebody may log in.
func TestStandsWithoutComments(t *testing.T) {
	r := rules(t, nil, nil)
	for line, want := range map[string]string{
		"ship:x:997:997:Zacharias Quimbly,,+49 30 1:/srv:/bin/bash": "",
		"ship:x:997:997:Zacharias Quimbly:/srv:bash":                "",
		"ship:x:997:997:Ship,Room 1,+49 30 1:/srv:/sbin/nologin":    "Ship",
		"ship:x:997:997:Ship it:/srv:/bin/false":                    "Ship it",
		"ship:x:997:997:Ship it,:/srv:":                             "Ship it",
		"root:x:0:0:root,Room 1,+49 30 1:/root:/bin/bash":           "root",
		"backup:x:34:34:backup:/var/backups:/bin/sh":                "backup",
		"nobody:x:65534:65534:nobody:/nonexistent:/bin/sh":          "",
	} {
		got, _, _ := r.Stands("etc/passwd", []byte(line+"\n"), snapshot.Owners{})
		if f := strings.Split(string(got), ":"); len(f) != 7 || f[4] != want {
			t.Errorf("of %q stays %q", line, got)
		}
	}
}

func FuzzStands(f *testing.F) {
	f.Add(passwd + group)
	f.Add("root:$6$x:0:0:::")
	r := rules(f, nil, nil)
	f.Fuzz(func(t *testing.T, content string) {
		for _, p := range []string{"etc/passwd", "etc/shadow", "etc/group", "etc/gshadow"} {
			got, _, ok := r.Stands(p, []byte(content), snapshot.Owners{})
			if !ok {
				t.Error("nothing stands for", p)
			}
			for line := range strings.Lines(string(got)) {
				if pw := strings.Split(line, ":")[1]; len(pw) > 2 {
					t.Errorf("%s: password field %q", p, pw)
				}
			}
		}
	})
}

func BenchmarkPath(b *testing.B) {
	r := rules(b, nil, nil)
	for b.Loop() {
		r.Path("usr/share/doc/some-package/examples/changelog.Debian.gz", f)
	}
}
