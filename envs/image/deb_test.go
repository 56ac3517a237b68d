package image

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/stead-env/stead/envs/lock"
	"github.com/stead-env/stead/envs/store"
	"github.com/stead-env/stead/snapshot"
)

// entry is a tar entry with its content.
type entry struct {
	tar.Header
	content string
}

func dir(name string) entry {
	return entry{Header: tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: 0o755}}
}

func file(name, content string) entry {
	return entry{Header: tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, ModTime: time.Unix(1700000000, 0)}, content: content}
}

func symlink(name, target string) entry {
	return entry{Header: tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target, Mode: 0o777}}
}

func hardlink(name, target string) entry {
	return entry{Header: tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: target, Mode: 0o644}}
}

func tarOf(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	tw := tar.NewWriter(&b)
	for _, e := range entries {
		if e.Typeflag == tar.TypeReg {
			e.Size = int64(len(e.content))
		}
		if err := tw.WriteHeader(&e.Header); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(tw, e.content); err != nil {
			t.Fatal(err)
		}
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// debOf is a package file with that data.tar.
func debOf(t testing.TB, name string, data []byte) []byte {
	t.Helper()
	control := fmt.Sprintf("Package: %s\nVersion: 1\nArchitecture: all\nDescription: x\n", name)
	return arOf("control.tar", tarOf(t, file("./control", control), file("./md5sums", "")), "data.tar", data)
}

func arOf(control string, c []byte, data string, d []byte) []byte {
	var b bytes.Buffer
	b.WriteString(debMagic)
	member := func(name string, content []byte) {
		fmt.Fprintf(&b, "%-16s%-12d%-6d%-6d%-8s%-10d`\n", name, 0, 0, 0, "100644", len(content))
		b.Write(content)
		if len(content)%2 == 1 {
			b.WriteByte('\n')
		}
	}
	member("debian-binary", []byte("2.0\n"))
	member(control, c)
	member(data, d)
	return b.Bytes()
}

func testStore(t testing.TB) *store.Store {
	t.Helper()
	st, err := store.Open(filepath.Join(t.TempDir(), "store"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	return st
}

// put stores a package file and pins it.
func put(t testing.TB, st *store.Store, name string, deb []byte) lock.Package {
	t.Helper()
	d := digest.FromBytes(deb)
	if err := st.PutBlob(context.Background(), d, int64(len(deb)), bytes.NewReader(deb)); err != nil {
		t.Fatal(err)
	}
	return lock.Package{Name: name, Version: "1", Architecture: "all", Size: int64(len(deb)), SHA256: d.Encoded(), Proof: lock.Exact}
}

// tree unpacks a package and publishes its tree.
func tree(t testing.TB, st *store.Store, name string, entries ...entry) Tree {
	t.Helper()
	p, err := Unpack(context.Background(), st, put(t, st, name, debOf(t, name, tarOf(t, entries...))))
	if err != nil {
		t.Fatal(err)
	}
	if err := st.Publish(context.Background(), p); err != nil {
		t.Fatal(err)
	}
	m, err := p.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	return Tree{Item: p.Item, Manifest: m}
}

// TestHostilePackages holds that what a package may not do is refused with an error
// that names package and entry, and that nothing of it stays.
func TestHostilePackages(t *testing.T) {
	device := entry{Header: tar.Header{Typeflag: tar.TypeChar, Name: "./dev/mem", Mode: 0o666, Devmajor: 1, Devminor: 1}}
	many := make([]entry, maxEntries+1)
	for i := range many {
		many[i] = dir("./same/")
	}
	for name, c := range map[string]struct {
		data []byte
		says string
	}{
		"upwards":               {tarOf(t, file("./../../evil", "x")), "../../evil"},
		"upwards in the middle": {tarOf(t, file("./usr/../../evil", "x")), "usr/../../evil"},
		"absolute":              {tarOf(t, file("/etc/evil", "x")), "/etc/evil"},
		"folder becomes a link": {tarOf(t, dir("./usr/"), symlink("./usr/lib", "/etc"), file("./usr/lib/evil", "x")), "/usr/lib/evil"},
		"link becomes a folder": {tarOf(t, symlink("./usr", "/etc"), dir("./usr/")), "/usr"},
		"file becomes a folder": {tarOf(t, file("./usr", "x"), file("./usr/evil", "x")), "/usr/evil"},
		"file over a link":      {tarOf(t, symlink("./passwd", "/etc/passwd"), file("./passwd", "x")), "/passwd"},
		"hard link, absolute":   {tarOf(t, hardlink("./evil", "/etc/shadow")), "/evil"},
		"hard link, elsewhere":  {tarOf(t, hardlink("./evil", "./etc/shadow")), "/evil"},
		"hard link to a link":   {tarOf(t, symlink("./a", "/etc/shadow"), hardlink("./evil", "./a")), "/evil"},
		"hard link upwards":     {tarOf(t, hardlink("./evil", "../../../etc/shadow")), "/evil"},
		"device":                {tarOf(t, device), "/dev/mem"},
		"hole of 10 GB":         {holeTar(t), "huge"},
		"a million entries":     {tarOf(t, many...), "entries"},
		"a name too long":       {tarOf(t, file("./"+strings.Repeat("x", 300), "x")), "impossible path"},
		"cut off":               {tarOf(t, file("./a", strings.Repeat("x", 9000)))[:5000], "unexpected EOF"},
	} {
		t.Run(name, func(t *testing.T) {
			st := testStore(t)
			p := put(t, st, "evil-package", debOf(t, "evil-package", c.data))
			_, err := Unpack(context.Background(), st, p)
			var pkg *PackageError
			if !errors.As(err, &pkg) {
				t.Fatalf("got %v", err)
			}
			if !strings.Contains(err.Error(), "evil-package") || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%q doesn't name the package and %q", err, c.says)
			}
			if _, ok := st.Find(store.Trees, TreeName(p)); ok {
				t.Error("there is a tree")
			}
			left, _ := filepath.Glob(filepath.Join(st.Dir(), "work", "*", "*"))
			if len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

// holeTar is made by tar itself: a hole of 10 GB takes a few bytes.
func holeTar(t *testing.T) []byte {
	t.Helper()
	tmp := t.TempDir()
	f, err := os.Create(filepath.Join(tmp, "huge"))
	if err == nil {
		err = errors.Join(f.Truncate(10<<30), f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("tar", "-C", tmp, "--sparse", "--format=gnu", "-cf", "-", "huge").Output()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestUnpack(t *testing.T) {
	st := testStore(t)
	tr := tree(t, st, "good",
		dir("./"), dir("./usr/"), file("./usr/a b\nc", "content"), hardlink("./usr/b", "./usr/a b\nc"),
		symlink("./usr/out", "/../../etc/passwd"), file("./opt/implied/x", ""))
	want := []string{".", "opt", "opt/implied", "opt/implied/x", "usr", "usr/a b\nc", "usr/b", "usr/out",
		"var", "var/lib", "var/lib/dpkg", "var/lib/dpkg/info", "var/lib/dpkg/info/good.md5sums"}
	var got []string
	for _, f := range tr.Manifest {
		got = append(got, f.Path)
	}
	if strings.Join(got, "|") != strings.Join(want, "|") {
		t.Errorf("got %q", got)
	}
	a, _ := tr.Manifest.Lookup("usr/a b\nc")
	b, _ := tr.Manifest.Lookup("usr/b")
	if a.Link != a.Path || b.Link != a.Path || b.Digest != digest.FromString("content").Encoded() || a.MTime != 1700000000 {
		t.Errorf("got %+v and %+v", a, b)
	}
	content, err := os.ReadFile(filepath.Join(tr.Item.Root(), "usr/b"))
	if err != nil || string(content) != "content" {
		t.Errorf("got %q, %v", content, err)
	}
}

// Packages of old hosts have data.tar.lzma, made with xz's usual dictionary of 8 MiB.
func TestOldCompression(t *testing.T) {
	for ext, program := range map[string]string{".lzma": "xz --format=lzma -c", ".xz": "xz -9 -c", ".bz2": "bzip2 -c", ".gz": "gzip -c"} {
		args := strings.Fields(program)
		cmd := exec.Command(args[0], args[1:]...)
		cmd.Stdin = strings.NewReader("data")
		packed, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		plain, done, err := decompress(ext, bytes.NewReader(packed))
		if err != nil {
			t.Errorf("%s: %v", ext, err)
			continue
		}
		if data, err := io.ReadAll(plain); err != nil || string(data) != "data" {
			t.Errorf("%s: %q, %v", ext, data, err)
		}
		done()
	}
}

func TestDamagedBlob(t *testing.T) {
	st := testStore(t)
	p := put(t, st, "bash", debOf(t, "bash", tarOf(t, file("./bin/bash", strings.Repeat("x", 100_000)))))
	path, _, _ := st.BlobPath(p.Digest())
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err == nil {
		_, err = f.WriteAt([]byte("y"), 60_000)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	_, err = Unpack(context.Background(), st, p)
	var wrong *store.MismatchError
	if !errors.As(err, &wrong) || !strings.Contains(err.Error(), "bash") {
		t.Errorf("got %v", err)
	}
}

func FuzzUnpackDeb(f *testing.F) {
	f.Add(debOf(f, "a", tarOf(f, dir("./usr/"), file("./usr/x", "y"), symlink("./l", "usr"), hardlink("./h", "./usr/x"))))
	f.Add(debOf(f, "a", tarOf(f, symlink("./usr", "/etc"), file("./usr/x", "y"))))
	f.Fuzz(func(t *testing.T, data []byte) {
		outside := t.TempDir()
		inside := filepath.Join(outside, "in")
		if err := os.Mkdir(inside, 0o755); err != nil {
			t.Fatal(err)
		}
		w, err := newWriter(inside, store.Owners{})
		if err != nil {
			t.Fatal(err)
		}
		defer w.Close()
		m, err := unpackDeb(context.Background(), bufio.NewReader(bytes.NewReader(data)), w)
		if names, _ := os.ReadDir(outside); len(names) != 1 {
			t.Fatalf("it wrote outside: %v", names)
		}
		if err == nil {
			if _, err := store.ParseManifest(m.Encode()); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func FuzzDelta(f *testing.F) {
	d := &Delta{
		Entries: store.Manifest{{Path: "bin", Type: snapshot.Symlink, Mode: 0o777, Target: "usr/bin"},
			{Path: "etc", Type: snapshot.Dir, Mode: 0o755}, {Path: "etc/x", Type: snapshot.Regular, Size: 1}},
		Gone: []string{"usr/share/doc"}, Instead: map[string][]byte{"etc/x": []byte("y")},
	}
	var b bytes.Buffer
	if err := d.Write(context.Background(), &b, nil); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Fuzz(func(t *testing.T, data []byte) {
		st := testStore(t)
		d := digest.FromBytes(data)
		if err := st.PutBlob(context.Background(), d, int64(len(data)), bytes.NewReader(data)); err != nil {
			t.Fatal(err)
		}
		p, err := UnpackDelta(context.Background(), st, lock.Delta{SHA256: d.Encoded(), Size: int64(len(data))})
		if err != nil {
			return
		}
		m, err := p.Manifest()
		if err != nil {
			t.Fatal(err)
		}
		entries, gone := splitLayer(m)
		_, _ = apply(store.Manifest{{Path: ".", Type: snapshot.Dir}}, entries, gone)
		if err := p.Discard(); err != nil {
			t.Fatal(err)
		}
	})
}
