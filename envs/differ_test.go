package envs

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// twoBuilds are two samples with their contents, as if built at two places and times.
func twoBuilds(first, second []byte) (a, b sample) {
	begun := time.Date(2026, 11, 21, 9, 0, 0, 0, time.UTC)
	return sample{bytes.NewReader(first), int64(len(first)), "/home/me/app", begun},
		sample{bytes.NewReader(second), int64(len(second)), "/home/me/app-again", begun.Add(time.Minute)}
}

func TestCompare(t *testing.T) {
	begun := time.Date(2026, 11, 21, 9, 0, 0, 0, time.UTC)
	made := func(fn func(b *bytes.Buffer, at time.Time) error) [2]string {
		var texts [2]string
		for i := range texts {
			var b bytes.Buffer
			if err := fn(&b, begun.Add(time.Duration(i)*time.Minute)); err != nil {
				t.Fatal(err)
			}
			texts[i] = b.String()
		}
		return texts
	}
	seconds := func(at time.Time) string { return fmt.Sprint(at.Unix()) }
	for _, test := range []struct {
		name, kind string
		texts      [2]string
		offset     int64
	}{
		{"text", DiffersInContent, [2]string{"one two three", "one TWO three"}, 4},
		{"shorter", DiffersInContent, [2]string{"one two", "one two three"}, 7},
		{"path", DiffersInPath, [2]string{"\x00/home/me/app/x.c\x00", "\x00/home/me/app-again/x.c\x00"}, 13},
		{"time", DiffersInTime, [2]string{"built 09:00:01 here", "built 09:00:02 here"}, 13},
		{"date", DiffersInTime, [2]string{"\x00Nov 21 2026\x00", "\x00Nov 22 2026\x00"}, 6},
		{"seconds", DiffersInTime, [2]string{"v" + seconds(begun) + "\n", "v" + seconds(begun.Add(time.Second)) + "\n"}, 10},
		{"binary", DiffersInTime, made(func(b *bytes.Buffer, at time.Time) error {
			b.Write([]byte{1, 2, 3, 4, 0, 0})
			return binary.Write(b, binary.LittleEndian, uint32(at.Unix()))
		}), 6},
		{"gzip", DiffersInTime, made(func(b *bytes.Buffer, at time.Time) error {
			w := gzip.NewWriter(b)
			w.ModTime = at
			_, err := w.Write([]byte("text"))
			w.Close()
			return err
		}), 4},
		{"tar", DiffersInTime, made(func(b *bytes.Buffer, at time.Time) error {
			w := tar.NewWriter(b)
			b.Write(make([]byte, 512)) // not in the first block alone
			return w.WriteHeader(&tar.Header{Name: "x", ModTime: at, Format: tar.FormatUSTAR})
		}), 512 + 144},
		{"zip", DiffersInTime, made(func(b *bytes.Buffer, at time.Time) error {
			w := zip.NewWriter(b)
			_, err := w.CreateHeader(&zip.FileHeader{Name: "x", Modified: at})
			w.Close()
			return err
		}), 10},
	} {
		d, err := compare(twoBuilds([]byte(test.texts[0]), []byte(test.texts[1])))
		if err != nil || d == nil || d.Kind != test.kind || d.Offset != test.offset {
			t.Errorf("%s: got %+v, %v", test.name, d, err)
		}
		if d, err := compare(twoBuilds([]byte(test.texts[0]), []byte(test.texts[0]))); d != nil || err != nil {
			t.Errorf("%s and the same: got %+v, %v", test.name, d, err)
		}
	}
	large := make([]byte, 200_000)
	changed := bytes.Clone(large)
	changed[150_000] = 1
	if d, err := compare(twoBuilds(large, changed)); err != nil || d == nil || d.Offset != 150_000 {
		t.Errorf("got %+v, %v", d, err)
	}
}

// In a program the section tells more than the first byte, which follows from the rest.
func TestCompareProgram(t *testing.T) {
	if _, err := exec.LookPath("gcc"); err != nil {
		t.Skip(err)
	}
	dir := t.TempDir()
	build := func(text string, flags ...string) []byte {
		t.Helper()
		source, program := filepath.Join(dir, "main.c"), filepath.Join(dir, "main")
		code := fmt.Sprintf("#include <stdio.h>\nint main(void) { return puts(%q); }\n", text)
		if err := os.WriteFile(source, []byte(code), 0o644); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command("gcc", append([]string{"-o", program, source, "-Wl,--build-id"}, flags...)...).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		content, err := os.ReadFile(program)
		if err != nil {
			t.Fatal(err)
		}
		return content
	}
	d, err := compare(twoBuilds(build("/home/me/app/long/name.c"), build("/home/me/app-again/long/name.c")))
	if err != nil || d == nil || d.Kind != DiffersInPath || d.Where != ".rodata" || !strings.Contains(d.String(), `"/home/me/app-again/long/name.c"`) {
		t.Errorf("got %v, %v", d, err)
	}
	d, err = compare(twoBuilds(build("x", "-Wl,--build-id=0x1234"), build("x", "-Wl,--build-id=0x1235")))
	if err != nil || d == nil || d.Kind != DiffersInBuildID || d.Where != ".note.gnu.build-id" {
		t.Errorf("got %v, %v", d, err)
	}
}

func FuzzCompare(f *testing.F) {
	f.Add([]byte("\x7fELF\x02\x01\x01"), []byte("\x7fELF\x02\x01\x02"))
	f.Add([]byte("\x1f\x8b\x08\x00abcd"), []byte("\x1f\x8b\x08\x00abce"))
	f.Fuzz(func(t *testing.T, first, second []byte) {
		d, err := compare(twoBuilds(first, second))
		if err == nil && (d == nil) != bytes.Equal(first, second) {
			t.Errorf("got %v", d)
		}
		if d != nil {
			_ = d.String()
		}
	})
}
