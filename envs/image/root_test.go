package image

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/stead-env/stead/envs/lock"
	"github.com/stead-env/stead/envs/store"
	"github.com/stead-env/stead/snapshot"
)

// fixture is a small host: packages, what it has beyond them, and what comes out.
type fixture struct {
	st    *store.Store
	trees []Tree
	delta Tree
	lock  *lock.Lock
	final store.Manifest
}

func regular(path, content string) snapshot.File {
	return snapshot.File{Path: path, Type: snapshot.Regular, Mode: 0o644, Size: int64(len(content)),
		MTime: 1600000000, Digest: digest.FromString(content).Encoded()}
}

func folder(path string, mode uint32) snapshot.File {
	return snapshot.File{Path: path, Type: snapshot.Dir, Mode: mode}
}

func link(path, target string) snapshot.File {
	return snapshot.File{Path: path, Type: snapshot.Symlink, Mode: 0o777, Target: target, MTime: 1600000000}
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	st := testStore(t)
	owned := file("./usr/bin/wall", "wall")
	owned.Uname, owned.Gname, owned.Gid, owned.Mode = "root", "tty", 999, 0o2755
	x := &fixture{st: st, trees: []Tree{
		tree(t, st, "bash", file("./bin/bash", "bash"), symlink("./bin/sh", "bash"), file("./usr/share/doc/shared", "1")),
		tree(t, st, "libc", file("./lib/libc.so", "libc"), file("./usr/share/doc/shared", "2"), dir("./usr/share/empty/")),
		tree(t, st, "util", owned, file("./usr/bin/a", "a"), hardlink("./usr/bin/b", "./usr/bin/a"), file("./etc/conf", "default")),
		tree(t, st, "docs", file("./usr/share/doc/big/1", "1"), file("./usr/share/doc/big/2", "2")),
	}}
	d := &Delta{
		Entries: store.Manifest{
			link("bin", "usr/bin"), link("lib", "/usr/lib"), folder("tmp", 0o1777),
			folder("etc", 0o755), regular("etc/conf", "changed"), regular("etc/passwd", "root:x:0:0::/:\ntty:x:5:5::/:\n"),
			regular("etc/group", "root:x:0:\ntty:x:5:\n"), regular("usr/share/doc/shared", "the host's"),
		},
		Gone:    []string{"usr/share/doc/big"},
		Instead: map[string][]byte{},
	}
	for p, c := range map[string]string{"etc/conf": "changed", "usr/share/doc/shared": "the host's",
		"etc/passwd": "root:x:0:0::/:\ntty:x:5:5::/:\n", "etc/group": "root:x:0:\ntty:x:5:\n"} {
		d.Instead[p] = []byte(c)
	}
	d.Entries.Normalize()
	base, err := Compose(x.trees, map[string]string{"bin": "usr/bin", "lib": "/usr/lib"},
		ParseNames(d.Instead["etc/passwd"], d.Instead["etc/group"]))
	if err != nil {
		t.Fatal(err)
	}
	if !base.Traversed["bin"] || !base.Traversed["lib"] {
		t.Errorf("traversed %v", base.Traversed)
	}
	if x.final, err = Outcome(base, d); err != nil {
		t.Fatal(err)
	}
	w, err := st.NewCompressedBlob()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if err := d.Write(context.Background(), w, func(f snapshot.File) (io.ReadCloser, error) { return nil, fs.ErrNotExist }); err != nil {
		t.Fatal(err)
	}
	size := w.Size()
	sum, err := w.Commit(context.Background(), "")
	if err != nil {
		t.Fatal(err)
	}
	p, err := UnpackDelta(context.Background(), st, lock.Delta{SHA256: sum.Encoded(), Size: size})
	if err != nil {
		t.Fatal(err)
	}
	if err := st.Publish(context.Background(), p); err != nil {
		t.Fatal(err)
	}
	if x.delta.Manifest, err = p.Manifest(); err != nil {
		t.Fatal(err)
	}
	x.delta.Item = p.Item
	x.lock = &lock.Lock{Delta: lock.Delta{SHA256: sum.Encoded(), Size: size}, Rootfs: lock.Rootfs{Digest: x.final.Digest()}}
	return x
}

