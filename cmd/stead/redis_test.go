package main

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/stead-env/stead/envs"
	"github.com/stead-env/stead/envs/evidencetest"
	"github.com/stead-env/stead/envs/lock"
	"github.com/stead-env/stead/runtime/enginetest"
	"github.com/stead-env/stead/runtime/rootless/rootlesstest"
)

// redisProject builds a database server for three releases of Debian. What debuggers are
// told, which has the folder in it, is left out but for one of them.
const redisProject = `fleet = "../fleet"
targets = ["bullseye", "bookworm", "trixie"]
tools = ["gcc", "libc6-dev", "make"]

[build]
command = ["make", "-C", "src", "MALLOC=libc", "OPTIMIZATION=-O0", "DEBUG=", "DEBUG_FLAGS=", "redis-server", "redis-cli"]
artifacts = ["src/redis-server", "src/redis-cli"]

[target.bookworm]
command = ["make", "-C", "src", "MALLOC=libc", "OPTIMIZATION=-O0", "redis-server", "redis-cli"]
`

var redisTargets = []string{"bullseye", "bookworm", "trixie"}

// redis is the project, and what came of its first build.
type redis struct {
	*real
	userlands string
	first     map[string]envs.Built // by target, as tools
	tools     map[string]envs.TargetTools
}

// The sources of a Debian package build at once for three releases that have no compiler,
// and what was built starts there without tools. Others build the same of it, and run
// no script for that.
func TestRedis(t *testing.T) {
	r := &redis{real: realTools(t), first: map[string]envs.Built{}, tools: map[string]envs.TargetTools{}}
	r.project()
	sub := func(name string, fn func(r *redis)) {
		if !t.Run(name, func(t *testing.T) { fn(r.with(t)) }) {
			t.FailNow() // each needs what the one before made
		}
	}
	sub("build", testRedisBuild)
	t.Run("after", func(t *testing.T) {
		for name, fn := range map[string]func(r *redis){"start": testRedisStarts, "developer": testRedisDeveloper, "CI": testRedisInCI} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				fn(r.with(t))
			})
		}
	})
	sub("failing", testRedisFailing)
}

func (r *redis) with(t *testing.T) *redis {
	inner, shared := *r.real, *r
	inner.t, shared.real = t, &inner
	return &shared
}

