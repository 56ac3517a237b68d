package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stead-env/stead/envs/evidencetest"
	"github.com/stead-env/stead/envs/lock"
)

// real is the program as it was built, on a real host. Nothing in it is made up.
type real struct {
	t          *testing.T
	stead      string // the program
	exact      string // testdata/exact, which shares no code with it
	host, made string // a Debian 11 host, and the folder around it
	dir        string // everything that is written
}

// realHost makes what the tests of the real thing share, or skips.
func realHost(t *testing.T) *real {
	r := realTools(t)
	r.made = strings.TrimSpace(r.must(exec.Command("../../testdata/hosts/cached", "demo-host")))
	r.host = filepath.Join(r.made, "host")
	return r
}

// realTools is realHost without a host.
func realTools(t *testing.T) *real {
	switch {
	case testing.Short():
		t.Skip("the real thing takes a minute")
	case os.Getuid() != 0:
		t.Skip("making a production host needs root")
	}
	for _, program := range []string{"mmdebstrap", "runc", "zstd", "xz"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("%v: see .ci/setup", err)
		}
	}
	r := &real{t: t, dir: t.TempDir()}
	r.stead, r.exact = r.path("stead"), r.path("exact")
	program(t, "stead", r.stead)
	program(t, "exact", r.exact)
	return r
}

func (r *real) path(elem ...string) string { return filepath.Join(append([]string{r.dir}, elem...)...) }

// must runs a command that has to go well, and returns what it wrote to stdout.
func (r *real) must(cmd *exec.Cmd) string {
	r.t.Helper()
	out, errs, code := result(cmd)
	if code != 0 {
		r.t.Fatalf("%s: exit code %d\n%s%s", strings.Join(cmd.Args, " "), code, out, errs)
	}
	return out
}

