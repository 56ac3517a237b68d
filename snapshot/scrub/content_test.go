package scrub

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

// key makes a private key in PEM.
func key(t testing.TB) string {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

func check(t *testing.T, path, content string) string {
	t.Helper()
	reason, err := rules(t, nil, nil).Content(path, strings.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	return reason
}

// Samples are put together here so that no scanner takes this file for a leak.
const word = "aB3dE6gH9jK2mN5pQ8sT1vW4yZ7bC0eF3hJ6"

func TestContentFinds(t *testing.T) {
	k := key(t)
	for _, c := range []struct{ name, path, content string }{
		{"a key", "opt/x/bundle.txt", "text\n" + k},
		{"a key in a script", "usr/local/bin/x.py", "K = '''" + k + "'''"},
		{"a key in JSON", "etc/x.json", `{"private_key": "` + strings.ReplaceAll(k, "\n", `\n`) + `"}`},
		{"a key in YAML", "etc/x.yaml", "key: |\n  " + strings.ReplaceAll(k, "\n", "\n  ")},
		{"an encrypted key", "etc/x.pem", "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\n" +
			strings.Repeat(word+word[:28]+"\n", 12) + "-----END RSA PRIVATE KEY-----\n"},
		{"a key cut off", "etc/x.pem", "-----BEGIN OPENSSH PRIVATE KEY-----\n" + strings.Repeat(word+"\n", 8)},
		{"an OpenPGP key", "etc/x.asc", "-----BEGIN PGP PRIVATE KEY BLOCK-----\nVersion: 1\n\n" + strings.Repeat(word+"\n", 8) + "-----END PGP PRIVATE KEY BLOCK-----"},
		{"a key in a program", "usr/local/bin/x", "\x7fELF\x00\x00" + strings.Repeat("\x00", 9000) + k + "\x00"},
		{"a key far into a file", "opt/big.txt", strings.Repeat("a line of text\n", 100_000) + k},
		{"a key across windows", "opt/big.txt", strings.Repeat("x", window-100) + k},
		{"an access key", "opt/a.rb", "k = '" + "AKIA" + "IOSFODNN7QWERTYU'"},
		{"a token", "opt/a.js", "fetch(u, 'gh" + "p_" + word + "')"},
		{"a token in a header", "etc/x.service", "ExecStart=curl -H 'Authorization: Bearer " + word + "'"},
		{"a web token", "opt/t", "ey" + "JhbGciOiJIUzI1NiJ9.ey" + "JzdWIiOiIxMjM0NTY3ODkwIn0." + word},
		{"an address", "etc/apt/sources.list", "deb https://user:s3cr3tpass@mirror.example/debian stable main"},
		{"an address of redis", "opt/app/settings.py", "URL='redis://:hunter22@db:6379/0'"},
		{"an escaped address", "etc/x", "amqp://app:p%40ss%23w@mq/"},
		{"an assignment", "etc/x.conf", "password = hunter2"},
		{"one with a space", "etc/x.conf", "password = \"hunter #2\" # new"},
		{"one in an ini file", "etc/x.ini", "[db]\nDbPassword=Tr0ub4dor&3\n"},
		{"one in YAML", "opt/x/config.yml", "db:\n  password: correct-horse\n"},
		{"one in JSON", "etc/x.json", `{"user": "a", "password": "hunter2", "x": 1}`},
		{"one in PHP", "etc/phpmyadmin/config-db", "$dbpass='hunter22';"},
		{"a defined one", "opt/wp/wp-config", "define('DB_PASSWORD', 'hunter22');"},
		{"an environment's", "etc/default/app", "export APP_SECRET_KEY=" + word},
		{"a unit's", "etc/systemd/system/a.service", "Environment=\"API_TOKEN=" + word + "\""},
		{"an XML element", "etc/x.xml", "<dataSource><password>hunter22</password></dataSource>"},
		{"an XML attribute", "etc/x.xml", `<user name="a" password="hunter22"/>`},
		{"redis's", "etc/redis/redis.conf", "requirepass hunter22"},
		{"LDAP's", "etc/ldap.conf", "bindpw hunter22"},
		{"netrc's", "opt/x/netrc", "machine h login u password hunter22"},
		{"a shell script's", "usr/local/bin/backup.sh", "PGPASSWORD=hunter22 pg_dump"},
		{"a Python script's", "usr/local/bin/backup.py", "DB_PASSWORD = 'hunter22'\n"},
		{"one after an opening tag", "opt/x/wp-config.php", "<?php define('DB_PASSWORD', 'hunter22');"},
		{"mysql's", "etc/cron.d/x", "0 1 * * * root mysqldump --all -u root -phunter22 | gzip\n"},
		{"sshpass's", "etc/cron.d/x", "* * * * * root sshpass -p 'hunter22' ssh host\n"},
		{"a cron job's", "etc/cron.d/x", "* * * * * root PGPASSWORD=hunter22 pg_dump\n"},
		{"curl's", "usr/local/bin/x", "curl -s -u joe:hunter22 host\n"},
		{"curl's configuration", "etc/curlrc", "user = \"joe:hunter22\"\n"},
		{"UTF-16", "opt/x.ini", "\xff\xfe" + wide("[db]\r\npassword=hunter22\r\n")},
		{"UTF-16, high byte first", "opt/x.ini", "\xfe\xff\x00" + wide("[db]\r\npassword=hunter22\r\n")},
	} {
		if check(t, c.path, c.content) == "" {
			t.Errorf("%s is not found", c.name)
		}
	}
}

func wide(s string) string { return strings.Join(strings.Split(s, ""), "\x00") + "\x00" }

func TestContentIsOrdinary(t *testing.T) {
	k := key(t)
	for _, c := range []struct{ name, path, content string }{
		{"nothing", "etc/x", ""},
		{"libcrypto's words", "usr/lib/libcrypto.so", "\x7fELF\x00-----BEGIN \x00-----BEGIN RSA PRIVATE KEY-----\x00-----END RSA PRIVATE KEY-----\x00PRIVATE KEY"},
		{"half a key in a program", "usr/lib/x.so", "\x7fELF\x00" + k[:100] + "\x00"},
		{"a certificate", "etc/ssl/x.pem", strings.ReplaceAll(k, "PRIVATE KEY", "CERTIFICATE")},
		{"a public key", "etc/ssl/x.pem", strings.ReplaceAll(k, "PRIVATE KEY", "PUBLIC KEY")},
		{"words about keys", "usr/share/x.txt", "A file begins with -----BEGIN PRIVATE KEY----- and then (see RFC 7468) comes base64.\n"},
		{"pam", "etc/pam.d/common-password", "password\t[success=1 default=ignore]\tpam_unix.so obscure use_authtok try_first_pass yescrypt\npassword\trequisite\tpam_deny.so\n"},
		{"nsswitch", "etc/nsswitch.conf", "passwd:         files systemd\ngroup: files\nshadow:         files\n"},
		{"commented out", "etc/redis/redis.conf", "# requirepass foobared\n; password = hunter2\n//password=hunter2\n"},
		{"XML commented out", "etc/x.xml", "<!--\n<password>hunter2</password>\n-->"},
		{"login.defs", "etc/login.defs", "PASS_MAX_DAYS\t99999\nENCRYPT_METHOD SHA512\n"},
		{"a variable", "etc/init.d/x", "PASSWORD=$1\npasswd=\"${DBPASS}\"\ntoken=`cat x`\nsecret=$(cat /run/x)\n"},
		{"a file's name", "etc/x.conf", "password_file = /etc/x.pw\npassword = /run/secrets/x\nssl_key = /etc/ssl/private/x\n"},
		{"a template", "etc/x.conf", "password = <your password>\npassword=@PASSWORD@\npassword={{ vault }}\napi_key = %(key)s\n"},
		{"switches", "etc/ssh/sshd_config", "PasswordAuthentication no\nPermitEmptyPasswords no\nask_password = true\n"},
		{"sudoers", "etc/sudoers", "Defaults passwd_tries=3, insults\n%sudo ALL=(ALL:ALL) NOPASSWD: ALL\n"},
		{"openssl.cnf", "etc/ssl/openssl.cnf", "challengePassword = A challenge password\nsecret = pass:insta # x\nsecret = $insta::secret # pass:insta\n"},
		{"pg_hba.conf", "etc/postgresql/15/main/pg_hba.conf", "host all all 127.0.0.1/32 scram-sha-256\npassword_encryption = scram-sha-256\n"},
		{"a program's text", "usr/lib/python3/x.py", "password = getpass()\nself.password = 'hunter2'\n"},
		{"an example's address", "etc/x", "http://user:password@proxy.example:8080/\nhttps://$USER:$PASS@host/\nhttp://a:80/b@c\n"},
		{"a manual's access key", "opt/x.py", "AKIA" + "IOSFODNN7EXAMPLE"},
		{"a checksum list", "etc/x.sum", strings.Repeat("d41d8cd98f00b204e9800998ecf8427e  usr/bin/x\n", 20)},
		{"firstboot", "etc/systemd/system/x.service", "ImportCredential=passwd.hashed-password.*\nLoadCredential=passwd.plaintext-password.root\n"},
		{"programs' arguments", "etc/cron.d/x", "mkdir -p /var/lib/mysql-files\nmysql -p\nmysql -p$PASS\nps -p1234 | curl -u $U:$P x\ncurl -u joe host:8080\n"},
		{"numbers of a user", "opt/x/compose.yml", "user: 1000:1000\nuser: app:appgroup\n"},
		{"a question", "etc/x.templates", "Password: Please enter the password for the database\n"},
	} {
		if reason := check(t, c.path, c.content); reason != "" {
			t.Errorf("%s is taken for %s", c.name, reason)
		}
	}
}

func TestContentKept(t *testing.T) {
	r := rules(t, []string{"/etc/app/**", "/etc/app/demo.key"}, nil)
	k := key(t)
	for path, want := range map[string]bool{"etc/app/demo.key": false, "etc/app/real.key": true} {
		if reason, err := r.Content(path, strings.NewReader(k)); err != nil || (reason != "") != want {
			t.Errorf("%s: %q, %v", path, reason, err)
		}
	}
}

func TestContentReads(t *testing.T) {
	k := key(t)
	for name, r := range map[string]io.Reader{
		"a byte at a time": iotest.OneByteReader(strings.NewReader("x\n" + k)),
		"an end with data": iotest.DataErrReader(strings.NewReader("x\n" + k)),
	} {
		if reason, err := rules(t, nil, nil).Content("etc/x", r); reason == "" || err != nil {
			t.Errorf("%s: %q, %v", name, reason, err)
		}
	}
	broken := errors.New("broken")
	if _, err := rules(t, nil, nil).Content("etc/x", iotest.ErrReader(broken)); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	n := &zeros{}
	if reason, err := rules(t, nil, nil).Content("opt/sparse", n); reason != "" || err != nil || n.read > limit+window {
		t.Errorf("read %d bytes: %q, %v", n.read, reason, err)
	}
}

type zeros struct{ read int }

func (z *zeros) Read(p []byte) (int, error) {
	clear(p)
	z.read += len(p)
	return len(p), nil
}

func FuzzContent(f *testing.F) {
	f.Add("etc/x", []byte("-----BEGIN PRIVATE KEY-----\nMIG\n"))
	f.Add("etc/x", []byte("password: '"))
	f.Add("x", []byte("a://b:c@d BEGIN BEGIN \nAKIA"))
	r := rules(f, nil, nil)
	f.Fuzz(func(t *testing.T, path string, content []byte) {
		if _, err := r.Content(path, bytes.NewReader(content)); err != nil {
			t.Error(err)
		}
	})
}

func BenchmarkContentOfPrograms(b *testing.B) {
	r := rules(b, nil, nil)
	program := append([]byte("\x7fELF\x00"), bytes.Repeat([]byte("\x01\x02some code BEGIN \x00"), 1<<20)...)
	b.SetBytes(int64(len(program)))
	for b.Loop() {
		if _, err := r.Content("usr/local/bin/x", bytes.NewReader(program)); err != nil {
			b.Fatal(err)
		}
	}
}

// Lines as configuration has them: comments, settings, sections.
func BenchmarkContentOfSettings(b *testing.B) {
	r := rules(b, nil, nil)
	text := []byte(strings.Repeat("# How many workers wait for connections; the key word is patience.\nworkers = 4\n\n[listen]\n"+
		"address = 127.0.0.1:8080\nroot /var/www/html;\n  index: index.html\nmime.types \"text/plain\"\n", 1<<12))
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		if _, err := r.Content("etc/app/app.conf", bytes.NewReader(text)); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkContentOfText(b *testing.B) {
	r := rules(b, nil, nil)
	text := []byte(strings.Repeat("for i in range(10): print(self.token, http://host.example/path) # a line of a program\n", 1<<13))
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		if _, err := r.Content("opt/app/main.py", bytes.NewReader(text)); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkContentOfSmallFiles(b *testing.B) {
	r := rules(b, nil, nil)
	text := []byte("[Unit]\nDescription=A small unit\n[Service]\nExecStart=/usr/bin/true\n")
	for b.Loop() {
		if _, err := r.Content("etc/systemd/system/a.service", bytes.NewReader(text)); err != nil {
			b.Fatal(err)
		}
	}
}
