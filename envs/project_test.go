package envs

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
)

func testProject(t *testing.T, toml string) *Project {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, ProjectFile), []byte(toml), 0o644); err != nil {
		t.Fatal(err)
	}
	p, err := OpenProject(dir)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestProjectConfig(t *testing.T) {
	p := testProject(t, `
fleet = "../fleet"
targets = ["acme", "globex:next"]
tools = ["gcc"]
[env]
network = "none"
mounts = ["data:/data:ro", "~/.m2"]
devices = ["/dev/kvm"]
[env.variables]
A = "1"
B = "1"
[build]
command = ["make"]
artifacts = ["build/app"]
[target.globex]
tools = []
command = ["scl", "make"]
[target.globex.env]
root = true
mounts = []
variables = { B = "2" }
`)
	b, tools, env := p.Config.For("acme")
	if !reflect.DeepEqual(b.Command, []string{"make"}) || len(tools) != 1 || env.Variables["B"] != "1" {
		t.Errorf("acme: got %v %v %v", b, tools, env)
	}
	b, tools, env = p.Config.For("globex")
	if !reflect.DeepEqual(b, Build{Command: []string{"scl", "make"}, Artifacts: []string{"build/app"}}) {
		t.Errorf("globex: got %+v", b)
	}
	if len(tools) != 0 || env.Variables["A"] != "1" || env.Variables["B"] != "2" || env.Network != "none" || !isSet(env.Root) ||
		len(env.Mounts) != 0 || len(env.Devices) != 1 {
		t.Errorf("globex: got %v %v", tools, env)
	}
	f, err := p.Fleet()
	if err != nil || f.Dir() != filepath.Join(filepath.Dir(p.Dir), "fleet") {
		t.Errorf("fleet: got %s %v", f.Dir(), err)
	}
}

func TestProjectMistakes(t *testing.T) {
	for text, want := range map[string]string{
		"[build]\ncomand = []\n":                 `stead.toml:2: unknown key "build.comand"`,
		"targets = [\n":                          "stead.toml:",
		"targets = [\"a b\"]\n":                  "bad target name",
		"targets = [\"acme\", \"acme:next\"]\n":  "twice",
		"[env.variables]\n\"A=B\" = \"1\"\n":     `stead.toml:1: env.variables has "A=B", which can't be an environment variable`,
		"[env]\nA = \"1\"\n":                     `stead.toml:2: unknown key "env.A"`,
		"[env]\nssh-agent = true\n":              `stead.toml:2: unknown key "env.ssh-agent"`,
		"\n[env]\nnetwork = \"wifi\"\n":          `stead.toml:3: env.network is host or none, not "wifi"`,
		"[target.acme.env]\nhome = \"sweet\"\n":  `stead.toml:2: target.acme.env.home is private, shared or none, not "sweet"`,
		"[env]\nkernel = \"mine\"\n":             `env.kernel is own or target, not "mine"`,
		"[env]\ncertificates = \"all\"\n":        `env.certificates is own or target, not "all"`,
		"[env]\ndevices = [\"kvm\"]\n":           `env.devices has "kvm", which is no absolute path`,
		"[env]\nmounts = [\"/a:b\"]\n":           "whose place inside is no absolute path",
		"[env]\nmounts = [\"/a:/b:/c:ro\"]\n":    `which isn't SOURCE[:TARGET][:ro]`,
		"[target.\"..\"]\ncommand = [\"true\"]":  "bad target name",
		"tools = [\n \"gcc make\"]\n":            `stead.toml:1: tools: "gcc make" is no wish for tools`,
		"[target.acme]\ntools = [\"file:x\"]\n":  `stead.toml:2: target.acme.tools: "file:x" is no wish for tools: file: stands before an absolute path`,
		"targets = 1\n":                          "stead.toml",
		"[build]\ncommand = \"make\"\n":          "stead.toml",
		"[target.acme]\nartefacts = [\"app\"]\n": `stead.toml:2: unknown key "target.acme.artefacts"`,
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, ProjectFile), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenProject(dir); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v; want %s", text, err, want)
		}
	}
}

func TestStrays(t *testing.T) {
	f := testFleet(t)
	addRelease(t, f, "globex", "p=1")
	p := testProject(t, "targets = [\"bull:next\", \"acme\"]\n[target.bul]\ntools = []\n[target.acme]\ntools = []\n[target.globex]\ntools = []\n[target.x]\n")
	want := []string{"stead.toml has [target.bul], and targets has no bul: perhaps bull", "stead.toml has [target.x], and targets has no x"}
	if got := p.Strays(f); !reflect.DeepEqual(got, want) {
		t.Errorf("got %q", got)
	}
}

