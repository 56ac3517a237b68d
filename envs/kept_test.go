package envs

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/stead-env/stead/envs/lock"
	"github.com/stead-env/stead/envs/store"
	"github.com/stead-env/stead/snapshot"
	"github.com/stead-env/stead/snapshot/host"
)

// keptHouse is a store, and a fleet with releases 1 and 2 of acme.
func keptHouse(t *testing.T) (Config, []Release) {
	t.Helper()
	cfg := Config{Store: testStore(t), Fleet: testFleet(t)}
	var releases []Release
	for n := range 2 {
		rel, _, err := cfg.Fleet.AddRelease("acme", func(number int, _ Release) ([]byte, error) {
			l := testLock("acme", number)
			l.Delta.SHA256 = strings.Repeat("ab"[n:n+1], 64)
			return l.Write(), nil
		})
		if err != nil {
			t.Fatal(err)
		}
		releases = append(releases, rel)
	}
	return cfg, releases
}

// begin makes a session that changed the files.
func begin(t *testing.T, s *store.Store, name string, rel Release, files map[string]string) {
	t.Helper()
	k, err := HoldKept(s, name)
	if err == nil {
		err = k.Use(rel, "embedded", AddedTools{})
	}
	if err != nil {
		t.Fatal(err)
	}
	tree(t, filepath.Join(k.Upper(), keptUpper), files)
	if err := k.Close(true); err != nil {
		t.Fatal(err)
	}
}

func isKeptError(t *testing.T, err error, text, hint string) {
	t.Helper()
	var kept *KeptError
	if !errors.As(err, &kept) || !strings.Contains(err.Error(), text) || !strings.Contains(kept.Hint(), hint) {
		t.Errorf("got %v (%+v), want an error with %q and the hint %q", err, kept, text, hint)
	}
}