// TestMakeRoot makes the same root from its packages in every order, with one job
// and with several; what is on disk is what the manifest says.
func TestMakeRoot(t *testing.T) {
	x := newFixture(t)
	for i := range 8 {
		rand.Shuffle(len(x.trees), func(i, j int) { x.trees[i], x.trees[j] = x.trees[j], x.trees[i] })
		p, err := MakeRoot(context.Background(), x.st, x.lock, x.trees, x.delta, "root"+string(rune('a'+i)), 1+i%4)
		if err != nil {
			t.Fatal(err)
		}
		checkDisk(t, p.Root(), x.final)
		if err := p.Discard(); err != nil {
			t.Error(err)
		}
	}
	const golden = "tree1:sha256:523d38d8057b2e71c4ac67957c7017af016b74006c99b89afbc78805e949f033" // every lock stands on it
	if x.lock.Rootfs.Digest != golden {
		t.Errorf("the digest is %s", x.lock.Rootfs.Digest)
	}
	wall, _ := x.final.Lookup("usr/bin/wall")
	if wall.GID != 5 || wall.UID != 0 {
		t.Errorf("wall belongs to %d:%d, but the host's tty is 5", wall.UID, wall.GID)
	}
	if _, ok := x.final.Lookup("usr/bin/bash"); !ok {
		t.Error("/bin/bash wasn't led through the host's link")
	}
}

func checkDisk(t *testing.T, root string, m store.Manifest) {
	t.Helper()
	var got []string
	err := filepath.WalkDir(root, func(p string, _ fs.DirEntry, err error) error {
		rel, _ := filepath.Rel(root, p)
		got = append(got, rel)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(got)
	if len(got) != len(m) {
		t.Fatalf("on disk: %q", got)
	}
	for i, f := range m {
		fi, err := os.Lstat(filepath.Join(root, f.Path))
		if err != nil || f.Path != got[i] {
			t.Fatalf("%q: %v", f.Path, err)
		}
		if f.Type == snapshot.Symlink {
			if target, _ := os.Readlink(filepath.Join(root, f.Path)); target != f.Target {
				t.Errorf("%q leads to %q", f.Path, target)
			}
			continue
		}
		if fi.Mode().Perm() != fs.FileMode(f.Mode&0o777) || fi.IsDir() != (f.Type == snapshot.Dir) {
			t.Errorf("%q has mode %v", f.Path, fi.Mode())
		}
		if f.Type == snapshot.Regular {
			content, err := os.ReadFile(filepath.Join(root, f.Path))
			if err != nil || digest.FromBytes(content).Encoded() != f.Digest || fi.ModTime().Unix() != f.MTime {
				t.Errorf("%q holds %q of %v, %v", f.Path, content, fi.ModTime(), err)
			}
		}
	}
}

// TestMakeRootNames holds that a root that came out otherwise is refused, and the
// error names the path.
func TestMakeRootNames(t *testing.T) {
	x := newFixture(t)
	if _, err := SaveManifest(context.Background(), x.st, x.final); err != nil {
		t.Fatal(err)
	}
	_, err := MakeRoot(context.Background(), x.st, x.lock, x.trees[1:], x.delta, "root", 2)
	var wrong *RootfsError
	if !errors.As(err, &wrong) || wrong.Path == "" || !strings.Contains(err.Error(), wrong.Path) {
		t.Errorf("got %v", err)
	}
}

// TestApplyOrder holds that a path that sorts between a folder and what is in it
// changes nothing.
func TestApplyOrder(t *testing.T) {
	base := store.Manifest{folder(".", 0o755), folder("a", 0o755), folder("a-b", 0o755), regular("a-b/y", ""), regular("a/x", "")}
	base.Normalize()
	m, err := apply(base, nil, []string{"a", "a-b"})
	if err != nil || len(m) != 1 {
		t.Errorf("got %v, %v", m, err)
	}
	if _, err := apply(base, store.Manifest{regular("b/x", "")}, nil); err == nil || !strings.Contains(err.Error(), "b/x") {
		t.Errorf("got %v for a file in no folder", err)
	}
	m, err = apply(base, store.Manifest{link("a", "a-b")}, nil)
	if err != nil || len(m) != 4 {
		t.Errorf("got %v, %v for a link over a folder", m, err)
	}
}

func TestComposeCircle(t *testing.T) {
	st := testStore(t)
	trees := []Tree{tree(t, st, "x", file("./a/b/c", ""))}
	if _, err := Compose(trees, map[string]string{"a": "z", "z": "a"}, Names{}); err == nil || !strings.Contains(err.Error(), "links") {
		t.Errorf("got %v", err)
	}
}
