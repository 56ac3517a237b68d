package envs

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/stead-env/stead/envs/artifact/object/objecttest"
	"github.com/stead-env/stead/snapshot/host"
	"github.com/stead-env/stead/snapshot/pkgdb"
	"github.com/stead-env/stead/snapshot/scrub"
)

// aging is a library as a target of some age has it.
type aging struct{ target, script, source string }

func (a aging) build(t *testing.T, path string) {
	t.Helper()
	script := filepath.Join(t.TempDir(), "versions")
	if err := os.WriteFile(script, []byte(a.script), 0o600); err != nil {
		t.Fatal(err)
	}
	objecttest.Library(t, path, a.source, "-Wl,--version-script="+script)
}

// The versions of a library as three targets have it: each defines what the one before
// does, and more.
var ages = []aging{
	{"old", "X_1 { one; };", "int one(void) { return 1; }"},
	{"mid", "X_1 { one; }; X_2 { two; };", "int one(void) { return 1; } int two(void) { return 2; }"},
	{"new", "X_1 { one; }; X_2 { two; }; X_3 { three; };", "int one(void) { return 1; } int two(void) { return 2; } int three(void) { return 3; }"},
}

const (
	realLoader  = "lib64/ld-linux-x86-64.so.2"
	realLibrary = "lib/x86_64-linux-gnu/libc.so.6"
	agingOne    = "lib/x86_64-linux-gnu/libx.so.1"
)

// newAges is a fleet of those targets, and a project for them.
func newAges(t *testing.T) (*Project, Config, []Release) {
	t.Helper()
	b := newLead(t)
	for _, p := range []string{realLoader, realLibrary} {
		content, err := os.ReadFile("/" + p)
		if err != nil {
			t.Fatal(err)
		}
		b.put(p, string(content))
		if err := os.Chmod(filepath.Join(b.root, p), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	var releases []Release
	for _, age := range ages {
		age.build(t, filepath.Join(b.root, agingOne))
		folder, err := host.Folder(b.root)
		if err != nil {
			t.Fatal(err)
		}
		rules, err := scrub.New(nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		r, err := Snapshot(t.Context(), b.cfg, folder, SnapshotOptions{Target: age.target, Address: b.root, Readers: pkgdb.Readers, Rules: rules})
		if err != nil {
			t.Fatal(err)
		}
		releases = append(releases, r.Release)
	}
	return &Project{Dir: t.TempDir()}, b.cfg, releases
}

// built puts a program into dist/TARGET as a build brings it, which uses one function of
// the library.
func built(t *testing.T, p *Project, rel Release, function, library string) {
	t.Helper()
	app := filepath.Join(p.Dir, "dist", rel.Target, "app")
	if err := os.MkdirAll(filepath.Dir(app), 0o755); err != nil {
		t.Fatal(err)
	}
	objecttest.Program(t, app, fmt.Sprintf("extern int %s(void); int main(void) { return !%s(); }", function, function), library)
	content, err := os.ReadFile(app)
	if err != nil {
		t.Fatal(err)
	}
	identity, err := rel.Identity()
	if err != nil {
		t.Fatal(err)
	}
	list := Artifacts{Target: rel.Target, Release: rel.Number, Lock: identity,
		Artifacts: []Artifact{{Path: "app", SHA256: fmt.Sprintf("%x", sha256.Sum256(content))}}}
	text, err := json.Marshal(list)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(p.Dir, "dist", rel.Target, artifactsFile), text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// grouped is a grouping in one line: "old: old mid new (provides)".
func grouped(g *Grouping) string {
	var all []string
	for _, b := range g.Builds {
		words := []string{b.Target + ":"}
		by := ""
		for _, s := range b.Serves {
			words = append(words, s.Target)
			if s.By != "" {
				by = " (" + s.By + ")"
			}
		}
		all = append(all, strings.Join(words, " ")+by)
	}
	return strings.Join(all, "; ")
}

func TestGroup(t *testing.T) {
	p, cfg, releases := newAges(t)
	group := func(want string) *Grouping {
		t.Helper()
		g, err := p.Group(t.Context(), cfg, releases, indexOptions)
		if err != nil {
			t.Fatal(err)
		}
		if got := grouped(g); got != want {
			t.Errorf("got %q instead of %q", got, want)
		}
		return g
	}
	// What the oldest provides all others do.
	group("old: old mid new (provides)")

	// What was built tells what is needed: little, of the newest.
	library := filepath.Join(t.TempDir(), "libx.so.1")
	ages[2].build(t, library)
	built(t, p, releases[2], "one", library)
	releases = releases[1:]
	group("mid: mid new (provides)")
	releases[0], releases[1] = releases[1], releases[0]
	group("new: new mid (artifacts)")

	// Or much of it.
	built(t, p, releases[0], "three", library)
	built(t, p, releases[1], "two", library)
	g := group("mid: mid new (artifacts)")
	if len(g.Builds[0].Serves[1].Else) != 0 {
		t.Errorf("got %+v", g)
	}
	// A build for another lock tells nothing.
	old := releases[1]
	built(t, p, old, "two", library)
	var list Artifacts
	name := filepath.Join(p.Dir, "dist", old.Target, artifactsFile)
	text, err := os.ReadFile(name)
	if err == nil {
		err = json.Unmarshal(text, &list)
	}
	if err != nil {
		t.Fatal(err)
	}
	list.Lock = digest.FromString("another")
	if text, err = json.Marshal(list); err == nil {
		err = os.WriteFile(name, text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	group("mid: mid new (provides)")
}

// Every split has its reason.
func TestGroupSplits(t *testing.T) {
	p, cfg, releases := newAges(t)
	library := filepath.Join(t.TempDir(), "libx.so.1")
	ages[2].build(t, library)
	for _, rel := range releases {
		built(t, p, rel, "three", library)
	}
	g, err := p.Group(t.Context(), cfg, releases, indexOptions)
	if err != nil {
		t.Fatal(err)
	}
	if got := grouped(g); got != "old: old new (artifacts); mid: mid" {
		t.Fatalf("got %q", got)
	}
	e := g.Builds[1].Serves[0].Else
	if !g.Exact || g.Targets != 3 || len(e) != 1 || e[0].Build != "old" || e[0].By != ByArtifacts || !strings.Contains(e[0].Text, "X_3") {
		t.Errorf("got %+v", g)
	}
	entries := g.Entries([]MatrixEntry{{Target: "old"}, {Target: "mid"}, {Target: "new"}})
	if len(entries) != 2 || strings.Join(entries[0].Serves, " ") != "old new" || strings.Join(entries[1].Serves, " ") != "mid" {
		t.Errorf("got %+v", entries)
	}
}

// Beyond what can be searched every target has a build all the same.
func TestGreedy(t *testing.T) {
	serves := make([][]bool, 80)
	for i := range serves {
		serves[i] = make([]bool, len(serves))
		serves[i][i] = true
		serves[i][i/10*10] = true
	}
	for i := range 10 {
		serves[70][70+i] = true
	}
	chosen, exact := fewest(serves)
	covered := map[int]bool{}
	for _, i := range chosen {
		for j, yes := range serves[i] {
			covered[j] = covered[j] || yes
		}
	}
	if exact || len(covered) != len(serves) {
		t.Errorf("%v covers %d", chosen, len(covered))
	}
}
