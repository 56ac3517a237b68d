// Package hosttest is the conformance suite for ways to reach a host. A driver's
// own test says how a folder is reached through it; everything else is here.
package hosttest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/stead-env/stead/snapshot"
)

// Run checks a driver: open makes the host whose root is a copy of, or is, root.
func Run(t *testing.T, open func(t *testing.T, root string) snapshot.Host) {
	root := t.TempDir()
	build(t, root)
	planted := plant(t, root)
	h := open(t, root)
	t.Run("every kind of entry", func(t *testing.T) { entries(t, h, root) })
	t.Run("attributes", func(t *testing.T) { attributes(t, h, root) })
	t.Run("hard links", func(t *testing.T) { links(t, h) })
	t.Run("below a folder", func(t *testing.T) { below(t, h) })
	t.Run("skipped folders", func(t *testing.T) { skipped(t, h) })
	t.Run("links to this machine", func(t *testing.T) { machine(t, h, planted) })
	t.Run("an error of the caller", func(t *testing.T) { stops(t, h) })
	t.Run("content", func(t *testing.T) { content(t, h) })
	t.Run("a canceled context", func(t *testing.T) { canceled(t, h) })
}

// Old is before 1970 and not on a whole second: -1.5 s is second -2.
var (
	old    = time.Unix(-2, 500_000_000)
	recent = time.Unix(1_700_000_000, 999_999_999)
)

const odd = "etc/od\xffd \n \\name\\n"

func build(t *testing.T, root string) {
	t.Helper()
	p := func(name string) string { return filepath.Join(root, name) }
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, d := range []string{"etc/ssl", "usr/bin", "var/empty", "usr/deep/" + strings.Repeat("d/", 50)} {
		must(os.MkdirAll(p(d), 0o755))
	}
	must(os.WriteFile(p("etc/hello"), []byte("hello\n"), 0o644))
	must(os.WriteFile(p(odd), []byte("odd"), 0o600))
	must(os.WriteFile(p("usr/bin/tool"), []byte("tool"), 0o755))
	must(os.Link(p("usr/bin/tool"), p("usr/bin/again")))
	must(os.Chmod(p("etc/hello"), 0o644))
	must(os.Symlink("usr/bin", p("bin")))
	must(os.Symlink("/etc/../../../nowhere", p("etc/out")))
	must(os.Symlink("hello", p("etc/alias")))
	must(os.Symlink(strings.Repeat("x", 1000), p("etc/long")))
	must(unix.Mkfifo(p("var/pipe"), 0o600))
	must(os.Truncate(p("etc/hello"), 6))
	must(os.Chtimes(p("etc/hello"), old, old))
	must(os.Chtimes(p("usr/bin/tool"), recent, recent))
	must(unix.Chmod(p("usr/bin/tool"), 0o6755))
	must(unix.Chmod(p("var/empty"), 0o1777))
	must(unix.Lutimes(p("etc/alias"), []unix.Timeval{{Sec: 5}, {Sec: 5}}))
	if err := unix.Setxattr(p("etc/hello"), "user.note", []byte("a\x00b"), 0); err != nil {
		t.Logf("no extended attributes here: %v", err)
	}
	// The kernel wants root for these; without, they are just not there.
	_ = unix.Setxattr(p("etc/hello"), "trusted.secret", []byte("x"), 0)
	_ = unix.Setxattr(p("etc/hello"), "user.overlay.opaque", []byte("y"), 0)
	_ = unix.Setxattr(p("usr/bin/tool"), "security.capability", []byte(capability), 0)
	_ = unix.Chown(p("usr/deep"), 70001, 70002)
}

// cap_net_raw+ep, in the second form.
const capability = "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"

