package envs

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// collectIn collects from a view with these files and returns SOURCE>DESTINATION.
func collectIn(t *testing.T, files map[string]string, patterns ...string) (map[string]string, error) {
	t.Helper()
	dir := t.TempDir()
	tree(t, dir, files)
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	return collect(t.Context(), root, "acme", patterns)
}

func TestCollect(t *testing.T) {
	files := map[string]string{
		"build/app": "1", "build/a.so": "2", "build/deep/b.so": "3", "build/share/x/y.txt": "4", "main.c": "5", ".git/HEAD": "6",
		"build/cur.so@": "a.so", "dirlink@": "build",
	}
	for _, test := range []struct {
		patterns []string
		want     map[string]string
	}{
		{[]string{"build/app"}, map[string]string{"app": "build/app"}},
		{[]string{"./build/app", "main.c"}, map[string]string{"app": "build/app", "main.c": "main.c"}},
		{[]string{"build/*.so"}, map[string]string{"a.so": "build/a.so", "cur.so": "build/cur.so"}},
		{[]string{"build/**/*.so"}, map[string]string{"a.so": "build/a.so", "cur.so": "build/cur.so", "deep/b.so": "build/deep/b.so"}},
		{[]string{"build/{app,*.so}"}, map[string]string{"app": "build/app", "a.so": "build/a.so", "cur.so": "build/cur.so"}},
		{[]string{"build/share"}, map[string]string{"share/x/y.txt": "build/share/x/y.txt"}},
		{[]string{"build/app", "build/a*"}, map[string]string{"app": "build/app", "a.so": "build/a.so"}},
		{[]string{"**/HEAD", "main.c"}, nil},
	} {
		got, err := collectIn(t, files, test.patterns...)
		if test.want == nil {
			if err == nil {
				t.Errorf("%v: got %v", test.patterns, got)
			}
			continue
		}
		if err != nil {
			t.Errorf("%v: %v", test.patterns, err)
		}
		equal(t, got, test.want)
	}
}

func noEvidence([]Artifact) ([]Evidence, error) { return nil, nil }

func TestCollectNothing(t *testing.T) {
	files := map[string]string{"build/app": "1", "b/app": "2", "build/artifacts.json": "3", "empty/": "",
		"tells/provenance.intoto.json": "4", "folder/env.cdx.json/app": "5",
		"out@": "/etc/passwd", "up@": "../../..", "via/passwd@": "../out"}
	for pattern, want := range map[string]string{
		"build/*.so":        "matches no file that the build left",
		"nowhere/app":       "matches no file that the build left",
		"empty":             "matches no file that the build left",
		"/etc/passwd":       "is no path below the project",
		"../app":            "is no path below the project",
		"build/../../x":     "is no path below the project",
		".":                 "is no path below the project",
		"[":                 "is no path below the project",
		"build/*.json":      "brings a file by the name of artifacts.json",
		"tells/*":           "brings a file by the name of provenance.intoto.json, which stead writes itself",
		"folder/**":         "brings a file by the name of env.cdx.json, which stead writes itself",
		"out":               "out: ",
		"via/passwd":        "via/passwd: ",
		"up/etc/passwd":     "up",
		"up/**":             "",
		"{build,b}/app":     "",
		"out/../../passwd*": "is no path below the project",
	} {
		found, err := collectIn(t, files, pattern)
		if want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: got %v, %v; want %s", pattern, found, err, want)
		}
		for _, source := range found {
			if !strings.HasSuffix(source, "/app") {
				t.Errorf("%s brought %s", pattern, source)
			}
		}
	}
	_, err := collectIn(t, files, "build/app", "b/app")
	var artifact *ArtifactError
	if !errors.As(err, &artifact) || artifact.Pattern != "b/app" || !strings.Contains(err.Error(), "goes too") {
		t.Errorf("two files for one place: got %v", err)
	}
}

func TestBring(t *testing.T) {
	project, built := t.TempDir(), t.TempDir()
	tree(t, built, map[string]string{"build/app": "program", "build/deep/b.so": "library"})
	if err := os.Chmod(filepath.Join(built, "build/app"), 0o750); err != nil {
		t.Fatal(err)
	}
	view, err := os.OpenRoot(built)
	if err != nil {
		t.Fatal(err)
	}
	defer view.Close()
	tree(t, project, map[string]string{"dist/acme/stale": "old", "dist/globex/app": "other", "dist/.acme.new/half": "killed"})
	found := map[string]string{"app": "build/app", "deep/b.so": "build/deep/b.so"}
	for range 2 {
		list, err := bring(t.Context(), view, project, Artifacts{Target: "acme", Release: 3}, found, noEvidence)
		if err != nil {
			t.Fatal(err)
		}
		got := filesIn(t, filepath.Join(project, "dist"))
		var read Artifacts
		if err := json.Unmarshal([]byte(got["acme/artifacts.json"]), &read); err != nil {
			t.Fatal(err)
		}
		if len(read.Artifacts) != 2 || read.Release != 3 || read.Artifacts[0] != list.Artifacts[0] {
			t.Errorf("artifacts.json says %+v, and %+v was returned", read, list)
		}
		a := read.Artifacts[0]
		if a.Path != "app" || a.Source != "build/app" || a.Size != 7 || a.Mode != "0750" ||
			a.SHA256 != "1310ca2c8932dbd118668bd97442558a3e1f546b5e15c69699dfbd6024f548d8" {
			t.Errorf("got %+v", a)
		}
		delete(got, "acme/artifacts.json")
		equal(t, got, map[string]string{"acme/app": "program", "acme/deep/b.so": "library", "globex/app": "other"})
	}
	if fi, err := os.Stat(filepath.Join(project, "dist/acme/app")); err != nil || fi.Mode().Perm() != 0o750 {
		t.Errorf("got mode %v, %v", fi.Mode(), err)
	}
}

// A project is foreign too: its dist may be a link.
func TestBringThroughLink(t *testing.T) {
	project, built, outside := t.TempDir(), t.TempDir(), t.TempDir()
	tree(t, built, map[string]string{"app": "program"})
	view, err := os.OpenRoot(built)
	if err != nil {
		t.Fatal(err)
	}
	defer view.Close()
	tree(t, project, map[string]string{"dist@": outside})
	if _, err := bring(t.Context(), view, project, Artifacts{Target: "acme"}, map[string]string{"app": "app"}, noEvidence); err == nil {
		t.Error("dist led out of the project, and nothing was said")
	}
	equal(t, filesIn(t, outside), map[string]string{})
}

func TestMissingArtifact(t *testing.T) {
	dir := t.TempDir()
	tree(t, dir, map[string]string{"app": "x"})
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	for pattern, missing := range map[string]bool{"no/*.so": true, "../app": false} {
		_, err := collect(t.Context(), root, "acme", []string{"app", pattern})
		var artifact *ArtifactError
		if !errors.As(err, &artifact) || artifact.Missing != missing {
			t.Errorf("%s: got %v", pattern, err)
		}
	}
}
