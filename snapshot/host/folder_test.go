package host

import (
	"bufio"
	"bytes"
	"io/fs"
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

func open(t testing.TB, root string, skip ...string) *Dir {
	t.Helper()
	d, err := Folder(root, skip...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func TestConformance(t *testing.T) {
	hosttest.Run(t, func(t *testing.T, root string) snapshot.Host { return open(t, root) })
}

// A mounted disk is a folder, with more disks mounted below it.
func TestMountedDisksConform(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("mounting needs root")
	}
	hosttest.Run(t, func(t *testing.T, root string) snapshot.Host {
		if err := os.MkdirAll(filepath.Join(root, "boot/grub"), 0o755); err != nil {
			t.Fatal(err)
		}
		for _, dir := range []string{"usr", "boot", "etc"} {
			at, spare := filepath.Join(root, dir), t.TempDir()
			for _, name := range []string{"upper", "work"} {
				if err := os.Mkdir(filepath.Join(spare, name), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			// An overlay has a device number of its own, as a disk has.
			options := "lowerdir=" + at + ",upperdir=" + spare + "/upper,workdir=" + spare + "/work"
			if err := unix.Mount("stead-test", at, "overlay", 0, options); err != nil {
				t.Fatalf("mounting %s: %v", dir, err)
			}
			t.Cleanup(func() {
				if err := unix.Unmount(at, unix.MNT_DETACH); err != nil {
					t.Error(err)
				}
			})
		}
		d := open(t, root)
		var top, below unix.Stat_t
		if unix.Stat(root, &top) != nil || unix.Stat(filepath.Join(root, "usr"), &below) != nil || top.Dev == below.Dev {
			t.Fatal("usr is no disk of its own")
		}
		return d
	})
}

func TestLive(t *testing.T) {
	if l, err := open(t, t.TempDir()).Live(t.Context()); err != nil || !reflect.DeepEqual(l, snapshot.Live{}) {
		t.Errorf("a folder tells %+v, %v", l, err)
	}
	if l, err := open(t, "/").Live(t.Context()); err != nil || l.Kernel == "" ||
		!strings.HasPrefix(l.KernelVersion, "Linux version "+l.Kernel) || showsSymbols() != slices.Contains(l.SystemCalls, "openat") {
		t.Errorf("the running system tells %+v, %v", l, err)
	}
}

// showsSymbols reports whether this machine's kernel names its functions to us.
func showsSymbols() bool {
	text, err := os.ReadFile("/proc/kallsyms")
	return err == nil && bytes.Contains(text, []byte("sys_read"))
}

func TestFolderIsNone(t *testing.T) {
	for _, root := range []string{filepath.Join(t.TempDir(), "none"), "/dev/null"} {
		if d, err := Folder(root); err == nil {
			d.Close()
			t.Errorf("%s opened", root)
		}
	}
}

func TestSkip(t *testing.T) {
	root := t.TempDir()
	for _, d := range []string{"var/lib/store/trees", "var/lib/stored"} {
		if err := os.MkdirAll(filepath.Join(root, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("lib", filepath.Join(root, "var/link")); err != nil {
		t.Fatal(err)
	}
	d := open(t, root, filepath.Join(root, "var/link/store"), "/elsewhere")
	var got []string
	err := d.Files(t.Context(), ".", func(f snapshot.File, err error) error {
		got = append(got, f.Path)
		return err
	})
	if want := ". var var/lib var/lib/stored var/link"; err != nil || strings.Join(got, " ") != want {
		t.Errorf("got %q, %v, want %s", got, err, want)
	}
}

func TestPseudoFileSystems(t *testing.T) {
	d := open(t, "/")
	seen := map[string]bool{}
	err := d.Files(t.Context(), ".", func(f snapshot.File, err error) error {
		seen[f.Path] = true
		if strings.HasPrefix(f.Path, "proc/") || strings.HasPrefix(f.Path, "sys/") {
			t.Errorf("entered %s", f.Path)
		}
		if f.Type == snapshot.Dir && strings.Contains(f.Path, "/") {
			return fs.SkipDir
		}
		return nil
	})
	if err != nil || !seen["proc"] || !seen["etc"] {
		t.Error(err, "proc or etc is not reported")
	}
}

func TestTooDeep(t *testing.T) {
	root := t.TempDir()
	at, err := os.OpenRoot(root)
	if err != nil {
		t.Fatal(err)
	}
	for range maxDepth + 1 {
		if err := at.Mkdir("d", 0o755); err != nil {
			t.Fatal(err)
		}
		next, err := at.OpenRoot("d")
		at.Close()
		if err != nil {
			t.Fatal(err)
		}
		at = next
	}
	at.Close()
	n, bad := 0, 0
	err = open(t, root).Files(t.Context(), ".", func(f snapshot.File, err error) error {
		n++
		if err != nil {
			bad++
		}
		return nil
	})
	if err != nil || n != maxDepth+1 || bad != 1 {
		t.Errorf("%d folders, %d errors, %v", n, bad, err)
	}
}

func TestManyGroups(t *testing.T) {
	root := t.TempDir()
	for _, name := range []string{"a", "b"} {
		if err := os.WriteFile(filepath.Join(root, name+"1"), nil, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Link(filepath.Join(root, name+"1"), filepath.Join(root, name+"2")); err != nil {
			t.Fatal(err)
		}
	}
	d := open(t, root)
	link := map[string]string{}
	w := &walk{ctx: t.Context(), dir: d, links: &linker{open: map[inode]*linked{}, full: true}, buf: make([]byte, 1024),
		fn: func(f snapshot.File, err error) error { link[f.Path] = f.Link; return err }}
	if err := w.root(); err != nil {
		t.Fatal(err)
	}
	if link["a1"] == "" || link["a1"] != link["a2"] || link["a1"] == link["b1"] || link["b1"] != link["b2"] {
		t.Errorf("groups are %q", link)
	}
}

func TestCapabilityV2(t *testing.T) {
	v2 := "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00"
	for _, c := range []struct{ name, in, want string }{
		{"first form", "\x01\x00\x00\x01\x00\x20\x00\x00\x00\x00\x00\x00",
			"\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"},
		{"second form", v2, v2},
		{"third form", "\x01\x00\x00\x03" + v2[4:] + "\xe8\x03\x00\x00", v2},
		{"unknown form", "\x01\x00\x00\x09" + v2[4:], ""},
		{"wrong size", v2[:19], ""},
		{"empty", "", ""},
	} {
		got, err := capabilityV2(c.in)
		if got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%s: %q, %v", c.name, got, err)
		}
	}
}

func TestCPULevel(t *testing.T) {
	v2 := "flags\t\t: fpu cx8 cmov mmx fxsr sse sse2 syscall pni ssse3 cx16 sse4_1 sse4_2 popcnt lahf_lm"
	for in, want := range map[string]string{
		"processor\t: 0\n" + v2 + "\n":                                     "x86-64-v2",
		v2 + " avx avx2 bmi1 bmi2 f16c fma abm movbe xsave\nflags : fpu\n": "x86-64-v3",
		v2 + " avx512f avx512bw avx512cd avx512dq avx512vl":                "x86-64-v2",
		"flags : fpu cx8 cmov mmx fxsr sse sse2 syscall":                   "x86-64-v1",
		"Features\t: fp asimd evtstrm":                                     "",
		"":                                                                 "",
		v2 + " avx avx2 bmi1 bmi2 f16c fma abm movbe xsave avx512f avx512bw avx512cd avx512dq avx512vl": "x86-64-v4",
	} {
		if got := cpuLevel(bufio.NewScanner(strings.NewReader(in))); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

// BenchmarkFiles lists what every machine has.
func BenchmarkFiles(b *testing.B) {
	d := open(b, "/usr/lib")
	for b.Loop() {
		n := 0
		if err := d.Files(b.Context(), ".", func(snapshot.File, error) error { n++; return nil }); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(n), "files/op")
	}
}

func FuzzCapabilityV2(f *testing.F) {
	f.Add("\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00")
	f.Add("\x01\x00\x00\x01\x00\x20\x00\x00\x00\x00\x00\x00")
	f.Fuzz(func(t *testing.T, in string) {
		got, err := capabilityV2(in)
		if err != nil {
			return
		}
		if again, err := capabilityV2(got); err != nil || again != got || len(got) != 20 {
			t.Errorf("%q becomes %q, then %q, %v", in, got, again, err)
		}
	})
}
