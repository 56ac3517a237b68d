package chroot

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A copy has all that a file has, and shares nothing that a write could reach.
func TestCopy(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("giving away files takes root")
	}
	from, to := filepath.Join(t.TempDir(), "from"), filepath.Join(t.TempDir(), "to")
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	name := func(base string) string { return filepath.Join(from, base) }
	must(os.MkdirAll(name("dir"), 0o755))
	must(os.WriteFile(name("file"), []byte("content"), 0o644))
	must(os.Link(name("file"), name("dir/linked")))
	must(os.Chown(name("file"), 12, 34))
	must(unix.Chmod(name("file"), 0o4750))
	must(unix.Setxattr(name("file"), "user.note", []byte("value"), 0))
	capability := []byte("\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00") // cap_net_bind_service=ep
	must(os.WriteFile(name("capable"), nil, 0o755))
	must(unix.Setxattr(name("capable"), "security.capability", capability, 0))
	must(os.Symlink("nowhere", name("link")))
	must(os.Lchown(name("link"), 56, 78))
	must(unix.Mkfifo(name("fifo"), 0o640))
	sparse, err := os.Create(name("sparse"))
	must(err)
	_, err = sparse.WriteAt([]byte("middle"), 8<<20)
	must(err)
	must(sparse.Truncate(64 << 20))
	must(sparse.Close())
	big := bytes.Repeat([]byte("0123456789"), 300_000)
	must(os.WriteFile(name("big"), big, 0o600))
	past := time.Unix(1_000_000_000, 123456789)
	for _, base := range []string{"file", "big", "dir"} {
		must(os.Chtimes(name(base), past, past))
	}
	must(unix.Chmod(name("dir"), 0o1770))
	lost, err := (&copier{to: to, record: newRecord(), links: true}).tree(t.Context(), from, "")
	if err != nil || lost.special != 0 || lost.capabilities != 0 {
		t.Fatal(err, lost)
	}
	for _, base := range []string{"file", "dir", "dir/linked", "capable", "link", "fifo", "sparse", "big"} {
		var a, b syscall.Stat_t
		must(syscall.Lstat(name(base), &a))
		must(syscall.Lstat(filepath.Join(to, base), &b))
		if a.Ino == b.Ino || a.Mode != b.Mode || a.Uid != b.Uid || a.Gid != b.Gid || a.Mtim != b.Mtim || a.Nlink != b.Nlink || base != "dir" && a.Size != b.Size {
			t.Errorf("%s: %+v became %+v", base, a, b)
		}
		if base == "sparse" && b.Blocks*512 > 1<<20 {
			t.Errorf("the holes are filled: %d blocks", b.Blocks)
		}
	}
	if data, err := os.ReadFile(filepath.Join(to, "big")); err != nil || !bytes.Equal(data, big) {
		t.Errorf("the big file has %d other bytes: %v", len(data), err)
	}
	for _, x := range []struct{ base, attr string }{{"file", "user.note"}, {"capable", "security.capability"}} {
		if n, err := unix.Getxattr(filepath.Join(to, x.base), x.attr, nil); err != nil || n == 0 {
			t.Errorf("%s of %s: %v", x.attr, x.base, err)
		}
	}
}

// Whiteouts and opaque folders of a layer hide what is below.
func TestLayers(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("whiteouts take root on old kernels")
	}
	base, upper, to := t.TempDir(), t.TempDir(), filepath.Join(t.TempDir(), "to")
	for _, p := range []string{"keep/a", "gone/a", "opaque/a", "file/a", "dir"} {
		if err := os.MkdirAll(filepath.Join(base, filepath.Dir(p)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(base, p), []byte("base"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{"keep", "opaque", "dir"} {
		if err := os.Mkdir(filepath.Join(upper, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, err := range []error{
		unix.Mknod(filepath.Join(upper, "gone"), unix.S_IFCHR, 0),
		unix.Setxattr(filepath.Join(upper, "opaque"), "user.overlay.opaque", []byte("y"), 0),
		os.WriteFile(filepath.Join(upper, "opaque", "b"), []byte("upper"), 0o644),
		os.WriteFile(filepath.Join(upper, "file"), []byte("upper"), 0o644),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for i, dir := range []string{base, upper} {
		if _, err := (&copier{to: to, record: newRecord(), links: true, layer: i > 0}).tree(t.Context(), dir, ""); err != nil {
			t.Fatal(err)
		}
	}
	for p, want := range map[string]string{"keep/a": "base", "gone": "", "gone/a": "", "opaque/a": "", "opaque/b": "upper", "file": "upper"} {
		data, err := os.ReadFile(filepath.Join(to, p))
		if string(data) != want || (want == "") != (err != nil) {
			t.Errorf("%s: %q, %v", p, data, err)
		}
		if want != "" {
			dirs := layers{upper, base}.dirs(filepath.Dir(p))
			if find(dirs, filepath.Base(p)) == "" {
				t.Errorf("%s is not found in the layers", p)
			}
		}
	}
	if list, err := names(layers{upper, base}.dirs("")); err != nil || len(list) != 4 {
		t.Errorf("at the top there are %v, %v", list, err)
	}
	if list, err := names(layers{upper, base}.dirs("opaque")); err != nil || len(list) != 1 {
		t.Errorf("in the opaque folder there are %v, %v", list, err)
	}
}

// A folder in which somebody works is copied as far as it stays.
func TestCopyChanging(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("giving away files takes root")
	}
	from := t.TempDir()
	kept := filepath.Join(from, "kept", "file")
	if err := errors.Join(os.Mkdir(filepath.Dir(kept), 0o755), os.WriteFile(kept, []byte("kept"), 0o644)); err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var workers sync.WaitGroup
	for i := range 4 {
		workers.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				dir := filepath.Join(from, fmt.Sprintf("dir%d", (i+n)%6))
				os.MkdirAll(filepath.Join(dir, "a", "b"), 0o755)
				os.WriteFile(filepath.Join(dir, "a", "file"), bytes.Repeat([]byte("x"), 100), 0o644)
				os.Link(filepath.Join(dir, "a", "file"), filepath.Join(dir, "linked"))
				os.Symlink("a", filepath.Join(dir, "b"))
				if n%3 == 0 {
					os.Rename(dir, filepath.Join(from, fmt.Sprintf("dir%d", n%6)))
				}
				os.RemoveAll(dir)
				os.WriteFile(dir, nil, 0o644)
				os.Remove(dir)
			}
		})
	}
	defer func() { close(stop); workers.Wait() }()
	for range 300 {
		to := filepath.Join(t.TempDir(), "to")
		if _, err := (&copier{to: to, record: newRecord(), base: true}).tree(t.Context(), from, ""); err != nil {
			t.Fatal(err)
		}
		if data, err := os.ReadFile(filepath.Join(to, "kept", "file")); string(data) != "kept" {
			t.Fatalf("%q, %v", data, err)
		}
	}
}
