package main

import (
	"bytes"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/stead-env/stead/"

// arrows are the imports within the module that each package may have. "x/..."
// stands for x and all below it.
var arrows = map[string][]string{
	"cmd/stead":        {"tui", "envs/...", "runtime/...", "snapshot/..."},
	"cmd/stead-bundle": {"snapshot", "snapshot/host", "snapshot/pkgdb", "snapshot/scrub"},
	"tui":              {"envs/...", "runtime", "snapshot"},
	"envs": {"envs/archive", "envs/image", "envs/tools", "envs/artifact/...", "envs/lock", "envs/store",
		"runtime", "snapshot"},
	"envs/archive":  {"envs/lock", "envs/store", "snapshot"},
	"envs/image":    {"envs/lock", "envs/store", "snapshot"},
	"envs/tools":    {"envs/lock", "envs/store", "snapshot"},
	"envs/artifact": {"envs/artifact/...", "envs/lock", "envs/store", "snapshot"},

	// An artifact's way to its verdict.
	"envs/artifact/content": {},
	"envs/artifact/object":  {},
	"envs/artifact/system":  {"envs/artifact/object", "envs/store", "snapshot"},
	"envs/artifact/loader":  {"envs/artifact/object", "envs/artifact/system"},

	"envs/lock":          {"snapshot"},
	"envs/store":         {"snapshot"},
	"snapshot":           {},
	"snapshot/host":      {"snapshot"},
	"snapshot/pkgdb":     {"snapshot"},
	"snapshot/scrub":     {"snapshot"},
	"runtime":            {},
	"runtime/session":    {"runtime"},
	"runtime/rootless":   {"runtime", "runtime/session"},
	"runtime/oci":        {"runtime", "runtime/session"},
	"runtime/containerd": {"runtime", "runtime/session"},
	"runtime/chroot":     {"runtime", "runtime/session"},
	"runtime/machine":    {"runtime", "runtime/session"},
}

// Driver packages are named in cmd and nowhere else but in their own tests.
func TestArrows(t *testing.T) {
	for dir, files := range packages(t) {
		rule, ok := arrows[dir]
		if strings.HasSuffix(dir, "test") || strings.HasPrefix(dir, "testdata/") {
			continue // conformance suites and checks
		}
		if !ok {
			t.Errorf("%s has no arrows: is the package part of the layout?", dir)
			continue
		}
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			for _, imported := range imports(t, file) {
				inside, ok := strings.CutPrefix(imported, module)
				if ok && !allowed(rule, inside) {
					t.Errorf("%s imports %s", file, inside)
				}
			}
		}
	}
}

func allowed(rule []string, pkg string) bool {
	for _, r := range rule {
		if top, all := strings.CutSuffix(r, "/..."); pkg == r || all && (pkg == top || strings.HasPrefix(pkg, top+"/")) {
			return true
		}
	}
	return false
}

func TestLayout(t *testing.T) {
	for dir := range packages(t) {
		for _, part := range strings.Split(dir, "/") {
			switch part {
			case "internal", "pkg", "util", "utils", "common", "types", "manager", "helpers":
				t.Errorf("there is no place for %s", dir)
			}
		}
	}
	data, err := os.ReadFile("main.go")
	if err != nil {
		t.Fatal(err)
	}
	if n := bytes.Count(data, []byte("\n")); n > 40 {
		t.Errorf("main.go has %d lines, and 40 are enough", n)
	}
}

// One function speaks to the library for home folders, which is archived.
func TestOneHome(t *testing.T) {
	var users []string
	for _, files := range packages(t) {
		for _, file := range files {
			for _, imported := range imports(t, file) {
				if imported == "github.com/mitchellh/go-homedir" {
					users = append(users, file)
				}
			}
		}
	}
	if len(users) != 1 {
		t.Errorf("go-homedir is imported by %v", users)
	}
}

// packages are the Go files of the module by folder.
func packages(t *testing.T) map[string][]string {
	t.Helper()
	root := filepath.Join("..", "..")
	files := map[string][]string{}
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() && p != root && (strings.HasPrefix(name, ".") || name == "testdata" && filepath.Dir(p) != root) {
			return fs.SkipDir
		}
		if d.IsDir() || path.Ext(name) != ".go" {
			return nil
		}
		rel, err := filepath.Rel(root, filepath.Dir(p))
		files[filepath.ToSlash(rel)] = append(files[filepath.ToSlash(rel)], p)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func imports(t *testing.T, file string) (list []string) {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
	if err != nil {
		t.Fatal(err)
	}
	for _, spec := range f.Imports {
		name, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, name)
	}
	return list
}
