package system

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stead-env/stead/envs/artifact/object"
)

// The machine that tests run on, as its own loader tells it.
func TestLiveLoader(t *testing.T) {
	t.Parallel()
	live, err := OpenLive("/", LiveOptions{CPU: "x86-64-v3"})
	if err != nil {
		t.Fatal(err)
	}
	defer live.Close()
	sh, ok := live.Find("/bin/sh")
	if !ok || sh.Dir || !sh.Executable {
		t.Fatalf("Find(/bin/sh) = %+v, %v", sh, ok)
	}
	o, err := sh.Object()
	if err != nil {
		t.Fatal(err)
	}
	if again, _ := sh.Object(); again != o {
		t.Error("an object read twice is two")
	}
	l, ok := live.Loader(o.Interp)
	if !ok {
		t.Fatalf("Loader(%s): none", o.Interp)
	}
	if all := live.Loaders(); !slices.Contains(all, l) {
		t.Errorf("Loaders() = %v lack %s", all, l.Path)
	}
	out, err := exec.Command(o.Interp, "--list-diagnostics").Output()
	if err != nil {
		t.Fatal(err)
	}
	value := func(name string) string {
		m := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(name) + `="(.*)"$`).FindSubmatch(out)
		if m == nil {
			t.Fatalf("%s: no %s in:\n%s", o.Interp, name, out)
		}
		return string(m[1])
	}
	if l.Family != GLibC || l.Version != value("version.version") || l.Lib != value("dl_dst_lib") {
		t.Errorf("%+v", l)
	}
	var dirs []string
	for _, m := range regexp.MustCompile(`(?m)^path.system_dirs\[.*\]="(.*)/"$`).FindAllSubmatch(out, -1) {
		dirs = append(dirs, string(m[1]))
	}
	if !slices.Equal(l.SystemDirs, dirs) {
		t.Errorf("system folders %q, and its own word is %q", l.SystemDirs, dirs)
	}
	if want := strings.Split(value("dl_hwcaps_subdirs"), ":"); !slices.Equal(l.HWCaps, active(want, "x86-64-v3")) {
		t.Errorf("active %q of %q", l.HWCaps, want)
	}
}

