package envs

import (
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestParseStatus(t *testing.T) {
	text := "Package: gcc\nStatus: install ok installed\nConffiles:\n /etc/x 0123\nDescription: " + strings.Repeat("long\tStatus: a b c ", 1000) +
		"\n Package: other\nArchitecture: amd64\nVersion: 4:10.2.1-1\n\n\nPackage: old\nStatus: deinstall ok config-files\nArchitecture: all\nVersion: 1\n" +
		"\nPackage: wanted\nStatus: install ok\n\nPackage: last\nArchitecture: i386\nStatus: hold ok triggers-pending\nVersion: 2"
	got, err := parseStatus(strings.NewReader(text))
	want := map[string]string{"gcc\tamd64": "4:10.2.1-1\tinstalled", "old\tall": "1\tconfig-files", "last\ti386": "2\ttriggers-pending"}
	if err != nil || !maps.Equal(got, want) {
		t.Errorf("got %q, %v", got, err)
	}
}

func FuzzParseStatus(f *testing.F) {
	f.Add("Package: gcc\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1\n\n")
	f.Fuzz(func(t *testing.T, text string) {
		all, err := parseStatus(strings.NewReader(text))
		for key, state := range all {
			if strings.Count(key, "\t") < 1 || strings.Count(state, "\t") < 1 || strings.ContainsAny(key+state, "\n") {
				t.Errorf("got %q: %q, %v", key, state, err)
			}
		}
	})
}

func FuzzReadList(f *testing.F) {
	f.Add("/.\n/usr\n/usr/bin\n/usr/bin/gcc\n")
	f.Fuzz(func(t *testing.T, text string) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "x.list"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		root, err := os.OpenRoot(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer root.Close()
		if err := readList(root, "x.list", func(p string) {
			if !filepath.IsLocal(p) {
				t.Errorf("%q leads out", p)
			}
		}); err != nil && !strings.Contains(err.Error(), "too long") {
			t.Error(err)
		}
	})
}