// project takes snapshots of the three, and chooses and shares tools.
func (r *redis) project() {
	cached := func(name string) string {
		return strings.TrimSpace(r.must(exec.Command("../../testdata/hosts/cached", name)))
	}
	r.userlands = cached("userlands")
	var g errgroup.Group
	for target, host := range map[string]string{"bullseye": filepath.Join(cached("bare-host"), "host"),
		"bookworm": filepath.Join(r.userlands, "bookworm"), "trixie": filepath.Join(r.userlands, "trixie")} {
		cmd := r.command("fleet", "one", "snapshot", host, target, "--yes")
		g.Go(func() error {
			if out, errs, code := result(cmd); code != 0 {
				return fmt.Errorf("snapshot of %s: exit code %d\n%s%s", target, code, out, errs)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		r.t.Fatal(err)
	}
	source := strings.TrimSpace(r.must(exec.Command("../../testdata/hosts/source", "redis", "bookworm")))
	r.must(exec.Command("cp", "-a", "--no-target-directory", source, r.path("project")))
	r.write(redisProject)
	r.must(r.command("fleet", "one", "update"))
	r.must(r.command("fleet", "one", "push"))
	for _, args := range [][]string{{"init", "-q"}, {"add", "--all", "--force"},
		{"-c", "user.name=A", "-c", "user.email=a@b.example", "commit", "-q", "-m", "all"}} {
		r.must(exec.Command("git", append([]string{"-C", r.path("project")}, args...)...))
	}
	var list []envs.TargetTools
	r.answer(r.command("fleet", "one", "tools", "list", "--json"), &list)
	for _, t := range list {
		r.tools[t.Target] = t
	}
}

// write writes stead.toml.
func (r *redis) write(text string) {
	if err := os.WriteFile(r.path("project", "stead.toml"), []byte(text), 0o644); err != nil {
		r.t.Fatal(err)
	}
}

// builds decodes what a build answered.
func (r *redis) builds(out string) map[string]envs.Built {
	r.t.Helper()
	var list []envs.Built
	if err := json.Unmarshal([]byte(out), &list); err != nil {
		r.t.Fatalf("%v\n%s", err, out)
	}
	found := map[string]envs.Built{}
	for _, b := range list {
		found[b.Target] = b
	}
	return found
}

// testRedisBuild builds for all, twice: what has the folder in it differs elsewhere.
func testRedisBuild(r *redis) {
	out, errs, code := result(r.command("fleet", "one", "build", "--all", "--locked", "--reproduce", "--json"))
	maps.Copy(r.first, r.builds(out))
	if code != exitNegative || !slices.Equal(slices.Sorted(maps.Keys(r.first)), slices.Sorted(slices.Values(redisTargets))) {
		r.t.Fatalf("exit code %d\n%s%s", code, out, errs)
	}
	for target, b := range r.first {
		switch again := b.Reproduced; {
		case again == nil:
			r.t.Errorf("%s wasn't built again", target)
		case target == "bookworm":
			if again.Same || len(again.Differences) != 2 || !strings.Contains(again.Differences[0].First, r.path("project")) {
				r.t.Errorf("bookworm's artifacts have their folder's path in them; got %+v", again)
			}
		case !again.Same:
			r.t.Errorf("%s differs when built again: %+v", target, again.Differences)
		}
		r.brought(b, r.path("project", "dist", target), uint32(os.Getuid()))
	}
}

// brought checks a folder of artifacts, and what is told of them.
func (r *redis) brought(b envs.Built, dir string, owner uint32) {
	r.t.Helper()
	var told envs.Artifacts
	text, err := os.ReadFile(filepath.Join(dir, "artifacts.json"))
	if err == nil {
		err = json.Unmarshal(text, &told)
	}
	if err != nil || len(b.Revision) != 40 || b.Dirty || told.Revision != b.Revision || told.Lock != b.Lock || !slices.Equal(told.Artifacts, b.Artifacts.Artifacts) {
		r.t.Errorf("artifacts.json of %s has %+v, %v; the build answered %+v", b.Target, told, err, b.Artifacts)
	}
	subjects := map[string]string{}
	for _, a := range told.Artifacts {
		name := filepath.Join(dir, a.Path)
		content, err := os.ReadFile(name)
		if err != nil {
			r.t.Fatal(err)
		}
		info, err := os.Lstat(name)
		if err != nil || info.Mode() != 0o755 || info.Sys().(*syscall.Stat_t).Uid != owner || a.Mode != "0755" ||
			a.Size != int64(len(content)) || a.SHA256 != fmt.Sprintf("%x", sha256.Sum256(content)) {
			r.t.Errorf("%s is %v, %v; told of it is %+v", name, info, err, a)
		}
		subjects[a.Path] = a.SHA256
	}
	if _, ok := subjects["redis-server"]; !ok || len(subjects) != 2 {
		r.t.Errorf("the artifacts of %s are %v", b.Target, subjects)
	}
	r.proven(b.Target, dir, subjects)
}

// proven checks the evidence: every package of the release and of the tools is in it.
func (r *redis) proven(target, dir string, subjects map[string]string) {
	r.t.Helper()
	s, p, bom := evidencetest.Dist(r.t, dir)
	for _, subject := range s.Subject {
		if subjects[subject.Name] != subject.Digest["sha256"] {
			r.t.Errorf("%s tells of %v", target, subject)
		}
	}
	text, err := os.ReadFile(r.path("fleet", target, "1.lock"))
	if err != nil {
		r.t.Fatal(err)
	}
	l, err := lock.Read(text)
	if err != nil {
		r.t.Fatal(err)
	}
	want, got := map[string]int{"base": len(l.Packages), "tools": len(r.tools[target].Packages)}, map[string]int{}
	for _, d := range p.BuildDefinition.ResolvedDependencies {
		if note := d.Annotations.AsMap(); note["kind"] == "package" {
			got[fmt.Sprint(note["layer"])]++
		}
	}
	if want["base"] < 50 || want["tools"] < 20 || !maps.Equal(got, want) {
		r.t.Errorf("%s: of the packages %v provenance has %v", target, want, got)
	}
	if bom.Components == nil || len(*bom.Components) < want["base"]+want["tools"] {
		r.t.Errorf("%s: the list of contents is short", target)
	}
	if id := r.toolsDigest(dir); !strings.HasPrefix(id, "tree1:sha256:") {
		r.t.Errorf("%s: the tools are %q", target, id)
	}
}

// toolsDigest is the digest of the tools that provenance names.
func (r *redis) toolsDigest(dir string) string {
	r.t.Helper()
	_, p, _ := evidencetest.Dist(r.t, dir)
	return p.BuildDefinition.InternalParameters.GetFields()["tools"].GetStringValue()
}

// testRedisStarts starts each artifact where it was built for, and one where it wasn't.
func testRedisStarts(r *redis) {
	run := func(target, script string) *exec.Cmd {
		return r.command("fleet", "one", "run", "--no-tools", target, "--", "sh", "-c", script)
	}
	for _, target := range redisTargets {
		dist := "dist/" + target
		out := r.must(r.command("fleet", "one", "run", "--no-tools", target, "--", dist+"/redis-server", "--version"))
		if !strings.HasPrefix(out, "Redis server v=") {
			r.t.Errorf("%s: redis-server wrote %q", target, out)
		}
		out = r.must(run(target, `! command -v gcc && cd `+dist+` &&
./redis-server --port 0 --unixsocket /tmp/socket --dir /tmp --save "" --daemonize yes >/dev/null
until ./redis-cli -s /tmp/socket ping 2>/dev/null; do sleep 0.1; done
./redis-cli -s /tmp/socket shutdown nosave`))
		if strings.TrimSpace(out) != "PONG" {
			r.t.Errorf("%s: the server answered %q", target, out)
		}
	}
	out, errs, code := result(r.command("fleet", "one", "run", "--no-tools", "bullseye", "--", "dist/trixie/redis-server", "--version"))
	if code == 0 || !regexp.MustCompile(`version .GLIBC_2\.\d\d' not found \(required by dist/trixie/redis-server\)`).MatchString(errs) {
		r.t.Errorf("what was built for trixie, on bullseye: exit code %d\n%s%s", code, out, errs)
	}
}

// testRedisFailing lets one target fail: the others are built, and one sees what it left.
func testRedisFailing(r *redis) {
	r.write(strings.Split(redisProject, "[target.bookworm]")[0] +
		"[target.bookworm]\ncommand = [\"sh\", \"-c\", \"ls src/redis-server >left; exit 3\"]\n")
	before := r.path("project", "dist", "bookworm", "artifacts.json")
	kept, err := os.Stat(before)
	if err != nil {
		r.t.Fatal(err)
	}
	cmd := r.command("fleet", "one", "build", "--all", "--keep-going", "--json")
	out, errs, code := result(cmd)
	built := r.builds(out)
	hint := regexp.MustCompile(`(?m)^hint: stead (enter --view bookworm)$`).FindStringSubmatch(errs)
	if code != exitError || hint == nil || !strings.Contains(built["bookworm"].Error, "ended with exit code 3") || built["bookworm"].Dir != "" {
		r.t.Fatalf("exit code %d, bookworm %+v\n%s", code, built["bookworm"], errs)
	}
	for _, target := range []string{"bullseye", "trixie"} {
		if b := built[target]; b.Dir == "" || b.Error != "" || !slices.Equal(b.Artifacts.Artifacts, r.first[target].Artifacts.Artifacts) {
			r.t.Errorf("%s, beside one that failed: %+v, first %+v", target, b, r.first[target].Artifacts)
		}
	}
	if now, err := os.Stat(before); err != nil || !os.SameFile(now, kept) {
		r.t.Errorf("a build that failed changed its artifacts: %v", err)
	}
	view := r.command("fleet", "one", strings.Fields(hint[1])...)
	view.Env = append(view.Env, "TERM=dumb")
	shell := enginetest.StartTerminal(r.t, view, 24, 80)
	shell.Expect("(bookworm")
	shell.Write("echo $(cat left) && gcc --version >/dev/null && echo with-$((40+2)) tools\n")
	shell.Expect("src/redis-server\r\n")
	shell.Expect("with-42 tools")
	shell.Write("exit 7\n")
	shell.Exit(7)
}

// same checks that a build elsewhere is the first one, and ran no script of a package.
func (r *redis) same(target, dir, out, errs string, code int, owner uint32) {
	r.t.Helper()
	if code != 0 || strings.Contains(errs, "run again") || strings.Contains(errs, "configuring") {
		r.t.Fatalf("exit code %d\n%s%s", code, out, errs)
	}
	b := r.builds(out)[target]
	r.brought(b, dir, owner)
	if first := r.first[target]; b.Lock != first.Lock || !slices.Equal(b.Artifacts.Artifacts, first.Artifacts.Artifacts) {
		r.t.Errorf("%s, elsewhere: %+v, first %+v", target, b.Artifacts, first.Artifacts)
	}
	if got, want := r.toolsDigest(dir), r.toolsDigest(r.path("project", "dist", target)); got != want {
		r.t.Errorf("%s has the tools %s elsewhere, first %s", target, got, want)
	}
}

// testRedisDeveloper is an ordinary user with a clone, and a store of their own.
func testRedisDeveloper(r *redis) {
	u := rootlesstest.NewUser(r.t, true)
	path := func(name string) string { return filepath.Join(u.Home, name) }
	program(r.t, "stead-static", path("stead"))
	r.must(exec.Command("git", "clone", "-q", r.path("project"), path("app")))
	r.must(exec.Command("cp", "-a", r.path("fleet"), path("fleet")))
	r.must(exec.Command("chown", "-R", fmt.Sprintf("%d:%d", u.UID, u.GID), path("app"), path("fleet")))
	cmd := u.Command(r.t, path("stead"), "build", "bullseye", "--locked", "--json")
	cmd.Dir = path("app")
	out, errs, code := result(cmd)
	r.same("bullseye", path("app/dist/bullseye"), out, errs, code, u.UID)
}

// testRedisInCI is a container without privileges and without a network, whose cache
// has package files.
func testRedisInCI(r *redis) {
	c := newCI(r.real, filepath.Join(r.userlands, "bookworm"))
	c.addGit()
	r.must(exec.Command("git", "clone", "-q", r.path("project"), filepath.Join(c.root, "src/app")))
	r.must(exec.Command("cp", "-a", r.path("fleet"), filepath.Join(c.root, "src/fleet")))
	r.must(exec.Command("mkdir", "-m", "700", filepath.Join(c.root, "store")))
	r.must(exec.Command("cp", "-al", r.path("one", "blobs"), filepath.Join(c.root, "store/blobs")))
	out, errs, code := c.command("stead", "build", "trixie", "--locked", "--json")
	if !strings.Contains(errs, "taking the chroot engine") {
		r.t.Errorf("the container has another engine:\n%s", errs)
	}
	r.same("trixie", filepath.Join(c.root, "src/app/dist/trixie"), out, errs, code, 0)
}
