package main

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stead-env/stead/envs/lock"
)

// TestTake lets less leave a host than may.
func TestTake(t *testing.T) {
	t.Parallel()
	s := newSmall(t, nil)
	s.exact = s.path("exact")
	program(t, "exact", s.exact)
	for path, content := range map[string]string{
		"opt/acme/lib/libacme.so.1": "a library", "usr/local/include/acme.h": "a header", "etc/ld.so.conf.d/acme.conf": "/opt/acme/lib\n",
		"usr/local/bin/acme": "a program", "etc/acme/site.conf": "a setting", "opt/acme/data.bin": "data",
	} {
		s.write("host/"+path, strings.Repeat(content+" of the customer's own\n", 3))
	}
	if err := os.Symlink("/usr/bin/hello", s.path("host/etc/alternatives-hello")); err != nil {
		t.Fatal(err)
	}
	s.write("SECRETS", "of the customer's own\t/opt/acme\nname = changed by hand\t/etc/lib03.conf\n")
	s.in(t, "index", (*small).takeIndex)
	s.in(t, "minimal", (*small).takeMinimal)
}

func (s *small) taken(args ...string) *lock.Lock {
	s.t.Helper()
	s.must(s.command("fleet", "store", append([]string{"snapshot", s.host, "acme", "--yes"}, args...)...))
	names := s.list("fleet", "acme")
	newest := ""
	for _, name := range names {
		if strings.HasSuffix(name, ".lock") {
			newest = max(newest, name)
		}
	}
	text, err := os.ReadFile(s.path("fleet", "acme", newest))
	if err != nil {
		s.t.Fatal(err)
	}
	l, err := lock.Read(text)
	if err != nil {
		s.t.Fatal(err)
	}
	return l
}

// Of an index nothing is fetched, and no content leaves the host.
func (s *small) takeIndex() {
	s.mirror.set(nil)
	l := s.taken("--take", "index")
	again := s.taken() // target.toml knows
	if l.Take != lock.TakeIndex || again.Take != lock.TakeIndex || again.Release.Number != 1 {
		s.t.Errorf("took %q, then %q as release %d", l.Take, again.Take, again.Release.Number)
	}
	named := 0
	for _, p := range l.Packages {
		if p.Proof != lock.Listed {
			s.t.Errorf("%s is %s", p.Name, p.Proof)
		}
		if p.SHA256 != "" && p.Path != "" {
			named++
		}
	}
	if named != len(l.Packages)-1 { // but for the one that no archive has
		s.t.Errorf("an archive names %d of %d packages", named, len(l.Packages))
	}
	if n := s.mirror.gets(libDeb); n != 0 {
		s.t.Errorf("a package was fetched %d times", n)
	}
	_, errs, code := result(s.command("fleet", "elsewhere", "pull", "acme"))
	s.fails("pull of an index", []string{"pulling acme@1", "--take index", "hint: stead snapshot HOST acme --take minimal"}, errs, code)
	for _, args := range [][]string{{"show", "acme"}, {"show", "acme", "--packages"}, {"show", "acme", "--delta"}, {"ls"}, {"push", "acme"}, {"gc"}} {
		s.must(s.command("fleet", "store", args...))
	}
	if out := s.must(s.command("fleet", "store", "show", "acme", "--manifest")); out != "" {
		s.t.Errorf("files left: %s", out)
	}
	s.t.Log(s.must(exec.Command(s.exact, "-scan", "-secrets", s.path("SECRETS"), s.path("fleet"), s.path("store"))))
}

// At minimal only what loaders and compilers read leaves.
func (s *small) takeMinimal() {
	l := s.taken("--take", "minimal")
	if l.Take != lock.TakeMinimal || l.Delta.SHA256 == "" {
		s.t.Errorf("took %q with delta %+v", l.Take, l.Delta)
	}
	root := s.pull("minimal")
	for path, want := range map[string]bool{"opt/acme/lib/libacme.so.1": true, "usr/local/include/acme.h": true, "etc/ld.so.conf.d/acme.conf": true,
		"usr/bin/hello": true, "etc/passwd": true, "var/lib/dpkg/status": true, "etc/alternatives-hello": true,
		"usr/local/bin/acme": false, "etc/acme/site.conf": false, "opt/acme/data.bin": false, "opt/acme/made": false} {
		_, err := os.Lstat(filepath.Join(root, path))
		if (err == nil) != want || err != nil && !errors.Is(err, fs.ErrNotExist) {
			s.t.Errorf("/%s came along: %v, want %v", path, err == nil, want)
		}
	}
	if content, err := os.ReadFile(filepath.Join(root, "etc/lib03.conf")); err != nil || string(content) != "name = lib03\n" {
		s.t.Errorf("a changed setting: %q, %v, want the package's", content, err)
	}
	kept := s.taken("--keep", "/etc/acme/site.conf")
	if kept.Delta.Files <= l.Delta.Files {
		s.t.Error("a pattern to keep takes nothing along at minimal")
	}
	full := s.taken("--take", "standard")
	if full.Take != "" || full.Delta.Files <= kept.Delta.Files {
		s.t.Errorf("at standard: %q with %d files", full.Take, full.Delta.Files)
	}
}
