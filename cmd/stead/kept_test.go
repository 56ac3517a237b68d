package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/stead-env/stead/envs"
	"github.com/stead-env/stead/envs/lock"
	"github.com/stead-env/stead/envs/store"
)

// An upgrade is rehearsed: dpkg installs a package in a session that is kept, and what
// comes of it is a release, which differs from the one before in that package alone.
func testKept(r *real) {
	deb := r.buildAddon()
	r.must(r.command("fleet", "one", "run", "--root", "--session", "up", "acme", "--", "dpkg", "-i", deb))
	if out := r.must(r.command("fleet", "one", "run", "--session", "up", "--", "addon")); out != "addon 1.0\n" {
		r.t.Errorf("entered again, the session wrote %q", out)
	}
	_, errs, code := result(r.command("fleet", "one", "run", "acme", "--", "addon"))
	if code != 127 {
		r.t.Errorf("the env has the session's command: code %d, %s", code, errs)
	}
	var changes []envs.KeptChange
	r.answer(r.command("fleet", "one", "sessions", "diff", "up", "--json"), &changes)
	var got []string
	for _, c := range changes {
		got = append(got, c.Change+" "+c.Path)
	}
	want := []string{"added etc/addon.conf", "added usr/bin/addon", "added usr/lib/addon", "added usr/lib/addon/again",
		"added var/lib/dpkg/info/addon.conffiles", "added var/lib/dpkg/info/addon.list", "added var/lib/dpkg/info/addon.md5sums",
		"added var/lib/dpkg/lock", "added var/lib/dpkg/lock-frontend", "changed var/lib/dpkg/status", "added var/lib/dpkg/status-old",
		"added var/lib/dpkg/triggers/Lock", "added var/log/dpkg.log"}
	if !slices.Equal(got, want) {
		r.t.Errorf("the session changed\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if _, _, code := result(r.command("fleet", "one", "sessions", "diff", "up", "--exit-code")); code != exitNegative {
		r.t.Errorf("diff --exit-code ends with %d", code)
	}
	var res envs.SnapshotResult
	r.answer(r.command("fleet", "one", "snapshot", "session:up", "acme-next", "--yes", "--json"), &res)
	r.onlyAddon(deb)
	// What changed nothing is the release that it was.
	r.must(r.command("fleet", "one", "run", "--session", "idle", "acme", "--", "true"))
	r.answer(r.command("fleet", "one", "snapshot", "session:idle", "acme", "--yes", "--json"), &res)
	if res.New || res.Name != "acme@1" {
		r.t.Errorf("a session that changed nothing made %+v", res)
	}
	r.must(r.command("fleet", "one", "sessions", "rm", "--all"))
}

// buildAddon builds a package with a configuration file, modes and a hard link.
func (r *real) buildAddon() string {
	tree := r.path("addon")
	for name, content := range map[string]string{
		"DEBIAN/control": "Package: addon\nVersion: 1.0-1\nArchitecture: amd64\nMaintainer: Acme <ops@acme.example>\n" +
			"Description: comes later\n",
		"DEBIAN/conffiles": "/etc/addon.conf\n", "etc/addon.conf": "verbose = no\n", "usr/bin/addon": "#!/bin/sh\necho addon 1.0\n",
	} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(tree, name)), 0o755); err != nil {
			r.t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(tree, name), []byte(content), 0o644); err != nil {
			r.t.Fatal(err)
		}
	}
	r.must(exec.Command("sh", "-c", `cd "$1" && chmod 2755 usr/bin/addon && mkdir usr/lib usr/lib/addon && ln usr/bin/addon usr/lib/addon/again &&
		find . -exec touch -h -d 2024-02-03T04:05:06Z {} +`, "sh", tree))
	deb := r.path("project", "addon.deb")
	r.must(exec.Command("dpkg-deb", "--root-owner-group", "-b", tree, deb))
	return deb
}

// onlyAddon compares the release that the session made with the one that it stands on.
func (r *real) onlyAddon(deb string) {
	before, after := r.lock("acme"), r.lock("acme-next")
	text, err := os.ReadFile(r.path("fleet", "acme", "1.lock"))
	if err != nil {
		r.t.Fatal(err)
	}
	if after.Release.Origin != lock.Derived || after.Release.Parent != lock.Identity(text) {
		r.t.Errorf("the release is %+v", after.Release)
	}
	packages := slices.DeleteFunc(slices.Clone(after.Packages), func(p lock.Package) bool { return p.Name == "addon" })
	if !slices.Equal(packages, before.Packages) || len(after.Packages) != len(before.Packages)+1 {
		r.t.Error("other packages changed, too")
	}
	if fmt.Sprint(after.Host, after.Archives, after.Kernel) != fmt.Sprint(before.Host, before.Archives, before.Kernel) {
		r.t.Errorf("the host was %+v %+v, and is %+v %+v", before.Host, before.Archives, after.Host, after.Archives)
	}
	old, _ := r.manifest("four", "acme")
	now, root := r.manifest("four", "acme-next")
	var differs []string
	for _, f := range now {
		if g, ok := old.Lookup(f.Path); !ok || !f.Same(g) {
			differs = append(differs, f.Path)
		}
	}
	want := []string{"etc/addon.conf", "usr/bin/addon", "usr/lib/addon", "usr/lib/addon/again", "var/lib/dpkg/info/addon.conffiles",
		"var/lib/dpkg/info/addon.list", "var/lib/dpkg/info/addon.md5sums", "var/lib/dpkg/status"}
	if !slices.Equal(differs, want) || len(now) != len(old)+len(want)-1 {
		r.t.Errorf("in another store these differ: %q, want %q (%d paths, then %d)", differs, want, len(old), len(now))
	}
	unpacked := r.path("addon-unpacked")
	r.must(exec.Command("dpkg-deb", "-x", deb, unpacked))
	err = filepath.WalkDir(unpacked, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(unpacked, p)
		if err != nil {
			return err
		}
		return sameFile(p, filepath.Join(root, rel))
	})
	if err != nil {
		r.t.Error(err)
	}
	r.must(r.command("fleet", "four", "fsck", "acme-next"))
	if out := r.must(r.command("fleet", "four", "run", "acme-next", "--", "/usr/lib/addon/again")); out != "addon 1.0\n" {
		r.t.Errorf("the new release wrote %q", out)
	}
}

