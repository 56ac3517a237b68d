package main

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/clearsign"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
	"github.com/ulikunitz/xz"
	"golang.org/x/sys/unix"
)

// small is the program as it was built, on a host of thirty packages that dpkg
// itself installed from an archive on the loopback, whose server does as it is told.
type small struct {
	*real
	mirror *mirror
}

// suiteDir is where the archive's indexes are.
const suiteDir = "dists/stable/"

// mirror serves a signed archive.
type mirror struct {
	*httptest.Server
	key   *openpgp.Entity
	files map[string][]byte // by path below the archive's URI; never changed once served
	index string            // Packages

	mu     sync.Mutex
	asked  map[string]int
	faults map[string]fault
	delay  time.Duration // before each answer
}

// fault answers GET in place of the mirror; n counts from 1, and content is what
// should come.
type fault func(n int, w http.ResponseWriter, r *http.Request, content []byte)

func (m *mirror) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := strings.TrimPrefix(r.URL.Path, "/debian/")
	content, ok := m.files[path]
	m.mu.Lock()
	f := m.faults[path]
	if r.Method == http.MethodGet {
		m.asked[path]++
	}
	n, delay := m.asked[path], m.delay
	m.mu.Unlock()
	time.Sleep(delay)
	switch {
	case f != nil:
		f(max(n, 1), w, r, content)
	case !ok:
		http.NotFound(w, r)
	default:
		http.ServeContent(w, r, "", written, bytes.NewReader(content))
	}
}

// set makes the mirror misbehave, or behave with nil, and forgets what was asked.
func (m *mirror) set(faults map[string]fault) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.faults, m.asked = faults, map[string]int{}
}

// wait makes all answers come later.
func (m *mirror) wait(delay time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.delay = delay
}

// gets is how often a file was asked for.
func (m *mirror) gets(path string) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.asked[path]
}

// written is the date of everything in the archive.
var written = time.Date(2024, 8, 31, 10, 3, 48, 0, time.UTC)

// debPackage is a package to be built.
type debPackage struct {
	name  string
	files map[string]string // by absolute path
	links map[string]string // hard links: new name, old name
	conf  []string
	here  bool // no archive has it
	later bool // it isn't installed with the others

	arch     string // "" for amd64
	control  string // further lines
	postinst string
}

func (p debPackage) architecture() string { return cmp.Or(p.arch, "amd64") }

func (p debPackage) path() string {
	return "pool/main/" + p.name + "_1.0-1_" + p.architecture() + ".deb"
}

// noise are bytes that no compressor shortens, the same for the same name.
func noise(name string, n int) string {
	var seed [32]byte
	copy(seed[:], name)
	b := make([]byte, n)
	rand.NewChaCha8(seed).Read(b) //nolint:errcheck // it never fails
	return string(b)
}

// smallPackages are the host's, with what goes wrong with packages.
func smallPackages(hello string) []debPackage {
	list := []debPackage{
		{name: "base-files", conf: []string{"/etc/debian_version"}, files: map[string]string{
			"/etc/debian_version": "11.11\n",
			"/usr/lib/os-release": "PRETTY_NAME=\"Small\"\nID=debian\nVERSION_ID=\"11\"\nVERSION_CODENAME=bullseye\n",
		}},
		{name: "hello", files: map[string]string{"/usr/bin/hello": hello}},
		{name: "twins", files: map[string]string{"/usr/bin/twin-a": noise("twin", 40_000)},
			links: map[string]string{"/usr/bin/twin-b": "/usr/bin/twin-a", "/usr/lib/twins/c": "/usr/bin/twin-a"}},
		{name: "editor", files: map[string]string{"/usr/bin/editor": "#!/bin/sh\necho editor\n"}},
		{name: "acme-agent", here: true, conf: []string{"/etc/acme/agent.conf"}, files: map[string]string{
			"/usr/bin/acme-agent": noise("agent", 300_000), "/etc/acme/agent.conf": "verbose = no\n"}},
	}
	for i := range 20 {
		p := debPackage{name: fmt.Sprintf("lib%02d", i), files: map[string]string{}}
		p.conf = []string{"/etc/" + p.name + ".conf"}
		p.files[p.conf[0]] = "name = " + p.name + "\n"
		for j := range 12 {
			p.files[fmt.Sprintf("/usr/share/%s/file%02d", p.name, j)] = noise(p.name+fmt.Sprint(j), 1000*(j+1))
		}
		list = append(list, p)
	}
	for i := range 9 {
		name := fmt.Sprintf("large%d", i)
		list = append(list, debPackage{name: name, files: map[string]string{
			"/usr/lib/" + name + "/data": noise(name, 3<<20), "/usr/lib/" + name + "/text": strings.Repeat(name+"\n", 200_000)}})
	}
	return list
}

