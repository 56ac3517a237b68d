package envs

import (
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestReadCopyright(t *testing.T) {
	const form = "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n"
	for text, want := range map[string][]string{
		"": nil,
		"This is free software.\nLicense: GPL-2\n": nil,
		form + "\nFiles: *\nLicense: GPL-2+\n License: no\n\nFiles: x\nlicense:  Expat \n\nLicense: GPL-2+\n text\n": {"Expat", "GPL-2+"},
		"\n" + form + "License: a\x1b[m\nLicense:\nLicense: " + strings.Repeat("x", 121) + "\nLicense: b\n":          {"b"},
	} {
		if got := readCopyright(strings.NewReader(text)); !reflect.DeepEqual(got, want) {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}

func FuzzReadCopyright(f *testing.F) {
	f.Add("Format: x\nLicense: GPL-2\n")
	f.Fuzz(func(t *testing.T, text string) {
		for _, name := range readCopyright(strings.NewReader(text)) {
			if !goodLicense(name) {
				t.Errorf("read %q", name)
			}
		}
	})
}

func TestSourceURI(t *testing.T) {
	for remote, want := range map[string]string{
		"https://u:secret@git.example/a/b.git?x=y": "git+https://git.example/a/b.git",
		"git@git.example:a/b.git":                  "git+ssh://git@git.example/a/b.git",
		"ssh://git:secret@git.example:22/a":        "git+ssh://git@git.example:22/a",
		"/srv/git/a":                               "", "../a": "", "file:///srv/a": "", "": "", "::": "",
	} {
		if got := sourceURI(remote); got != want {
			t.Errorf("%s: got %q, want %q", remote, got, want)
		}
	}
}

// repository is a git repository with one commit of these files.
func repository(t *testing.T, files map[string]string) (dir string, git func(args ...string) string) {
	t.Helper()
	dir = t.TempDir()
	tree(t, dir, files)
	git = func(args ...string) string {
		t.Helper()
		cmd := exec.Command("git", append([]string{"-C", dir, "-c", "user.name=A", "-c", "user.email=a@b.example"}, args...)...)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("git %v: %v\n%s", args, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	git("init", "-q")
	git("add", "--all")
	git("commit", "-q", "-m", "first")
	return dir, git
}

func TestSource(t *testing.T) {
	read := func(dir string) Source {
		t.Helper()
		s, err := ReadSource(t.Context(), dir)
		if err != nil {
			t.Error(err)
		}
		s.Date = time.Time{}
		return s
	}
	if got := read(t.TempDir()); got != (Source{}) {
		t.Errorf("without git: %v", got)
	}
	dir, git := repository(t, map[string]string{"main.c": "1", "app/stead.toml": "", ".gitignore": "*.o\n"})
	git("remote", "add", "origin", "https://secret@git.example/a")
	clean := Source{URI: "git+https://git.example/a", Commit: git("rev-parse", "HEAD"), Tree: git("rev-parse", "HEAD^{tree}")}
	check := func(what, at string, want Source) {
		t.Helper()
		if got := read(filepath.Join(dir, at)); got != want {
			t.Errorf("%s:\ngot  %+v\nwant %+v", what, got, want)
		}
	}
	check("committed", ".", clean)
	tree(t, dir, map[string]string{"dist/acme/app": "made"})
	check("with artifacts", ".", clean)
	tree(t, dir, map[string]string{"x.o": "ignored"})
	ignored := clean
	ignored.Ignored = true
	check("with an ignored file", ".", ignored)

	// Elsewhere in the repository nothing is of this project.
	tree(t, dir, map[string]string{"new \"file": "unknown to git", "main.c": "2"})
	inner := Source{URI: clean.URI, Commit: clean.Commit, Tree: git("rev-parse", "HEAD:app")}
	check("a folder of a repository", "app", inner)

	before, objects := git("status", "--porcelain", "--ignored"), git("count-objects")
	got := read(dir)
	if after := git("status", "--porcelain", "--ignored"); after != before {
		t.Errorf("asking changed the state of the repository from\n%s\nto\n%s", before, after)
	}
	if after := git("count-objects"); after != objects {
		t.Errorf("asking left objects: there were %s, and are %s", objects, after)
	}
	git("add", "--all", "--", ".", ":(exclude)dist")
	git("commit", "-q", "-m", "second")
	want := Source{URI: clean.URI, Commit: clean.Commit, Tree: git("rev-parse", "HEAD^{tree}"), Dirty: true, Ignored: true}
	if got != want {
		t.Errorf("changed:\ngot  %+v\nwant %+v", got, want)
	}
	tree(t, dir, map[string]string{"app/new": "3"})
	got = read(filepath.Join(dir, "app"))
	git("add", "--all", "app")
	git("commit", "-q", "-m", "third")
	if got.Tree != git("rev-parse", "HEAD:app") || !got.Dirty {
		t.Errorf("a changed folder: %+v", got)
	}
}

// Where there is no commit there is nothing to tell; where git doesn't answer, it is told
// why.
func TestSourceUnknown(t *testing.T) {
	dir := t.TempDir()
	if out, err := exec.Command("git", "-C", dir, "init", "-q").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if s, err := ReadSource(t.Context(), dir); err != nil || s != (Source{}) {
		t.Errorf("before the first commit: %v, %v", s, err)
	}
	broken, _ := repository(t, map[string]string{"main.c": "1"})
	if err := os.WriteFile(filepath.Join(broken, ".git", "config"), []byte("[core\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if s, err := ReadSource(t.Context(), broken); err == nil || !strings.Contains(err.Error(), "bad config line 1") || s != (Source{}) {
		t.Errorf("with a broken configuration: %v, %v", s, err)
	}
	t.Setenv("PATH", "")
	if s, err := ReadSource(t.Context(), dir); err == nil || !strings.Contains(err.Error(), "not found") || s != (Source{}) {
		t.Errorf("without git: %v, %v", s, err)
	}
}
