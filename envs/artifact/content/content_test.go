package content

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// elf begins as a program does; what comes after is told apart by a test.
func elf(size int) []byte {
	return append([]byte("\x7fELF"), bytes.Repeat([]byte("0123456789abcdef"), size/16)...)
}

// walked is what Walk told, as lines: a set's "= FORMAT AT", a file's "TYPE MODE PATH".
type walked struct {
	lines  []string
	sets   []*Set
	bodies map[string][]byte // of ELF files, by path
	heads  map[string][]byte
}

func walkIt(t *testing.T, path string, o Options) *walked {
	t.Helper()
	w, err := tryWalk(path, o)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func tryWalk(path string, o Options) (*walked, error) {
	w := &walked{bodies: map[string][]byte{}, heads: map[string][]byte{}}
	var mu sync.Mutex
	err := Walk(context.Background(), path, o, func(s *Set, f *File) error {
		mu.Lock()
		defer mu.Unlock()
		if f == nil {
			w.lines, w.sets = append(w.lines, fmt.Sprintf("= %s %s", s.Format, s.At)), append(w.sets, s)
			return nil
		}
		line := fmt.Sprintf("%s %04o %s", f.Type, f.Mode.Perm(), f.Path)
		switch f.Type {
		case Link, HardLink:
			line = fmt.Sprintf("%s %s → %s", f.Type, f.Path, f.Target)
		case Regular:
			line += fmt.Sprintf(" %d", f.Size)
			w.heads[f.Path] = bytes.Clone(f.Head)
		}
		w.lines = append(w.lines, line)
		if f.Content != nil {
			body, err := io.ReadAll(io.NewSectionReader(f.Content, 0, 1<<40))
			if err != nil {
				return err
			}
			w.bodies[f.Path] = body
		}
		return nil
	})
	return w, err
}

func (w *walked) is(t *testing.T, want ...string) {
	t.Helper()
	if !slices.Equal(w.lines, want) {
		t.Errorf("it has\n%s\nnot\n%s", strings.Join(w.lines, "\n"), strings.Join(want, "\n"))
	}
	for _, s := range w.sets {
		if s.Broken != nil {
			t.Errorf("%s is broken: %v", s.Name, s.Broken)
		}
	}
}

// tree makes files below a new folder: "path" of a file, "path/" of a folder,
// "path→target" of a link.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		name, target, link := strings.Cut(name, "→")
		p := filepath.Join(dir, name)
		err := os.MkdirAll(filepath.Dir(p), 0o755)
		switch {
		case err != nil:
		case link:
			err = os.Symlink(target, p)
		case strings.HasSuffix(name, "/"):
			err = os.MkdirAll(p, 0o755)
		default:
			err = os.WriteFile(p, []byte(content), 0o755)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func command(t *testing.T, dir, name string, args ...string) {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "SOURCE_DATE_EPOCH=1700000000")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}

func TestFile(t *testing.T) {
	t.Parallel()
	dir := tree(t, map[string]string{"app": string(elf(10_000)), "link→app": "", "run.sh": "#!/bin/sh\n", "empty": ""})
	w := walkIt(t, filepath.Join(dir, "app"), Options{})
	w.is(t, "= file /.stead-artifact", "file 0755 /.stead-artifact/app 10004")
	if !bytes.Equal(w.bodies["/.stead-artifact/app"], elf(10_000)) {
		t.Error("its content is another")
	}
	walkIt(t, filepath.Join(dir, "link"), Options{At: "/usr/bin"}).is(t, "= file /usr/bin", "file 0755 /usr/bin/link 10004")
	w = walkIt(t, filepath.Join(dir, "run.sh"), Options{})
	if string(w.heads["/.stead-artifact/run.sh"]) != "#!/bin/sh\n" || len(w.bodies) != 0 {
		t.Errorf("head of a script: %q", w.heads)
	}
	walkIt(t, filepath.Join(dir, "empty"), Options{}).is(t, "= file /.stead-artifact", "file 0755 /.stead-artifact/empty 0")
	if _, err := tryWalk(filepath.Join(dir, "none"), Options{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file that isn't there: %v", err)
	}
	if _, err := tryWalk("/dev/null", Options{}); err == nil || !strings.Contains(err.Error(), "neither a file nor a folder") {
		t.Errorf("a device: %v", err)
	}
}

func TestFolder(t *testing.T) {
	t.Parallel()
	dir := tree(t, map[string]string{"bin/app": string(elf(64)), "lib/libx.so.1": string(elf(64)), "lib/libx.so→libx.so.1": "",
		"out→/etc/passwd": "", "up→../..": "", "README": "read me\n"})
	if err := os.Chmod(filepath.Join(dir, "README"), 0o644); err != nil {
		t.Fatal(err)
	}
	command(t, dir, "mkfifo", "pipe")
	want := []string{"= folder /opt/app",
		"file 0644 /opt/app/README 8", "file 0755 /opt/app/bin/app 68", "file 0755 /opt/app/lib/libx.so.1 68",
		"folder 0755 /opt/app/bin", "folder 0755 /opt/app/lib",
		"link /opt/app/lib/libx.so → libx.so.1", "link /opt/app/out → /etc/passwd", "link /opt/app/up → ../..", "other 0644 /opt/app/pipe"}
	for _, workers := range []int{0, 4} {
		w := walkIt(t, dir, Options{At: "/opt/app", Workers: workers})
		slices.Sort(w.lines)
		w.is(t, want...)
	}
}

func TestWalkStops(t *testing.T) {
	t.Parallel()
	dir := tree(t, map[string]string{"a": "1", "b": "2", "c/d": "3"})
	command(t, dir, "tar", "cf", "x.tar", "a", "b", "c")
	enough := errors.New("enough")
	for _, path := range []string{dir, filepath.Join(dir, "a"), filepath.Join(dir, "x.tar")} {
		for files := range 2 {
			err := Walk(t.Context(), path, Options{Workers: 2}, func(_ *Set, f *File) error {
				if f == nil && files == 1 {
					return nil
				}
				return enough
			})
			if err != enough {
				t.Errorf("%s: %v", path, err)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := Walk(ctx, path, Options{}, func(*Set, *File) error { return nil }); !errors.Is(err, context.Canceled) {
			t.Errorf("%s, canceled: %v", path, err)
		}
	}
}

func TestTar(t *testing.T) {
	t.Parallel()
	dir := tree(t, map[string]string{"app-1.0/bin/app": string(elf(100_000)), "app-1.0/lib/libx.so→libx.so.1": "", "app-1.0/lib/libx.so.1": string(elf(32))})
	if err := os.Link(filepath.Join(dir, "app-1.0/bin/app"), filepath.Join(dir, "app-1.0/bin/app2")); err != nil {
		t.Fatal(err)
	}
	for ext, flag := range map[string]string{"tar": "", "tar.gz": "-z", "tgz": "-z", "tar.xz": "-J", "tar.zst": "--zstd", "tar.bz2": "-j", "tar.lzma": "--lzma"} {
		args := []string{"c", "--sort=name", "-f", "a." + ext, "app-1.0"}
		if flag != "" {
			args = slices.Insert(args, 1, flag)
		}
		args[0] = "-c"
		command(t, dir, "tar", args...)
		w := walkIt(t, filepath.Join(dir, "a."+ext), Options{})
		at := DefaultAt + "/app-1.0"
		w.is(t, "= tar "+DefaultAt, "folder 0755 "+at, "folder 0755 "+at+"/bin", "file 0755 "+at+"/bin/app 100004",
			"hard link "+at+"/bin/app2 → "+at+"/bin/app", "folder 0755 "+at+"/lib",
			"link "+at+"/lib/libx.so → libx.so.1", "file 0755 "+at+"/lib/libx.so.1 36")
		if !bytes.Equal(w.bodies[at+"/bin/app"], elf(100_000)) {
			t.Errorf("%s: its content is another", ext)
		}
	}
}

// A tar file of a root's folders is unpacked at the root, unless --at says otherwise.
func TestTarPlaces(t *testing.T) {
	t.Parallel()
	dir := tree(t, map[string]string{"usr/bin/app": string(elf(64)), "etc/app.conf": "", "bin/app": string(elf(64))})
	for _, c := range []struct{ names, options, at string }{
		{"./usr ./etc", "", "/"}, {"usr", "/opt", "/opt"}, {"bin", "", DefaultAt}, {"usr bin", "", "/"},
		{"usr ../" + filepath.Base(dir) + "/etc", "", DefaultAt},
	} {
		name := filepath.Join(dir, "x.tar.gz")
		command(t, dir, "tar", append([]string{"-czf", name}, strings.Fields(c.names)...)...)
		w := walkIt(t, name, Options{At: c.options})
		if w.sets[0].At != c.at {
			t.Errorf("tar of %s: files lie at %s", c.names, w.sets[0].At)
		}
	}
	name := filepath.Join(dir, "x.zip")
	makeZip(t, name, zipped{"usr/bin/app", 0o755, elf(64)})
	walkIt(t, name, Options{}).is(t, "= zip /", "file 0755 /usr/bin/app 68")
}

type zipped struct {
	name string
	mode fs.FileMode
	body []byte
}

func makeZip(t testing.TB, name string, files ...zipped) {
	t.Helper()
	if err := os.WriteFile(name, zipBytes(t, files...), 0o644); err != nil {
		t.Fatal(err)
	}
}

func zipBytes(t testing.TB, files ...zipped) []byte {
	t.Helper()
	var buf bytes.Buffer
	z := zip.NewWriter(&buf)
	for _, f := range files {
		h := &zip.FileHeader{Name: f.name, Method: zip.Deflate}
		h.SetMode(f.mode)
		w, err := z.CreateHeader(h)
		if err == nil {
			_, err = w.Write(f.body)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

var wheelFiles = []zipped{
	{"app/__init__.py", 0o644, []byte("import app._fast\n")},
	{"app/_fast.cpython-311-x86_64-linux-gnu.so", 0o755, elf(64)},
	{"app.libs/libz-1.so", 0o755, elf(32)},
	{"app-1.2.data/scripts/app", 0o755, []byte("#!python\n")},
	{"app-1.2.data/platlib/top.so", 0o755, elf(16)},
	{"app-1.2.dist-info/METADATA", 0o644, []byte("Metadata-Version: 2.1\nName: app\nVersion: 1.2\nRequires-Python: >=3.8\n" +
		"Requires-Dist: numpy>=1.2\nRequires-Dist: fast; extra == 'fast'\n\nThis is: no header\n")},
	{"app-1.2.dist-info/WHEEL", 0o644, []byte("Wheel-Version: 1.0\r\nTag: cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64\r\nTag: py3-none-any\r\n")},
}

func TestWheel(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "app-1.2-cp311-cp311-manylinux_2_17_x86_64.whl")
	makeZip(t, name, wheelFiles...)
	w := walkIt(t, name, Options{})
	at := DefaultAt + "/"
	w.is(t, "= wheel "+DefaultAt, "file 0644 "+at+"app/__init__.py 17", "file 0755 "+at+"app/_fast.cpython-311-x86_64-linux-gnu.so 68",
		"file 0755 "+at+"app.libs/libz-1.so 36", "file 0755 "+at+"bin/app 9", "file 0755 "+at+"top.so 20",
		fmt.Sprintf("file 0644 %sapp-1.2.dist-info/METADATA %d", at, len(wheelFiles[5].body)),
		fmt.Sprintf("file 0644 %sapp-1.2.dist-info/WHEEL %d", at, len(wheelFiles[6].body)))
	p := w.sets[0].Package
	if p.Name != "app" || p.Version != "1.2" || p.Python != ">=3.8" || fmt.Sprint(p.Depends) != "[numpy>=1.2 fast; extra == 'fast']" ||
		fmt.Sprint(p.Tags) != "[cp311-cp311-manylinux_2_17_x86_64 cp311-cp311-manylinux2014_x86_64 py3-none-any]" {
		t.Errorf("the wheel says %+v", p)
	}
	if string(w.bodies[at+"app.libs/libz-1.so"]) != string(elf(32)) {
		t.Error("its library is another")
	}
	makeZip(t, name, wheelFiles[:6]...)
	w = walkIt(t, name, Options{})
	if w.sets[0].Broken == nil || !strings.Contains(w.sets[0].Broken.Error(), "WHEEL") {
		t.Errorf("a wheel without WHEEL: %v", w.sets[0].Broken)
	}
}

// Archives within others are sets of their own; what a package holds is its data, but for
// jars.
func TestNested(t *testing.T) {
	t.Parallel()
	class := append([]byte("\xca\xfe\xba\xbe\x00\x00\x00\x3d"), bytes.Repeat([]byte{0}, 100)...)
	jar := zipBytes(t, zipped{"com/App.class", 0o644, class}, zipped{"lib/in.jar", 0o644, zipBytes(t, zipped{"In.class", 0o644, class})})
	dir := tree(t, map[string]string{"dist/lib/app.whl": string(zipBytes(t, wheelFiles...)), "dist/app.jar": string(jar), "dist/bad.zip": "no zip"})
	command(t, dir, "tar", "--sort=name", "-czf", "d.tar.gz", "dist")
	w := walkIt(t, filepath.Join(dir, "d.tar.gz"), Options{})
	at := DefaultAt + "/dist/"
	var sets []string
	for _, s := range w.sets {
		sets = append(sets, fmt.Sprintf("%s %s %s %t", s.Format, s.At, strings.TrimPrefix(s.Name, dir+"/"), s.Broken != nil))
	}
	want := []string{"tar " + DefaultAt + " d.tar.gz false", "jar " + at + "app.jar! d.tar.gz: dist/app.jar false",
		"jar " + at + "app.jar!/lib/in.jar! d.tar.gz: dist/app.jar: lib/in.jar false",
		"zip " + at + "bad.zip! d.tar.gz: dist/bad.zip true", "wheel " + at + "lib/app.whl! d.tar.gz: dist/lib/app.whl false"}
	if !slices.Equal(sets, want) {
		t.Errorf("the sets are\n%s\nnot\n%s", strings.Join(sets, "\n"), strings.Join(want, "\n"))
	}
	if !bytes.Equal(w.heads[at+"app.jar!/lib/in.jar!/In.class"], class) {
		t.Error("the class in the inner jar is another")
	}
	if w.sets[2].Within != w.sets[1] || w.sets[1].Within != w.sets[0] {
		t.Error("sets don't know where they are")
	}
}

func TestSealed(t *testing.T) {
	t.Parallel()
	inner := []byte("PK: the innermost")
	for range 4 {
		inner = zipBytes(t, zipped{"x.jar", 0o644, inner})
	}
	name := filepath.Join(t.TempDir(), "x.jar")
	if err := os.WriteFile(name, inner, 0o644); err != nil {
		t.Fatal(err)
	}
	var sealed []string
	err := Walk(t.Context(), name, Options{}, func(s *Set, f *File) error {
		if f != nil && f.Sealed {
			sealed = append(sealed, f.Path)
		}
		return nil
	})
	if err != nil || fmt.Sprint(sealed) != "["+DefaultAt+"/x.jar!/x.jar!/x.jar!/x.jar]" {
		t.Errorf("sealed: %v, %v", sealed, err)
	}
}

// What is large goes through a temporary file, and comes out as it was.
func TestLarge(t *testing.T) {
	t.Parallel()
	dir := tree(t, map[string]string{"app": string(elf(maxHeld + 100_000))})
	command(t, dir, "tar", "-czf", "a.tgz", "app")
	spool := t.TempDir()
	w := walkIt(t, filepath.Join(dir, "a.tgz"), Options{Spool: spool})
	if !bytes.Equal(w.bodies[DefaultAt+"/app"], elf(maxHeld+100_000)) {
		t.Error("its content is another")
	}
	if left, err := os.ReadDir(spool); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	if _, err := tryWalk(filepath.Join(dir, "a.tgz"), Options{Spool: filepath.Join(dir, "none")}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without a folder for temporary files: %v", err)
	}
}

// tarOf is a tar file of one entry, and what else a header says.
func tarOf(t testing.TB, headers ...*tar.Header) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, h := range headers {
		err := w.WriteHeader(h)
		if err == nil {
			_, err = w.Write(make([]byte, h.Size))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func TestHostile(t *testing.T) {
	t.Parallel()
	dir := tree(t, map[string]string{"zeros": ""})
	if err := os.Truncate(filepath.Join(dir, "zeros"), 64<<20); err != nil {
		t.Fatal(err)
	}
	command(t, dir, "tar", "-cJf", "bomb.tar.xz", "zeros")
	command(t, dir, "tar", "-czf", "cut.tar.gz", "zeros")
	if err := os.Truncate(filepath.Join(dir, "cut.tar.gz"), 30_000); err != nil {
		t.Fatal(err)
	}
	wheel := zipBytes(t, wheelFiles...)
	encrypted := zipBytes(t, zipped{"a.so", 0o755, elf(64)})
	encrypted[bytes.Index(encrypted, []byte("PK\x01\x02"))+8] |= 1
	many := bytes.Clone(wheel)
	many = append(many[:len(many)-22], append(zip64End(uint64(len(many)-22), 1<<40), many[len(many)-22:]...)...)
	for name, body := range map[string][]byte{
		"up.tar": tarOf(t, &tar.Header{Name: "usr/../../etc/passwd", Typeflag: tar.TypeReg}), "empty.tar": {}, "no.tar": []byte("no tar file at all"),
		"uplink.tar": tarOf(t, &tar.Header{Name: "x", Linkname: "../../etc/passwd", Typeflag: tar.TypeLink}),
		"up.zip":     zipBytes(t, zipped{"../x", 0o755, nil}), "no.zip": []byte("PK\x03\x04"), "encrypted.zip": encrypted,
		"cut.whl": wheel[:len(wheel)-100], "many.zip": many, "crc.zip": bytes.Replace(wheel, wheel[50:54], []byte("abcd"), 1),
		"no.deb": []byte("!<arch>\n"), "no.rpm": []byte(rpmMagic), "text.deb": []byte("text"), "text.rpm": []byte("text"),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), body, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]string{
		"bomb.tar.xz": "more than 1048576 bytes come out of it", "cut.tar.gz": "come out of it", "up.tar": "leads out of it", "uplink.tar": "leads out of it",
		"empty.tar": "it is empty", "no.tar": "EOF", "up.zip": "leads out of it", "no.zip": "not a valid zip file", "encrypted.zip": "encrypted",
		"cut.whl": "not a valid zip file", "many.zip": "more than 400000 entries", "crc.zip": "app/__init__.py: zip: checksum error",
		"no.deb": "cut off", "no.rpm": "magic number is missing", "text.deb": "the ar magic is missing", "text.rpm": "the magic number is missing",
	} {
		w, err := tryWalk(filepath.Join(dir, name), Options{MaxBytes: 1 << 20})
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if got := w.sets[0].Broken; got == nil || !strings.Contains(got.Error(), want) {
			t.Errorf("%s is broken: %v", name, got)
		}
	}
	w, err := tryWalk(filepath.Join(dir, "up.tar"), Options{MaxEntries: 1})
	if err != nil || len(w.sets) != 1 {
		t.Errorf("a set is told of although nothing of it can be read: %v, %v", w.sets, err)
	}
}

// zip64End is a record of that many files, and what leads to it at its end.
func zip64End(at, files uint64) []byte {
	end := make([]byte, 76)
	copy(end, "PK\x06\x06")
	copy(end[56:], "PK\x06\x07")
	for i := range 8 {
		end[32+i] = byte(files >> (8 * i))
		end[64+i] = byte(at >> (8 * i))
	}
	return end
}
