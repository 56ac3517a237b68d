package system

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stead-env/stead/envs/artifact/object"
	"github.com/stead-env/stead/envs/artifact/object/objecttest"
	"github.com/stead-env/stead/snapshot"
)

// folderSource is the source of a root that lies in a folder.
func folderSource(t testing.TB, dir string) Source {
	t.Helper()
	src := Source{Owner: func(path string) string { return filepath.Base(filepath.Dir(path)) },
		Open: func(_ context.Context, f snapshot.File) (Content, error) { return os.Open(filepath.Join(dir, f.Path)) }}
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, p)
		fi, err := d.Info()
		if err != nil {
			return err
		}
		f := snapshot.File{Path: rel, Mode: uint32(fi.Mode().Perm()), Size: fi.Size()}
		switch fi.Mode().Type() {
		case 0:
			f.Type = snapshot.Regular
			if Wants(f) {
				f.Digest, err = digestOf(p)
			}
		case fs.ModeDir:
			f.Type = snapshot.Dir
		case fs.ModeSymlink:
			f.Type = snapshot.Symlink
			f.Target, err = os.Readlink(p)
		default:
			return nil
		}
		src.Files = append(src.Files, f)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return src
}

func digestOf(p string) (string, error) {
	f, err := os.Open(p)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	_, err = io.Copy(h, f)
	return hex.EncodeToString(h.Sum(nil)), err
}

// chunks keeps what Build emits.
type chunks map[string][]byte

func (c chunks) emit(digest string, data []byte) error {
	c[digest] = data
	return nil
}

func (c chunks) load(digest string) ([]byte, error) {
	if data, ok := c[digest]; ok {
		return data, nil
	}
	return nil, errors.New("no such chunk")
}

