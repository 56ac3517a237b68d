package main

import (
	"archive/zip"
	"bytes"
	"compress/gzip"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/creack/pty"
	"github.com/rogpeppe/go-internal/txtar"
	"golang.org/x/sys/unix"

	"github.com/stead-env/stead/snapshot"
	"github.com/stead-env/stead/snapshot/scrub"
)

// plants are secrets in files: {} stands for what nobody may see, {b64} for its base64
// with a name before it. What is between them is how people write such things.
var plants = []struct{ path, text string }{
	{"opt/shop/.netrc", "machine hq.example login ops password {}\n"},
	{"opt/shop/home/.pgpass", "db.example:5432:prod:app:{}\n"},
	{"opt/shop/dblist", "db.example:5432:prod:app:{}\n"},
	{"etc/apt/sources.list.d/shop.list", "deb https://ops:{}@mirror.example/shop stable main\n"},
	{"etc/systemd/system/report.service", "[Service]\nEnvironment=\"API_TOKEN={}\"\nExecStart=/opt/shop/bin/report\n"},
	{"etc/systemd/system/sync.service", "[Service]\nExecStart=/opt/shop/bin/sync --db-password {} --verbose\n"},
	{"etc/default/shop", "SHOP_WORKERS=4\nexport SHOP_PASSWORD={}\n"},
	{"opt/shop/shop.env", "DATABASE_URL=postgres://shop:{}@db.example/shop\n"},
	{"opt/shop/web/htpasswd", "ops:$apr1$saltsalt${}\n"},
	{"opt/shop/web/staff", "ops:{SSHA}{}{}\n"},
	{"etc/shop/old.conf", "listen = 80\n# db_password = {}\n"},
	{"etc/shop/beans.xml", "<beans>\n  <!-- <property name=\"password\" value=\"{}\"/> -->\n</beans>\n"},
	{"etc/shop/server.xml", "<Resource name=\"jdbc/shop\" username=\"shop\" password=\"{}\" maxTotal=\"20\"/>\n"},
	{"etc/shop/jdbc.properties", "url=jdbc:mysql://db.example/shop?useSSL=true&user=shop&password={}\n"},
	{"opt/shop/oracle.properties", "url=jdbc:oracle:thin:shop/{}@//db.example:1521/shop\n"},
	{"opt/shop/wp-config.php", "<?php\ndefine('DB_NAME', 'shop');\ndefine('DB_PASSWORD', '{}');\n"},
	{"opt/shop/settings.py", "DATABASES = {'default': {'USER': 'shop', 'PASSWORD': '{}'}}\n"},
	{"opt/shop/config/database.yml", "production:\n  adapter: mysql2\n  password: {}\n"},
	{"etc/cron.d/dump", "30 2 * * * root PGPASSWORD={} pg_dump shop\n"},
	{"usr/local/bin/dump", "#!/bin/sh\nmysqldump -u root -p{} --all-databases | gzip >/srv/all.gz\n"},
	{"usr/local/sbin/copy", "#!/bin/sh\nsshpass -p '{}' scp /srv/all.gz nas.example:\n"},
	{"usr/local/bin/notify", "#!/bin/sh\ncurl -fsS -u ops:{} https://hooks.example/notify\n"},
	{"usr/local/bin/adduser-ops", "#!/bin/sh\necho 'ops:{}' | chpasswd\n"},
	{"etc/nginx/proxy.conf", "proxy_set_header Authorization \"Basic {}\";\n"},
	{"etc/haproxy/haproxy.cfg", "listen stats\n  stats auth ops:{}\n"},
	{"etc/squid/squid.conf", "cache_peer up.example parent 3128 0 login=ops:{}\n"},
	{"etc/redis/redis.conf", "port 6379\nrequirepass {}\n"},
	{"etc/ldap.conf", "binddn cn=shop\nbindpw {}\n"},
	{"etc/snmp/snmpd.conf", "createUser ops SHA {} AES\n"},
	{"etc/network/interfaces.d/wlan", "iface wlan0 inet dhcp\n  wpa-psk {}\n"},
	{"etc/mail/relays", "[smtp.example]:587 shop@example.org:{}\n"},
	{"opt/tunnel/notes.txt", "[Interface]\nPrivateKey = {}{}0123456789a=\n"},
	{"opt/ci/config.json", "{\"auths\": {\"registry.example\": {\"auth\": \"{b64}\"}}}\n"},
	{"etc/shop/cloud.ini", "[default]\naws_secret_access_key = {}\n"},
	{"etc/shop/azure", "AccountName=shop;AccountKey={}{}0123456789abcdefABCDEF==;\n"},
	{"opt/ci/deploy.rb", "token = 'ghp_{}abcdefghijklmn'\n"},
	{"etc/shop/hooks.yaml", "url: https://hooks.slack.com/services/T01234567/B01234567/{}\n"},
	{"opt/install/preseed.cfg", "d-i passwd/root-password password {}\n"},
	{"opt/shop/setup.sql", "CREATE USER 'shop'@'%' IDENTIFIED BY '{}';\n"},
	{"opt/vendor/windows.ini", "\xef\xbb\xbf[db]\r\nPassword={}\r\n"},
}

