package main

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stead-env/stead/envs"
	"github.com/stead-env/stead/snapshot"
)

func TestOpenLayers(t *testing.T) {
	opts, err := makeOptions(nil)
	if err != nil {
		t.Fatal(err)
	}
	if class, _ := opts.Rules.Path("etc/machine-id", snapshot.Regular); class != snapshot.Secret {
		t.Errorf("the rules say %q of a machine's id", class)
	}
	upper, lower := t.TempDir(), t.TempDir()
	for _, name := range []string{filepath.Join(upper, "new"), filepath.Join(upper, "point"), filepath.Join(upper, "old"), filepath.Join(lower, "old")} {
		if err := os.WriteFile(name, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	_, changes, err := opts.Layers(envs.KeptLayers{Upper: upper, Root: &envs.Root{Path: lower}, MountPoints: []string{"point"},
		Entries: []snapshot.File{{Path: ".", Type: snapshot.Dir}, {Path: "old", Type: snapshot.Regular}}})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	err = changes(t.Context(), func(before, after *snapshot.File) error {
		got = append(got, after.Path)
		return nil
	})
	if want := []string{".", "new", "old"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("got %q, want %q: %v", got, want, err)
	}
}
