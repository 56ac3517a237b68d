package envs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// incremental is a project that make builds in its view: each source becomes an object,
// all objects the program. What make does it says, a word for each.
type incremental struct {
	*testing.T
	dir  string
	view *View
}

const incrementalMakefile = `sources := $(wildcard *.c lib/*.c lib/*/*.c)
build/app: $(sources:%.c=build/%.o)
	@echo link; cat $^ >$@
build/%.o: %.c shared.h
	@echo $*; mkdir -p $(dir $@); cat $< shared.h >$@
`

func newIncremental(t *testing.T) *incremental {
	for _, program := range []string{"make", "git", "tar", "cp"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skip(err)
		}
	}
	p := &incremental{T: t, dir: t.TempDir()}
	tree(t, p.dir, map[string]string{"Makefile": incrementalMakefile, "shared.h": "h", "a.c": "a", "b.c": "b", "run*": "#!/bin/sh\n",
		"lib/one.c": "one", "lib/two.c": "two", "lib/deep/three.c": "three", "data/in": "in", "link@": "a.c"})
	p.run("git", "init", "-q")
	p.commit()
	p.view = testView(t, p.dir)
	return p
}

func (p *incremental) run(name string, args ...string) string {
	p.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = p.dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null")
	out, err := cmd.CombinedOutput()
	if err != nil {
		p.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return string(out)
}

func (p *incremental) commit() {
	p.Helper()
	p.run("git", "add", "-A")
	p.run("git", "-c", "user.name=n", "-c", "user.email=n@mail.example", "commit", "-q", "-m", "m")
}

func (p *incremental) write(name, content string) {
	p.Helper()
	if err := os.WriteFile(filepath.Join(p.dir, name), []byte(content), 0o644); err != nil {
		p.Fatal(err)
	}
}

func (p *incremental) must(err error) {
	p.Helper()
	if err != nil {
		p.Fatal(err)
	}
}

// build syncs, wants the view to be the project, and then make to say what is wanted.
func (p *incremental) build(what string, want ...string) {
	p.Helper()
	syncView(p, p.view, p.dir)
	if got, want := shape(p, p.view.Dir), shape(p, p.dir); !slices.Equal(got, want) {
		p.Errorf("%s: the view is\n%s\nand the project\n%s", what, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	cmd := exec.Command("make")
	cmd.Dir, cmd.Env = p.view.Dir, []string{"PATH=" + os.Getenv("PATH")}
	out, err := cmd.CombinedOutput()
	if err != nil {
		p.Fatalf("%s: make: %v\n%s", what, err, out)
	}
	got := strings.Fields(strings.ReplaceAll(string(out), "make: 'build/app' is up to date.", ""))
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		p.Errorf("%s: make did %q, and should %q", what, got, want)
	}
}

// shape is all of a folder, but for what a build makes and for git's own: kinds, modes,
// contents and links.
func shape(t testing.TB, dir string) (list []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if rel == "build" || rel == ".git" || rel == "dist" {
			return fs.SkipDir
		}
		fi, infoErr := d.Info()
		if err = errors.Join(err, infoErr); err != nil || rel == "." {
			return err
		}
		content := ""
		switch fi.Mode().Type() {
		case 0:
			var text []byte
			text, err = os.ReadFile(path)
			content = string(text)
		case fs.ModeSymlink:
			content, err = os.Readlink(path)
		}
		list = append(list, fmt.Sprintf("%s %v %q", rel, fi.Mode(), content))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

var everything = []string{"a", "b", "lib/one", "lib/two", "lib/deep/three", "link"}

// After whatever people do to sources the next build sees exactly the project, and make
// does what it has to and no more.
func TestIncremental(t *testing.T) {
	p := newIncremental(t)
	p.run("sh", "-c", "rm link; ln -s data link")
	p.commit()
	p.build("first", everything...)
	p.build("nothing")

	p.write("a.c", "edited")
	p.build("edited", "a", "link")
	p.write("shared.h", "hh")
	p.build("an edited header", everything...)

	p.run("git", "mv", "b.c", "c.c")
	p.build("renamed", "c", "link")
	p.write("lib/four.c", "four")
	p.build("new", "lib/four", "link")
	p.must(os.Remove(filepath.Join(p.dir, "lib/four.c")))
	p.build("deleted") // as make has it: nothing is newer
	p.run("mv", "lib/deep", "lib/deeper")
	p.build("a renamed folder", "lib/deeper/three", "link")
	p.run("mv", "lib/deeper", "lib/deep")
	p.build("and back", "lib/deep/three", "link")

	old := time.Now().Add(-time.Hour)
	p.write("a.c", "EDITED") // its size stays
	p.must(os.Chtimes(filepath.Join(p.dir, "a.c"), old, old))
	p.build("an older time", "a", "link")
	p.commit()
	p.write("a.c", "next")
	p.commit()
	p.build("next", "a", "link")
	p.run("git", "checkout", "-q", "HEAD~1", "--", "a.c")
	p.build("git checkout of an older file", "a", "link")
	p.run("git", "checkout", "-q", "HEAD", "--", "a.c")
	p.build("and back", "a", "link")
}

func TestIncrementalRestored(t *testing.T) {
	p := newIncremental(t)
	p.must(os.Remove(filepath.Join(p.dir, "link")))
	old := time.Now().Add(-48 * time.Hour)
	for _, name := range []string{"a.c", "lib/one.c", "lib/two.c"} {
		p.must(os.Chtimes(filepath.Join(p.dir, name), old, old))
	}
	backup := t.TempDir()
	p.run("cp", "-p", "a.c", backup)
	p.run("tar", "-cf", filepath.Join(backup, "lib.tar"), "lib/one.c", "lib/two.c")
	p.build("first", everything...)
	p.write("a.c", "changed")
	p.write("lib/one.c", "changed")
	p.build("edited", "a", "lib/one", "link")
	p.run("cp", "-p", filepath.Join(backup, "a.c"), "a.c")
	p.build("cp -p", "a", "link")
	p.run("tar", "-xf", filepath.Join(backup, "lib.tar"))
	p.build("tar -x", "lib/one", "lib/two", "link") // both were written anew

	// The same size and time, in the same file and in another.
	at := time.Now().Add(-time.Minute)
	p.write("a.c", "one")
	p.must(os.Chtimes(filepath.Join(p.dir, "a.c"), at, at))
	p.build("one", "a", "link")
	p.write("a.c", "two")
	p.must(os.Chtimes(filepath.Join(p.dir, "a.c"), at, at))
	p.build("the same size and time", "a", "link")
	p.write("other", "six")
	p.must(os.Chtimes(filepath.Join(p.dir, "other"), at, at))
	p.must(os.Rename(filepath.Join(p.dir, "other"), filepath.Join(p.dir, "a.c")))
	p.build("a file that took the place", "a", "link")

	// What changed while a build ran is older than what that made.
	p.write("a.c", "during")
	soon := time.Now()
	p.build("during", "a", "link")
	p.write("a.c", "DURING")
	p.must(os.Chtimes(filepath.Join(p.dir, "a.c"), soon, soon))
	p.build("edited while it was built", "a", "link")
}

func TestIncrementalKinds(t *testing.T) {
	p := newIncremental(t)
	p.must(os.Remove(filepath.Join(p.dir, "link")))
	p.commit()
	p.build("first", everything...)

	p.run("sh", "-c", "rm -r data && echo file >data")
	p.build("a folder became a file")
	p.run("sh", "-c", "rm data && mkdir data && echo new >data/in")
	p.build("and a folder again")
	p.run("sh", "-c", "mv lib elsewhere && ln -s elsewhere lib")
	p.build("a folder became a link", "lib/one", "lib/two", "lib/deep/three", "link")
	p.run("sh", "-c", "rm lib && mv elsewhere lib")
	p.build("and a folder again", "lib/one", "lib/two", "lib/deep/three", "link")
	p.run("sh", "-c", "ln -s a.c z.c")
	p.build("a new link", "z", "link")
	p.run("sh", "-c", "ln -sf b.c z.c && touch b.c")
	p.build("the link leads elsewhere", "b", "z", "link")
	p.run("sh", "-c", "rm z.c && echo z >z.c")
	p.build("the link became a file", "z", "link")
	p.run("chmod", "755", "a.c")
	p.build("another mode")
	p.run("chmod", "750", "lib")
	p.build("a folder's mode")

	p.run("sh", "-c", "git update-index -q --refresh; git checkout -q -- .")
	p.run("git", "clean", "-fdq")
	p.build("what git had", "a", "link") // its mode was another
	p.run("git", "checkout", "-q", "-b", "other")
	p.write("b.c", "of another branch")
	p.must(os.Remove(filepath.Join(p.dir, "lib/two.c")))
	p.write("extra.c", "of another branch")
	p.commit()
	p.build("a branch", "b", "extra", "link")
	p.run("git", "checkout", "-q", "-")
	p.build("and back", "b", "lib/two", "link")
}

// What builds and people did to sources in the view is undone; where that made no
// difference nothing is built again.
func TestIncrementalChangedInView(t *testing.T) {
	p := newIncremental(t)
	p.must(os.Remove(filepath.Join(p.dir, "link")))
	p.build("first", everything...)
	in := func(script string) {
		p.Helper()
		cmd := exec.Command("sh", "-c", script)
		cmd.Dir = p.view.Dir
		if out, err := cmd.CombinedOutput(); err != nil {
			p.Fatalf("%s: %v\n%s", script, err, out)
		}
	}
	in("echo patched >a.c; rm lib/one.c; chmod 600 b.c; mkdir -p data; mv data/in data/out; rm -r lib/deep; echo x >lib/deep")
	in("rm data/out")
	p.build("patched", "a", "lib/one", "lib/deep/three", "link")
	p.build("nothing")
	in("ln b.c hard && rm hard && touch -r a.c old && cp a.c a.new && mv a.new a.c && touch -r old a.c && rm old")
	p.build("written again")
	in("rm -r lib && ln -s /etc lib")
	p.build("a link out", "lib/one", "lib/two", "lib/deep/three", "link")
}

// A sync that ends early leaves nothing that the next one doesn't know of.
func TestSyncEndsEarly(t *testing.T) {
	p := newIncremental(t)
	p.must(os.Remove(filepath.Join(p.dir, "link")))
	p.build("first", everything...)
	tree(t, p.dir, map[string]string{"new/x.c": "x", "new/y/z.c": "z", "b.c": "changed", "top.c": "top"})
	p.must(os.Symlink("/nowhere", filepath.Join(p.dir, "zz")))
	// The last path can't be copied.
	if err := os.MkdirAll(filepath.Join(p.view.Dir, "zz"), 0o755); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(p.view.state)
	p.must(err)
	syncView(p, p.view, p.dir)
	p.must(os.WriteFile(p.view.state, before, 0o600)) // as if it had been killed before the end
	p.must(os.WriteFile(p.view.state+".journal", []byte("\"new\"\n\"new/x.c\"\n\"new/y\"\n\"new/y/z.c\"\n\"top.c\"\n\"zz\"\n\"../../out\"\ncut"), 0o600))
	p.must(os.RemoveAll(filepath.Join(p.dir, "new")))
	p.must(os.Remove(filepath.Join(p.dir, "top.c")))
	p.build("after it was killed", "b", "link")
	if _, err := os.Lstat(p.view.state + ".journal"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the journal stays: %v", err)
	}
}