func sameFile(a, b string) error {
	var sa, sb syscall.Stat_t
	if err := syscall.Lstat(a, &sa); err != nil {
		return err
	}
	if err := syscall.Lstat(b, &sb); err != nil {
		return err
	}
	ca, err := os.ReadFile(a)
	if err != nil {
		return err
	}
	cb, err := os.ReadFile(b)
	if err != nil {
		return err
	}
	if sa.Mode != sb.Mode || sa.Uid != sb.Uid || sa.Gid != sb.Gid || sa.Mtim != sb.Mtim || !bytes.Equal(ca, cb) {
		return fmt.Errorf("%s isn't %s: %+v, %+v", a, b, sa, sb)
	}
	return nil
}

func (r *real) lock(target string) *lock.Lock {
	r.t.Helper()
	text, err := os.ReadFile(r.path("fleet", target, "1.lock"))
	if err != nil {
		r.t.Fatal(err)
	}
	l, err := lock.Read(text)
	if err != nil {
		r.t.Fatal(err)
	}
	return l
}

// manifest makes the env of a target in a store and reads what is beside its root.
func (r *real) manifest(in, target string) (m store.Manifest, root string) {
	r.t.Helper()
	var answers []struct{ Root string }
	r.answer(r.command("fleet", in, "pull", target, "--json"), &answers)
	root = answers[0].Root
	data, err := os.ReadFile(filepath.Join(filepath.Dir(root), "manifest"))
	if err != nil {
		r.t.Fatal(err)
	}
	if m, err = store.ParseManifest(data); err != nil {
		r.t.Fatal(err)
	}
	return m, root
}

// A named session is entered by one at a time, and outlives one that was killed.
func testKeptKilled(r *real) {
	cmd := r.command("fleet", "one", "run", "--root", "--session", "killed", "acme", "--", "sh", "-c", "echo here >/etc/here; exec sleep 1000")
	if err := cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	here := r.path("one", "kept", "killed", "changes", "upper", "etc", "here")
	for {
		if text, err := os.ReadFile(here); err == nil && len(text) > 0 {
			break
		}
		select {
		case err := <-ended:
			r.t.Fatalf("it ended before it could be killed: %v", err)
		case <-time.After(5 * time.Millisecond):
		}
	}
	_, errs, code := result(r.command("fleet", "one", "run", "--session", "killed", "--", "true"))
	if code != 125 || !strings.Contains(errs, `session "killed" is running already`) {
		r.t.Errorf("entered twice: code %d, %s", code, errs)
	}
	if _, errs, code = result(r.command("fleet", "one", "sessions", "rm", "killed")); code != exitError || !strings.Contains(errs, "is running already") {
		r.t.Errorf("removed while it was running: code %d, %s", code, errs)
	}
	var list []envs.KeptInfo
	out := r.must(r.command("fleet", "one", "sessions", "--json"))
	if err := json.Unmarshal([]byte(out), &list); err != nil || len(list) != 1 || !list[0].Running || list[0].Changed != 1 {
		r.t.Errorf("listed as %s, %v", out, err)
	}
	if err := cmd.Process.Kill(); err != nil {
		r.t.Fatal(err)
	}
	<-ended
	if out := r.must(r.command("fleet", "one", "run", "--session", "killed", "--", "cat", "/etc/here")); out != "here\n" {
		r.t.Errorf("what the killed session made is %q", out)
	}
	r.must(r.command("fleet", "one", "sessions", "rm", "killed"))
	if left, err := os.ReadDir(r.path("one", "kept")); err != nil || len(left) != 0 {
		r.t.Errorf("left: %v, %v", left, err)
	}
	// A session in which nothing could be started isn't begun.
	if _, _, code := result(r.command("fleet", "one", "run", "--session", "never", "acme", "--", "no-such-program")); code != 127 {
		r.t.Errorf("code %d", code)
	}
	if left, err := os.ReadDir(r.path("one", "kept")); err != nil || len(left) != 0 {
		r.t.Errorf("left: %v, %v", left, err)
	}
}