// TestWhatMayLeave plants secrets on a host that is full of ordinary configuration.
func TestWhatMayLeave(t *testing.T) {
	t.Parallel()
	r := realHost(t)
	s := newSmall(t, nil)
	s.exact = r.exact
	planted := &planting{s: s}
	for _, p := range plants {
		planted.text(p.path, p.text)
	}
	planted.keys()
	planted.packed()
	planted.names()
	t.Logf("%d secrets are planted", planted.n)
	ordinary := s.ordinary(r)

	var log bytes.Buffer
	run := func(args ...string) string {
		t.Helper()
		out, errs, code := result(s.command("fleet", "store", args...))
		s.works(strings.Join(args, " "), errs, code)
		log.WriteString(out + errs)
		return out
	}
	run("snapshot", s.host, "acme", "--yes", "--json")
	run("snapshot", s.host, "acme", "--yes")
	s.asked(&log)
	var review struct {
		Decisions []struct{ Path, Action, Reason string }
	}
	if err := json.Unmarshal([]byte(run("show", "acme", "--delta", "--json")), &review); err != nil {
		t.Fatal(err)
	}
	run("show", "acme", "--delta")
	run("show", "acme")
	root := s.pull("elsewhere")
	for line := range strings.Lines(planted.list.String()) {
		_, path, _ := strings.Cut(strings.TrimSpace(line), "\t")
		if _, err := os.Lstat(filepath.Join(root, path)); err == nil {
			t.Errorf("%s came along", path) // what is packed in it, no scan would see
		}
	}

	left := 0
	for _, d := range review.Decisions {
		if d.Action == "left" && strings.HasPrefix(d.Path, ordinary.below) {
			left++
			t.Logf("left by mistake: /%s: %s", d.Path, d.Reason)
		}
	}
	t.Logf("%d ordinary files, %d left behind by mistake", ordinary.n, left)
	if ordinary.n < 200 || left*200 > 4*ordinary.n {
		t.Errorf("of %d ordinary files %d stayed behind", ordinary.n, left)
	}
	s.scan(planted, log.String())
}

// scan looks for what was planted wherever stead wrote.
func (s *small) scan(planted *planting, log string) {
	s.write("logs/all", log)
	s.write("SECRETS", planted.list.String())
	out, errs, code := result(exec.Command(s.exact, "-scan", "-secrets", s.path("SECRETS"),
		s.path("fleet"), s.path("store"), s.path("fleet-asked"), s.path("store-asked"), s.path("elsewhere"), s.path("logs")))
	s.t.Log(out)
	if code != 0 {
		s.t.Errorf("a secret left: %s", errs)
	}
	if out := s.must(exec.Command("sh", "-c", `"$1" -scan -secrets "$2" "$3" || true`, "sh", s.exact, s.path("SECRETS"), s.host)); !strings.Contains(out, "found") ||
		strings.Contains(out, ": 0 found") {
		s.t.Errorf("nothing is found even on the host: %s", out)
	}
}

