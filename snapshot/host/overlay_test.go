package host

import (
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/stead-env/stead/snapshot"
	"github.com/stead-env/stead/snapshot/host/hosttest"
)

// manifestOf is all that a folder holds, as the manifest of a root has it.
func manifestOf(t *testing.T, root string) []snapshot.File {
	t.Helper()
	h := open(t, root)
	var files []snapshot.File
	var paths []string
	err := h.Files(t.Context(), ".", func(f snapshot.File, err error) error {
		files = append(files, f)
		if f.Type == snapshot.Regular {
			paths = append(paths, f.Path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	sums := sumsOf(t, h, paths)
	for i := range files {
		files[i].Digest, files[i].Change = sums[files[i].Path], snapshot.Stamp{}
	}
	return files
}

func sumsOf(t *testing.T, h snapshot.Host, paths []string) map[string]string {
	t.Helper()
	sums := map[string]string{}
	err := h.Read(t.Context(), paths, func(p string, r io.Reader, err error) error {
		hash := sha256.New()
		if err == nil {
			_, err = io.Copy(hash, r)
		}
		sums[p] = fmt.Sprintf("%x", hash.Sum(nil))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return sums
}

func openOverlay(t *testing.T, l Layers) *Overlay {
	t.Helper()
	o, err := OpenOverlay(l)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { o.Close() })
	return o
}

// All of a host may lie in either layer.
func TestOverlayConforms(t *testing.T) {
	t.Run("lower", func(t *testing.T) {
		hosttest.Run(t, func(t *testing.T, root string) snapshot.Host {
			return openOverlay(t, Layers{Upper: upperFor(t, root), Lower: root, Entries: manifestOf(t, root)})
		})
	})
	t.Run("upper", func(t *testing.T) {
		hosttest.Run(t, func(t *testing.T, root string) snapshot.Host {
			return openOverlay(t, Layers{Upper: root, Lower: t.TempDir(), Entries: []snapshot.File{{Path: ".", Type: snapshot.Dir}}})
		})
	})
}

// upperFor is an upper folder without changes.
func upperFor(t *testing.T, root string) string {
	t.Helper()
	dir := t.TempDir()
	var st unix.Stat_t
	if err := unix.Stat(root, &st); err != nil {
		t.Fatal(err)
	}
	if err := unix.Chmod(dir, st.Mode&0o7777); err != nil {
		t.Fatal(err)
	}
	return dir
}

// overlaid mounts an overlay, and returns where.
func overlaid(t *testing.T, lower, upper, options string) string {
	t.Helper()
	at, work := t.TempDir(), filepath.Join(filepath.Dir(upper), filepath.Base(upper)+"-work")
	if err := os.MkdirAll(work, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("stead-test", at, "overlay", 0, "lowerdir="+lower+",upperdir="+upper+",workdir="+work+options); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(at, 0); err != nil {
			t.Error(err)
		}
	})
	return at
}

// Whatever is done in an overlay, it reads as the kernel shows it.
func TestOverlayIsTheKernels(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("mounting needs root")
	}
	for seed := range uint64(40) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			for _, options := range []string{"", ",userxattr"} {
				compareOverlays(t, rand.New(rand.NewPCG(seed, 4)), options)
			}
		})
	}
}

