package content

import (
	"archive/tar"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"
)

// fuzzed reads bytes as an archive of a format, and holds what comes of any to the rules.
func fuzzed(t *testing.T, format Format, data []byte) {
	o := Options{At: "/at", Spool: os.TempDir(), MaxEntries: 200, MaxBytes: 1 << 20, MaxMember: 1 << 20}
	sets, files := map[*Set]bool{}, int64(0)
	w := newWalk(o, func(s *Set, f *File) error {
		if f == nil {
			if sets[s] {
				t.Errorf("%s is told of twice", s.Name)
			}
			sets[s] = true
			return nil
		}
		if !sets[s] {
			t.Errorf("%s comes before its set", f.Path)
		}
		if files++; files > o.MaxEntries {
			t.Errorf("more than %d files", o.MaxEntries)
		}
		if f.Path != path.Clean(f.Path) || !strings.HasPrefix(f.Path, strings.TrimSuffix(s.At, "/")+"/") {
			t.Errorf("%q doesn't lie below %s", f.Path, s.At)
		}
		if f.ELF() != (f.Content != nil) || len(f.Head) > HeadBytes {
			t.Errorf("%q: %d bytes of head, content %v", f.Path, len(f.Head), f.Content)
		}
		return nil
	})
	set := &Set{Name: "fuzzed", Format: format}
	if err := w.archive(t.Context(), set, 1, io.NewSectionReader(bytes.NewReader(data), 0, int64(len(data)))); err != nil {
		t.Fatal(err)
	}
	if !sets[set] {
		t.Error("it isn't told of")
	}
}

func FuzzTar(f *testing.F) {
	plain := tarOf(f, &tar.Header{Name: "app", Typeflag: tar.TypeReg, Size: 100, Mode: 0o755},
		&tar.Header{Name: "l", Linkname: "app", Typeflag: tar.TypeSymlink}, &tar.Header{Name: "usr/h", Linkname: "app", Typeflag: tar.TypeLink},
		&tar.Header{Name: strings.Repeat("long/", 60), Typeflag: tar.TypeDir, Format: tar.FormatPAX})
	f.Add(plain)
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	z.Write(plain)
	z.Close()
	f.Add(packed.Bytes())
	f.Add(tarOf(f, &tar.Header{Name: "x", Linkname: "../../y", Typeflag: tar.TypeLink}))
	f.Fuzz(func(t *testing.T, data []byte) { fuzzed(t, Tar, data) })
}

func FuzzZip(f *testing.F) {
	f.Add(zipBytes(f, wheelFiles...), true)
	f.Add(zipBytes(f, zipped{"a.jar", 0o644, zipBytes(f, zipped{"b.so", 0o755, elf(16)})}, zipped{"link", fs.ModeSymlink | 0o777, []byte("a.jar")}), false)
	f.Add(zip64End(0, 1<<40), false)
	f.Fuzz(func(t *testing.T, data []byte, wheel bool) {
		format := Zip
		if wheel {
			format = Wheel
		}
		fuzzed(t, format, data)
	})
}

func FuzzDeb(f *testing.F) {
	dir := f.TempDir()
	write(f, filepath.Join(dir, "p/DEBIAN/control"), debControl)
	write(f, filepath.Join(dir, "p/usr/bin/app"), string(elf(64)))
	for _, how := range []string{"none", "xz"} {
		cmd := exec.Command("dpkg-deb", "--root-owner-group", "-Z"+how, "-b", "p", "p.deb")
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			f.Fatalf("dpkg-deb: %v\n%s", err, out)
		}
		data, err := os.ReadFile(filepath.Join(dir, "p.deb"))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) { fuzzed(t, Deb, data) })
}

