package envs

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
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
	return collect(t.Context(), root, "acme", patterns, func(string) {})
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

func noEvidence(string, *Artifacts) ([]Evidence, error) { return nil, nil }

func unsaid(string) {}

// What a wildcard matches and nobody can take is told of and left out.
func TestCollectLeavesOut(t *testing.T) {
	dir := t.TempDir()
	tree(t, dir, map[string]string{"zz/app": "1", "zz/m@": "/usr/bin/make", "zz/gone@": "nothing", "zz/folder@": ".", "zz/ok@": "app"})
	if err := syscall.Mkfifo(filepath.Join(dir, "zz/pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	var notes []string
	found, err := collect(t.Context(), root, "acme", []string{"zz/**"}, func(text string) { notes = append(notes, text) })
	if err != nil {
		t.Fatal(err)
	}
	equal(t, found, map[string]string{"app": "zz/app", "ok": "zz/ok"})
	want := `pattern "zz/**" leaves out zz/folder, a link to ., which is a folder; zz/gone, a link to nothing, where nothing is; ` +
		`zz/m, a link to /usr/bin/make, which leads out of the project; and 1 more`
	if len(notes) != 1 || notes[0] != want {
		t.Errorf("got %q, want %q", notes, want)
	}
	var artifact *ArtifactError
	if _, err = collect(t.Context(), root, "acme", []string{"zz/pipe"}, unsaid); !errors.As(err, &artifact) || artifact.Hint() == "" ||
		!strings.HasSuffix(artifact.Reason, "is a named pipe, not a regular file") {
		t.Errorf("got %v", err)
	}
	if _, err = collect(t.Context(), root, "acme", []string{"zz/no*"}, unsaid); !errors.As(err, &artifact) || !strings.HasPrefix(artifact.Hint(), "stead enter --view acme") {
		t.Errorf("got %v", err)
	}
}

func TestCollectNames(t *testing.T) {
	files := map[string]string{"a/x/y": "1", "b/x": "2", "out/\xff": "3", "deep/\xfe/f": "4", "deep/g": "5"}
	for _, test := range []struct {
		patterns []string
		want     string // the error
	}{
		{[]string{"a/x", "b/x"}, `pattern "a/x" brings a/x/y to dist/acme/x/y, where b/x is a file by pattern "b/x"`},
		{[]string{"b/x", "a/x"}, `pattern "a/x" brings a/x/y to dist/acme/x/y, where b/x is a file by pattern "b/x"`},
		{[]string{"out/*"}, `brings "out/\xff", whose name is not UTF-8`},
		{[]string{"deep/**"}, `brings "deep/\xfe", whose name is not UTF-8`},
		{[]string{"deep/*g"}, ""},
		{[]string{"deep/**/g"}, ""},
	} {
		if _, err := collectIn(t, files, test.patterns...); test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%v: got %v, want %s", test.patterns, err, test.want)
		}
	}
}

func TestCollectNothing(t *testing.T) {
	files := map[string]string{"build/app": "1", "b/app": "2", "build/artifacts.json": "3", "empty/": "",
		"tells/provenance.intoto.json": "4", "folder/env.cdx.json/app": "5",
		"out@": "/etc/passwd", "up@": "../../..", "via/passwd@": "../out", "gone@": "nowhere", "round@": "round", "folderlink@": "build"}
	for pattern, want := range map[string]string{
		"build/*.so":        "matches no file that the build left",
		"nowhere/app":       "matches no file that the build left",
		"empty":             "matches no file that the build left",
		"/etc/passwd":       "is no path below the project",
		"../app":            "is no path below the project",
		"build/../../x":     "is no path below the project",
		".":                 "is no path below the project",
		"[a":                "is no pattern",
		".git/HEAD":         "is in .git",
		".git":              "is in .git",
		"build/app/x":       "matches no file that the build left",
		"build/app/*":       "matches no file that the build left",
		"build/*.json":      "brings a file by the name of artifacts.json",
		"tells/*":           "brings a file by the name of provenance.intoto.json, which stead writes itself",
		"folder/**":         "brings a file by the name of env.cdx.json, which stead writes itself",
		"out":               "is a link to /etc/passwd, which leads out of the project",
		"via/passwd":        "is a link to ../out, which leads out of the project",
		"via/*":             "matches no file that can be taken: via/passwd, a link to ../out, which leads out of the project",
		"gone":              "is a link to nowhere, where nothing is",
		"round":             "is a link to round, which leads to links without end",
		"folderlink":        "is a link to build, which is a folder",
		"up/etc/passwd":     "begins with up/etc, which leads out of the project",
		"up/**":             "begins with up, which leads out of the project",
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
	if !errors.As(err, &artifact) || artifact.Pattern != "b/app" || !strings.Contains(err.Error(), "goes too, by pattern \"build/app\"") {
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
	tree(t, project, map[string]string{"dist/acme/stale": "old", "dist/acme/artifacts.json": `{"artifacts": [{"path": "stale"}]}`, "dist/globex/app": "other", "dist/.acme.new/half": "killed"})
	found := map[string]string{"app": "build/app", "deep/b.so": "build/deep/b.so"}
	for range 2 {
		list, err := bring(t.Context(), view, project, Artifacts{Target: "acme", Release: 3}, found, noEvidence, unsaid)
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

// A project is foreign too: its dist may be a link, and its artifacts.json anything.
func TestBringChecksDist(t *testing.T) {
	built, outside := t.TempDir(), t.TempDir()
	tree(t, built, map[string]string{"app": "program"})
	view, err := os.OpenRoot(built)
	if err != nil {
		t.Fatal(err)
	}
	defer view.Close()
	for _, test := range []struct {
		files map[string]string
		want  string // the error
	}{
		{map[string]string{"dist@": outside}, "/dist, which is a link that leads out of the project"},
		{map[string]string{"dist@": "nowhere"}, "/dist, which is a link to where nothing is"},
		{map[string]string{"dist": "file"}, "/dist, which is no folder"},
		{map[string]string{"dist/acme@": "../else", "else/": ""}, "/dist/acme, which is a link, whose place"},
		{map[string]string{"dist/acme": "file"}, "/dist/acme, which is no folder"},
		{map[string]string{"dist@": "out", "out/": ""}, ""},
		{map[string]string{"dist/.acme.old@": "../src", "dist/.acme.new@": "../src", "src/main.c": "1"}, ""},
		{nil, ""},
	} {
		project := t.TempDir()
		tree(t, project, test.files)
		before := shapeOf(t, project)
		_, err := bring(t.Context(), view, project, Artifacts{Target: "acme"}, map[string]string{"app": "app"}, noEvidence, unsaid)
		var wrong *DistError
		if test.want == "" {
			if err != nil {
				t.Errorf("%v: %v", test.files, err)
			}
			if got := filesIn(t, project)["src/main.c"]; got != test.files["src/main.c"] {
				t.Errorf("%v: the source is %q", test.files, got)
			}
			continue
		}
		if !errors.As(err, &wrong) || !strings.Contains(err.Error(), test.want) || wrong.Hint() == "" {
			t.Errorf("%v: got %v, want %s", test.files, err, test.want)
		}
		equal(t, shapeOf(t, project), before)
	}
	equal(t, filesIn(t, outside), map[string]string{})
}

// shapeOf is what a folder has, links by what they say.
func shapeOf(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		all[p] = d.Type().String()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// What people put into dist/TARGET stays, also where a build was killed in between.
func TestBringKeepsOthers(t *testing.T) {
	for _, was := range []string{"acme", ".acme.old"} {
		project, built := t.TempDir(), t.TempDir()
		tree(t, built, map[string]string{"app": "program", "x": "file", "y/z": "deep"})
		at := "dist/" + was + "/"
		tree(t, project, map[string]string{at + "artifacts.json": `{"artifacts": [{"path": "gone"}], "evidence": [{"path": "env.cdx.json"}]}`,
			at + "gone": "1", at + "env.cdx.json": "2", at + "notes": "3", at + "sub/deep/notes": "4", at + "app": "mine", at + "app~": "older", at + "x/own": "5",
			at + "y": "6", at + "\xff/\xfe": "7"})
		view, err := os.OpenRoot(built)
		if err != nil {
			t.Fatal(err)
		}
		defer view.Close()
		var notes []string
		for range 2 {
			if _, err := bring(t.Context(), view, project, Artifacts{Target: "acme"}, map[string]string{"app": "app", "x": "x", "y/z": "y/z"},
				noEvidence, func(text string) { notes = append(notes, text) }); err != nil {
				t.Fatal(err)
			}
			got := filesIn(t, filepath.Join(project, "dist"))
			delete(got, "acme/artifacts.json")
			equal(t, got, map[string]string{"acme/app": "program", "acme/x": "file", "acme/y/z": "deep", "acme/notes": "3", "acme/sub/deep/notes": "4",
				"acme/app~": "older", "acme/app~~": "mine", "acme/x~/own": "5", "acme/y~": "6", "acme/\xff/\xfe": "7"})
		}
		if len(notes) != 1 || notes[0] != "artifacts took the names of files that no build brought: "+
			"dist/acme/app is now dist/acme/app~~; dist/acme/x/own is now dist/acme/x~/own; dist/acme/y is now dist/acme/y~" {
			t.Errorf("told %q", notes)
		}
	}
}

// No build makes a program in a project that makes root of anybody; it says so.
func TestBringWithoutSetuid(t *testing.T) {
	project, built := t.TempDir(), t.TempDir()
	tree(t, built, map[string]string{"su": "program"})
	if err := os.Chmod(filepath.Join(built, "su"), 0o755|fs.ModeSetuid); err != nil {
		t.Fatal(err)
	}
	view, err := os.OpenRoot(built)
	if err != nil {
		t.Fatal(err)
	}
	defer view.Close()
	said := ""
	list, err := bring(t.Context(), view, project, Artifacts{Target: "acme"}, map[string]string{"su": "su"}, noEvidence, func(text string) { said += text })
	if err != nil || list.Artifacts[0].Mode != "0755" || list.Artifacts[0].BuiltMode != "4755" || !strings.HasSuffix(said, ": dist/acme/su has mode 0755, not 4755") {
		t.Errorf("got %+v, %v, and told %q", list.Artifacts, err, said)
	}
	if fi, err := os.Stat(filepath.Join(project, "dist/acme/su")); err != nil || fi.Mode() != 0o755 {
		t.Errorf("got %v, %v", fi.Mode(), err)
	}
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
		_, err := collect(t.Context(), root, "acme", []string{"app", pattern}, unsaid)
		var artifact *ArtifactError
		if !errors.As(err, &artifact) || artifact.Missing != missing {
			t.Errorf("%s: got %v", pattern, err)
		}
	}
}