func TestOpenProject(t *testing.T) {
	top, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	repo, deep := filepath.Join(top, "repo"), filepath.Join(top, "repo", "a", "b")
	for _, dir := range []string{deep, filepath.Join(repo, ".git")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct{ dir, want string }{{deep, repo}, {top, top}} {
		if p, err := OpenProject(test.dir); err != nil || p.Dir != test.want || p.Configured {
			t.Errorf("%s: got %+v %v", test.dir, p, err)
		}
	}
	if err := os.WriteFile(filepath.Join(repo, "a", ProjectFile), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if p, err := OpenProject(deep); err != nil || p.Dir != filepath.Join(repo, "a") || !p.Configured {
		t.Errorf("got %+v %v", p, err)
	}
}

// choose resolves what the project wants and returns it as text.
func choose(t *testing.T, p *Project, f *Fleet, locked bool, refs ...string) (string, error) {
	t.Helper()
	wanted, err := p.Wanted(refs)
	if err != nil {
		t.Fatal(err)
	}
	releases, err := p.Choose(f, wanted, locked)
	var names []string
	for _, r := range releases {
		names = append(names, r.String())
	}
	return strings.Join(names, " "), err
}

func TestChoose(t *testing.T) {
	f := testFleet(t)
	addRelease(t, f, "acme", "p=1")
	addRelease(t, f, "globex", "p=1")
	p := testProject(t, `targets = ["acme", "globex"]`)
	var locked *LockedError
	if _, err := choose(t, p, f, true); !errors.As(err, &locked) {
		t.Errorf("--locked without a stead.lock: got %v", err)
	}
	if got, err := choose(t, p, f, false); err != nil || got != "acme@1 globex@1" {
		t.Errorf("got %s %v", got, err)
	}
	first, err := os.ReadFile(filepath.Join(p.Dir, ProjectLockFile))
	if err != nil {
		t.Fatal(err)
	}
	// A new release changes nothing until an update.
	addRelease(t, f, "acme", "p=2")
	for _, l := range []bool{false, true} {
		if got, err := choose(t, p, f, l); err != nil || got != "acme@1 globex@1" {
			t.Errorf("locked %v: got %s %v", l, got, err)
		}
	}
	if again, err := os.ReadFile(filepath.Join(p.Dir, ProjectLockFile)); err != nil || string(again) != string(first) {
		t.Errorf("stead.lock moved by itself: %v\n%s", err, again)
	}
	// A release by number goes past stead.lock, but not with --locked.
	if got, err := choose(t, p, f, false, "acme@2"); err != nil || got != "acme@2" {
		t.Errorf("got %s %v", got, err)
	}
	if _, err := choose(t, p, f, true, "acme@2"); !errors.As(err, &locked) {
		t.Errorf("got %v", err)
	}
	refs, err := p.Wanted([]string{"acme"})
	if err != nil {
		t.Fatal(err)
	}
	done, err := p.Update(t.Context(), Config{Fleet: f}, refs, UpdateOptions{})
	if err != nil || len(done) != 1 || done[0].Target != "acme" || done[0].After != 2 || done[0].Before != 1 {
		t.Errorf("update: got %+v %v", done, err)
	}
	if got, err := choose(t, p, f, true); err != nil || got != "acme@2 globex@1" {
		t.Errorf("got %s %v", got, err)
	}
}

func TestChooseRenumbered(t *testing.T) {
	f := testFleet(t)
	addRelease(t, f, "acme", "p=1")
	p := testProject(t, `targets = ["acme"]`)
	if _, err := choose(t, p, f, false); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(f.Dir(), "acme")
	if err := os.WriteFile(filepath.Join(dir, "5.lock"), testLock("acme", 5, "p=1").Write(), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, "1.lock")); err != nil {
		t.Fatal(err)
	}
	if got, err := choose(t, p, f, true); err != nil || got != "acme@5" {
		t.Errorf("got %s %v", got, err)
	}
	path := filepath.Join(p.Dir, ProjectLockFile)
	lock, err := os.ReadFile(path)
	if err == nil {
		err = os.WriteFile(path, []byte(strings.Replace(string(lock), "release = 1", "release = 9", 1)), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	var locked *LockedError
	if _, err := choose(t, p, f, true); !errors.As(err, &locked) || !strings.Contains(err.Error(), "it has release 9, and the fleet has that one as acme@5") {
		t.Errorf("got %v", err)
	}
	if got, err := choose(t, p, f, false); err != nil || got != "acme@5" {
		t.Errorf("got %s %v", got, err)
	}
	if err := os.WriteFile(path, lock, 0o644); err != nil {
		t.Fatal(err)
	}
	// The same number with other content is another release.
	for _, name := range []string{"5.lock", "1.lock"} {
		n := lockNumber(name)
		if err := os.WriteFile(filepath.Join(dir, name), testLock("acme", n, "p=9").Write(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := choose(t, p, f, false); !errors.As(err, &locked) {
		t.Errorf("got %s %v", got, err)
	}
}

func FuzzProjectLock(f *testing.F) {
	f.Add("version = 1\n[[target]]\nwant = \"acme\"\nrelease = 1\nlock = \"sha256:" + strings.Repeat("a", 64) + "\"\n")
	f.Add("version = 3\n")
	f.Add(string(projectLock{Targets: []chosen{{Want: "acme", Release: 1, Lock: digest.FromString("lock"), Tools: testTools()}}}.text()))
	f.Fuzz(func(t *testing.T, text string) {
		l, err := parseProjectLock(ProjectLockFile, []byte(text))
		if err != nil {
			return
		}
		once := l.text()
		again, err := parseProjectLock(ProjectLockFile, once)
		if err != nil {
			t.Fatalf("reading what was written: %v", err)
		}
		if twice := again.text(); string(twice) != string(once) {
			t.Fatalf("%s\nbecame\n%s", once, twice)
		}
	})
}