func write(t testing.TB, name, content string) {
	t.Helper()
	err := os.MkdirAll(filepath.Dir(name), 0o755)
	if err == nil {
		err = os.WriteFile(name, []byte(content), 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// madeRPM is a package with a header of the tags given and an uncompressed payload.
func madeRPM(tagged []madeTag, payload string) []byte {
	var index, store bytes.Buffer
	for _, m := range tagged {
		binary.Write(&index, binary.BigEndian, [4]uint32{m.number, m.kind, uint32(store.Len()), m.count})
		store.Write(m.data)
	}
	header := func(index, store []byte) []byte {
		intro := binary.BigEndian.AppendUint32([]byte(rpmHeader+"\x00\x00\x00\x00"), uint32(len(index)/16))
		return append(append(binary.BigEndian.AppendUint32(intro, uint32(len(store))), index...), store...)
	}
	lead := append([]byte(rpmMagic), make([]byte, rpmLead-4)...)
	return append(append(append(lead, header(nil, nil)...), header(index.Bytes(), store.Bytes())...), payload...)
}

type madeTag struct {
	number, kind, count uint32
	data                []byte
}

func textTag(number uint32, texts ...string) madeTag {
	return madeTag{number, 8, uint32(len(texts)), []byte(strings.Join(texts, "\x00") + "\x00")}
}

func numberTag(number, kind uint32, numbers ...uint64) madeTag {
	m := madeTag{number: number, kind: kind, count: uint32(len(numbers))}
	for _, n := range numbers {
		full := binary.BigEndian.AppendUint64(nil, n)
		m.data = append(m.data, full[8-map[uint32]int{3: 2, 4: 4, 5: 8}[kind]:]...)
	}
	return m
}

func cpioText(name string, mode, inode, links int, body string) string {
	text := fmt.Sprintf("070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x", inode, mode, 0, 0, links, 0, len(body), 8, 1, 0, 0, len(name)+1, 0)
	text += name + strings.Repeat("\x00", 1+(-(len(text)+len(name)+1)&3))
	return text + body + strings.Repeat("\x00", -len(body)&3)
}

// strippedRPM is as rpm makes it of files beyond 4 GB: names and sizes are in the header.
func strippedRPM() []byte {
	big := string(elf(32))
	return madeRPM([]madeTag{textTag(tagName, "big"), textTag(tagBaseNames, "a", "app", "app2"), textTag(tagDirNames, "/usr/", "/usr/bin/"),
		numberTag(tagDirIndexes, 4, 0, 1, 1), numberTag(tagFileModes, 3, 0o40755, 0o100755, 0o100755), numberTag(tagFileInodes, 4, 1, 2, 2),
		numberTag(tagLongSizes, 5, 4096, 36, 36)},
		"07070X00000000\x00\x00"+"07070X00000001\x00\x00"+"07070X00000002\x00\x00"+big+cpioText("TRAILER!!!", 0, 0, 1, ""))
}

func TestStrippedRPM(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "big.rpm")
	write(t, name, string(strippedRPM()))
	w := walkIt(t, name, Options{})
	w.is(t, "= rpm /", "folder 0755 /usr/a", "file 0755 /usr/bin/app2 36", "hard link /usr/bin/app → /usr/bin/app2")
}

func FuzzRPM(f *testing.F) {
	files := cpioText("./usr/bin/app", 0o100755, 7, 2, "") + cpioText("./usr/bin/app2", 0o100755, 7, 2, string(elf(32))) +
		cpioText("./usr/lib/l", 0o120777, 8, 1, "../x") + cpioText("./e", 0o100644, 9, 2, "") + cpioText("TRAILER!!!", 0, 0, 1, "")
	requires := []madeTag{textTag(tagName, "app"), textTag(tagRequireName, "libc.so.6()(64bit)", "bash"), textTag(tagRequireVersion, "", "4.2"),
		numberTag(tagRequireFlags, 4, 0, 12), numberTag(tagEpoch, 4, 1)}
	f.Add(madeRPM(requires, files))
	f.Add(madeRPM(append(requires, textTag(tagPayloadCompressor, "xz")), files))
	f.Add(strippedRPM())
	f.Fuzz(func(t *testing.T, data []byte) { fuzzed(t, RPM, data) })
}
