package containerd

import (
	"archive/tar"
	"bytes"
	"debug/elf"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/stead-env/stead/runtime"
)

// plant makes a small root.
func plant(t *testing.T, when time.Time) string {
	t.Helper()
	root := t.TempDir()
	for _, dir := range []string{"usr", "usr/bin", "etc", "empty"} {
		must(t, os.Mkdir(filepath.Join(root, dir), 0o755))
	}
	program := slices.Concat([]byte(elf.ELFMAG), []byte{2, 1, 1}, make([]byte, 9), []byte{2, 0, byte(elf.EM_AARCH64), 0}, make([]byte, 100))
	for name, content := range map[string]string{"etc/b": "b", "etc/a": "a", "usr/bin/p": string(program)} {
		must(t, os.WriteFile(filepath.Join(root, name), []byte(content), 0o644))
	}
	must(t, os.Chmod(filepath.Join(root, "usr/bin/p"), 0o755))
	must(t, os.Chmod(filepath.Join(root, "etc/b"), 0o640|os.ModeSetuid))
	must(t, os.Link(filepath.Join(root, "etc/b"), filepath.Join(root, "usr/c")))
	must(t, os.Symlink("../etc/a", filepath.Join(root, "usr/link")))
	if err := unix.Setxattr(filepath.Join(root, "etc/a"), "user.note", []byte("x\x00y"), 0); err != nil {
		t.Logf("no extended attributes here: %v", err)
	}
	for i, name := range []string{"etc/a", "etc/b", "usr/bin/p", "usr/link"} {
		at := unix.NsecToTimespec(time.Date(2011, 5, i+1, 0, 0, 0, 0, time.UTC).UnixNano())
		must(t, unix.UtimesNanoAt(unix.AT_FDCWD, filepath.Join(root, name), []unix.Timespec{at, at}, unix.AT_SYMLINK_NOFOLLOW))
	}
	for _, dir := range []string{"usr/bin", "usr", "etc", "empty", "."} {
		must(t, os.Chtimes(filepath.Join(root, dir), when, when))
	}
	return root
}

// The bytes are the root's, not of when and where it was made.
func TestLayerIsTheSameEverywhere(t *testing.T) {
	var first, second bytes.Buffer
	machine, err := writeLayer(t.Context(), &first, plant(t, time.Now()))
	must(t, err)
	if machine != elf.EM_AARCH64 {
		t.Errorf("the programs are for %v", machine)
	}
	_, err = writeLayer(t.Context(), &second, plant(t, time.Now().Add(-time.Hour)))
	must(t, err)
	if !bytes.Equal(first.Bytes(), second.Bytes()) {
		t.Error("two layers of equal roots differ")
	}
	var names []string
	for r := tar.NewReader(&first); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		must(t, err)
		names = append(names, h.Name)
		switch h.Name {
		case "usr/c":
			if h.Typeflag != tar.TypeLink || h.Linkname != "etc/b" {
				t.Errorf("a second name is %c of %q", h.Typeflag, h.Linkname)
			}
		case "etc/b":
			if h.Mode != 0o4640 || h.ModTime.Day() != 2 {
				t.Errorf("mode %o, time %v", h.Mode, h.ModTime)
			}
		case "etc/":
			if h.ModTime.Day() != 2 {
				t.Errorf("the folder's time is %v", h.ModTime)
			}
		}
	}
	if want := "./ empty/ etc/ etc/a etc/b usr/ usr/bin/ usr/bin/p usr/c usr/link"; strings.Join(names, " ") != want {
		t.Errorf("entries %v, want %s", names, want)
	}
}

func TestLayerRefuses(t *testing.T) {
	root := plant(t, time.Now())
	must(t, os.WriteFile(filepath.Join(root, "etc/.wh.a"), nil, 0o644))
	if _, err := writeLayer(t.Context(), io.Discard, root); err == nil || !strings.Contains(err.Error(), "etc/.wh.a") {
		t.Errorf("a file named like a whiteout: %v", err)
	}
}

func TestImageName(t *testing.T) {
	for _, test := range []struct{ name, identity, want string }{
		{"acme@3", "sha256:0123456789abcdef0123", "localhost/stead/acme:3-0123456789ab"},
		{"Big_Corp.eu--x@12", "sha256:ab", "localhost/stead/big-corp-eu-x:12-ab"},
		{"", "", "localhost/stead/none:none-none"},
	} {
		if got := imageName(runtime.Spec{Name: test.name, Identity: test.identity}); got != test.want {
			t.Errorf("%q: %s, want %s", test.name, got, test.want)
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
