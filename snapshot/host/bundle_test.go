package host

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stead-env/stead/snapshot"
	"github.com/stead-env/stead/snapshot/host/hosttest"
)

// free lets everything leave.
type free struct{}

func (free) Path(string, snapshot.Type) (snapshot.Class, string) { return "", "" }
func (free) Place(string, snapshot.Type, bool) (snapshot.Class, string, bool) {
	return snapshot.Made, "", false
}
func (free) Content(_ string, r io.Reader) (string, error) {
	_, err := io.Copy(io.Discard, r)
	return "", err
}
func (free) Stands(string, []byte, snapshot.Owners) ([]byte, string, bool) { return nil, "", false }
func (free) Version() string                                               { return "free" }

// everything makes a bundle of all of a host.
func everything(t testing.TB, h snapshot.Host) []byte {
	t.Helper()
	p, err := PlanBundle(context.Background(), h, BundleOptions{Rules: free{}, All: true, Maker: "test"})
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if _, err := p.Write(context.Background(), &b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func openBundle(t testing.TB, content []byte) *Bundle {
	t.Helper()
	name := filepath.Join(t.TempDir(), "test.bundle")
	if err := os.WriteFile(name, content, 0o600); err != nil {
		t.Fatal(err)
	}
	b, err := OpenBundle(context.Background(), name, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

func TestBundleConforms(t *testing.T) {
	hosttest.Run(t, func(t *testing.T, root string) snapshot.Host {
		return openBundle(t, everything(t, open(t, root)))
	})
}

// bundleMember is one of a made-up bundle.
type bundleMember struct{ name, content string }

func bundleOf(t testing.TB, members ...bundleMember) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, m := range members {
		err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: m.name, Size: int64(len(m.content)), Mode: 0o600})
		if err == nil {
			_, err = w.Write([]byte(m.content))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func record(fields ...string) string { return strings.Join(fields, "\x00") + "\x00" }

var (
	rootOf  = record("d", "755", "0", "0", "4096", "1.5", "1.5", "1", "2", "3", "", "")
	fileOf  = record("f", "644", "0", "0", "2", "-2.5000000000", "1", "1", "3", "1", "a", "")
	twice   = record("f", "644", "0", "0", "2", "1", "1", "1", "4", "2", "b", "") + record("f", "644", "0", "0", "2", "1", "1", "1", "4", "2", "c", "")
	header1 = "format 1\nmaker test\nkernel 6.1\nversion Linux version 6.1\ncall __x64_sys_read\ncall __x64_sys_write\n" +
		"call __x64_sys_execve\ncall __x64_sys_exit_group\nflags fpu\nkeep /srv/**\n"
)

const sumOfHi = "8f434346648f6b96df89dda901c5176b10a6d83961dd3c1ac88b59b2dc327aa4"

// whole is a bundle in which nothing is wrong.
func whole() []bundleMember {
	return []bundleMember{{memberHeader, header1}, {memberListing, rootOf + fileOf + twice}, {memberAttributes, ""},
		{memberLeft, record("state", "data", "srv", "3", "10")}, {"./a", "hi"}, {"./c", "hi"}, {memberUnlisted, record("root", "permission denied")},
		{memberUnreadable, ""}, {memberWithheld, ""}, {memberUnchanged, ""},
		{memberManifest, sumOfHi + "\t2\tin no package\ta\n" + sumOfHi + "\t2\tin no package\tc\n"}}
}

func TestBundleOfTheScript(t *testing.T) {
	b := openBundle(t, bundleOf(t, whole()...))
	if live, _ := b.Live(t.Context()); live.Kernel != "6.1" || live.KernelVersion != "Linux version 6.1" ||
		!slices.Equal(live.SystemCalls, []string{"execve", "exit_group", "read", "write"}) || !slices.Equal(b.Header.Keep, []string{"/srv/**"}) {
		t.Errorf("the header says %+v, %+v", live, b.Header)
	}
	if left := b.Summed(); len(left) != 1 || left[0].Files != 3 || left[0].Class != snapshot.State {
		t.Errorf("left is %+v", left)
	}
	failed := map[string]string{}
	err := b.Files(t.Context(), ".", func(f snapshot.File, err error) error {
		if err != nil {
			failed[f.Path] = err.Error()
		}
		if f.Path == "a" && f.MTime != -2 {
			t.Errorf("a is of second %d", f.MTime)
		}
		return nil
	})
	if err != nil || len(failed) != 1 || !strings.Contains(failed["root"], "permission denied") {
		t.Errorf("Files gives %v, %v", failed, err)
	}
	got := map[string]string{}
	err = b.Read(t.Context(), []string{"a", "b", "c", "d"}, func(p string, r io.Reader, err error) error {
		if err != nil {
			got[p] = "error"
			return nil
		}
		text, err := io.ReadAll(r)
		got[p] = string(text)
		return err
	})
	if want := map[string]string{"a": "hi", "b": "hi", "c": "hi", "d": "error"}; err != nil || !maps.Equal(got, want) {
		t.Errorf("Read gives %q, %v", got, err)
	}
}

// What is wrong with a bundle is told, and nothing is believed of it.
func TestBundleIsChecked(t *testing.T) {
	change := func(name string, change func(m []bundleMember) []bundleMember) {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "x")
			if err := os.WriteFile(file, bundleOf(t, change(whole())...), 0o600); err != nil {
				t.Fatal(err)
			}
			b, err := OpenBundle(t.Context(), file, t.TempDir())
			var damaged *DamagedError
			if err == nil {
				b.Close()
			}
			if !errors.As(err, &damaged) {
				t.Errorf("the error is %v", err)
			}
		})
	}
	set := func(i int, content string) func(m []bundleMember) []bundleMember {
		return func(m []bundleMember) []bundleMember { m[i].content = content; return m }
	}
	change("no manifest", func(m []bundleMember) []bundleMember { return m[:len(m)-1] })
	change("nothing", func([]bundleMember) []bundleMember { return nil })
	change("another format", set(0, "format 2\n"))
	change("out of order", func(m []bundleMember) []bundleMember { m[1], m[2] = m[2], m[1]; return m })
	change("twice", func(m []bundleMember) []bundleMember { return slices.Insert(m, 1, m[0]) })
	change("a content twice", func(m []bundleMember) []bundleMember { return slices.Insert(m, 4, m[4]) })
	change("an unknown member", func(m []bundleMember) []bundleMember { return slices.Insert(m, 1, bundleMember{"etc/passwd", ""}) })
	change("a way out", func(m []bundleMember) []bundleMember { m[4].name = "./../a"; return m })
	change("no record", set(1, rootOf+"f\x00644\x00"))
	change("a bad record", set(1, rootOf+strings.Replace(fileOf, "644", "99", 1)))
	change("no root", set(1, fileOf))
	change("no file of a content", set(1, rootOf+twice))
	change("a content that left unnamed", set(10, sumOfHi+"\t2\tx\ta\n"))
	change("a name without a content", set(10, whole()[10].content+sumOfHi+"\t2\tx\tz\n"))
	change("a bad line", set(10, "x\n"))
	change("bad sums", set(3, record("owned", "r", "p", "1", "1")))
	change("negative sums", set(3, record("state", "r", "p", "-1", "1")))
}

// A file that changed while the bundle was made is told of, and isn't used.
func TestBundleOfAChangingHost(t *testing.T) {
	m := whole()
	m[4].content = "ho"
	b := openBundle(t, bundleOf(t, m...))
	err := b.Read(t.Context(), []string{"a"}, func(_ string, _ io.Reader, err error) error { return err })
	if err == nil || !strings.Contains(err.Error(), "changed") {
		t.Errorf("the error is %v", err)
	}
}

func FuzzBundle(f *testing.F) {
	f.Add(bundleOf(f, whole()...))
	var small bytes.Buffer
	z := gzip.NewWriter(&small)
	z.Write(bundleOf(f, whole()...)) //nolint:errcheck // a buffer takes everything
	z.Close()                        //nolint:errcheck // as above
	f.Add(small.Bytes())
	f.Fuzz(func(t *testing.T, content []byte) {
		name := filepath.Join(t.TempDir(), "x")
		if err := os.WriteFile(name, content, 0o600); err != nil {
			t.Fatal(err)
		}
		b, err := OpenBundle(context.Background(), name, t.TempDir())
		if err != nil {
			return
		}
		defer b.Close()
		var paths []string
		err = b.Files(context.Background(), ".", func(f snapshot.File, err error) error {
			if err == nil && !snapshot.ValidPath(f.Path) {
				t.Errorf("path %q", f.Path)
			}
			paths = append(paths, f.Path)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		err = b.Read(context.Background(), paths, func(_ string, r io.Reader, err error) error {
			if err != nil {
				return nil
			}
			_, err = io.Copy(io.Discard, r)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	})
}
