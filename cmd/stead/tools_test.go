package main

import (
	"encoding/json"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/stead-env/stead/envs"
)

// toolsApp is a project that needs each of the tools that are added for it.
const toolsApp = `
-- stead.toml --
# What Acme's frontend is built with.
targets = ["acme"] # in production

[build]
command = ["sh", "-e", "build.sh"]
artifacts = ["out/*"]
-- build.sh --
mkdir -p out
g++ -O2 hello.cc -o out/hello
cc tls.c -o out/tls $(pkg-config --cflags --libs openssl)
cc pq.c -o out/pq $(pkg-config --cflags --libs libpq)
cmake -S cm -B cm/build
cmake --build cm/build
cp cm/build/cm out/
cc -shared -fPIC $(python3-config --includes) answer.c -o out/answer.so
-- hello.cc --
#include <iostream>
int main() { std::cout << "C++" << std::endl; }
-- tls.c --
#include <stdio.h>
#include <openssl/crypto.h>
int main(void) { puts(OpenSSL_version(OPENSSL_VERSION)); return 0; }
-- pq.c --
#include <stdio.h>
#include <libpq-fe.h>
int main(void) { printf("libpq %d\n", PQlibVersion()); return 0; }
-- cm/CMakeLists.txt --
cmake_minimum_required(VERSION 3.10)
project(cm C)
add_executable(cm main.c)
-- cm/main.c --
#include <stdio.h>
int main(void) { puts("cmake"); return 0; }
-- answer.c --
#include <Python.h>
static PyObject *answer(PyObject *self, PyObject *args) { return PyLong_FromLong(42); }
static PyMethodDef methods[] = {{"answer", answer, METH_NOARGS, ""}, {NULL, NULL, 0, NULL}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "answer", "", -1, methods};
PyMODINIT_FUNC PyInit_answer(void) { return PyModule_Create(&module); }
`

var toolsWishes = []string{"build-essential", "libssl-dev", "libpq-dev", "pkg-config", "cmake", "python3-dev"}