// The machine's own cache, as ldconfig prints it.
func TestLiveCache(t *testing.T) {
	t.Parallel()
	live, err := OpenLive("/", LiveOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer live.Close()
	out, err := exec.Command("ldconfig", "-p").Output()
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, m := range regexp.MustCompile(`(?m)^\t(\S+) \(.*\) => (\S+)$`).FindAllSubmatch(out, -1) {
		n++
		entries := live.Cached(string(m[1]))
		if !slices.ContainsFunc(entries, func(e CacheEntry) bool { return e.Path == string(m[2]) }) {
			t.Errorf("Cached(%s) = %+v, and not %s", m[1], entries, m[2])
		}
	}
	if n == 0 || n != len(live.cache().entries) {
		t.Errorf("%d entries, and ldconfig has %d", len(live.cache().entries), n)
	}
	if got := live.Cached("libc.so.06"); !slices.Equal(got, live.Cached("libc.so.6")) {
		t.Errorf("a name with another zero: %v", got)
	}
}

func TestLiveLinks(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	for _, dir := range []string{"usr/lib/deep", "opt"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, target := range map[string]string{
		"lib": "usr/lib", "abs": "/usr/lib/deep", "up": "usr/lib/deep/../../lib/script", "out": "../../../../usr",
		"one": "two", "two": "one", "nowhere": "usr/none", "opt/script": "/abs/../script", "self": "self/x",
	} {
		if err := os.Symlink(target, filepath.Join(root, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(root, "usr/lib/script"), []byte("#! /bin/sh -e\nexit\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	live, err := OpenLive(root, LiveOptions{Owner: func(path string) string { return "of " + path }})
	if err != nil {
		t.Fatal(err)
	}
	defer live.Close()
	for range 2 {
		for path, want := range map[string]string{
			"/lib/script": "/usr/lib/script", "//lib//script": "/usr/lib/script", "/up": "/usr/lib/script",
			"/opt/script": "/usr/lib/script", "/abs/../script": "/usr/lib/script", "/out/lib/script": "/usr/lib/script",
			"/lib/../../../usr/./lib/script": "/usr/lib/script", "/lib/": "/usr/lib", "/": "/", "/..": "/",
			"/one": "", "/nowhere": "", "/self": "", "/lib/script/": "", "/lib/script/..": "", "lib": "", "": "", "/lib/none": "",
		} {
			f, ok := live.Find(path)
			if f.Path != want || ok != (want != "") {
				t.Errorf("Find(%s) = %q, %v; want %q", path, f.Path, ok, want)
			}
		}
	}
	f, _ := live.Find("/up")
	if f.Script() != "/bin/sh -e" || f.Package != "of /usr/lib/script" || !f.Executable {
		t.Errorf("%+v with %q", f, f.Script())
	}
	if _, err := f.Object(); err == nil {
		t.Error("a script is an object")
	}
}

// makeCache writes a cache in the old format, the new one, or both.
func makeCache(old, new bool, order binary.ByteOrder, names ...string) []byte {
	app := binary.AppendByteOrder(binary.LittleEndian)
	if order == binary.BigEndian {
		app = binary.BigEndian
	}
	var b []byte
	if old {
		b = append(append(b, oldMagic...), 0)
		b = app.AppendUint32(b, uint32(len(names)/2))
		for i := 0; i < len(names); i += 2 {
			at := 0
			for _, n := range names[:i] {
				at += len(n) + 1
			}
			b = app.AppendUint32(b, 3)
			b = app.AppendUint32(b, uint32(at))
			b = app.AppendUint32(b, uint32(at+len(names[i])+1))
		}
	}
	if !new {
		return append(b, strings.Join(names, "\x00")+"\x00"...)
	}
	for len(b)%8 != 0 {
		b = append(b, 0)
	}
	start := len(b)
	b = append(b, newMagic...)
	b = app.AppendUint32(b, uint32(len(names)/2))
	b = append(b, make([]byte, newHeader-24)...)
	at := newHeader + len(names)/2*newEntry
	for i := 0; i < len(names); i += 2 {
		b = app.AppendUint32(b, 0x303)
		b = app.AppendUint32(b, uint32(at))
		at += len(names[i]) + 1
		b = app.AppendUint32(b, uint32(at))
		at += len(names[i+1]) + 1
		b = app.AppendUint32(b, 0)
		hwcap := uint64(0)
		if i == 0 {
			hwcap = hwcapExtension << 32
		}
		b = app.AppendUint64(b, hwcap)
	}
	b = append(b, strings.Join(names, "\x00")+"\x00"...)
	ext := len(b)
	b = app.AppendUint32(b, extensionMagic)
	b = app.AppendUint32(b, 1)
	for _, n := range []uint32{extensionHWCaps, 0, uint32(ext + 24), 4, uint32(ext + 28)} {
		b = app.AppendUint32(b, n)
	}
	b = append(b, "x86-64-v3\x00"...)
	order.PutUint32(b[start+32:], uint32(ext))
	return b
}

func TestCacheFormats(t *testing.T) {
	t.Parallel()
	names := []string{"liba.so.1", "/hw/liba.so.1", "liba.so.1", "/lib/liba.so.1", "libb.so", "/lib/libb.so"}
	for name, data := range map[string][]byte{
		"old":          makeCache(true, false, binary.LittleEndian, names...),
		"new":          makeCache(false, true, binary.LittleEndian, names...),
		"both":         makeCache(true, true, binary.LittleEndian, names...),
		"other endian": makeCache(false, true, binary.BigEndian, names...),
	} {
		c, err := ParseCache(data)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		want := []CacheEntry{{Flags: 0x303, HWCap: "x86-64-v3", Path: "/hw/liba.so.1"}, {Flags: 0x303, Path: "/lib/liba.so.1"}}
		if name == "old" {
			want = []CacheEntry{{Flags: 3, Path: "/hw/liba.so.1"}, {Flags: 3, Path: "/lib/liba.so.1"}}
		}
		if got := c.Find("liba.so.1"); !slices.Equal(got, want) {
			t.Errorf("%s: %+v", name, got)
		}
	}
	for _, data := range []string{"", "ld.so-1.7.0", oldMagic + "\x00\xff\xff\xff\x7f", newMagic + strings.Repeat("\x7f", 28)} {
		if c, err := ParseCache([]byte(data)); err == nil {
			t.Errorf("%q is read as a cache: %+v", data, c)
		}
	}
}

func FuzzCache(f *testing.F) {
	for _, order := range []binary.ByteOrder{binary.LittleEndian, binary.BigEndian} {
		f.Add(makeCache(true, true, order, "liba.so.1", "/lib/liba.so.1"))
		f.Add(makeCache(false, true, order, "liba.so.1", "/lib/liba.so.1"))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := ParseCache(data)
		if err != nil {
			return
		}
		for i, name := range c.names {
			if !slices.Contains(c.Find(name), c.entries[i]) {
				t.Errorf("Find(%q) lacks %+v", name, c.entries[i])
			}
		}
	})
}

func FuzzBuiltin(f *testing.F) {
	glibc := &object.Object{Type: elf.ET_DYN, Dynamic: true, Soname: "ld-linux.so.2"}
	f.Add([]byte("\x00/lib64/\x00/usr/lib64/\x00ld.so (GNU libc) stable release version 2.40.\nx\x00x86-64-v4:x86-64-v3:x86-64-v2\x00"))
	f.Add([]byte("\x001.2.4_git20230717\x00%.*s/etc/ld-musl-x86_64.path\x00/lib:/usr/lib\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		b, err := readBuiltin(glibc, bytes.NewReader(data), int64(len(data)))
		if err != nil {
			t.Fatal(err)
		}
		for _, in := range []builtin{b, muslBuiltin(data)} {
			entry := append(appendBuiltin(nil, in), "rest"...)
			again, rest, err := splitRecord(entry)
			if err != nil || string(rest) != "rest" || !reflect.DeepEqual(again, in) {
				t.Errorf("%q, %q, %v instead of %q", again, rest, err, in)
			}
		}
	})
}

func FuzzConfiguration(f *testing.F) {
	f.Add("/lib/a.so b.so:c.so # d\n")
	f.Add("passwd: files [NOTFOUND=return] sss\n")
	f.Fuzz(func(t *testing.T, content string) {
		for _, list := range [][]string{preloaded(content), services(content), splitDirs(content, ":\n")} {
			if again, err := unlisted(listed(list)); err != nil || !slices.Equal(again, list) {
				t.Errorf("%q is written as %q", list, again)
			}
		}
	})
}

// What lies in a folder of its own is found by its name, as an index finds it: a verdict
// for a root is that for its index.
func TestLiveNamed(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	for _, name := range []string{"opt/app/lib/liba.so.1", "opt/app/lib/libb.so", "usr/lib/jvm/lib/liba.so.1", "usr/share/liba.so.1"} {
		if err := os.MkdirAll(filepath.Join(root, filepath.Dir(name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("usr/lib", filepath.Join(root, "lib")); err != nil {
		t.Fatal(err)
	}
	live, err := OpenLive(root, LiveOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer live.Close()
	for prefix, want := range map[string][]string{
		"liba.so": {"/opt/app/lib/liba.so.1", "/usr/lib/jvm/lib/liba.so.1"}, "libb.so": {"/opt/app/lib/libb.so"}, "libc.so": nil,
	} {
		if got := live.Named(prefix); !slices.Equal(got, want) {
			t.Errorf("Named(%s) = %q, want %q", prefix, got, want)
		}
	}
}

func TestNoCacheHasNoFolders(t *testing.T) {
	l, err := OpenLive(t.TempDir(), LiveOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if dirs := l.CacheDirs(); len(dirs) > 0 {
		t.Errorf("got %v", dirs)
	}
	if dirs := (&Index{}).CacheDirs(); len(dirs) > 0 {
		t.Errorf("got %v", dirs)
	}
}