// asked takes a snapshot as a person at a terminal does, who says no and then yes.
func (s *small) asked(log *bytes.Buffer) {
	for _, answer := range []string{"n\n", "y\n"} {
		cmd := s.command("fleet-asked", "store-asked", "snapshot", s.host, "acme")
		terminal, err := pty.Start(cmd)
		if err != nil {
			s.t.Fatal(err)
		}
		go func() { terminal.WriteString(answer) }() //nolint:errcheck // the exit code tells
		buf := make([]byte, 64<<10)
		for {
			n, err := terminal.Read(buf)
			log.Write(buf[:n])
			if err != nil { // EIO, when the last who had it open is gone
				break
			}
		}
		err = cmd.Wait()
		terminal.Close()
		if (err == nil) != (answer == "y\n") {
			s.t.Errorf("the answer %q: %v", answer, err)
		}
	}
}

// planting puts secrets on a host, with the list that testdata/exact reads.
type planting struct {
	s    *small
	n    int
	list bytes.Buffer
}

func (p *planting) note(path, marker string) {
	p.n++
	fmt.Fprintf(&p.list, "%s\t/%s\n", marker, path)
}

// marker is 22 characters that are nowhere else, in what all kinds of tokens are of.
func marker() string {
	b := make([]byte, 11)
	rand.Read(b) //nolint:errcheck // it never fails
	return hex.EncodeToString(b)
}

func (p *planting) text(path, text string) {
	m := marker()
	b64 := base64.StdEncoding.EncodeToString([]byte("ops:" + m))
	text = strings.ReplaceAll(text, "{}", m)
	if strings.Contains(text, "{b64}") {
		text, m = strings.ReplaceAll(text, "{b64}", b64), b64
	}
	p.s.write("host/"+path, text)
	p.note(path, m)
}

// key is a new private key as PEM, and a line of it.
func (p *planting) key() (pem, line string) {
	pem = p.s.must(exec.Command("openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"))
	return pem, strings.Split(pem, "\n")[1]
}

// keys plants keys in many spellings.
func (p *planting) keys() {
	for path, spell := range map[string]func(pem string) string{
		"etc/redis/tls.conf":        func(pem string) string { return "# for now\nport 6380\n" + pem },
		"usr/local/etc/site.crt":    func(pem string) string { return pem },
		"etc/shop/values.yaml":      func(pem string) string { return "tls:\n  key: |\n    " + strings.ReplaceAll(pem, "\n", "\n    ") },
		"opt/shop/account.json":     func(pem string) string { return `{"private_key": "` + strings.ReplaceAll(pem, "\n", `\n`) + `"}` },
		"usr/local/bin/with-a-key":  func(pem string) string { return "#!/bin/sh\nssh-add - <<'END'\n" + pem + "END\n" },
		"usr/local/lib/libshop.so":  func(pem string) string { return "\x7fELF\x02\x01" + strings.Repeat("\x00", 9000) + pem + "\x00" },
		"etc/ssl/private/shop.key":  func(pem string) string { return pem },
		"opt/shop/.ssh/id_ed25519":  func(pem string) string { return pem },
		"etc/wireguard/private.pem": func(pem string) string { return pem },
	} {
		pem, line := p.key()
		p.s.write("host/"+path, spell(pem))
		p.note(path, line)
	}
	pem, _ := p.key()
	once := base64.StdEncoding.EncodeToString([]byte(pem))
	p.s.write("host/etc/shop/secret.yaml", "data:\n  tls.key: "+once+"\n")
	p.note("etc/shop/secret.yaml", once[80:160])
	for path, magic := range map[string]string{"opt/shop/http": "\x05\x02\x00\x00\x00\x50\x00\x01\x00\x0bEXAMPLE.ORG\x00\x04HTTP",
		"etc/shop/service.keytab": "\x05\x02"} {
		m := marker()
		p.s.write("host/"+path, magic+m+m)
		p.note(path, m)
	}
}