func TestKeptSession(t *testing.T) {
	cfg, rel := keptHouse(t)
	s := cfg.Store
	k, err := HoldKept(s, "up")
	if err != nil || !k.New {
		t.Fatalf("a new session: %+v, %v", k, err)
	}
	if err := k.Use(rel[0], "embedded", AddedTools{}); err != nil {
		t.Fatal(err)
	}
	tree(t, filepath.Join(k.Upper(), keptUpper), map[string]string{"etc/new": "content", "home/ann/point": ""})
	if err := os.WriteFile(filepath.Join(k.Upper(), "mountpoints"), []byte("\"home/\"\n\"home/ann/\"\n\"home/ann/point\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	// While it runs nobody else has it.
	_, err = HoldKept(s, "up")
	isKeptError(t, err, `session "up" is running already`, "another name")
	_, err = ReadKept(s, "up")
	isKeptError(t, err, "is running already", "end it")
	isKeptError(t, DropKept(s, "up"), "is running already", "end it")
	list, err := ListKept(s)
	if err != nil || len(list) != 1 || !list[0].Running || list[0].Changed != 1 || list[0].Bytes == 0 {
		t.Errorf("listed as %+v, %v", list, err)
	}
	if err := k.Close(true); err != nil {
		t.Fatal(err)
	}
	// It goes on with the release that it was begun on.
	if k, err = HoldKept(s, "up"); err != nil || k.New || k.Release().String() != "acme@1" || k.Engine() != "embedded" {
		t.Fatalf("entered again: %+v, %v", k, err)
	}
	for ref, want := range map[Ref]string{{}: "acme@2 by now", {Target: "acme"}: "acme@2 by now", {Target: "acme", Number: 1}: ""} {
		if note, err := k.Continue(cfg.Fleet, ref); err != nil || !strings.Contains(note, want) || (want == "") != (note == "") {
			t.Errorf("%v: %q, %v", ref, note, err)
		}
	}
	for _, ref := range []Ref{{Target: "acme", Number: 2}, {Target: "globex"}} {
		_, err := k.Continue(cfg.Fleet, ref)
		isKeptError(t, err, "was begun on acme@1, and "+ref.String()+" is asked for", "another name")
	}
	isKeptError(t, k.Use(rel[0], "containerd", AddedTools{}), "begun with the engine embedded", "--engine embedded")
	if err := k.Use(k.Release(), "embedded", AddedTools{}); err != nil {
		t.Error(err)
	}
	if err := k.Close(false); err != nil { // whatever went wrong, it isn't a new one
		t.Error(err)
	}
	// Its release need not be in the fleet any more.
	if err := os.Remove(rel[0].Path); err != nil {
		t.Fatal(err)
	}
	reading, err := ReadKept(s, "up")
	if err != nil {
		t.Fatal(err)
	}
	if id, err := reading.Release().Identity(); err != nil || id != list[0].Identity {
		t.Errorf("identity %s, %v", id, err)
	}
	other, err := ReadKept(s, "up")
	if err != nil {
		t.Error("two can't read one session: ", err)
	}
	_, err = HoldKept(s, "up")
	isKeptError(t, err, "is being read", "try again")
	if err := errors.Join(reading.Close(true), other.Close(true), DropKept(s, "up")); err != nil {
		t.Error(err)
	}
	var unknown *UnknownError
	if _, err := ReadKept(s, "up"); !errors.As(err, &unknown) {
		t.Errorf("a removed session: %v", err)
	}
}

func TestKeptNames(t *testing.T) {
	cfg, _ := keptHouse(t)
	for _, name := range []string{"", "../up", "a/b", ".up", "a b", strings.Repeat("x", 64)} {
		var bad *NameError
		if _, err := HoldKept(cfg.Store, name); !errors.As(err, &bad) || bad.Kind != "session" {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// What was never entered leaves nothing.
func TestKeptNotStarted(t *testing.T) {
	cfg, rel := keptHouse(t)
	for _, used := range []bool{false, true} {
		k, err := HoldKept(cfg.Store, "up")
		if err == nil && used {
			err = k.Use(rel[0], "embedded", AddedTools{})
		}
		if err == nil {
			err = k.Close(false)
		}
		if _, gone := os.Lstat(k.dir); err != nil || !errors.Is(gone, os.ErrNotExist) {
			t.Errorf("used %v: %v, %v", used, err, gone)
		}
	}
}

func TestKeptDamaged(t *testing.T) {
	for name, text := range map[string]string{"no TOML": "x", "another key": "frob = 1\n", "another identity": "target = 'acme'\nrelease = 1\nidentity = 'sha256:00'\n",
		"no target": "release = 1\n"} {
		t.Run(name, func(t *testing.T) {
			cfg, rel := keptHouse(t)
			begin(t, cfg.Store, "up", rel[0], map[string]string{"etc/new": "content"})
			tree(t, filepath.Join(cfg.Store.Dir(), keptDir, "up"), map[string]string{keptFile: text})
			if list, err := ListKept(cfg.Store); err != nil || len(list) != 1 || list[0].Problem == "" {
				t.Errorf("listed as %+v, %v", list, err)
			}
			var reported []Difference
			c := &checker{cfg: cfg, opts: FsckOptions{Drop: true, Report: func(d Difference) { reported = append(reported, d) }}}
			if err := c.sessions(); err != nil || len(reported) != 1 || reported[0].Where != "session up" {
				t.Errorf("fsck: %v, %v", reported, err)
			}
			var damaged *damagedKept
			if _, err := HoldKept(cfg.Store, "up"); !errors.As(err, &damaged) || !strings.Contains(damaged.Hint(), "sessions rm up") {
				t.Errorf("got %v", err)
			}
			if _, err := GC(t.Context(), cfg, false); !errors.As(err, &damaged) {
				t.Errorf("gc: got %v", err) // it may stand on anything
			}
			if err := DropKept(cfg.Store, "up"); err != nil {
				t.Error(err)
			}
			if names, err := KeptNames(cfg.Store); err != nil || len(names) != 0 {
				t.Errorf("left: %v, %v", names, err)
			}
		})
	}
}

// What a session stands on stays, and what was being begun when stead was killed goes.
func TestGCKeepsWhatSessionsStandOn(t *testing.T) {
	cfg, rel := keptHouse(t)
	s := cfg.Store
	text, err := rel[0].Text()
	if err != nil {
		t.Fatal(err)
	}
	root, delta := RootName(lock.Identity(text)), strings.Repeat("a", 64)
	putItem(t, s, store.Roots, root)
	putItem(t, s, store.Trees, delta)
	begin(t, s, "up", rel[0], map[string]string{"etc/new": "content"})
	begin(t, s, "next", rel[1], nil)
	if err := os.Remove(rel[0].Path); err != nil {
		t.Fatal(err)
	}
	begun := filepath.Join(s.Dir(), keptDir, "begun")
	tree(t, begun, map[string]string{keptLock: "x"})
	age(t, s)
	old := time.Now().Add(-2 * young)
	if err := os.Chtimes(begun, old, old); err != nil {
		t.Fatal(err)
	}
	done, err := GC(t.Context(), cfg, false)
	if err != nil || done.Roots != 0 || done.Trees != 0 || !slices.Equal(done.Sessions, []string{"up (acme@1)"}) {
		t.Errorf("got %+v, %v", done, err)
	}
	if _, err := os.Lstat(begun); !errors.Is(err, os.ErrNotExist) {
		t.Error("what was begun and never used is still there")
	}
	if err := DropKept(s, "up"); err != nil {
		t.Fatal(err)
	}
	if done, err = GC(t.Context(), cfg, false); err != nil || done.Roots != 1 || done.Trees != 1 || len(done.Sessions) != 0 {
		t.Errorf("without the session: %+v, %v", done, err)
	}
}

func TestDiffKept(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("owners and opaque folders are root's")
	}
	lower, upper := t.TempDir(), t.TempDir()
	same := "the same length"
	tree(t, lower, map[string]string{"etc/content": same, "etc/mode": "m", "etc/touched": "t", "etc/copied": "c", "etc/owner": "o",
		"usr/gone/a/b": "x", "usr/gone/c": "y", "usr/opaque/old": "z", "usr/file": "f", "usr/folder/in": "i", "etc/plain": "p"})
	tree(t, upper, map[string]string{"etc/content": strings.ToUpper(same), "etc/mode": "m", "etc/touched": "t", "etc/copied": "c", "etc/owner": "o",
		"etc/new": "new", "usr/opaque/new": "z", "usr/file/now": "a folder", "usr/folder": "a file", "made/for/mounts": ""})
	in := func(p string) string { return filepath.Join(upper, p) }
	when := time.Unix(1_700_000_000, 0)
	err := errors.Join(unix.Mknod(in("usr/gone"), unix.S_IFCHR, 0), unix.Mknod(in("etc/plain"), unix.S_IFCHR, 0),
		unix.Setxattr(in("usr/opaque"), "trusted.overlay.opaque", []byte("y"), 0), os.Chown(in("etc/owner"), 7, 7))
	for _, dir := range []string{lower, upper} {
		for _, f := range []string{"etc/content", "etc/mode", "etc/copied", "etc/owner"} {
			err = errors.Join(err, os.Chmod(filepath.Join(dir, f), 0o644), os.Chtimes(filepath.Join(dir, f), when, when))
		}
	}
	err = errors.Join(err, os.Chmod(in("etc/mode"), 0o4755), os.Chtimes(filepath.Join(lower, "etc/touched"), when, when))
	if err != nil {
		t.Fatal(err)
	}
	o, err := host.OpenOverlay(host.Layers{Upper: upper, Lower: lower, Entries: manifestOf(t, lower),
		MountPoints: []string{"made/", "made/for/", "made/for/mounts"}})
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	var got []string
	err = DiffKept(t.Context(), o, o.Changes, func(c KeptChange) error {
		line := strings.TrimSpace(strings.Join([]string{c.Change, c.Path, c.Type, strings.Join(c.What, "+")}, " "))
		if c.Below > 0 {
			line += " and more"
		}
		got = append(got, line)
		return nil
	})
	want := []string{
		"changed etc/content file content", "changed etc/mode file mode", "added etc/new file", "changed etc/owner file owner",
		"removed etc/plain file", "changed etc/touched file time", "changed usr/file folder type: it was a file", "added usr/file/now file",
		"changed usr/folder file type: it was a folder and more", "removed usr/gone folder and more",
		"added usr/opaque/new file", "removed usr/opaque/old file",
	}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %v\n%s\nwant\n%s", err, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// manifestOf is what a root of the store has beside it.
func manifestOf(t *testing.T, dir string) store.Manifest {
	t.Helper()
	h, err := host.Folder(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	var m store.Manifest
	d := &keptDiffer{host: h}
	err = h.Files(t.Context(), ".", func(f snapshot.File, err error) error {
		if err == nil && f.Type == snapshot.Regular {
			f.Digest, err = d.sum(t.Context(), f.Path)
		}
		m = append(m, f)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// A disk that holds no owners changes none.
func TestRestoreOwners(t *testing.T) {
	var alone store.Owners
	root := snapshot.File{Path: "bin/ping", Type: snapshot.Regular, UID: 0, GID: 5, Xattrs: map[string]string{"security.capability": "x"}}
	f := snapshot.File{Path: "bin/ping", Type: snapshot.Regular, UID: 1000, GID: 1000, Xattrs: map[string]string{"user.note": "n"}}
	restore(alone, &root, &f)
	if f.UID != 0 || f.GID != 5 || f.Xattrs["security.capability"] != "x" || f.Xattrs["user.note"] != "n" {
		t.Errorf("got %+v", f)
	}
	made := snapshot.File{Path: "etc/new", Type: snapshot.Regular, UID: 1000, GID: 1000}
	restore(alone, nil, &made)
	if made.UID != 0 || made.GID != 0 {
		t.Errorf("got %+v", made)
	}
	dir := snapshot.File{Path: "root", Type: snapshot.Dir, Mode: 0o750}
	wide := snapshot.File{Path: "root", Type: snapshot.Dir, Mode: 0o750 | 0o700, UID: 1000}
	restore(alone, &dir, &wide)
	if wide.Mode != dir.Mode || wide.UID != 0 {
		t.Errorf("got %+v", wide)
	}
}

// Who somebody is in a session that is entered again, the session may have changed.
func TestRootViewOfSession(t *testing.T) {
	lower, kept := t.TempDir(), t.TempDir()
	tree(t, lower, map[string]string{"etc/passwd": "old", "bin/zsh": "x", "bin/sh": "x"})
	tree(t, kept, map[string]string{"upper/etc/passwd": "new"})
	if os.Getuid() == 0 {
		if err := os.MkdirAll(filepath.Join(kept, "upper/bin"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := unix.Mknod(filepath.Join(kept, "upper/bin/zsh"), unix.S_IFCHR, 0); err != nil {
			t.Fatal(err)
		}
	}
	v, err := viewRoot(lower, kept)
	if err != nil {
		t.Fatal(err)
	}
	defer v.close()
	if got := string(v.read("/etc/passwd")); got != "new" {
		t.Errorf("passwd has %q", got)
	}
	if !v.has("/bin/sh") || v.has("/bin/zsh") == (os.Getuid() == 0) {
		t.Error("a removed file is there, or another isn't")
	}
}
