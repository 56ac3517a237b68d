package envs

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestBuildLog(t *testing.T) {
	for _, lines := range []int{0, 10, 30, 31, 32, 100, 5000} {
		for _, chunk := range []int{1, 9, 10, 333, 1 << 20} {
			l, err := createLog(filepath.Join(t.TempDir(), "log"))
			if err != nil {
				t.Fatal(err)
			}
			l.head, l.part = 100, 100
			var all strings.Builder
			for i := range lines {
				fmt.Fprintf(&all, "line %04d\n", i)
			}
			for rest := all.String(); rest != ""; {
				n := min(chunk, len(rest))
				if m, err := l.Write([]byte(rest[:n])); m != n || err != nil {
					t.Fatal(m, err)
				}
				rest = rest[n:]
			}
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			text, err := os.ReadFile(l.Name())
			if err != nil {
				t.Fatal(err)
			}
			checkLog(t, string(text), all.String())
		}
	}
}

// checkLog wants a log with bounds of 100 bytes to be what was written.
func checkLog(t *testing.T, got, all string) {
	t.Helper()
	if len(all) <= 300 {
		if got != all {
			t.Errorf("of %d bytes got %q", len(all), got)
		}
		return
	}
	before, after, cut := strings.Cut(got, "\n[stead: ")
	count, after, line := strings.Cut(after, " bytes are left out here]\n")
	left := 0
	fmt.Sscanf(count, "%d", &left)
	if !cut || !line || before != all[:100] || len(before)+left+len(after) != len(all) || len(after) < 90 || len(after) > 200 ||
		!strings.HasSuffix(all, "\n"+after) {
		t.Errorf("of %d bytes got %q", len(all), got)
	}
}

// A line that has no end is cut somewhere.
func TestBuildLogOfOneLine(t *testing.T) {
	l, err := createLog(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	l.head, l.part = 100, 100
	for range 1000 {
		if _, err := l.Write([]byte("0123456")); err != nil {
			t.Fatal(err)
		}
	}
	fi, err := os.Stat(l.Name())
	if err != nil || fi.Size() > 400 || l.left < 6000 {
		t.Errorf("got %v, %v left out, %v", fi.Size(), l.left, err)
	}
}