// packed plants secrets in compressed files and archives.
func (p *planting) packed() {
	pack := func(path, text string, do func(text string) []byte) {
		m := marker()
		p.s.write("host/"+path, string(do(strings.Repeat("an ordinary line\n", 300)+strings.ReplaceAll(text, "{}", m))))
		p.note(path, m)
	}
	gz := func(text string) []byte {
		var b bytes.Buffer
		w := gzip.NewWriter(&b)
		w.Write([]byte(text)) //nolint:errcheck // a buffer
		w.Close()             //nolint:errcheck // as above
		return b.Bytes()
	}
	filter := func(name string) func(string) []byte {
		return func(text string) []byte {
			cmd := exec.Command(name, "-c")
			cmd.Stdin = strings.NewReader(text)
			return []byte(p.s.must(cmd))
		}
	}
	pack("etc/shop/shop.conf.1.gz", "password = {}\n", gz)
	pack("opt/shop/trace.gz", "GET /?url=https://ops:{}@hooks.example/ 200\n", gz)
	pack("opt/shop/old.ini.xz", "[db]\npassword = {}\n", filter("xz"))
	pack("opt/shop/old.ini.zst", "[db]\npassword = {}\n", filter("zstd"))
	pack("opt/shop/shop.war", "db.password={}\n", func(text string) []byte {
		var b bytes.Buffer
		w := zip.NewWriter(&b)
		f, err := w.Create("WEB-INF/classes/application.properties")
		if err != nil {
			p.s.t.Fatal(err)
		}
		f.Write([]byte(text)) //nolint:errcheck // a buffer
		w.Close()             //nolint:errcheck // as above
		return b.Bytes()
	})
}

// names plants secrets outside of contents.
func (p *planting) names() {
	check := func(err error) {
		if err != nil {
			p.s.t.Fatal(err)
		}
	}
	m := marker()
	p.s.write("host/opt/shop/ghp_"+m+"abcdefghijklmn.txt", "an export\n")
	p.note("opt/shop/ghp_*", m)
	m = marker()
	p.s.write("host/opt/shop/glpat-"+m[:20]+"/notes", "a folder's name\n")
	p.note("opt/shop/glpat-*", m[:20])
	m = marker()
	check(os.Symlink("https://ops:"+m+"@cache.example/", p.s.path("host/opt/shop/remote")))
	p.note("opt/shop/remote", m)
	m = marker()
	p.s.write("host/opt/shop/download.bin", "downloaded\n")
	check(unix.Setxattr(p.s.path("host/opt/shop/download.bin"), "user.xdg.origin.url", []byte("https://ops:"+m+"@get.example/"), 0))
	p.note("opt/shop/download.bin", m)
}

// ordinaryFiles are configuration without a secret, below a folder of the host.
type ordinaryFiles struct {
	below string
	n     int
}

// ordinary copies what the packages of a real Debian host have in /etc, and what
// administrators write.
func (s *small) ordinary(r *real) ordinaryFiles {
	o := ordinaryFiles{below: "etc/ordinary/"}
	secrets, err := os.ReadFile(filepath.Join(r.made, "SECRETS"))
	if err != nil {
		s.t.Fatal(err)
	}
	rules, err := scrub.New(nil, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	put := func(path string, content []byte) {
		if class, _ := rules.Path(path, snapshot.Regular); class != "" || bytes.Contains(secrets, []byte("\t/"+path+"\n")) {
			return
		}
		s.write("host/"+o.below+path, string(content))
		o.n++
	}
	err = fs.WalkDir(os.DirFS(r.host), "etc", func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		content, err := os.ReadFile(filepath.Join(r.host, path))
		put(path, content)
		return err
	})
	if err != nil {
		s.t.Fatal(err)
	}
	a, err := txtar.ParseFile("../../snapshot/scrub/testdata/ordinary.txtar")
	if err != nil {
		s.t.Fatal(err)
	}
	for _, f := range a.Files {
		put(f.Name, f.Data)
	}
	return o
}

