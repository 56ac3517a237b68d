package scrub

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"io"
	"os/exec"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// pw looks like what a generator makes, put together so that no scanner minds.
const pw = "q7" + "Rk2" + "vXw9"

func TestContentFindsMore(t *testing.T) {
	k := key(t)
	once := base64.StdEncoding.EncodeToString([]byte(k))
	for _, c := range []struct{ name, path, content string }{
		{"a key in base64", "etc/app/tls.yaml", "data:\n  tls.key: " + once + "\n"},
		{"one a byte further", "opt/x.env", "K=" + base64.StdEncoding.EncodeToString([]byte("\n"+k))},
		{"one two bytes further", "opt/x.env", "K=" + base64.StdEncoding.EncodeToString([]byte("\n\n"+k))},
		{"one in lines", "etc/x", "key:\n  " + strings.Join(split(once, 64), "\n  ") + "\n"},
		{"a comment", "etc/app.conf", "# db_password = " + pw + "\n"},
		{"a comment at the end", "etc/app.conf", "db_password = ${PW} # was password=" + pw + "\n"},
		{"an XML comment", "etc/x.xml", "<a/>\n<!--\n<password>" + pw + "</password>\n-->"},
		{"a property", "etc/x.xml", `<property name="db.password" value="` + pw + `"/>`},
		{"an entry", "etc/x.xml", `<entry key="password">` + pw + `</entry>`},
		{"a keystore's", "opt/tomcat/conf/server.xml", `<Connector keystoreFile="k" keystorePass="` + pw + `"/>`},
		{"JDBC", "etc/x.properties", "url=jdbc:mysql://db/app?user=app&password=" + pw + "\n"},
		{"Oracle", "etc/x.properties", "url=jdbc:oracle:thin:app/" + pw + "@//db:1521/x\n"},
		{"pgpass", "opt/app/dblist", "db.example:5432:app:app:" + pw + "\n"},
		{"a relay's", "etc/mail/relays", "[smtp.example.org]:587 app@example.org:" + pw + "\n"},
		{"a program's option", "etc/systemd/system/x.service", "ExecStart=/opt/app/run --db-password " + pw + " -v\n"},
		{"one with =", "usr/local/bin/x", "exec app --api-token=" + pw + "\n"},
		{"ldapsearch", "usr/local/bin/x", "ldapsearch -x -D cn=admin -w " + pw + " uid=1\n"},
		{"redis-cli", "usr/local/bin/x", "redis-cli -h r -a " + pw + " ping\n"},
		{"smbclient", "usr/local/bin/x", "smbclient //s/d -U 'ops%" + pw + "' -c ls\n"},
		{"lftp", "usr/local/bin/x", "lftp -u ops," + pw + " host.example\n"},
		{"chpasswd", "usr/local/bin/x", "echo 'ops:" + pw + "' | chpasswd\n"},
		{"openssl", "usr/local/bin/x", "openssl rsa -in k -passin pass:" + pw + "\n"},
		{"squid", "etc/squid/squid.conf", "cache_peer up.example parent 3128 0 login=ops:" + pw + "\n"},
		{"HAProxy's", "etc/haproxy/haproxy.cfg", "listen x\n  stats auth ops:" + pw + "\n"},
		{"HAProxy's user", "etc/haproxy/haproxy.cfg", "userlist x\n  user ops insecure-password " + pw + "\n"},
		{"Redis's users", "etc/redis/users.acl", "user app on >" + pw + " ~* +@all\n"},
		{"BIND's", "etc/bind/keys", "key x { algorithm hmac-sha256; secret \"" + pw + "==\"; };\n"},
		{"SNMP's", "etc/snmp/snmpd.conf", "rocommunity " + pw + " 10.0.0.0/8\n"},
		{"SNMP's user", "etc/snmp/snmpd.conf", "createUser ops SHA " + pw + " AES\n"},
		{"wireless", "etc/network/interfaces", "iface wlan0 inet dhcp\n  wpa-psk " + pw + "\n"},
		{"preseed", "opt/install/preseed.cfg", "d-i passwd/root-password password " + pw + "\n"},
		{"SQL", "opt/app/setup.sql", "CREATE USER 'a'@'%' IDENTIFIED BY '" + pw + "';\n"},
		{"sssd's", "opt/x/sssd.conf", "ldap_default_authtok = " + pw + "\n"},
		{"Docker's", "opt/ci/auth", `{"auths": {"r.example": {"auth": "` + base64.StdEncoding.EncodeToString([]byte("ops:"+pw)) + `"}}}`},
		{"Django's", "opt/app/settings.py", "DATABASES = {'default': {'USER': 'a', 'PASSWORD': '" + pw + "'}}\n"},
		{"a module's", "opt/app/config.js", "module.exports = { apiKey: \"" + pw + "\" }\n"},
		{"WireGuard's", "opt/tunnel.txt", "[Interface]\nPrivateKey = " + word[:20] + "/" + word[:22] + "=\n"},
		{"an htpasswd", "opt/web/users", "ops:$apr1$" + word[:8] + "$" + word[:22] + "\n"},
		{"a crypted password", "etc/x.ks", "rootpw --iscrypted $6$" + word[:12] + "$" + word + word + word[:14] + "\n"},
		{"a bcrypt", "opt/web/users", "ops:$2y$10$" + word + word[:17] + "\n"},
		{"LDAP's hash", "opt/x.ldif", "userPassword: {SSHA}" + word[:32] + "\n"},
		{"a keytab", "opt/x/service", "\x05\x02\x00\x00\x00\x40\x00\x01\x00\x0bEXAMPLE.ORG\x00\x04host" + strings.Repeat("\x01", 40)},
		{"a keystore", "opt/x/store", "\xfe\xed\xfe\xed\x00\x00\x00\x02\x00\x00\x00\x01\x00\x00\x00\x01\x00\x05alias"},
		{"a DER key", "opt/x/key", der(t)},
	} {
		if check(t, c.path, c.content) == "" {
			t.Errorf("%s is not found", c.name)
		}
	}
}

