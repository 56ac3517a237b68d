package envs

import (
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stead-env/stead/envs/artifact"
	"github.com/stead-env/stead/envs/artifact/object/objecttest"
)

// inFolder makes files below a folder: contents by name, "a→b" for a link.
func inFolder(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		name, target, link := strings.Cut(name, "→")
		p := filepath.Join(dir, name)
		err := os.MkdirAll(filepath.Dir(p), 0o755)
		switch {
		case err != nil:
		case link:
			err = os.Symlink(target, p)
		default:
			err = os.WriteFile(p, []byte(text), 0o755)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func inDir(t *testing.T, dir, name string, args ...string) {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
}

func zipOf(t *testing.T, files map[string]string) string {
	t.Helper()
	var buf bytes.Buffer
	z := zip.NewWriter(&buf)
	for name, text := range files {
		h := &zip.FileHeader{Name: name}
		h.SetMode(0o644)
		w, err := z.CreateHeader(h)
		if err == nil {
			_, err = w.Write([]byte(text))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.String()
}

func readArtifacts(t *testing.T, o ArtifactOptions, names ...string) []*artifact.Set {
	t.Helper()
	sets, err := ReadArtifacts(context.Background(), names, o)
	if err != nil {
		t.Fatal(err)
	}
	return sets
}

// told are the files of sets, a set a line: their places and what is known of each.
func told(sets []*artifact.Set) (lines []string) {
	for _, set := range sets {
		var parts []string
		for _, p := range set.Packages {
			parts = append(parts, "("+p.Name+")")
		}
		for _, f := range set.Files {
			part := f.Path
			switch {
			case f.Object != nil:
				part += " ELF"
			case f.Err != nil:
				part += " ERR"
			case f.Link != "":
				part += " → " + f.Link
			case !f.Executable:
				part += " data"
			}
			for _, m := range f.Members {
				part += fmt.Sprintf(" +%s", strings.TrimPrefix(m.Path, f.Path))
			}
			parts = append(parts, part)
		}
		lines = append(lines, strings.Join(parts, ", "))
	}
	return lines
}

func tells(t *testing.T, sets []*artifact.Set, want ...string) {
	t.Helper()
	if got := told(sets); !slices.Equal(got, want) {
		t.Errorf("the sets are\n%s\nnot\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestReadArtifacts(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	inFolder(t, dir, map[string]string{"dist/run.sh": "#!/bin/sh\necho\n", "dist/lib/libx.so→libx.so.1": "", "dist/lib/text.so": "INPUT(-lx)",
		"dist/venv/pyvenv.cfg": "home = /usr/bin\n", "b/tool": "#!/usr/bin/perl\n", "dist/short": "\x7fELF"})
	objecttest.Build(t, objecttest.Options{Path: filepath.Join(dir, "dist/bin/app"), Source: "int main(void) { return 0; }"})
	objecttest.Build(t, objecttest.Options{Path: filepath.Join(dir, "dist/lib/libx.so.1"), Source: "int x;", Args: []string{"-shared", "-fPIC", "-Wl,-soname,libx.so.1"}})
	for _, name := range []string{"dist/README", "dist/data"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("data"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	dist, at := filepath.Join(dir, "dist"), "/.stead-artifact"
	tells(t, readArtifacts(t, ArtifactOptions{At: "/opt/app"}, dist),
		"/opt/app/bin/app ELF, /opt/app/lib/libx.so → libx.so.1, /opt/app/lib/libx.so.1 ELF, /opt/app/lib/text.so, /opt/app/run.sh, /opt/app/short ERR, /opt/app/venv/pyvenv.cfg")
	// Files alone keep how they lie to each other.
	app, lib, tool := filepath.Join(dist, "bin/app"), filepath.Join(dist, "lib/libx.so.1"), filepath.Join(dir, "b/tool")
	tells(t, readArtifacts(t, ArtifactOptions{}, app), at+"/app ELF")
	tells(t, readArtifacts(t, ArtifactOptions{}, app, lib, app), at+"/bin/app ELF, "+at+"/lib/libx.so.1 ELF")
	tells(t, readArtifacts(t, ArtifactOptions{At: "/usr"}, tool, filepath.Join(dist, "lib"), app),
		"/usr/b/tool, /usr/dist/bin/app ELF", "/usr/libx.so → libx.so.1, /usr/libx.so.1 ELF, /usr/text.so")
	// So do folders beside them: it is what dist/* means.
	tells(t, readArtifacts(t, ArtifactOptions{At: "/opt"}, filepath.Join(dist, "bin"), filepath.Join(dist, "lib"), filepath.Join(dist, "run.sh")),
		"/opt/bin/app ELF, /opt/lib/libx.so → libx.so.1, /opt/lib/libx.so.1 ELF, /opt/lib/text.so, /opt/run.sh")
	tells(t, readArtifacts(t, ArtifactOptions{}, filepath.Join(dist, "README")), at+"/README data")
	inFolder(t, dir, map[string]string{"link→dist/bin/app": ""})
	tells(t, readArtifacts(t, ArtifactOptions{Root: "/"}, filepath.Join(dir, "link")), app+" ELF")
	tells(t, readArtifacts(t, ArtifactOptions{Root: "/"}, filepath.Join(dist, "lib")), dist+"/lib/libx.so → libx.so.1, "+dist+"/lib/libx.so.1 ELF, "+dist+"/lib/text.so")
	if _, err := ReadArtifacts(t.Context(), []string{app, filepath.Join(dir, "none")}, ArtifactOptions{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file that isn't there: %v", err)
	}
}

func TestReadJar(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	class := func(major byte) string {
		return "\xca\xfe\xba\xbe\x00\x00\x00" + string(major) + strings.Repeat("\x00", 50)
	}
	lib, err := os.ReadFile(objecttest.Build(t, objecttest.Options{Source: "int x;", Args: []string{"-shared", "-fPIC"}}))
	if err != nil {
		t.Fatal(err)
	}
	inner := zipOf(t, map[string]string{"In.class": class(65)})
	inFolder(t, dir, map[string]string{"d/app.jar": zipOf(t, map[string]string{"A.class": class(52), "META-INF/versions/21/A.class": class(65),
		"module-info.class": class(53), "lib/in.jar": inner, "lib/libx.so": string(lib), "text": "text"}), "d/bad.jar": "no jar", "d/B.class": class(61)})
	at := "/.stead-artifact"
	sets := readArtifacts(t, ArtifactOptions{}, filepath.Join(dir, "d"))
	slices.SortFunc(sets[0].Files[1].Members, func(a, b artifact.File) int { return strings.Compare(a.Path, b.Path) })
	tells(t, sets, at+"/B.class, "+at+"/app.jar +!/A.class +!/lib/in.jar!/In.class +!/lib/libx.so, "+at+"/bad.jar ERR")
	if head := sets[0].Files[0].Head; string(head) != class(61)[:8] {
		t.Errorf("of a class there is %q", head)
	}
	tells(t, readArtifacts(t, ArtifactOptions{}, filepath.Join(dir, "d/bad.jar")), at+"/bad.jar ERR")
	inFolder(t, dir, map[string]string{"in.jar": inner})
	tells(t, readArtifacts(t, ArtifactOptions{}, filepath.Join(dir, "in.jar")), at+"/in.jar data +!/In.class")
}

func TestReadPackages(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	inFolder(t, dir, map[string]string{"d/broken.deb": "no package", "d/run": "#!/bin/sh\n"})
	for _, p := range []struct{ name, version, architecture string }{
		{"app", "1", "amd64"}, {"lib", "1", "amd64"}, {"app", "2", "amd64"}, {"app", "1", "arm64"}, {"conf", "1", "all"}} {
		inFolder(t, filepath.Join(dir, "p"), map[string]string{"DEBIAN/control": fmt.Sprintf("Package: %s\nVersion: %s\nArchitecture: %s\nMaintainer: x\nDescription: x\n",
			p.name, p.version, p.architecture), "usr/bin/" + p.name: "#!/bin/sh\n"})
		inDir(t, dir, "dpkg-deb", "--root-owner-group", "-Znone", "-b", "p", fmt.Sprintf("d/%s_%s_%s.deb", p.name, p.version, p.architecture))
		if err := os.RemoveAll(filepath.Join(dir, "p/usr")); err != nil {
			t.Fatal(err)
		}
	}
	at := "/.stead-artifact"
	all := []string{"app_1_amd64.deb", "conf_1_all.deb", "lib_1_amd64.deb", "app_2_amd64.deb", "app_1_arm64.deb"}
	for i, name := range all {
		all[i] = filepath.Join(dir, "d", name)
	}
	tells(t, readArtifacts(t, ArtifactOptions{}, all...), "(app), (conf), (lib), /usr/bin/app, /usr/bin/conf, /usr/bin/lib", "(app), /usr/bin/app", "(app), /usr/bin/app")
	tells(t, readArtifacts(t, ArtifactOptions{}, filepath.Join(dir, "d")), at+"/run", "(app), (conf), (lib), /usr/bin/app, /usr/bin/conf, /usr/bin/lib",
		"(app), /usr/bin/app", "(app), /usr/bin/app", at+"/broken.deb ERR")
}

func TestReadWheel(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	inFolder(t, dir, map[string]string{"d/app.whl": zipOf(t, map[string]string{"app-1.dist-info/WHEEL": "Tag: py3-none-any\n",
		"app-1.dist-info/METADATA": "Name: app\nVersion: 1\n", "app-1.data/scripts/app": "#!python\nimport app\n"})})
	inDir(t, dir, "tar", "-czf", "d.tgz", "d")
	sets := readArtifacts(t, ArtifactOptions{}, filepath.Join(dir, "d.tgz"))
	tells(t, sets, "(app), /.stead-artifact/d/app.whl!/bin/app")
	if head := string(sets[0].Files[0].Head); head != "#!/usr/bin/env python3\nimport app\n" {
		t.Errorf("its script begins with %q", head)
	}
}

func TestDamagedPackageHasOneAnswer(t *testing.T) {
	dir := t.TempDir()
	inFolder(t, dir, map[string]string{
		"app/DEBIAN/control": "Package: app\nVersion: 1\nArchitecture: amd64\nMaintainer: x\nDescription: x\n",
		"app/usr/bin/run":    "#!/bin/sh\n",
	})
	inDir(t, dir, "dpkg-deb", "-b", "app", "app.deb")
	whole, err := os.ReadFile(filepath.Join(dir, "app.deb"))
	if err != nil {
		t.Fatal(err)
	}
	inFolder(t, dir, map[string]string{"cut.deb": string(whole[:len(whole)-40])})
	for _, set := range readArtifacts(t, ArtifactOptions{}, filepath.Join(dir, "cut.deb")) {
		if len(set.Packages) > 0 {
			t.Errorf("what is cut off counts as a package: %v", set.Packages)
		}
		if !slices.ContainsFunc(set.Files, func(f artifact.File) bool { return f.Err != nil && strings.HasSuffix(f.Name, "cut.deb") }) {
			t.Errorf("nothing says that it is cut off: %v", set.Files)
		}
	}
}