// madeRoot is a small system: this machine's loader and C library, a python by name, and
// what stands in a loader's way.
func madeRoot(t testing.TB) string {
	t.Helper()
	root := t.TempDir()
	at := func(p string) string {
		p = filepath.Join(root, p)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		return p
	}
	write := func(p, content string, mode fs.FileMode) {
		if err := os.WriteFile(at(p), []byte(content), mode); err != nil {
			t.Fatal(err)
		}
	}
	for from, to := range map[string]string{
		"/lib64/ld-linux-x86-64.so.2":         "usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2",
		"/lib/x86_64-linux-gnu/libc.so.6":     "usr/lib/x86_64-linux-gnu/libc.so.6",
		"/lib/x86_64-linux-gnu/libm.so.6":     "usr/lib/x86_64-linux-gnu/libm.so.6",
		"/bin/sh":                             "usr/bin/dash",
		"/bin/true":                           "usr/bin/python3.11",
		"/lib/x86_64-linux-gnu/libdl.so.2":    "opt/app/code",
		"/lib/x86_64-linux-gnu/librt.so.1":    "usr/lib/copy/librt.so.1",
		"/usr/lib/x86_64-linux-gnu/libc.so.6": "usr/share/odd/libcopy.so",
	} {
		data, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		mode := fs.FileMode(0o644)
		if filepath.Dir(to) == "usr/bin" || filepath.Base(to) == "ld-linux-x86-64.so.2" {
			mode = 0o755
		}
		write(to, string(data), mode)
	}
	objecttest.Library(t, at("usr/lib/x86_64-linux-gnu/libhere.so.1"), "int here(void) { return 1; }", "-nostdlib")
	write("usr/lib/x86_64-linux-gnu/libtext.so", "INPUT(-lhere)\n", 0o644)
	write("usr/lib/x86_64-linux-gnu/libempty.so", "", 0o644)
	write("usr/lib/x86_64-linux-gnu/libcut.so", "\x7fELF\x02\x01\x01"+strings.Repeat("\x00", 70), 0o644)
	write("usr/lib/python3.11/lib-dynload/_x.cpython-311-x86_64-linux-gnu.so", "no library", 0o644)
	write("usr/lib/python3.11/os.py", "", 0o644)
	write("usr/lib/python3/dist-packages/six.py", "", 0o644)
	write("usr/share/doc/x/README", "read me", 0o644)
	write("usr/bin/with blank\n\\", "#!/usr/bin/env -S python3 -E\r\n", 0o755)
	write("usr/bin/data", "data", 0o755)
	write("etc/nsswitch.conf", "passwd: files systemd # here\nhosts: files [!UNAVAIL=return] dns\n", 0o644)
	write("etc/ld.so.preload", "/lib/libpre.so # one\n/lib/two.so:three.so", 0o644)
	write("etc/ld.so.conf", "/usr/lib/x86_64-linux-gnu\n", 0o644)
	write("usr/lib/jvm/java-17/release", "IMPLEMENTOR=\"x\"\nJAVA_VERSION=\"17.0.9\"\n", 0o644)
	data, err := os.ReadFile("/bin/true")
	if err != nil {
		t.Fatal(err)
	}
	write("usr/lib/jvm/java-17/bin/java", string(data), 0o755)
	for _, dir := range []string{"opt/empty/deep", "usr/share/empty", "usr/lib/folder.so.1", "var/lib/dpkg"} {
		if err := os.MkdirAll(at(dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, target := range map[string]string{
		"lib": "usr/lib", "bin": "usr/bin", "lib64/ld-linux-x86-64.so.2": "/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2",
		"usr/bin/python3": "python3.11", "usr/bin/java": "/etc/alternatives/java", "etc/alternatives/java": "/usr/lib/jvm/java-17/bin/java",
		"usr/share/doc/y": "x", "opt/link": "../usr/share/empty/../../lib/x86_64-linux-gnu", "loop": "loop", "dangling": "none",
	} {
		if err := os.Symlink(target, at(name)); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.Command("ldconfig", "-r", root, "-X").CombinedOutput(); err != nil {
		t.Fatalf("ldconfig: %v\n%s", err, out)
	}
	return root
}

// An index tells what its root would.
func TestIndexAndLive(t *testing.T) {
	t.Parallel()
	root := madeRoot(t)
	src := folderSource(t, root)
	src.Packages = []Package{{Name: "b", Version: "1:2-3", Architecture: "amd64", Provides: []string{"z (= 1)", "a"}}, {Name: "a", Version: "1", Architecture: "all"}}
	c := chunks{}
	text, err := Build(t.Context(), src, nil, c.emit)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s", text)
	x, err := Open(text, "x86-64-v2", c.load)
	if err != nil {
		t.Fatal(err)
	}
	live, err := OpenLive(root, LiveOptions{CPU: "x86-64-v2", Packages: func() []Package { return x.packages },
		Owner: func(p string) string { return src.Owner(p[1:]) }})
	if err != nil {
		t.Fatal(err)
	}
	defer live.Close()
	paths := []string{"/", "/bin/sh", "/opt/link/libc.so.6", "/opt/empty/../link/../lib/libhere.so.1", "/loop", "/dangling",
		"/opt/empty/deep/../../app/code", "/lib/folder.so.1", "//lib/./x86_64-linux-gnu//libm.so.6", "/none/../lib/x86_64-linux-gnu/libc.so.6"}
	for _, f := range src.Files {
		if f.Type == snapshot.Regular && isNamed(f) || f.Type == snapshot.Symlink && f.Path != "usr/share/doc/y" {
			paths = append(paths, "/"+f.Path)
		}
	}
	for _, p := range paths {
		sameFile(t, p, x, live)
	}
	if f, ok := x.Find("/opt/app/code"); !ok {
		t.Error("a library without a library's name is missing")
	} else if _, err := f.Object(); err != nil {
		t.Errorf("a library without a library's name: %v", err)
	}
	for _, p := range []string{"/usr/share/doc/x/README", "/usr/share/doc/y", "/usr/share/empty", "/usr/lib/python3.11/os.py"} {
		if f, ok := x.Find(p); ok {
			t.Errorf("the index has %+v", f)
		}
	}
	if got, want := x.Loaders(), live.Loaders(); len(got) != 1 || !reflect.DeepEqual(got, want) {
		t.Errorf("loaders %+v and %+v", got, want)
	}
	l, _ := x.Loader("/lib64/ld-linux-x86-64.so.2")
	if l == nil || !slices.Equal(l.Preload, []string{"/lib/libpre.so", "/lib/two.so", "three.so"}) || !slices.Equal(l.HWCaps, []string{"x86-64-v2"}) {
		t.Errorf("%+v", l)
	}
	if !reflect.DeepEqual(x.Facts(), live.Facts()) {
		t.Errorf("facts %+v and %+v", x.Facts(), live.Facts())
	}
	want := []Interpreter{{Language: "java", Path: "/usr/lib/jvm/java-17/bin/java", Version: "17.0.9", ABI: []string{"61"}},
		{Language: "python", Path: "/usr/bin/python3.11", Version: "3.11", ABI: []string{"abi3", "cpython-311-x86_64-linux-gnu"},
			Dirs: []string{"/usr/lib/python3.11", "/usr/lib/python3.11/lib-dynload", "/usr/lib/python3/dist-packages"}}}
	if got := x.Facts().Interpreters; !reflect.DeepEqual(got, want) {
		t.Errorf("interpreters %+v", got)
	}
	if got := x.Facts().NSS; !slices.Equal(got, []string{"dns", "files", "systemd"}) {
		t.Errorf("services %q", got)
	}
	for _, name := range []string{"libhere.so.1", "libm.so.6", "libnone.so"} {
		if got, want := x.Cached(name), live.Cached(name); !slices.Equal(got, want) || (len(want) == 0) != (name == "libnone.so") {
			t.Errorf("Cached(%s): %+v and %+v", name, got, want)
		}
	}
}

func sameFile(t *testing.T, p string, x *Index, live *Live) {
	t.Helper()
	got, ok := x.Find(p)
	want, found := live.Find(p)
	if ok != found || got.Path != want.Path || got.Dir != want.Dir || got.Executable != want.Executable || got.Package != want.Package {
		t.Errorf("Find(%q): %+v, %v and %+v, %v", p, got, ok, want, found)
		return
	}
	if !ok || got.Dir {
		return
	}
	if got.Script() != want.Script() {
		t.Errorf("%q: script %q and %q", p, got.Script(), want.Script())
	}
	o, err := got.Object()
	o2, err2 := want.Object()
	if !reflect.DeepEqual(err, err2) {
		t.Errorf("%q: %v and %v", p, err, err2)
	} else if err == nil && !bytes.Equal(o.AppendRecord(nil), o2.AppendRecord(nil)) {
		t.Errorf("%q: the objects differ", p)
	}
}

// musl is its own loader, and reads its folders from a file.
func TestMusl(t *testing.T) {
	t.Parallel()
	libc, err := os.ReadFile("/lib/ld-musl-x86_64.so.1")
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		file string
		want []string
	}{
		"its own folders": {"", []string{"/lib", "/usr/local/lib", "/usr/lib"}},
		"a file":          {"/lib/x86_64-linux-musl:/opt/lib/\n/usr/lib\n", []string{"/lib/x86_64-linux-musl", "/opt/lib", "/usr/lib"}},
		"an empty file":   {"\n", nil},
	} {
		root := t.TempDir()
		for _, dir := range []string{"usr/lib/x86_64-linux-musl", "etc"} {
			if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		err := errors.Join(os.WriteFile(filepath.Join(root, "usr/lib/x86_64-linux-musl/libc.so"), libc, 0o755),
			os.Symlink("usr/lib", filepath.Join(root, "lib")),
			os.Symlink("x86_64-linux-musl/libc.so", filepath.Join(root, "usr/lib/ld-musl-x86_64.so.1")))
		if err == nil && c.file != "" {
			err = os.WriteFile(filepath.Join(root, "etc/ld-musl-x86_64.path"), []byte(c.file), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
		made := chunks{}
		text, err := Build(t.Context(), folderSource(t, root), nil, made.emit)
		if err != nil {
			t.Fatal(err)
		}
		x, err := Open(text, "x86-64-v3", made.load)
		if err != nil {
			t.Fatal(err)
		}
		live, err := OpenLive(root, LiveOptions{CPU: "x86-64-v3"})
		if err != nil {
			t.Fatal(err)
		}
		defer live.Close()
		l, ok := x.Loader("/lib/ld-musl-x86_64.so.1")
		if !ok || l.Family != Musl || !strings.HasPrefix(l.Version, "1.") || !slices.Equal(l.SystemDirs, c.want) || l.HWCaps != nil {
			t.Errorf("%s: %+v", name, l)
		}
		if got := live.Loaders(); !reflect.DeepEqual(got, x.Loaders()) {
			t.Errorf("%s: live %+v", name, got[0])
		}
	}
}

// The same root gives the same index, in whatever order its files come and whatever is
// known of them; and an object that is known isn't read.
func TestBuildAgain(t *testing.T) {
	t.Parallel()
	src := folderSource(t, madeRoot(t))
	c := chunks{}
	text, err := Build(t.Context(), src, nil, c.emit)
	if err != nil {
		t.Fatal(err)
	}
	x, err := Open(text, "", c.load)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := Chunks(text); err != nil || len(got) != len(c) {
		t.Errorf("Chunks = %q, %v; want %d", got, err, len(c))
	}
	again := src
	again.Files = slices.Clone(src.Files)
	slices.Reverse(again.Files)
	again.Files = slices.DeleteFunc(again.Files, func(f snapshot.File) bool { return !Wants(f) })
	var mu sync.Mutex
	opened := map[string]bool{}
	again.Open = func(ctx context.Context, f snapshot.File) (Content, error) {
		mu.Lock()
		defer mu.Unlock()
		opened["/"+f.Path] = true
		return src.Open(ctx, f)
	}
	c2 := chunks{}
	text2, err := Build(t.Context(), again, x.Known, c2.emit)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(text, text2) || !reflect.DeepEqual(c, c2) {
		t.Errorf("another index:\n%s\nand\n%s", text, text2)
	}
	for p := range opened {
		if f, ok := x.Find(p); ok {
			if o, _ := f.Object(); o != nil {
				t.Errorf("%s was read again", p)
			}
		}
	}
}

// What load gives for a chunk is told as it is, and nothing that doesn't belong is taken.
func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	digest := strings.Repeat("ab", 32)
	for text, want := range map[string]string{
		"":                                "is a format",
		"index2\n":                        "is a format",
		"index1\nx":                       "its end",
		"index1\nwhat a b\n":              "of a kind",
		"index1\nx /a - zz\n":             "no digest",
		"index1\nx a - " + digest + "\n":  "absolute path",
		"index1\no /a - " + digest + "\n": "its chunks lack",
		"index1\nchunk " + digest + " 2\no /a - " + digest + "\n": "records of other",
		"index1\nb /a - text -\nb /a - text -\n":                  "there twice",
		"index1\nb /a - what -\n":                                 "says not why",
		"index1\nb /a - text - -\n":                               "too many fields",
		"index1\nb /a - text\n":                                   "fields are missing",
		"index1\nnss a\\x2\n":                                     "spelled wrongly",
	} {
		if _, err := Open([]byte(text), "", nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
	for _, chunk := range []string{"", "5\nabc", "x\n", "3\nabcd", "99999999999\n"} {
		x, err := Open([]byte("index1\nchunk "+digest+" 1\nx /a - "+digest+"\n"), "", func(string) ([]byte, error) { return []byte(chunk), nil })
		if err != nil {
			t.Fatal(err)
		}
		f, _ := x.Find("/a")
		var broken *object.Error
		if _, err := f.Object(); err == nil || errors.As(err, &broken) {
			t.Errorf("the chunk %q: %v", chunk, err)
		}
	}
}

func FuzzOpen(f *testing.F) {
	c := chunks{}
	text, err := Build(f.Context(), folderSource(f, madeRoot(f)), nil, c.emit)
	if err != nil {
		f.Fatal(err)
	}
	for _, chunk := range c {
		f.Add(text, chunk[:min(len(chunk), 2000)])
	}
	f.Fuzz(func(t *testing.T, text, chunk []byte) {
		x, err := Open(text, "x86-64-v3", func(string) ([]byte, error) { return chunk, nil })
		if err != nil {
			return
		}
		if _, err := Chunks(text); err != nil {
			t.Errorf("Chunks: %v", err)
		}
		for _, file := range x.files {
			if found, ok := x.Find(file.path); ok && !found.Dir {
				found.Object() //nolint:errcheck // it doesn't panic
				found.Script()
			}
		}
		for l := range x.links {
			x.Find(l)
		}
	})
}