func compareOverlays(t *testing.T, r *rand.Rand, options string) {
	lower := t.TempDir()
	for range 40 {
		alter(t, r, lower)
	}
	before := manifestOf(t, lower)
	upper := upperFor(t, lower)
	at := overlaid(t, lower, upper, options)
	for range 60 {
		alter(t, r, at)
	}
	want := manifestOf(t, at)
	o := openOverlay(t, Layers{Upper: upper, Lower: lower, Entries: slices.Clone(before), UserXattrs: options != ""})
	var got []snapshot.File
	var paths []string
	err := o.Files(t.Context(), ".", func(f snapshot.File, err error) error {
		got = append(got, f)
		if f.Type == snapshot.Regular {
			paths = append(paths, f.Path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	sums := sumsOf(t, o, paths)
	for i := range got {
		got[i].Digest, got[i].Change = sums[got[i].Path], snapshot.Stamp{}
	}
	byPath := func(a, b snapshot.File) int { return strings.Compare(a.Path, b.Path) }
	slices.SortFunc(got, byPath)
	slices.SortFunc(want, byPath)
	for i := range max(len(got), len(want)) {
		switch {
		case i >= len(got) || i >= len(want):
			t.Fatalf("%d entries, want %d", len(got), len(want))
		case !alike(got[i], want[i]):
			t.Fatalf("got %+v, want %+v", got[i], want[i])
		}
	}
	changes(t, o, before, want)
}

// alike compares all but the names of groups of hard links.
func alike(a, b snapshot.File) bool {
	a.Link, b.Link = "", ""
	if a.Type == snapshot.Dir {
		a.MTime, b.MTime = 0, 0 // a folder's isn't kept
	}
	return reflect.DeepEqual(a, b)
}

// changes wants of Changes what turns one listing into the other.
func changes(t *testing.T, o *Overlay, before, after []snapshot.File) {
	t.Helper()
	now := map[string]snapshot.File{}
	for _, f := range before {
		now[f.Path] = f
	}
	err := o.Changes(t.Context(), func(b, a *snapshot.File) error {
		switch {
		case a == nil:
			delete(now, b.Path)
			return nil
		case b != nil && !alike(now[b.Path], withDigest(*b)):
			t.Errorf("before, %s was %+v, not %+v", b.Path, now[b.Path], *b)
		}
		now[a.Path] = *a
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	for _, f := range after {
		g, ok := now[f.Path]
		if g.Digest == "" {
			f.Digest = ""
		}
		g.Change = snapshot.Stamp{}
		if !ok || !alike(f, g) {
			t.Errorf("after the changes, %s is %+v, want %+v", f.Path, g, f)
		}
		delete(now, f.Path)
	}
	if len(now) > 0 {
		t.Errorf("the changes leave %v", now)
	}
}

func withDigest(f snapshot.File) snapshot.File {
	f.Change = snapshot.Stamp{}
	return f
}

// alter does something to a tree of few names; what can't be done isn't.
func alter(t *testing.T, r *rand.Rand, root string) {
	t.Helper()
	names := []string{"a", "a-b", "a.b", "b", "c"}
	pick := func() string {
		p := root
		for range 1 + r.IntN(3) {
			p = filepath.Join(p, names[r.IntN(len(names))])
		}
		return p
	}
	p, q := pick(), pick()
	switch r.IntN(14) {
	case 0, 1, 2:
		_ = os.WriteFile(p, []byte(strings.Repeat("x", r.IntN(4))+fmt.Sprint(r.IntN(9))), 0o644)
	case 3, 4, 5:
		_ = os.MkdirAll(p, 0o755)
	case 6:
		_ = os.RemoveAll(p)
	case 7:
		_ = os.RemoveAll(p)
		_ = os.Mkdir(p, 0o700) // opaque
	case 8:
		_ = os.Rename(p, q)
	case 9:
		_ = os.Link(p, q)
	case 10:
		_ = os.Symlink("../"+names[r.IntN(len(names))], p)
	case 11:
		_ = os.Chmod(p, os.FileMode(0o600|r.IntN(0o100)))
		_ = os.Lchown(p, r.IntN(3), r.IntN(3))
	case 12:
		_ = unix.Setxattr(p, "user.note", []byte{byte(r.IntN(256))}, 0)
		_ = unix.Setxattr(p, "security.capability", []byte("\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"), 0)
	case 13:
		_ = unix.Mkfifo(p+"-pipe", 0o600) // opening one would wait
		_ = unix.Mknod(q+"-null", unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3)))
	}
}

// A mount point is nothing, until something is in it.
func TestMountPoints(t *testing.T) {
	lower, upper := t.TempDir(), t.TempDir()
	for _, dir := range []string{"home/ann/app", "srv/data", "proc", "opt/kept"} {
		if err := os.MkdirAll(filepath.Join(upper, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, content := range map[string]string{"etc-hosts": "", "srv/new": "new", "resolv.conf": "nameserver"} {
		if err := os.WriteFile(filepath.Join(upper, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	o := openOverlay(t, Layers{Upper: upper, Lower: lower, Entries: []snapshot.File{{Path: ".", Type: snapshot.Dir}},
		MountPoints: []string{"home/", "home/ann/", "home/ann/app/", "srv/", "srv/data/", "proc/", "etc-hosts", "resolv.conf", "gone/", "opt/kept"}})
	var got []string
	err := o.Files(t.Context(), ".", func(f snapshot.File, err error) error {
		got = append(got, f.Path)
		return err
	})
	if want := ". opt opt/kept resolv.conf srv srv/new"; err != nil || strings.Join(got, " ") != want {
		t.Errorf("got %q, %v, want %s", got, err, want)
	}
	err = o.Read(t.Context(), []string{"etc-hosts"}, func(_ string, _ io.Reader, err error) error { return err })
	if err == nil {
		t.Error("a mount point could be read")
	}
}

func TestOverlayOfAnotherKind(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("trusted attributes are root's")
	}
	upper := t.TempDir()
	if err := os.Mkdir(filepath.Join(upper, "moved"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setxattr(filepath.Join(upper, "moved"), "trusted.overlay.redirect", []byte("/etc"), 0); err != nil {
		t.Fatal(err)
	}
	o := openOverlay(t, Layers{Upper: upper, Lower: t.TempDir(), Entries: []snapshot.File{{Path: ".", Type: snapshot.Dir}}})
	if err := o.Changes(t.Context(), func(_, _ *snapshot.File) error { return nil }); err == nil {
		t.Error("a folder that came from elsewhere is taken as it lies")
	}
}