// result runs a command; code is -1 where it could not be started.
func result(cmd *exec.Cmd) (stdout, stderr string, code int) {
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return out.String(), err.Error(), -1
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// command is stead with its own fleet and store, in a folder that is a project.
func (r *real) command(fleet, store string, args ...string) *exec.Cmd {
	cmd := exec.Command(r.stead, args...)
	cmd.Dir = r.path("project")
	if err := os.MkdirAll(cmd.Dir, 0o755); err != nil {
		r.t.Fatal(err)
	}
	cmd.Env = append(os.Environ(), "STEAD_FLEET="+r.path(fleet), "STEAD_STORE="+r.path(store))
	return cmd
}

// answer runs stead and decodes what it answered as JSON.
func (r *real) answer(cmd *exec.Cmd, v any) {
	r.t.Helper()
	out := r.must(cmd)
	if err := json.Unmarshal([]byte(out), v); err != nil {
		r.t.Fatalf("%s: %v\n%s", strings.Join(cmd.Args, " "), err, out)
	}
}

// pull makes the env of acme in a store and returns its root.
func (r *real) pull(store string, env ...string) string {
	r.t.Helper()
	var answers []struct{ Root string }
	cmd := r.command("fleet", store, "pull", "acme", "--json")
	cmd.Env = append(cmd.Env, env...)
	r.answer(cmd, &answers)
	if len(answers) != 1 || answers[0].Root == "" {
		r.t.Fatalf("pull answered %v", answers)
	}
	return answers[0].Root
}

// fingerprint is everything that a write to a folder would change, but for atime.
func fingerprint(t *testing.T, root string) string {
	t.Helper()
	hash := sha256.New()
	err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		var st syscall.Stat_t
		if err != nil || syscall.Lstat(path, &st) != nil {
			return errors.Join(err, syscall.Lstat(path, &st))
		}
		fmt.Fprintln(hash, path, st.Ino, st.Mode, st.Uid, st.Gid, st.Size, st.Mtim, st.Ctim)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x", hash.Sum(nil))
}

func TestReal(t *testing.T) {
	t.Parallel()
	r := realHost(t)
	sub := func(name string, fn func(r *real)) {
		if !t.Run(name, func(t *testing.T) { inner := *r; inner.t = t; fn(&inner) }) {
			t.FailNow() // each needs what the one before made
		}
	}
	sub("snapshot", testSnapshot)
	sub("ssh", testSSH)
	sub("image", testImage)
	sub("pull", testPull)
	sub("secrets", testSecrets)
	sub("run", testRun)
	sub("named sessions", testKept)
	sub("named sessions, killed", testKeptKilled)
	sub("build", testBuild)
	sub("fsck", testFsck)
}

// The same host is the same release, for whoever looks at it, and is never written to.
func testSnapshot(r *real) {
	before := fingerprint(r.t, r.host)
	type answer struct {
		Identity, Rootfs string
		New              bool
		Packages         map[string]int
	}
	var first, again, elsewhere answer
	r.answer(r.command("fleet", "lead", "snapshot", r.host, "acme", "--yes", "--json"), &first)
	r.answer(r.command("fleet", "lead", "snapshot", r.host, "acme", "--yes", "--json"), &again)
	r.answer(r.command("fleet-2", "lead-2", "snapshot", r.host, "acme", "--yes", "--json"), &elsewhere)
	if !first.New || again.New || again.Identity != first.Identity {
		r.t.Errorf("an unchanged host made a release: %+v, then %+v", first, again)
	}
	if elsewhere.Identity != first.Identity || elsewhere.Rootfs != first.Rootfs {
		r.t.Errorf("two stores, two identities: %+v and %+v", first, elsewhere)
	}
	if first.Packages["repacked"] != 1 || first.Packages["exact"] < 200 || first.Packages["listed"] != 0 {
		r.t.Errorf("one package is in no archive, and all others are; got %v", first.Packages)
	}
	if locks, _ := filepath.Glob(r.path("fleet", "acme", "*.lock")); len(locks) != 1 {
		r.t.Errorf("got the locks %v", locks)
	}
	if fingerprint(r.t, r.host) != before {
		r.t.Error("the host was written to")
	}
}

// What comes back is the host, whatever ran at once, and wherever.
func testPull(r *real) {
	var manifests [][]byte
	for store, procs := range map[string]string{"one": "1", "four": "4", "lead": "2"} {
		root := r.pull(store, "GOMAXPROCS="+procs)
		report, _, code := result(exec.Command(r.exact, "-secrets", filepath.Join(r.made, "SECRETS"), r.host, root))
		if code != 0 {
			r.t.Errorf("store %s:\n%s", store, report)
		} else {
			r.t.Logf("store %s: %s", store, report)
		}
		found, err := filepath.Glob(r.path(store, "roots", "*", "manifest*"))
		if err != nil || len(found) != 1 {
			r.t.Fatalf("manifests %v, %v", found, err)
		}
		content, err := os.ReadFile(found[0])
		if err != nil {
			r.t.Fatal(err)
		}
		manifests = append(manifests, content)
	}
	for _, m := range manifests {
		if !bytes.Equal(m, manifests[0]) {
			r.t.Error("two stores made different roots of one lock")
		}
	}
}

// What was planted is nowhere that stead wrote.
func testSecrets(r *real) {
	dirs := []string{"-scan", "-secrets", filepath.Join(r.made, "SECRETS")}
	for _, dir := range []string{"fleet", "fleet-2", "lead", "lead-2", "one"} {
		dirs = append(dirs, r.path(dir))
	}
	r.t.Log(r.must(exec.Command(r.exact, dirs...)))
}

func testRun(r *real) {
	tests := []struct {
		command []string
		code    int
		stdout  string // some of it
	}{
		{[]string{"cat", "/etc/debian_version"}, 0, "11."},
		{[]string{"ldd", "--version"}, 0, "2.31"},
		{[]string{"pwd"}, 0, r.path("project")},
		{[]string{"sh", "-c", "echo out; exit 7"}, 7, "out"},
		{[]string{"sh", "-c", "kill -TERM $$"}, 143, ""},
		{[]string{"printf", "%s|", "a b", `"$HOME"`, "new\nline"}, 0, "a b|\"$HOME\"|new\nline|"},
		{[]string{"/usr/local/bin/acme"}, 0, "acme"},
		{[]string{"/etc/debian_version"}, 126, ""},
		{[]string{"no-such-program"}, 127, ""},
	}
	for _, test := range tests {
		cmd := r.command("fleet", "one", append([]string{"run", "acme", "--"}, test.command...)...)
		out, errs, code := result(cmd)
		if code != test.code || !strings.Contains(out, test.stdout) {
			r.t.Errorf("run %q: code %d, want %d; stdout %q, want %q; stderr %q", test.command, code, test.code, out, test.stdout, errs)
		}
	}
	root := r.pull("one")
	r.must(r.command("fleet", "one", "run", "--root", "acme", "--", "sh", "-c", "rm -rf /usr/bin/curl && echo x >/etc/passwd"))
	r.must(exec.Command(r.exact, "-secrets", filepath.Join(r.made, "SECRETS"), r.host, root))
}

func testBuild(r *real) {
	r.must(exec.Command("cp", "-r", "../../testdata/demo/app/.", r.path("project")))
	r.must(r.command("fleet", "one", "build"))
	found := strings.Fields(r.must(exec.Command("find", r.path("project", "dist", "acme"), "-name", "digest", "-type", "f")))
	if len(found) != 1 {
		r.t.Fatalf("artifacts %v", found)
	}
	out := r.must(r.command("fleet", "one", "run", "acme", "--", found[0], "hello"))
	if want := fmt.Sprintf("%x", sha256.Sum256([]byte("hello"))); !strings.Contains(out, want) || !strings.Contains(out, "OpenSSL 1.1.1") {
		r.t.Errorf("the artifact wrote %q", out)
	}
	if _, err := os.Lstat(r.path("project", "build")); err == nil {
		r.t.Error("the build wrote into the project")
	}
	r.everyPackage(r.path("project", "dist", "acme"))
}

// everyPackage checks that the evidence beside artifacts names all packages of acme by
// the digests that its lock has.
func (r *real) everyPackage(dist string) {
	r.t.Helper()
	text, err := os.ReadFile(r.path("fleet", "acme", "1.lock"))
	if err != nil {
		r.t.Fatal(err)
	}
	l, err := lock.Read(text)
	if err != nil {
		r.t.Fatal(err)
	}
	_, p, bom := evidencetest.Dist(r.t, dist)
	proven, contained, licensed := map[string]bool{}, map[string]bool{}, 0
	for _, d := range p.BuildDefinition.ResolvedDependencies {
		proven[d.Name+" "+d.Digest["sha256"]] = strings.HasPrefix(d.Uri, "pkg:deb/debian/")
	}
	for _, c := range *bom.Components {
		if c.Hashes != nil {
			contained[c.Name+" "+(*c.Hashes)[0].Value] = true
		}
		if c.Licenses != nil {
			licensed++
		}
	}
	for _, k := range l.Packages {
		if id := k.Name + " " + k.SHA256; k.HasFile() && k.Rootfs != "out" && !(proven[id] && contained[id]) {
			r.t.Errorf("%s is missing: in the provenance %v, in the list %v", id, proven[id], contained[id])
		}
	}
	if licensed < 50 {
		r.t.Errorf("of %d packages %d have known licenses", len(l.Packages), licensed)
	}
}

// fsck names what was changed behind stead's back, in an env and in the store.
func testFsck(r *real) {
	r.must(r.command("fleet", "four", "fsck", "acme"))
	root := r.pull("four")
	changes := []struct {
		path string
		do   func(path string) error
	}{
		{"usr/bin/env", func(path string) error { return os.Chmod(path, 0o755|os.ModeSetuid) }},
		{"etc/acme/agent.conf", func(path string) error { return os.WriteFile(path, []byte("changed"), 0o644) }},
		{"opt/acme/share/link", os.Remove},
		{"opt/acme/intruder", func(path string) error { return os.Mkdir(path, 0o755) }},
	}
	for _, change := range changes {
		if err := change.do(filepath.Join(root, change.path)); err != nil {
			r.t.Fatal(err)
		}
	}
	out, errs, code := result(r.command("fleet", "four", "fsck", "acme"))
	if code != exitNegative {
		r.t.Errorf("exit code %d, want %d", code, exitNegative)
	}
	for _, change := range changes {
		if !strings.Contains(out+errs, change.path) {
			r.t.Errorf("%s isn't named in\n%s%s", change.path, out, errs)
		}
	}
	if _, _, code := result(r.command("fleet", "four", "fsck", "--drop", "acme")); code != exitNegative {
		r.t.Errorf("fsck --drop: exit code %d, want %d", code, exitNegative)
	}
	r.pull("four")
	r.must(r.command("fleet", "four", "fsck", "acme"))
}