// TestNeededSecrets wants an answer for a secret that something on the host needs,
// where nobody is there to look.
func TestNeededSecrets(t *testing.T) {
	t.Parallel()
	s := newSmall(t, nil)
	s.write("host/etc/systemd/system/shop.service", "[Service]\nEnvironmentFile=-/etc/default/shop\nExecStart=/srv/shop/bin/run --data /data/shop\n")
	s.write("host/etc/default/shop", "SHOP_PASSWORD=k9Lw2Qp8Zt4V\n")
	s.write("host/etc/openvpn/client.conf", "client\n")
	s.write("host/etc/environment", "PATH=\"/usr/bin:/data/tools\"\n")
	s.write("host/etc/ld.so.conf.d/shop.conf", "/srv/shop/lib\n")
	for _, name := range []string{"srv/shop/bin/run", "srv/shop/lib/libshop.so", "data/tools/report", "data/shop/orders"} {
		s.write("host/"+name, "of the shop\n")
	}
	take := func(args ...string) (string, int) {
		_, errs, code := result(s.command("fleet", "store", append([]string{"snapshot", s.host, "acme", "--yes"}, args...)...))
		return errs, code
	}
	errs, code := take()
	s.fails("a secret that a unit names", []string{"/etc/default/shop (a password is set; named by unit shop.service)",
		"hint: look at each: --keep '/etc/default/shop'"}, errs, code)
	s.noRelease("a secret that a unit names", "fleet", "store")
	errs, code = take("--drop", "/etc/default/shop", "--keep", "/etc/**")
	s.fails("a pattern that is too broad", []string{"/etc/openvpn/client.conf", "named by --keep /etc/**"}, errs, code)
	errs, code = take("--drop", "/etc/default/shop")
	s.works("a snapshot with an answer", errs, code)
	errs, code = take()
	s.works("a snapshot with a saved answer", errs, code)

	var review struct {
		Needed []struct{ Path, By, Reason string }
	}
	s.answer(s.command("fleet", "store", "show", "acme", "--delta", "--json"), &review)
	by := map[string]string{}
	for _, n := range review.Needed {
		by[n.Path] = n.By
	}
	for path, want := range map[string]string{"srv/shop/bin/run": "unit shop.service", "data/shop": "unit shop.service",
		"srv/shop/lib": "/etc/ld.so.conf.d/shop.conf", "data/tools": "PATH of /etc/environment"} {
		if by[path] != want {
			t.Errorf("/%s is named by %q, want %q", path, by[path], want)
		}
	}
	out := s.must(s.command("fleet", "store", "show", "acme", "--delta"))
	t.Log(out)
	if n := strings.Count(out, "\n"); n > 60 {
		t.Errorf("a review of %d lines is no screenful", n)
	}
	s.manifest()
	errs, code = take("--keep", "/etc/default/shop")
	s.works("a snapshot that takes it along", errs, code)
	if content, err := os.ReadFile(filepath.Join(s.pull("elsewhere"), "etc/default/shop")); err != nil || len(content) == 0 {
		t.Errorf("what was answered with --keep: %q, %v", content, err)
	}
}

// manifest holds the manifest against what really left: the delta and the packages that
// were built from the host's files.
func (s *small) manifest() {
	root, n := s.pull("elsewhere"), 0
	for line := range strings.Lines(s.must(s.command("fleet", "store", "show", "acme", "--manifest"))) {
		field := strings.Split(strings.TrimSpace(line), "\t")
		if len(field) != 4 {
			s.t.Fatalf("the manifest has the line %q", line)
		}
		content, err := os.ReadFile(filepath.Join(root, field[2]))
		if err != nil {
			s.t.Error(err)
			continue
		}
		if n++; fmt.Sprintf("%x", sha256.Sum256(content)) != field[0] || fmt.Sprint(len(content)) != field[1] {
			s.t.Errorf("%s isn't as the manifest says: %q", field[2], line)
		}
	}
	all := s.must(s.command("fleet", "store", "show", "acme", "--delta", "--all"))
	for _, path := range []string{"/opt/acme/made", "/usr/bin/acme-agent", "/etc/lib03.conf", "/etc/passwd"} {
		if !strings.Contains(all, path) {
			s.t.Errorf("--all doesn't name %s", path)
		}
		if out := s.must(s.command("fleet", "store", "show", "acme", "--manifest")); !strings.Contains(out, "\t"+path+"\t") {
			s.t.Errorf("the manifest doesn't name %s", path)
		}
	}
	s.t.Logf("the manifest has %d files", n)
}
