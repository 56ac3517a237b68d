package image

import (
	"strings"
	"testing"

	"github.com/stead-env/stead/envs/store"
	"github.com/stead-env/stead/snapshot"
)

// layerFile is an entry: "d 755 usr", "f 644 usr/x CONTENT" or "l 777 bin usr/bin".
func layerFile(line string) snapshot.File {
	words := strings.Fields(line)
	f := snapshot.File{Type: snapshot.Type(words[0][0]), Path: words[2]}
	for _, c := range words[1] {
		f.Mode = f.Mode<<3 | uint32(c-'0')
	}
	if f.Type == snapshot.Symlink {
		f.Target = words[3]
	} else if f.Type == snapshot.Regular {
		f.Size, f.Digest = 1, strings.Repeat(words[3], 64)[:64]
	}
	return f
}

func layerFiles(lines ...string) (m store.Manifest) {
	for _, line := range lines {
		m = append(m, layerFile(line))
	}
	m.Normalize()
	return m
}

func TestLayerManifest(t *testing.T) {
	below := Below{Manifest: layerFiles("d 750 .", "d 755 etc", "f 644 etc/own 1", "d 755 usr", "d 2775 usr/bin", "l 777 bin usr/bin",
		"f 755 usr/bin/sh 2", "d 755 usr/share", "d 755 usr/share/doc", "f 644 usr/share/doc/shared 3")}
	packages := []Tree{
		{Manifest: layerFiles("d 755 .", "d 755 bin", "f 755 bin/cc 4", "d 755 usr", "d 700 usr/share", "d 755 usr/share/doc",
			"f 644 usr/share/doc/shared 3", "d 755 usr/lib", "f 644 usr/lib/a 5", "d 755 var", "d 700 var/empty")},
		{Manifest: layerFiles("d 755 .", "d 755 usr", "d 755 usr/lib", "f 644 usr/lib/b 6", "l 777 usr/lib/x /etc/own")},
	}
	compose := func(above store.Manifest) *Base {
		t.Helper()
		base, err := below.ComposeAbove(packages, above)
		if err != nil {
			t.Fatal(err)
		}
		return base
	}
	got, err := below.LayerManifest(compose(nil), layerFiles("d 755 .", "d 755 etc", "f 644 etc/new 7", "f 644 etc/own 8", "d 700 var/empty", "d 755 var"), []string{"usr/lib/b"})
	want := layerFiles("d 750 .", "d 755 etc", "f 644 etc/new 7", "f 644 etc/own 8", "d 755 usr", "d 2775 usr/bin", "f 755 usr/bin/cc 4",
		"d 755 usr/lib", "f 644 usr/lib/a 5", "l 777 usr/lib/x /etc/own", "d 755 var", "d 700 var/empty")
	if err != nil || got.Digest() != want.Digest() {
		t.Errorf("got %v\n%s\nwant\n%s", err, got.Encode(), want.Encode())
	}
	// A link of the layer's own leads packages' paths, too.
	base := compose(layerFiles("l 777 usr/lib local"))
	if _, ok := base.Manifest.Lookup("usr/local/a"); !ok || !base.Traversed["usr/lib"] {
		t.Errorf("got %s, through %v", base.Manifest.Encode(), base.Traversed)
	}
	for _, entries := range []store.Manifest{layerFiles("d 755 .", "f 644 usr 9"), layerFiles("d 755 .", "d 755 usr", "d 755 usr/bin", "d 755 usr/bin/sh")} {
		if got, err := below.LayerManifest(compose(nil), entries, nil); err == nil {
			t.Errorf("%s became %s", entries.Encode(), got.Encode())
		}
	}
}
