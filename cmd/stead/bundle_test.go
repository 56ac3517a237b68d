package main

import (
	"archive/tar"
	"bytes"
	"crypto/md5"
	"debug/elf"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/rogpeppe/go-internal/txtar"
	"golang.org/x/sys/unix"
)

// The small program is for machines of any age, and fits where little does.
func TestBundleProgram(t *testing.T) {
	name := filepath.Join(t.TempDir(), "stead-bundle")
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", name, "../stead-bundle")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	info, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	if const8 := int64(8 << 20); info.Size() >= const8 {
		t.Errorf("it has %d bytes, and %d are too many", info.Size(), const8)
	}
	f, err := elf.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	libs, err := f.ImportedLibraries()
	if err != nil || len(libs) > 0 {
		t.Errorf("it needs the libraries %v, %v", libs, err)
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP || p.Type == elf.PT_DYNAMIC {
			t.Errorf("it has a %v and isn't static", p.Type)
		}
	}
	out, err := exec.Command("go", "list", "-deps", "../stead-bundle").Output()
	if err != nil || strings.Contains(string(out), "net/http") {
		t.Errorf("it imports net/http, or %v", err)
	}
}

// planted are secrets, and names of people, by the path that they are in. None may be
// found in a bundle.
var planted = map[string]string{
	"etc/shadow":                                             "root:$6$salt$plantedhash:19000:0:99999:7:::\nalicegreen:$6$x$plantedhash2:19000:0:99999:7:::\n",
	"etc/app/database.conf":                                  "db_password = plantedPassw0rd\n",
	"etc/systemd/system/report.service":                      "[Service]\nEnvironment=TOKEN=ghp_plantedplanted0123456789ABCDEFabcdef12\n",
	"opt/acme/.netrc":                                        "machine x login y password plantedNetrc\n",
	"opt/acme/notes.txt":                                     "-----BEGIN RSA PRIVATE KEY-----\nplantedKEYplantedKEYplantedKEYplantedKEYplantedKEYplantedKEYplantedKEY\n-----END RSA PRIVATE KEY-----\n",
	"home/alicegreen/.ssh/id_ed25519":                        "planted private key",
	"home/alicegreen/.bashrc":                                "alias planted=1\n",
	"home/alicegreen/plans/buy-planted-inc.odt":              "planted plans",
	"home/bobfromldap/file":                                  "planted",
	"var/mail/alicegreen/new/1":                              "planted mail",
	"var/spool/cron/crontabs/alicegreen":                     "* * * * * planted\n",
	"var/lib/AccountsService/users/alicegreen":               "[User]\n",
	"etc/sudoers.d/alicegreen":                               "alicegreen ALL=(ALL) NOPASSWD: ALL\n",
	"etc/subuid":                                             "alicegreen:100000:65536\n",
	"srv/alicegreen/planted-data":                            "planted data",
	"srv/alicegreen/data":                                    "of a name that packages have",
	"opt/acme/ghp_plantedNAME0123456789ABCDEFabcdef123":      "a name that is a secret\n",
	"opt/acme/ghp_plantedFOLD0123456789ABCDEFabcdef123/file": "in a folder of such a name\n",
}