// toolsHost is a snapshot of a made host, and a project for it.
func toolsHost(t *testing.T, name, app string) *real {
	t.Parallel()
	r := realTools(t)
	r.made = strings.TrimSpace(r.must(exec.Command("../../testdata/hosts/cached", name)))
	r.host = filepath.Join(r.made, "host")
	r.must(r.command("fleet", "store", "snapshot", r.host, "acme", "--yes"))
	for _, f := range txtar.Parse([]byte(app)).Files {
		at := r.path("project", f.Name)
		if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(at, f.Data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return r
}

func (r *real) read(elem ...string) string {
	r.t.Helper()
	data, err := os.ReadFile(r.path(elem...))
	if err != nil {
		r.t.Fatal(err)
	}
	return string(data)
}

// fails runs a command that has to end with a code, and returns what it told.
func (r *real) fails(code int, cmd *exec.Cmd, told ...string) {
	r.t.Helper()
	out, errs, got := result(cmd)
	for _, want := range told {
		if got != code || !strings.Contains(errs, want) {
			r.t.Errorf("%s: exit code %d, want %d and %q\n%s%s", strings.Join(cmd.Args[1:], " "), got, code, want, out, errs)
		}
	}
}

// A server without a compiler gets one, and stays what it is.
func TestTools(t *testing.T) {
	r := toolsHost(t, "bare-host", toolsApp)
	for _, step := range []struct {
		name string
		fn   func(r *real)
	}{
		{"add", testToolsAdd}, {"build", testToolsBuild}, {"base", testToolsBase}, {"another store", testToolsElsewhere},
		{"locked", testToolsLocked},
	} {
		if !t.Run(step.name, func(t *testing.T) { inner := *r; inner.t = t; step.fn(&inner) }) {
			t.FailNow() // each needs what the one before made
		}
	}
}

func testToolsAdd(r *real) {
	var done []envs.Updated
	r.answer(r.command("fleet", "store", append([]string{"tools", "add", "--json"}, toolsWishes...)...), &done)
	if len(done) != 1 || done[0].Tools < 20 || len(done[0].Change) != done[0].Tools || done[0].Sole == 0 {
		r.t.Errorf("add answered %+v", done)
	}
	toml := r.read("project", "stead.toml")
	want := "targets = [\"acme\"] # in production\ntools = [\"" + strings.Join(toolsWishes, `", "`) + "\"]\n"
	if !strings.HasPrefix(toml, "# What Acme's frontend is built with.\n"+want+"\n[build]") {
		r.t.Errorf("stead.toml became\n%s", toml)
	}
	// What is still right stays, to the byte, and the archives aren't asked again.
	before := r.read("project", "stead.lock")
	r.must(r.command("fleet", "store", "update"))
	r.must(r.command("fleet", "store", "update", "--renew"))
	if after := r.read("project", "stead.lock"); after != before {
		r.t.Errorf("nothing changed, and stead.lock became\n%s", after)
	}
	if out := r.must(r.command("fleet", "store", "tools", "why", "libc6-dev")); !strings.Contains(out, "build-essential (asked for) → build-essential → libc6-dev") {
		r.t.Errorf("why answered %s", out)
	}
	out := r.must(r.command("fleet", "store", "push"))
	if !strings.Contains(out, "tools for acme@1: 2 blobs pushed") {
		r.t.Errorf("push answered %s", out)
	}
}

func testToolsBuild(r *real) {
	r.must(r.command("fleet", "store", "build", "--locked", "-q"))
	inside := func(args ...string) string {
		return r.must(r.command("fleet", "store", append([]string{"run", "--no-tools", "--locked", "acme", "--"}, args...)...))
	}
	for program, want := range map[string]string{"hello": "C++", "tls": "OpenSSL 1.1.1", "pq": "libpq 13", "cm": "cmake"} {
		if got := inside("dist/acme/" + program); !strings.HasPrefix(got, want) {
			r.t.Errorf("%s says %q without tools", program, got)
		}
	}
	if got := inside("sh", "-c", "cd dist/acme && python3 -c 'import answer; print(answer.answer())'"); got != "42\n" {
		r.t.Errorf("the module answers %q without tools", got)
	}
	r.fails(127, r.command("fleet", "store", "run", "--no-tools", "acme", "--", "cc", "--version"), "no such command")
	var told struct {
		Predicate struct {
			BuildDefinition struct {
				ResolvedDependencies []struct{ Name string } `json:"resolvedDependencies"`
			} `json:"buildDefinition"`
		} `json:"predicate"`
	}
	if err := json.Unmarshal([]byte(r.read("project", "dist", "acme", "provenance.intoto.json")), &told); err != nil {
		r.t.Fatal(err)
	}
	if !slices.ContainsFunc(told.Predicate.BuildDefinition.ResolvedDependencies, func(d struct{ Name string }) bool { return d.Name == "tools" }) {
		r.t.Errorf("provenance doesn't name the tools: %+v", told)
	}
}

// same wants two folders to be equal, but for the times of folders.
func (r *real) same(a, b string) {
	r.t.Helper()
	list := func(dir string) string {
		cmd := exec.Command("sh", "-ec", `{ find . ! -type d -printf '%P %y %m %U %G %s %T@ %l\n'; find . -type d -printf '%P %m %U %G\n'
			find . -type f -exec sha256sum {} +; } | LC_ALL=C sort`)
		cmd.Dir = dir
		return r.must(cmd)
	}
	if x, y := list(a), list(b); x != y || x == "" {
		r.t.Errorf("%s and %s differ", a, b)
	}
}

// layers are the folders of the env's root and of its tools in a store.
func (r *real) layers(store string, env ...string) (root, tools string) {
	r.t.Helper()
	var answers []struct{ Root, Tools string }
	cmd := r.command("fleet", store, "pull", "--locked", "--json")
	cmd.Env = append(cmd.Env, env...)
	r.answer(cmd, &answers)
	if len(answers) != 1 || answers[0].Root == "" || answers[0].Tools == "" {
		r.t.Fatalf("pull answered %+v", answers)
	}
	return answers[0].Root, answers[0].Tools
}

// No package of the base moved, and its package manager is content. What of the base the
// tools cover is counted here without stead.
func testToolsBase(r *real) {
	root, tools := r.layers("store")
	var shadows []string
	err := filepath.WalkDir(tools, func(p string, d fs.DirEntry, err error) error {
		if err != nil || p == tools {
			return err
		}
		rel, err := filepath.Rel(tools, p)
		if err != nil {
			return err
		}
		var over, under syscall.Stat_t
		if err := syscall.Lstat(p, &over); err != nil {
			return err
		}
		switch err := syscall.Lstat(filepath.Join(root, rel), &under); {
		case err != nil:
		case !d.IsDir():
			shadows = append(shadows, rel)
		case over.Mode != under.Mode || over.Uid != under.Uid || over.Gid != under.Gid:
			r.t.Errorf("%s is %o of %d:%d in the layer, and %o of %d:%d below it", rel, over.Mode, over.Uid, over.Gid, under.Mode, under.Uid, under.Gid)
		}
		return nil
	})
	if err != nil {
		r.t.Fatal(err)
	}
	for _, p := range shadows {
		if !strings.HasPrefix(p, "var/lib/dpkg/") && !strings.HasPrefix(p, "etc/alternatives/") && p != "etc/ld.so.cache" {
			r.t.Errorf("the tools cover the base's own %s", p)
		}
	}
	listed := strings.Fields(strings.ReplaceAll(r.must(r.command("fleet", "store", "tools", "list", "--shadows")), "acme  ", ""))
	if slices.Sort(shadows); !slices.Equal(shadows, listed) {
		r.t.Errorf("the tools cover %q, and are listed to cover %q", shadows, listed)
	}
	run := func(args ...string) string {
		return r.must(r.command("fleet", "store", append([]string{"run", "--root", "--locked"}, args...)...))
	}
	query := []string{"acme", "--", "dpkg-query", "-W", "-f", "${Package} ${Architecture} ${Version} ${Status}\n"}
	with := run(query...)
	for line := range strings.Lines(run(append([]string{"--no-tools"}, query...)...)) {
		if !strings.Contains(with, line) {
			r.t.Errorf("with tools there isn't any more: %s", line)
		}
	}
	if out := run("acme", "--", "sh", "-c", "dpkg --audit && apt-get check -q"); strings.Contains(out, "not ") || strings.Contains(out, "The following") {
		r.t.Errorf("the package manager says %s", out)
	}
}

// Whoever has stead.lock and the fleet gets the same tools, with nothing that could run a
// script.
func testToolsElsewhere(r *real) {
	_, here := r.layers("store")
	_, there := r.layers("other", "PATH=/nonexistent")
	if filepath.Base(filepath.Dir(here)) != filepath.Base(filepath.Dir(there)) {
		r.t.Errorf("the layers are %s and %s", here, there)
	}
	r.same(here, there)
}

func testToolsLocked(r *real) {
	toml := r.read("project", "stead.toml")
	write := func(text string) {
		if err := os.WriteFile(r.path("project", "stead.toml"), []byte(text), 0o644); err != nil {
			r.t.Fatal(err)
		}
	}
	lock := r.read("project", "stead.lock")
	write(strings.Replace(toml, `"cmake"`, `"gdb", "patch"`, 1))
	defer write(toml)
	differs := "stead.lock doesn't match for acme: stead.toml asks for tools that aren't in it: gdb, patch, and it has tools that stead.toml doesn't ask for: cmake"
	r.fails(1, r.command("fleet", "store", "build", "--locked"), differs, "hint: stead update acme")
	ci := r.command("fleet", "store", "run", "acme", "--", "true")
	ci.Env = append(ci.Env, "STEAD_LOCKED=1")
	r.fails(125, ci, differs)
	if now := r.read("project", "stead.lock"); now != lock {
		r.t.Error("--locked changed stead.lock")
	}
}

// A kept session goes on with the tools that it was begun with.
func testToolsSessions(r *real) {
	toml := r.read("project", "stead.toml")
	run := func(args ...string) *exec.Cmd {
		return r.command("fleet", "store", append([]string{"run", "--root", "--session", "work"}, args...)...)
	}
	if _, errs, code := result(run("acme", "--", "sh", "-c", "make --version >/mine")); code != 0 || !strings.Contains(errs, "with --no-tools another one") {
		r.t.Errorf("the session began with code %d\n%s", code, errs)
	}
	r.must(r.command("fleet", "store", "tools", "remove", "file:/usr/bin/make"))
	out, errs, code := result(run("--", "sh", "-c", "make --version; cat /mine; exit 7"))
	if code != 7 || strings.Count(out, "GNU Make") != 2 || !strings.Contains(errs, "goes on with the tools that it was begun with") {
		r.t.Errorf("the session went on with code %d\n%s%s", code, out, errs)
	}
	r.fails(125, run("--no-tools", "--", "true"), "was begun with tools", "hint: take another name")
	r.fails(1, r.command("fleet", "store", "snapshot", "session:work", "acme", "--yes"), "has a project's tools")
	r.fails(127, r.command("fleet", "store", "run", "acme", "--", "make", "--version"), "no such command")
	if now := r.read("project", "stead.toml"); strings.Contains(now, "make") || !strings.Contains(toml, "make") {
		r.t.Errorf("stead.toml became\n%s", now)
	}
}

// Where the base is behind its archives, tools are of its own age; where nobody has them
// any more, that is said.
func TestToolsBehind(t *testing.T) {
	r := toolsHost(t, "behind-host", "-- stead.toml --\ntargets = [\"acme\"]\n")
	r.fails(1, r.command("fleet", "store", "tools", "add", "libexpat1-dev", "libssl-dev"),
		"choosing tools for libssl-dev: libssl-dev 1.1.1w-", "needs libssl1.1 (= 1.1.1w-", "acme has libssl1.1 1.1.1k-1+deb11u9, which stays",
		"hint: libssl-dev 1.1.1k-1+deb11u9 would fit")
	if toml := r.read("project", "stead.toml"); toml != "targets = [\"acme\"]\n" {
		t.Errorf("a wish that can't be granted was written: %s", toml)
	}
	if _, err := os.Lstat(r.path("project", "stead.lock")); err == nil {
		t.Error("there is a stead.lock, and no answer")
	}
	r.must(r.command("fleet", "store", "tools", "add", "libexpat1-dev", "pkgconfig:expat", "file:/usr/bin/make", "file:/bin/sh"))
	t.Run("sessions", func(t *testing.T) { inner := *r; inner.t = t; testToolsSessions(&inner) })
	var list []envs.TargetTools
	r.answer(r.command("fleet", "store", "tools", "list", "--json"), &list)
	base := strings.TrimSpace(r.must(exec.Command("chroot", r.host, "dpkg-query", "-W", "-f", "${Version}", "libexpat1")))
	if len(list) != 1 || len(list[0].Wishes) != 3 || !list[0].Wishes[0].Base || list[0].Wishes[1].Version != base || list[0].Wishes[2].Package != "libexpat1-dev" {
		t.Errorf("the base has libexpat1 %s, and the tools are %+v", base, list)
	}
	// Somebody forgot to push: the scripts run again, and make the same.
	lock := r.read("project", "stead.lock")
	_, here := r.layers("store")
	r.must(exec.Command("cp", "-a", r.path("store"), r.path("other")))
	forgetTools(r, "other", lock)
	_, there := r.layers("other")
	r.same(here, there)
	if now := r.read("project", "stead.lock"); now != lock {
		t.Errorf("stead.lock became\n%s", now)
	}
	// What isn't the same is said to be another one.
	forgetTools(r, "other", lock)
	damaged := strings.Replace(lock, "delta = { sha256 = \"", "delta = { sha256 = \"0", 1)
	i := strings.Index(damaged, "delta = { sha256 = \"") + len("delta = { sha256 = \"")
	damaged = damaged[:i+64] + damaged[i+65:]
	if err := os.WriteFile(r.path("project", "stead.lock"), []byte(damaged), 0o644); err != nil {
		t.Fatal(err)
	}
	r.fails(1, r.command("fleet", "other", "pull", "--locked"), "run again they made", "hint: whoever ran stead update has it")
}

// forgetTools removes from a store what scripts of tools made, and the layer.
func forgetTools(r *real, store, lock string) {
	r.t.Helper()
	_, rest, _ := strings.Cut(lock, "delta = { sha256 = \"")
	delta := rest[:64]
	for _, pattern := range []string{"layers/*", "trees/" + delta + "*", "blobs/sha256/" + delta + "*"} {
		found, err := filepath.Glob(r.path(store, pattern))
		if err != nil {
			r.t.Fatal(err)
		}
		for _, p := range found {
			if err := os.RemoveAll(p); err != nil {
				r.t.Fatal(err)
			}
		}
	}
}
