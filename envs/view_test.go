package envs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stead-env/stead/envs/store"
)

// tree makes files below dir: "path": content, "path/": a folder, "path@": a link,
// "path*": a program.
func tree(t testing.TB, dir string, files map[string]string) {
	t.Helper()
	for name, content := range files {
		path := filepath.Join(dir, strings.TrimRight(name, "@*"))
		var err error
		switch {
		case strings.HasSuffix(name, "/"):
			err = os.MkdirAll(path, 0o755)
		case strings.HasSuffix(name, "@"):
			err = errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.Symlink(content, path))
		default:
			mode := fs.FileMode(0o644)
			if strings.HasSuffix(name, "*") {
				mode = 0o755
			}
			err = errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(content), mode))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// filesIn is what lies below dir, in the form that tree takes, without folders.
func filesIn(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name := strings.TrimPrefix(path, dir+"/")
		if d.Type() == fs.ModeSymlink {
			files[name+"@"], err = os.Readlink(path)
			return err
		}
		data, err := os.ReadFile(path)
		files[name] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func testStore(t testing.TB) *store.Store {
	t.Helper()
	s, err := store.Open(filepath.Join(t.TempDir(), "store"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func testView(t testing.TB, project string) *View {
	t.Helper()
	v, release, err := OpenView(t.Context(), testStore(t), project, "acme")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(release)
	return v
}

func syncView(t testing.TB, v *View, project string) int {
	t.Helper()
	n, err := v.Sync(t.Context(), project, nil)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func equal(t *testing.T, got, want map[string]string) {
	t.Helper()
	for k, v := range want {
		if g, ok := got[k]; !ok || g != v {
			t.Errorf("%s: got %q (there: %v), want %q", k, g, ok, v)
		}
	}
	for k := range got {
		if _, ok := want[k]; !ok {
			t.Errorf("%s shouldn't be there", k)
		}
	}
}

func TestViewSync(t *testing.T) {
	project := t.TempDir()
	tree(t, project, map[string]string{
		"main.c": "1", "src/a.c": "a", "src/deep/b.c": "b", "old/x": "x", "old/sub/y": "y", "link@": "main.c", "dirlink@": "src",
		".git/config": "git", "dist/acme/app": "app", "src/.git": "submodule", "file2dir": "f", "dir2file/in": "i", "dir2link/in": "i",
		"out@": "/etc/passwd", "empty/": "",
	})
	v := testView(t, project)
	syncView(t, v, project)
	want := map[string]string{
		"main.c": "1", "src/a.c": "a", "src/deep/b.c": "b", "old/x": "x", "old/sub/y": "y", "link@": "main.c", "dirlink@": "src",
		"src/.git": "submodule", "file2dir": "f", "dir2file/in": "i", "dir2link/in": "i", "out@": "/etc/passwd",
	}
	equal(t, filesIn(t, v.Dir), want)
	if n := syncView(t, v, project); n != 0 {
		t.Errorf("a sync of nothing changed %d paths", n)
	}

	// What a build makes stays; what the project lost goes.
	tree(t, v.Dir, map[string]string{"main.o": "object", "old/built.o": "object", "dir2file/built.o": "object", "build/app": "app"})
	for _, name := range []string{"old", "file2dir", "dir2file", "dir2link", "link"} {
		if err := os.RemoveAll(filepath.Join(project, name)); err != nil {
			t.Fatal(err)
		}
	}
	tree(t, project, map[string]string{"main.c": "22", "file2dir/in": "i", "dir2file": "f", "dir2link@": "src", "link": "now a file", "new.c": "n"})
	syncView(t, v, project)
	equal(t, filesIn(t, v.Dir), map[string]string{
		"main.c": "22", "src/a.c": "a", "src/deep/b.c": "b", "dirlink@": "src", "src/.git": "submodule", "out@": "/etc/passwd",
		"file2dir/in": "i", "dir2file": "f", "dir2link@": "src", "link": "now a file", "new.c": "n",
		"main.o": "object", "old/built.o": "object", "build/app": "app",
	})
	if data, err := os.ReadFile("/etc/passwd"); err != nil || len(data) == 0 {
		t.Errorf("a link was followed: %v", err)
	}
}

func TestViewTimes(t *testing.T) {
	project := t.TempDir()
	old := time.Now().Add(-time.Hour).Truncate(time.Microsecond)
	tree(t, project, map[string]string{"a": "1", "b": "1", "run": "1"})
	for _, name := range []string{"a", "b", "run"} {
		if err := os.Chtimes(filepath.Join(project, name), old, old); err != nil {
			t.Fatal(err)
		}
	}
	v := testView(t, project)
	syncView(t, v, project)
	mtime := func(name string) time.Time {
		fi, err := os.Stat(filepath.Join(v.Dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return fi.ModTime()
	}
	if !mtime("a").Equal(old) {
		t.Errorf("the first sync set %v instead of %v", mtime("a"), old)
	}
	// The same size and an older time: a restored source. In the view it has to be
	// newer than what was built before.
	between, err := clock(filepath.Join(t.TempDir(), "clock")) // a file's, which lags a little
	if err != nil {
		t.Fatal(err)
	}
	tree(t, project, map[string]string{"a": "2"})
	older := old.Add(-time.Hour)
	if err := os.Chtimes(filepath.Join(project, "a"), older, older); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(project, "run"), 0o755); err != nil {
		t.Fatal(err)
	}
	if n := syncView(t, v, project); n != 2 {
		t.Errorf("%d paths changed instead of 2", n)
	}
	if got := filesIn(t, v.Dir); got["a"] != "2" {
		t.Errorf("got %v", got)
	}
	if mtime("a").UnixNano() < between || !mtime("b").Equal(old) {
		t.Errorf("got times %v and %v", mtime("a"), mtime("b"))
	}
	if fi, err := os.Stat(filepath.Join(v.Dir, "run")); err != nil || fi.Mode().Perm() != 0o755 {
		t.Errorf("the mode didn't follow: %v %v", fi.Mode(), err)
	}
}

// A build is foreign code: links that it left in the view lead the sync nowhere.
func TestViewSameSizeAndTime(t *testing.T) {
	project := t.TempDir()
	tree(t, project, map[string]string{"a.c": "one", "b.c": "two"})
	v := testView(t, project)
	then := time.Now().Add(-time.Hour)
	stamp := func() {
		for _, name := range []string{"a.c", "b.c"} {
			if err := os.Chtimes(filepath.Join(project, name), then, then); err != nil {
				t.Fatal(err)
			}
		}
	}
	stamp()
	syncView(t, v, project)
	tree(t, project, map[string]string{"a.c": "ONE"})
	stamp()
	if n := syncView(t, v, project); n != 1 {
		t.Errorf("copied %d files, of which one changed", n)
	}
	equal(t, filesIn(t, v.Dir), map[string]string{"a.c": "ONE", "b.c": "two"})
	if n := syncView(t, v, project); n != 0 {
		t.Errorf("copied %d files again", n)
	}
}

func TestViewHostileLinks(t *testing.T) {
	project, outside := t.TempDir(), t.TempDir()
	tree(t, project, map[string]string{"src/a.c": "a", "src/sub/b.c": "b", "f": "f"})
	tree(t, outside, map[string]string{"a.c": "outside", "victim": "outside", "sub/b.c": "outside"})
	v := testView(t, project)
	syncView(t, v, project)
	for name, target := range map[string]string{"src": outside, "f": filepath.Join(outside, "victim")} {
		path := filepath.Join(v.Dir, name)
		if err := errors.Join(os.RemoveAll(path), os.Symlink(target, path)); err != nil {
			t.Fatal(err)
		}
	}
	tree(t, project, map[string]string{"src/a.c": "changed", "f": "changed"})
	if err := os.Remove(filepath.Join(project, "src/sub/b.c")); err != nil {
		t.Fatal(err)
	}
	syncView(t, v, project)
	equal(t, filesIn(t, outside), map[string]string{"a.c": "outside", "victim": "outside", "sub/b.c": "outside"})
	equal(t, filesIn(t, v.Dir), map[string]string{"src/a.c": "changed", "f": "changed"})
}

func TestViewRestoresWhatABuildRemoved(t *testing.T) {
	project := t.TempDir()
	tree(t, project, map[string]string{"a": "a", "d/b": "b"})
	v := testView(t, project)
	syncView(t, v, project)
	if err := os.RemoveAll(filepath.Join(v.Dir, "d")); err != nil {
		t.Fatal(err)
	}
	syncView(t, v, project)
	equal(t, filesIn(t, v.Dir), map[string]string{"a": "a", "d/b": "b"})
}

func TestViewWithoutState(t *testing.T) {
	project := t.TempDir()
	tree(t, project, map[string]string{"a": "a"})
	v := testView(t, project)
	syncView(t, v, project)
	tree(t, v.Dir, map[string]string{"stale": "s"})
	if err := os.WriteFile(v.state, []byte("stead view 3 12 \"\"\nf 644"), 0o600); err != nil {
		t.Fatal(err)
	}
	syncView(t, v, project)
	equal(t, filesIn(t, v.Dir), map[string]string{"a": "a"})
}

func TestViewNames(t *testing.T) {
	project := t.TempDir()
	files := map[string]string{"with space": "1", "new\nline": "2", "quote\"d": "3", "\xff\xfe": "4", "tab\t@": "to\nhere"}
	tree(t, project, files)
	v := testView(t, project)
	syncView(t, v, project)
	equal(t, filesIn(t, v.Dir), files)
	if n := syncView(t, v, project); n != 0 {
		t.Errorf("a sync of nothing changed %d paths", n)
	}
}

func TestViewIsOnePersons(t *testing.T) {
	project, s := t.TempDir(), testStore(t)
	_, release, err := OpenView(t.Context(), s, project, "acme")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, _, err := OpenView(ctx, s, project, "acme"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	_, other, err := OpenView(t.Context(), s, project, "globex")
	if err != nil {
		t.Fatal(err)
	}
	other()
	release()
	_, release, err = OpenView(t.Context(), s, project, "acme")
	if err != nil {
		t.Fatal(err)
	}
	release()
}

func TestViewCancelled(t *testing.T) {
	project := t.TempDir()
	tree(t, project, map[string]string{"a": "a", "d/b": "b"})
	v := testView(t, project)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := v.Sync(ctx, project, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	syncView(t, v, project)
	equal(t, filesIn(t, v.Dir), map[string]string{"a": "a", "d/b": "b"})
}

func FuzzSeen(f *testing.F) {
	f.Add(`f 12 1700000000000000000 1700000000000000001 3 "a b"`)
	f.Add(`l "x\xff"`)
	f.Add(".")
	f.Fuzz(func(t *testing.T, line string) {
		s, err := parseSeen(line)
		if err != nil {
			return
		}
		again, err := parseSeen(strings.TrimSuffix(string(s.append(nil)), "\n"))
		if err != nil || again != s {
			t.Errorf("%q: got %+v %v; want %+v", line, again, err, s)
		}
		_, _ = parseSeenHead(line)
	})
}

func BenchmarkViewSync20000(b *testing.B) {
	project := b.TempDir()
	for d := range 200 {
		files := map[string]string{}
		for n := range 100 {
			files[fmt.Sprintf("src/%02d/%03d/file%d.c", d%20, d, n)] = "x"
		}
		tree(b, project, files)
	}
	v := testView(b, project)
	syncView(b, v, project)
	for b.Loop() {
		if n := syncView(b, v, project); n != 0 {
			b.Fatal(n)
		}
	}
}