// plantedForms are further secrets, in ways to write one that the script has to know as
// the program does. The word is put together so that no scanner minds.
func plantedForms(t *testing.T) map[string]string {
	const pw = "q7" + "Rk2" + "vXw9planted"
	key := planted["opt/acme/notes.txt"]
	forms := map[string]string{
		"comment.conf":    "# db_password = " + pw + "\n",
		"behind.conf":     "db_password = ${PW} # was password=" + pw + "\n",
		"xml.xml":         "<a/>\n<!--\n<password>" + pw + "</password>\n-->\n",
		"property.xml":    `<property name="db.password" value="` + pw + `"/>` + "\n",
		"entry.xml":       `<entry key="password">` + pw + `</entry>` + "\n",
		"oracle.conf":     "url=jdbc:oracle:thin:app/" + pw + "@//db:1521/x\n",
		"dblist":          "db.example:5432:app:app:" + pw + "\n",
		"relays":          "[smtp.example.org]:587 app@example.org:" + pw + "\n",
		"option.service":  "ExecStart=/opt/app/run --db-password " + pw + " -v\n",
		"ldap.conf":       "ldapsearch -x -D cn=admin -w " + pw + " uid=1\n",
		"chpasswd.conf":   "echo 'ops:" + pw + "' | chpasswd\n",
		"acl":             "user app on >" + pw + " ~* +@all\n",
		"settings.py":     "DATABASES = {'default': {'USER': 'a', 'PASSWORD': '" + pw + "'}}\n",
		"users":           "ops:$apr1$abcdEFGH$plantedABCDEFGHIJKLMNO\n",
		"auth":            `{"auths": {"r.example": {"auth": "` + base64.StdEncoding.EncodeToString([]byte("ops:"+pw)) + `"}}}` + "\n",
		"tls.yaml":        "data:\n  tls.key: " + base64.StdEncoding.EncodeToString([]byte(key)) + "\n",
		"curl.conf":       "user = \"ops:" + pw + "\"\n",
		"header.conf":     "Authorization: Bearer " + pw + "abcdef0123\n",
		"fetch":           "machine h.example\nlogin l\npassword " + pw + "\n",
		"user.conf":       "url = https://" + pw + "Zk4hTn2q:@git.example/x\n",
		"set.service":     "SetCredential=db:" + pw + "\n",
		"env.yaml":        "- name: DB_PASSWORD\n  value: " + pw + "\n",
		"env.json":        `{"name":"DB_PASSWORD","value":"` + pw + `"}` + "\n",
		"vault.conf":      "exec curl -H 'X-Vault-Token: " + pw + "' u -o x\n",
		"wide.conf":       "\xff\xfe" + strings.Join(strings.Split("password = "+pw+"\n", ""), "\x00") + "\x00",
		"old.gz":          packedBy(t, "gzip", "-nc", "db_password = "+pw+"\n"),
		"old.conf.xz":     packedBy(t, "xz", "-c", "db_password = "+pw+"\n"),
		"keytab":          "\x05\x02\x00\x00\x00\x40\x00\x01\x00\x0bEXAMPLE.ORG\x00\x04host" + strings.Repeat("planted", 8),
		"store":           "\xfe\xed\xfe\xed\x00\x00\x00\x02\x00\x00\x00\x01\x00\x00\x00\x01\x00\x05planted",
		"program/libx.so": "\x7fELF\x00\x01" + key + "\x00",
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	text := "[db]\npassword = " + pw + "\n"
	err := w.WriteHeader(&tar.Header{Name: "etc/app.conf", Mode: 0o644, Size: int64(len(text))})
	if err == nil {
		_, err = w.Write([]byte(text))
	}
	if err = errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	forms["backup.tar"] = b.String()
	return forms
}

// packedBy is what a program makes of a text.
func packedBy(t *testing.T, program, flag, text string) string {
	cmd := exec.Command(program, flag)
	cmd.Stdin = strings.NewReader(text)
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

var plantedWords = []string{"planted", "alicegreen", "bobfromldap", "p4ssInAddress", "privateuser", "Alice Green"}

// plantAll adds to a small host what may not leave it, and what makes bundles hard.
func (s *small) plantAll() {
	for p, content := range planted {
		s.write("host/"+p, content)
	}
	for p, content := range plantedForms(s.t) {
		s.write("host/opt/forms/"+p, content)
	}
	ordinary, err := txtar.ParseFile("../../snapshot/scrub/testdata/ordinary.txtar")
	if err != nil {
		s.t.Fatal(err)
	}
	for _, f := range ordinary.Files {
		s.write("host/"+f.Name, string(f.Data))
	}
	s.write("host/etc/passwd", "root:x:0:0:root:/root:/bin/sh\n_acme:x:998:998::/nonexistent:/usr/sbin/nologin\n"+
		"ship:x:997:997:planted Person,,+49 30 1:/srv:/bin/bash\nprint:x:996:996:Printer,planted room,1:/srv:/usr/sbin/nologin\n"+
		"alicegreen:x:1000:1000:Alice Green,,,:/home/alicegreen:/bin/bash\n")
	s.write("host/etc/group", "root:x:0:\n_acme:x:998:alicegreen\nalicegreen:x:1000:\n")
	address := strings.TrimPrefix(s.mirror.URL, "http://")
	s.write("host/etc/apt/sources.list.d/private.list", "deb http://privateuser:p4ssInAddress@"+address+"/private stable main\n")
	s.write("host/etc/apt/sources.list.d/token.list", "# http://plantedQ7rk2vXw9Zk4hTn2q@x.example/ was here\n")
	lists := "host/var/lib/apt/lists/" + strings.ReplaceAll(address, "/", "_") + "_debian_dists_stable_"
	s.write(lists+"InRelease", string(s.mirror.files[suiteDir+"InRelease"]))
	s.write(lists+"main_binary-amd64_Packages.xz", string(s.mirror.files[suiteDir+"main/binary-amd64/Packages.xz"]))

	at := func(p string) string { return s.path("host", p) }
	for _, err := range []error{
		os.Chmod(at("etc/shadow"), 0o640), os.Chmod(at("etc/sudoers.d/alicegreen"), 0o440),
		os.Link(at("etc/shadow"), at("etc/another-name")),
		os.Symlink("https://x:plantedTarget99@address.example/", at("opt/acme/target")),
		os.Symlink("/etc/shadow", at("etc/apt/sources.list.d/stray.list")),
		os.Chown(at("home/alicegreen"), 1000, 1000),
		// As their packages brought them, but for what isn't content.
		os.Chmod(at("usr/share/sums/file01"), 0o600), os.Chown(at("usr/share/sums/file02"), 998, 998),
		os.Chtimes(at("usr/share/sums/file03"), written, written.AddDate(0, 0, 1)),
		os.Link(at("usr/share/sums/file04"), at("usr/local/linked")),
		os.WriteFile(at("usr/share/sums/file05"), []byte("changed"), 0o644),
		os.WriteFile(at("opt/acme/large"), []byte(noise("large", 9<<20)), 0o644),
		os.WriteFile(at("opt/acme/od\xffd\nname"), []byte("odd"), 0o644),
		os.WriteFile(at(`opt/acme/$(touch "x")\n`), []byte("odd"), 0o644),
		os.WriteFile(at(`etc/apt/sources.list.d/a"$(false)`+"`b`.list"), []byte("# nothing, and http://privateuser:p4ssInAddress@x.example/\n"), 0o644),
	} {
		if err != nil {
			s.t.Fatal(err)
		}
	}
	if err := unix.Setxattr(at("usr/local/linked"), "user.note", []byte("kept"), 0); err == nil {
		if err := unix.Setxattr(at("etc/lib03.conf"), "user.password", []byte("plantedAttribute1"), 0); err != nil {
			s.t.Fatal(err)
		}
	}
}

// sumsPackage brings sums of its files, as nearly all packages do. What brings none is
// compared by times and sizes.
func sumsPackage() debPackage {
	p := debPackage{name: "sums", files: map[string]string{}}
	sums := ""
	for i := range 6 {
		name := fmt.Sprintf("usr/share/sums/file%02d", i)
		p.files["/"+name] = noise(name, 5000)
		sums += fmt.Sprintf("%x  %s\n", md5.Sum([]byte(p.files["/"+name])), name)
	}
	const odd = `usr/share/sums/a\x2db $(touch "$HOME"/x)`
	p.files["/"+odd] = "a name as units have\n"
	sums += fmt.Sprintf("%x  %s\n", md5.Sum([]byte(p.files["/"+odd])), odd)
	p.files["/DEBIAN/md5sums"] = sums
	return p
}

// searchBundle looks for what may not be in a bundle.
func (s *small) searchBundle(name string) {
	s.t.Helper()
	content, err := os.ReadFile(name)
	if err != nil {
		s.t.Fatal(err)
	}
	switch {
	case bytes.HasPrefix(content, []byte("\x28\xb5\x2f\xfd")):
		dec, _ := zstd.NewReader(nil)
		if content, err = dec.DecodeAll(content, nil); err != nil {
			s.t.Fatal(err)
		}
	case bytes.HasPrefix(content, []byte("\x1f\x8b")):
		content = []byte(s.must(exec.Command("gzip", "-dc", name)))
	}
	for _, w := range plantedWords {
		if i := bytes.Index(content, []byte(w)); i >= 0 {
			s.t.Errorf("%s holds %q: %q", name, w, content[max(i-60, 0):min(i+60, len(content))])
		}
	}
}

// TestBundle makes bundles of a host in all ways, and wants the release that the host
// itself gives.
func TestBundle(t *testing.T) {
	t.Parallel()
	s := newSmall(t, []debPackage{{name: "skel", files: map[string]string{"/etc/skel/.bashrc": "# for new accounts\n", "/etc/skel/data": ""}},
		sumsPackage()})
	s.plantAll()
	s.must(s.dpkg("--remove", "lib14")) // and its conffile stays
	bundler := s.path("stead-bundle")
	program(t, "stead-bundle", bundler)
	s.lacking(bundler)
	s.patterns(bundler)
	s.reachedToBundle()
	before := fingerprint(t, s.host)
	s.must(exec.Command(bundler, s.host, s.path("program.bundle")))
	s.must(exec.Command(bundler, s.host, s.path("again.bundle")))
	s.must(exec.Command(bundler, s.host, s.path("program.gz")))
	s.must(s.command("none", "none", "snapshot", s.host, "bundle:"+s.path("stead.bundle"), "--yes"))
	s.write("stead-bundle.sh", s.must(s.command("none", "none", "bundle-script")))
	s.must(exec.Command("sh", s.path("stead-bundle.sh"), s.host, s.path("script.bundle")))
	s.must(exec.Command("sh", s.path("stead-bundle.sh"), s.host, s.path("script-again.bundle")))
	if fingerprint(t, s.host) != before {
		t.Error("making bundles changed the host")
	}
	for name, again := range map[string]string{"program.bundle": "again.bundle", "script.bundle": "script-again.bundle"} {
		a, errA := os.ReadFile(s.path(name))
		b, errB := os.ReadFile(s.path(again))
		if errA != nil || errB != nil || !bytes.Equal(a, b) {
			t.Errorf("%s and another of the same host differ (%v, %v)", name, errA, errB)
		}
	}
	var direct struct{ Identity string }
	s.answer(s.command("fleet", "store", "snapshot", s.host, "acme", "--yes", "--json"), &direct)
	for _, name := range []string{"program.bundle", "program.gz", "stead.bundle", "script.bundle"} {
		s.searchBundle(s.path(name))
		var got struct{ Identity string }
		s.answer(s.command("fleet-"+name, "store", "snapshot", "bundle:"+s.path(name), "acme", "--yes", "--json"), &got)
		if got.Identity != direct.Identity {
			t.Errorf("%s gives %s, the host %s", name, got.Identity, direct.Identity)
			s.compareReviews("fleet", "fleet-"+name)
		}
	}
}

// lacking makes a bundle without a package that has to be repacked, which only the
// archive can tell: its files have other times, and it brings no sums.
func (s *small) lacking(program string) {
	s.t.Helper()
	changed := s.path("host/usr/share/lib07/file03")
	if err := os.Chtimes(changed, written, written.AddDate(0, 0, 1)); err != nil {
		s.t.Fatal(err)
	}
	s.must(exec.Command(program, s.host, s.path("lacking.bundle")))
	_, stderr, code := result(s.command("none", "store", "snapshot", "bundle:"+s.path("lacking.bundle"), "acme", "--yes"))
	if code != 1 || !strings.Contains(stderr, "of package lib07\nhint: make the bundle again on the host, with --with lib07") {
		s.t.Errorf("exit code %d without lib07\n%s", code, stderr)
	}
	s.must(exec.Command(program, "--with", "lib07", s.host, s.path("with.bundle")))
	s.must(s.command("with", "store", "snapshot", "bundle:"+s.path("with.bundle"), "acme", "--yes"))
	if err := os.Chtimes(changed, written, written); err != nil {
		s.t.Fatal(err)
	}
}

// patterns takes a bundle that was made to keep and to drop paths, which are no answers of
// who takes it: target.toml holds those alone.
func (s *small) patterns(program string) {
	s.t.Helper()
	s.must(exec.Command(program, "--keep", "/usr/local/linked", "--keep", "/opt/\x1b[31m/**", "--drop", "/opt/forms/**", s.host, s.path("patterns.bundle")))
	args := []string{"snapshot", "bundle:" + s.path("patterns.bundle"), "acme", "--yes"}
	for _, flags := range [][]string{{"--drop", "/opt/acme/large"}, {"--keep", "/usr/local/linked"}} {
		_, stderr, code := result(s.command("patterns", "store", append(args, flags...)...))
		told := strings.Contains(stderr, "/usr/local/linked")
		if code != 0 || told != (flags[0] == "--drop") || strings.Count(stderr, "the bundle was made to keep") != 1 || strings.Contains(stderr, "\x1b") {
			s.t.Errorf("with %q: exit code %d\n%s", flags, code, stderr)
		}
		saved, err := os.ReadFile(s.path("patterns/acme/target.toml"))
		if text := string(saved); err != nil || !strings.Contains(text, flags[1]) || strings.Contains(text, "linked") == told || strings.Contains(text, "[31m") || strings.Contains(text, "forms") {
			s.t.Errorf("with %q, target.toml is %q, %v", flags, saved, err)
		}
	}
}

// reachedToBundle wants what says how to reach a host to hold where a bundle is made too.
func (s *small) reachedToBundle() {
	s.t.Helper()
	file := s.path("unmade.bundle")
	for _, c := range []struct {
		args        []string
		code        int
		out, errors string
	}{
		{[]string{s.host, "--dry-run"}, 0, "# no command", ""},
		{[]string{"ssh://root@127.0.0.1:1", "--dry-run"}, 0, "ssh ", ""},
		{[]string{"image:x.tar", "--dry-run"}, 2, "", "not by image"},
		{[]string{"ssh://root@127.0.0.1:1", "--limit-rate", "fast"}, 2, "", "--limit-rate: "},
	} {
		args := append([]string{"snapshot", c.args[0], "bundle:" + file, "--yes"}, c.args[1:]...)
		out, errs, code := result(s.command("none", "none", args...))
		if code != c.code || !strings.Contains(out, c.out) || !strings.Contains(errs, c.errors) {
			s.t.Errorf("%q: exit code %d\n%s%s", args, code, out, errs)
		}
		if _, err := os.Lstat(file); err == nil {
			s.t.Errorf("%q wrote a bundle", args)
		}
	}
}

// compareReviews says what makes two releases differ.
func (s *small) compareReviews(a, b string) {
	s.t.Helper()
	for _, fleet := range []string{a, b} {
		s.must(exec.Command("sh", "-c", "cat "+s.path(fleet, "acme/1.lock")+" > "+s.path(fleet+".txt")))
		out := s.must(s.command(fleet, "store", "show", "acme", "--delta", "--json"))
		if err := os.WriteFile(s.path(fleet+".txt.review"), []byte(out), 0o600); err != nil {
			s.t.Fatal(err)
		}
	}
	for _, end := range []string{".txt", ".txt.review"} {
		out, _, _ := result(exec.Command("diff", s.path(a+end), s.path(b+end)))
		s.t.Logf("%.4000s", out)
	}
}
