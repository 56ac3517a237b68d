package runtime

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// Mount points of a kept session are known in every later one, and made once.
func TestKeptPoints(t *testing.T) {
	root, upper, source := t.TempDir(), t.TempDir(), t.TempDir()
	if err := os.MkdirAll(filepath.Join(root, "home"), 0o755); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(source, "file")
	if err := os.WriteFile(file, []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	spec := Spec{Upper: upper, Mounts: []Mount{{Source: source, Target: "/home/ann/app"}, {Source: file, Target: "/home/ann/app/below"},
		{Source: file, Target: "/etc/odd\nname"}}}
	want := []string{"dev/", "etc/", "etc/odd\nname", "home/ann/", "home/ann/app/", "proc/", "sys/"}
	for range 2 {
		if _, _, err := MountPoints(spec, root); err != nil {
			t.Fatal(err)
		}
		got, err := KeptPoints(upper)
		slices.Sort(got)
		if err != nil || !slices.Equal(got, want) {
			t.Fatalf("got %q, %v, want %q", got, err, want)
		}
	}
	list := filepath.Join(upper, pointsFile)
	data, err := os.ReadFile(list)
	if err != nil {
		t.Fatal(err)
	}
	// Killed while it was written: the next one makes what is missing.
	if err := os.WriteFile(list, append(data, `"srv/da`...), 0o600); err != nil {
		t.Fatal(err)
	}
	spec.Mounts = []Mount{{Source: source, Target: "/srv/data"}}
	_, made, err := MountPoints(spec, root)
	if err != nil || !slices.Contains(made, "srv/data") || !slices.Contains(made, "home/ann") {
		t.Errorf("made %q, %v", made, err)
	}
	if got, err := KeptPoints(upper); err != nil || len(got) != len(want)+2 {
		t.Errorf("got %q, %v", got, err)
	}
	// A session that keeps nothing has no list.
	if _, made, err := MountPoints(Spec{Mounts: []Mount{{Source: source, Target: "/opt/x/y"}}}, root); err != nil || !slices.Equal(made, []string{"opt", "opt/x", "opt/x/y"}) {
		t.Errorf("made %q, %v", made, err)
	}
}
