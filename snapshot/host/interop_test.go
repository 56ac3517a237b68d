package host

import (
	"archive/tar"
	"crypto/sha256"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	goruntime "runtime"
	"slices"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/stead-env/stead/snapshot"
)

// wholeRoot is what a manifest holds of a host, by path, with contents.
func wholeRoot(t *testing.T, h snapshot.Host) map[string]string {
	t.Helper()
	all := map[string]snapshot.File{}
	var paths []string
	err := h.Files(t.Context(), ".", func(f snapshot.File, err error) error {
		if f.Type == snapshot.Regular {
			paths = append(paths, f.Path)
		}
		if f.Type == snapshot.Dir {
			f.MTime = 0
		}
		f.Change = snapshot.Stamp{}
		all[f.Path] = f
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	err = h.Read(t.Context(), paths, func(p string, r io.Reader, err error) error {
		if err != nil {
			return err
		}
		hash := sha256.New()
		_, err = io.Copy(hash, r)
		f := all[p]
		f.Digest = fmt.Sprintf("%x", hash.Sum(nil))
		all[p] = f
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	lines := map[string]string{}
	for p, f := range all {
		lines[p] = fmt.Sprintf("%+v", f)
	}
	return lines
}

// interopLayers hold all that layers can do to each other, as far as container
// engines agree about it.
func interopLayers() [][]item {
	owned := func(i item, uid, gid int, mode int64, mtime time.Time) item {
		i.Uid, i.Gid, i.Mode, i.ModTime = uid, gid, mode, mtime
		return i
	}
	attr := func(i item, name, value string) item {
		i.PAXRecords = map[string]string{"SCHILY.xattr." + name: value}
		return i
	}
	then := time.Unix(1_700_000_000, 0)
	// Archivers repeat mode and owner with each name; what engines make of others differs.
	setuid := func(i item) item { return owned(i, 0, 0, 0o4755, then) }
	layers := [][]item{{
		dirItem("."), dirItem("usr"), dirItem("usr/bin"), linkItem("bin", "usr/bin"), linkItem("abs", "/usr/bin"), linkItem("up", "../../usr"),
		owned(fileItem("usr/bin/tool", "tool"), 0, 0, 0o4755, then), setuid(hardItem("usr/bin/again", "usr/bin/tool")),
		attr(fileItem("usr/bin/ping", "ping"), "security.capability", "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"),
		dirItem("etc"), owned(fileItem("etc/conf", "one"), 70001, 70002, 0o640, then), dirItem("etc/d"), fileItem("etc/d/a", "a"),
		fileItem("etc/d/b", "b"), dirItem("etc/d/sub"), fileItem("etc/d/sub/c", "c"), dirItem("gone"), fileItem("gone/x", "x"),
		dirItem("swap"), fileItem("swap/file", "f"), dirItem("swap/dir"), fileItem("swap/dir/in", "in"), linkItem("swap/link", "file"),
		linkItem("swap/todir", "dir"), item{Header: tar.Header{Name: "swap/pipe", Typeflag: tar.TypeFifo}},
		owned(dirItem("var"), 3, 4, 0o1777, then), fileItem("var/od\xff \nname", "odd"), fileItem("alone", "alone"), fileItem("pair", "pair"),
		hardItem("pair2", "pair"), owned(fileItem("ancient", "1"), 0, 0, 0o600, time.Unix(-1_000_000, 0)),
	}, {
		fileItem("etc/.wh.conf", ""), fileItem(".wh.gone", ""), dirItem("etc/d"), fileItem("etc/d/.wh..wh..opq", ""), fileItem("etc/d/new", "new"),
		dirItem("swap"), dirItem("swap/file"), fileItem("swap/file/in", "in"), fileItem("swap/dir", "now a file"),
		dirItem("swap/link"), fileItem("swap/link/in", "in"), fileItem("swap/pipe", "no pipe"), linkItem("swap/todir", "elsewhere"),
		setuid(hardItem("usr/bin/third", "usr/bin/tool")), hardItem("alone2", "alone"), fileItem("pair", "not any more"),
		fileItem("bin/below", "below a link"), fileItem("abs/below2", "below an absolute link"), fileItem("up/share/doc", "made on the way"),
		setuid(hardItem("bin/fourth", "abs/third")), owned(dirItem("var"), 5, 6, 0o750, then),
		item{Header: tar.Header{Name: "dev/null", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 3}},
	}, {
		fileItem("usr/bin/.wh.again", ""), dirItem("gone"), fileItem("gone/back", "back"), fileItem("swap/.wh.dir", ""),
		dirItem("swap/dir"), fileItem("swap/dir/again", "a folder again"), fileItem("etc/conf", "two"), fileItem("etc/.wh.d", ""),
	}}
	// What a layer doesn't say of times and modes, engines take from the clock.
	for _, l := range layers {
		for n := range l {
			if l[n].ModTime.IsZero() {
				l[n].ModTime = then
			}
			if l[n].Mode == 0 {
				l[n].Mode = 0o644
			}
		}
	}
	return layers
}

// An independent program makes the same of an image.
func TestLikeUmoci(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("unpacking owners and devices needs root")
	}
	if _, err := exec.LookPath("umoci"); err != nil {
		t.Skipf("%v: see .ci/setup", err)
	}
	var tars [][]byte
	for _, l := range interopLayers() {
		tars = append(tars, tarOf(t, l...))
	}
	dir := writeLayout(t, t.TempDir(), map[string]v1.Image{"one": imageOf(t, goruntime.GOARCH, "gzip", tars...)})
	bundle := filepath.Join(t.TempDir(), "bundle")
	if out, err := exec.Command("umoci", "unpack", "--image", dir+":one", bundle).CombinedOutput(); err != nil {
		t.Fatalf("umoci: %v\n%s", err, out)
	}
	compareRoots(t, wholeRoot(t, openImage(t, dir, "")), wholeRoot(t, open(t, filepath.Join(bundle, "rootfs"))))
}

func compareRoots(t *testing.T, got, want map[string]string) {
	t.Helper()
	for _, p := range slices.Sorted(maps.Keys(want)) {
		if got[p] != want[p] {
			t.Errorf("%q is\n%s, want\n%s", p, got[p], want[p])
		}
	}
	for p := range got {
		if want[p] == "" {
			t.Errorf("%q is too much", p)
		}
	}
}