// smallHost makes the host and its archive, or skips.
func smallHost(t *testing.T) *small {
	s := newSmall(t, nil)
	s.must(s.command("reference", "reference-store", "snapshot", s.host, "acme", "--yes"))
	return s
}

// newSmall is smallHost with further packages, before any snapshot.
func newSmall(t *testing.T, more []debPackage) *small {
	switch {
	case testing.Short():
		t.Skip("a host that dpkg installs takes some seconds")
	case os.Getuid() != 0:
		t.Skip("dpkg installs packages for root alone")
	}
	for _, program := range []string{"dpkg", "dpkg-deb", "dpkg-divert", "go"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skip(err)
		}
	}
	s := &small{real: &real{t: t, dir: quickDir(t)}}
	s.stead, s.host = s.path("stead"), s.path("host")
	program(t, "stead", s.stead)
	packages := append(smallPackages(s.hello()), more...)
	for _, p := range packages {
		s.build(p)
	}
	s.serve(packages)
	s.install(packages)
	s.age(packages)
	return s
}

// quickDir is a new folder in memory, where there is such a thing: how long a disk
// that others use takes to sync says nothing here.
func quickDir(t *testing.T) string {
	t.Helper()
	const memory, room = "/dev/shm", 1 << 30 // a container's has 64 MB
	var fs unix.Statfs_t
	if err := unix.Statfs(memory, &fs); err != nil || fs.Bavail*uint64(fs.Bsize) < room {
		return t.TempDir()
	}
	dir, err := os.MkdirTemp(memory, "stead-test-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// hello is a static program: what it runs in needs nothing else.
func (s *small) hello() string {
	s.write("source/main.go", "package main\n\nfunc main() { println(\"hello\") }\n")
	cmd := exec.Command("go", "build", "-ldflags=-s -w", "-o", s.path("source/hello"), s.path("source/main.go"))
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	s.must(cmd)
	content, err := os.ReadFile(s.path("source/hello"))
	if err != nil {
		s.t.Fatal(err)
	}
	return string(content)
}

// write writes a file below the test's folder, dated as the archive is.
func (s *small) write(name, content string) {
	s.t.Helper()
	path := s.path(name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		s.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		s.t.Fatal(err)
	}
	if err := os.Chtimes(path, written, written); err != nil {
		s.t.Fatal(err)
	}
}

// build builds one package under archive/.
func (s *small) build(p debPackage) {
	dir := "packages/" + p.name + "_" + p.architecture()
	for path, content := range p.files {
		s.write(dir+path, content)
		if strings.HasPrefix(path, "/usr/bin/") || strings.Contains(path, "/ld-linux") {
			if err := os.Chmod(s.path(dir+path), 0o755); err != nil {
				s.t.Fatal(err)
			}
		}
	}
	for path, old := range p.links {
		if err := os.MkdirAll(filepath.Dir(s.path(dir+path)), 0o755); err != nil {
			s.t.Fatal(err)
		}
		if err := os.Link(s.path(dir+old), s.path(dir+path)); err != nil {
			s.t.Fatal(err)
		}
	}
	s.write(dir+"/DEBIAN/control", "Package: "+p.name+"\nVersion: 1.0-1\nArchitecture: "+p.architecture()+"\n"+p.control+
		"Maintainer: Nobody <nobody@mirror.example>\nDescription: "+p.name+"\n")
	if p.postinst != "" {
		s.write(dir+"/DEBIAN/postinst", p.postinst)
		s.must(exec.Command("chmod", "755", s.path(dir, "DEBIAN/postinst")))
	}
	if len(p.conf) > 0 {
		s.write(dir+"/DEBIAN/conffiles", strings.Join(p.conf, "\n")+"\n")
	}
	s.write("archive/"+p.path(), "")
	cmd := exec.Command("dpkg-deb", "--root-owner-group", "-Zxz", "-z1", "-b", s.path(dir), s.path("archive", p.path()))
	cmd.Env = append(os.Environ(), fmt.Sprint("SOURCE_DATE_EPOCH=", written.Unix()))
	s.must(cmd)
}

// serve signs the archive and serves it.
func (s *small) serve(packages []debPackage) {
	m := &mirror{files: map[string][]byte{}, asked: map[string]int{}}
	foreign := ""
	for _, p := range packages {
		content, err := os.ReadFile(s.path("archive", p.path()))
		if err != nil {
			s.t.Fatal(err)
		}
		if p.here {
			continue
		}
		m.files[p.path()] = content
		entry := fmt.Sprintf("Package: %s\nVersion: 1.0-1\nArchitecture: %s\nFilename: %s\nSize: %d\nSHA256: %x\n\n",
			p.name, p.architecture(), p.path(), len(content), sha256.Sum256(content))
		if p.architecture() == "amd64" {
			m.index += entry
		} else {
			foreign += entry
		}
	}
	release := fmt.Sprintf("Origin: Small\nLabel: Small\nSuite: stable\nCodename: stable\nDate: %s\nArchitectures: amd64 i386\n"+
		"Components: main\nSHA256:\n", written.Format(time.RFC1123))
	for arch, text := range map[string]string{"amd64": m.index, "i386": foreign} {
		name, index := "main/binary-"+arch+"/Packages.xz", compressXZ(s.t, text)
		m.files[suiteDir+name] = index
		release += fmt.Sprintf(" %x %d %s\n", sha256.Sum256(index), len(index), name)
	}
	config := &packet.Config{Algorithm: packet.PubKeyAlgoEdDSA, Time: func() time.Time { return written.AddDate(-1, 0, 0) }}
	var err error
	if m.key, err = openpgp.NewEntity("Archive", "", "archive@mirror.example", config); err != nil {
		s.t.Fatal(err)
	}
	m.files[suiteDir+"InRelease"] = clearSign(s.t, m.key, release)
	m.Server = httptest.NewServer(m)
	s.t.Cleanup(m.Close)
	s.mirror = m
}

func compressXZ(t *testing.T, text string) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := xz.NewWriter(&b)
	if err == nil {
		_, err = w.Write([]byte(text))
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func clearSign(t *testing.T, key *openpgp.Entity, text string) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := clearsign.Encode(&b, key.PrivateKey, &packet.Config{Time: func() time.Time { return written.Add(time.Minute) }})
	if err == nil {
		_, err = w.Write([]byte(text))
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// install makes the host: dpkg unpacks the packages, as it did in production.
func (s *small) install(packages []debPackage) {
	for _, name := range []string{"status", "available"} {
		s.write("host/var/lib/dpkg/"+name, "")
	}
	for _, dir := range []string{"info", "updates", "triggers"} {
		if err := os.MkdirAll(s.path("host/var/lib/dpkg", dir), 0o755); err != nil {
			s.t.Fatal(err)
		}
	}
	s.must(exec.Command("dpkg-divert", "--root="+s.host, "--local", "--rename", "--add", "/usr/bin/editor"))
	args := []string{"--root=" + s.host, "--force-unsafe-io", "--force-architecture", "--install"}
	for _, p := range packages {
		if !p.later {
			args = append(args, s.path("archive", p.path()))
		}
	}
	s.must(exec.Command("dpkg", args...))
	var key bytes.Buffer
	if err := s.mirror.key.Serialize(&key); err != nil {
		s.t.Fatal(err)
	}
	s.write("host/usr/share/keyrings/small.gpg", key.String())
	s.write("host/etc/apt/sources.list", "deb [signed-by=/usr/share/keyrings/small.gpg] "+s.mirror.URL+"/debian stable main\n")
}

// age makes the host one that has been in use.
func (s *small) age([]debPackage) {
	s.write("host/etc/passwd", "root:x:0:0:root:/root:/bin/sh\n_acme:x:998:998::/nonexistent:/usr/sbin/nologin\n")
	s.write("host/etc/group", "root:x:0:\n_acme:x:998:\n")
	s.write("host/etc/lib03.conf", "name = changed by hand\n")
	s.write("host/usr/bin/editor", "#!/bin/sh\necho another editor\n")
	s.write("host/opt/acme/made", noise("made", 2<<20))
	s.write("host/usr/local/share/acme/text", strings.Repeat("made by hand\n", 10_000))
	if err := os.Remove(s.path("host/usr/share/lib05/file03")); err != nil {
		s.t.Fatal(err)
	}
	if err := os.Chown(s.path("host/opt/acme/made"), 998, 998); err != nil {
		s.t.Fatal(err)
	}
	if err := os.Chmod(s.path("host/opt/acme/made"), 0o640); err != nil {
		s.t.Fatal(err)
	}
}

// in runs a part of a test on the same host.
func (s *small) in(t *testing.T, name string, fn func(s *small)) {
	t.Helper()
	t.Run(name, func(t *testing.T) {
		inner := *s.real
		inner.t = t
		fn(&small{&inner, s.mirror})
	})
}

// group lets a command be killed with all that it starts.
func group(cmd *exec.Cmd) *exec.Cmd {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return cmd
}

// remove forgets fleets and stores.
func (s *small) remove(names ...string) {
	s.t.Helper()
	for _, name := range names {
		if err := os.RemoveAll(s.path(name)); err != nil {
			s.t.Fatal(err)
		}
	}
}

// snapshot takes one of the host, and returns what stead answered.
func (s *small) snapshot(fleet, store string) (stdout, stderr string, code int) {
	return result(s.command(fleet, store, "snapshot", s.host, "acme", "--yes"))
}