func list(t *testing.T, h snapshot.Host, dir string) map[string]snapshot.File {
	t.Helper()
	got := map[string]snapshot.File{}
	err := h.Files(t.Context(), dir, func(f snapshot.File, err error) error {
		if err != nil {
			t.Errorf("%s: %v", f.Path, err)
		}
		if _, twice := got[f.Path]; twice {
			t.Errorf("%q comes twice", f.Path)
		}
		if up := filepath.Dir(f.Path); f.Path != dir && got[up].Type != snapshot.Dir {
			t.Errorf("%q comes before its folder", f.Path)
		}
		got[f.Path] = f
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// entries compares with what lstat(2) says.
func entries(t *testing.T, h snapshot.Host, root string) {
	got := list(t, h, ".")
	want := 0
	err := filepath.WalkDir(root, func(p string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		want++
		rel, _ := filepath.Rel(root, p)
		f, ok := got[rel]
		if !ok {
			return fmt.Errorf("%q is not reported", rel)
		}
		var st unix.Stat_t
		if err := unix.Lstat(p, &st); err != nil {
			return err
		}
		kinds := map[uint32]snapshot.Type{unix.S_IFREG: 'f', unix.S_IFDIR: 'd', unix.S_IFLNK: 'l', unix.S_IFIFO: 'p', unix.S_IFCHR: 'c'}
		if f.Type != kinds[st.Mode&unix.S_IFMT] || f.Mode != st.Mode&0o7777 || f.UID != st.Uid || f.GID != st.Gid {
			t.Errorf("%q: %c %o %d:%d, want mode %o %d:%d", rel, f.Type, f.Mode, f.UID, f.GID, st.Mode, st.Uid, st.Gid)
		}
		if f.Type == snapshot.Regular && f.Size != st.Size || f.Type != snapshot.Regular && f.Size != 0 {
			t.Errorf("%q: size %d, want %d", rel, f.Size, st.Size)
		}
		if f.Type != snapshot.Dir && f.MTime != st.Mtim.Sec {
			t.Errorf("%q: mtime %d, want %d", rel, f.MTime, st.Mtim.Sec)
		}
		if target, err := os.Readlink(p); err == nil && f.Target != target {
			t.Errorf("%q: target %q, want %q", rel, f.Target, target)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	if len(got) != want {
		t.Errorf("%d entries, want %d", len(got), want)
	}
	if f := got["etc/hello"]; f.MTime != -2 {
		t.Errorf("1.5 s before 1970 is second %d, want -2", f.MTime)
	}
	if f := got["usr/bin/tool"]; f.MTime != 1_700_000_000 || f.Mode != 0o6755 {
		t.Errorf("usr/bin/tool: mtime %d mode %o", f.MTime, f.Mode)
	}
}

func attributes(t *testing.T, h snapshot.Host, root string) {
	got := list(t, h, ".")
	want := map[string]string{}
	if _, err := unix.Lgetxattr(filepath.Join(root, "etc/hello"), "user.note", make([]byte, 16)); err == nil {
		want["user.note"] = "a\x00b"
	}
	if x := got["etc/hello"].Xattrs; !maps.Equal(x, want) {
		t.Errorf("etc/hello has %q, want %q", x, want)
	}
	if _, err := unix.Lgetxattr(filepath.Join(root, "usr/bin/tool"), "security.capability", make([]byte, 64)); err == nil {
		if x := got["usr/bin/tool"].Xattrs; x["security.capability"] != capability {
			t.Errorf("usr/bin/tool has %q", x)
		}
	}
	if x := got["etc/alias"].Xattrs; x != nil {
		t.Errorf("a link has %q", x)
	}
}

func links(t *testing.T, h snapshot.Host) {
	got := list(t, h, ".")
	a, b := got["usr/bin/tool"].Link, got["usr/bin/again"].Link
	if a == "" || a != b {
		t.Errorf("two names of a file are in the groups %q and %q", a, b)
	}
	if l := got["etc/hello"].Link; l != "" {
		t.Errorf("a file with one name is in group %q", l)
	}
}

func below(t *testing.T, h snapshot.Host) {
	for dir, want := range map[string][]string{
		"usr/bin":       {"usr/bin", "usr/bin/again", "usr/bin/tool"},
		"var":           {"var", "var/empty", "var/pipe"},
		"bin":           {"bin"}, // a link: itself and no further
		"bin/tool":      nil,     // there is a link on the way
		"etc/hello":     {"etc/hello"},
		"etc/hello/x":   nil,
		"not/there":     nil,
		"etc/out/../..": nil,
	} {
		got := slices.Sorted(maps.Keys(list(t, h, dir)))
		if len(got) == 1 && got[0] != dir {
			t.Errorf("below %s: %q", dir, got)
		}
		if !slices.Equal(got, want) && strings.Count(dir, "..") == 0 {
			t.Errorf("below %s: %q, want %q", dir, got, want)
		}
	}
}

func skipped(t *testing.T, h snapshot.Host) {
	err := h.Files(t.Context(), ".", func(f snapshot.File, err error) error {
		if strings.HasPrefix(f.Path, "usr/") {
			t.Errorf("%s is below a folder that was skipped", f.Path)
		}
		if f.Path == "usr" {
			return fs.SkipDir
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func stops(t *testing.T, h snapshot.Host) {
	stop := errors.New("enough")
	if err := h.Files(t.Context(), ".", func(snapshot.File, error) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("Files gives %v", err)
	}
	err := h.Read(t.Context(), []string{"etc/hello"}, func(string, io.Reader, error) error { return stop })
	if !errors.Is(err, stop) {
		t.Errorf("Read gives %v", err)
	}
}

func content(t *testing.T, h snapshot.Host) {
	bad := []string{"etc/alias", "etc/out", "bin/tool", "var/pipe", "usr", "etc/none", "../etc/hello", "etc/../etc/hello"}
	got := map[string]string{}
	err := h.Read(t.Context(), append(bad, "etc/hello", odd, "usr/bin/tool"),
		func(p string, r io.Reader, err error) error {
			if _, twice := got[p]; twice {
				t.Errorf("%q is read twice", p)
			}
			if err != nil {
				got[p] = "error"
				return nil
			}
			b, err := io.ReadAll(r)
			got[p] = string(b)
			return err
		})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"etc/hello": "hello\n", odd: "odd", "usr/bin/tool": "tool"}
	for _, p := range bad {
		want[p] = "error"
	}
	if !maps.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func canceled(t *testing.T, h snapshot.Host) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := h.Files(ctx, ".", func(snapshot.File, error) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("Files gives %v", err)
	}
	err := h.Read(ctx, []string{"etc/hello"}, func(string, io.Reader, error) error { return nil })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("Read gives %v", err)
	}
}