func split(s string, n int) (parts []string) {
	for ; len(s) > n; s = s[n:] {
		parts = append(parts, s[:n])
	}
	return append(parts, s)
}

func der(t *testing.T) string {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	b, err := x509.MarshalECPrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestContentIsOrdinaryToo(t *testing.T) {
	for _, c := range []struct{ name, path, content string }{
		{"a comment of a manual", "etc/x.conf", "# password = yourpassword1\n#password: changeme123\n# api_key = 0123456789abcdef\n; secret = example42\n"},
		{"a comment on lengths", "etc/x.conf", "# key = 256-bit\n# token_ttl = 24h\n# secret_size: 128\n# password_hash = sha512\n# auth_key = aes-256-gcm\n"},
		{"hosts", "etc/hosts", "fe80::1 host.example\n10.0.0.1:80 x\n2001:db8::5:7 db.example.org\n"},
		{"a table of ports", "etc/x", "smtp.example.org 25:587\nlisten.example 8080:http\n"},
		{"shadow's form", "etc/x", "daemon:*:19000:0:99999:7:::\n"},
		{"an option without a value", "usr/local/bin/x", "exec app --password-file /etc/x --no-token --ask-password\n"},
		{"a package's description", "opt/x/package.json", `{"minipass": "^7.0.4", "bypass": "full4ever9", "tokens": ["a"]}`},
		{"an interface", "opt/x/pages.json", `{"input_token": "NextToken", "output_token": "nextPageToken"}`},
		{"permissions", "opt/x/flow.yml", "permissions:\n  id-token: write\n  password: ${{ secrets.PYPI }}\n"},
		{"a program", "opt/x/app.py", "password = getpass.getpass()\ntoken = request.headers['x-token']\nsecret = os.environ[\"S3CR3T\"]\n"},
		{"a program's message", "opt/x/app.js", "throw new Error('password: must have 8 characters')\nlet key = 'token2'\n"},
		{"a trust store", "etc/ssl/certs/java/cacerts", "\xfe\xed\xfe\xed\x00\x00\x00\x02\x00\x00\x00\x01\x00\x00\x00\x02\x00\x05alias"},
		{"a DER certificate", "etc/ssl/x.der", "\x30\x82\x03\x00\x30\x82\x02\x00\xa0\x03\x02\x01\x02\x02\x14"},
		{"base64 of a certificate", "etc/x.yaml", "ca: " + base64.StdEncoding.EncodeToString([]byte(strings.ReplaceAll(key(t), "PRIVATE KEY", "CERTIFICATE")))},
		{"nothing in gzip", "etc/x.gz", pack(t, "gzip", "nothing\n")},
		{"a broken gzip", "etc/x.gz", "\x1f\x8b\x08broken"},
		{"a broken zip", "etc/x.zip", "PK\x03\x04" + strings.Repeat("\xff", 400)},
	} {
		if reason := check(t, c.path, c.content); reason != "" {
			t.Errorf("%s is taken for %s", c.name, reason)
		}
	}
}

// pack packs a text in the way of one program.
func pack(t testing.TB, how, text string) string {
	t.Helper()
	var b bytes.Buffer
	var w io.WriteCloser
	var err error
	switch how {
	case "gzip":
		w = gzip.NewWriter(&b)
	case "xz":
		w, err = xz.NewWriter(&b)
	case "zstd":
		w, err = zstd.NewWriter(&b)
	case "bzip2":
		cmd := exec.Command("bzip2", "-c")
		cmd.Stdin, cmd.Stdout = strings.NewReader(text), &b
		if err := cmd.Run(); err != nil {
			t.Fatalf("bzip2: %v", err)
		}
		return b.String()
	case "tar":
		tw := tar.NewWriter(&b)
		for _, h := range []tar.Header{{Name: "./", Typeflag: tar.TypeDir, Mode: 0o755},
			{Name: "etc/first", Mode: 0o644}, {Name: "etc/app.conf", Mode: 0o644, Size: int64(len(text))}} {
			if err := tw.WriteHeader(&h); err != nil {
				t.Fatal(err)
			}
		}
		w, err = nopCloser{tw}, nil
		defer tw.Close() //nolint:errcheck // the padding isn't needed
	case "zip":
		zw := zip.NewWriter(&b)
		first, err := zw.Create("etc/first.conf")
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(first, strings.Repeat("nothing in it\n", 1000)) //nolint:errcheck // a buffer
		member, err := zw.Create("WEB-INF/app.properties")
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(member, text) //nolint:errcheck // a buffer
		if err := zw.Close(); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err = io.WriteString(w, text); err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }

func TestContentUnpacks(t *testing.T) {
	secret := "[db]\npassword = " + pw + "\n"
	inside := strings.Repeat("an ordinary line\n", 5000) + secret
	for how, path := range map[string]string{"gzip": "etc/app.conf.gz", "xz": "opt/old.cfg.xz", "zstd": "opt/old.cfg.zst", "bzip2": "opt/old.cfg.bz2",
		"tar": "opt/backup.tar", "zip": "opt/app.war"} {
		for name, text := range map[string]string{"a password": inside, "a key": key(t)} {
			if check(t, path, pack(t, how, text)) == "" {
				t.Errorf("%s in %s is not found", name, how)
			}
		}
		if reason := check(t, path, pack(t, how, strings.Repeat("an ordinary line\n", 5000))); reason != "" {
			t.Errorf("nothing in %s is taken for %s", how, reason)
		}
	}
	nested := pack(t, "gzip", pack(t, "tar", pack(t, "gzip", secret)))
	if check(t, "opt/backup.tgz", nested) == "" {
		t.Error("what is packed three times is not found")
	}
}

// What promises more than it is costs no more than its bounds.
func TestContentUnpacksBounded(t *testing.T) {
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, gzip.BestSpeed)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(w, io.LimitReader(&zeros{}, 4*maxUnpacked)); err != nil {
		t.Fatal(err)
	}
	io.WriteString(w, key(t)) //nolint:errcheck // a buffer
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if reason := check(t, "opt/bomb.gz", b.String()); reason != "" {
		t.Errorf("more than %d bytes were unpacked: %s", maxUnpacked, reason)
	}
}

func FuzzUnpack(f *testing.F) {
	for _, how := range []string{"gzip", "xz", "zstd", "tar", "zip"} {
		f.Add([]byte(pack(f, how, "password = x\n")))
	}
	r := rules(f, nil, nil)
	f.Fuzz(func(t *testing.T, content []byte) {
		if _, err := r.Content("etc/x", bytes.NewReader(content)); err != nil {
			t.Error(err)
		}
	})
}
