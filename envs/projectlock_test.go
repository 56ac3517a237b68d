package envs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/stead-env/stead/envs/lock"
	"github.com/stead-env/stead/envs/store"
)

// testTools are tools as an update chooses them: gcc needs gcc-10, which needs libc6-dev.
func testTools() *ChosenTools {
	tool := func(name, version string, needed ...string) ChosenTool {
		return ChosenTool{lock.Package{Name: name, Version: version, Architecture: "amd64", Archive: "debian-bullseye",
			Path: "pool/" + name + ".deb", Size: 4096, SHA256: digest.FromString(name + version).Encoded(), Proof: lock.Exact}, needed}
	}
	return &ChosenTools{
		Wishes: []ChosenWish{{"gcc", "gcc", "4:10.2.1-1", "amd64", false}, {"make", "make", "4.3-4.1", "amd64", true},
			{"file:/bin/sh", "", "", "", true}},
		Digest:  "tree1:" + digest.FromString("layer").String(),
		Delta:   lock.Delta{SHA256: digest.FromString("delta").Encoded(), Size: 1024, Files: 3},
		Shadows: []string{"etc/ld.so.cache", "var/lib/dpkg/status"},
		Archives: []lock.Archive{{Name: "debian-bullseye", URI: "http://mirror.example/debian", Suite: "bullseye",
			InRelease: digest.FromString("InRelease"), SignedBy: []string{"A7236886F3CCCAAD148A27F80E98404D386FA1D9"},
			Dated: time.Date(2024, 8, 31, 10, 3, 48, 0, time.UTC)}},
		Packages: []ChosenTool{tool("libc6-dev", "2.31-13", "gcc-10"), tool("gcc-10", "10.2.1-6", "gcc"), tool("gcc", "4:10.2.1-1")},
	}
}

func TestProjectLock(t *testing.T) {
	l := projectLock{Targets: []chosen{
		{Want: "globex:next", Release: 2, Lock: digest.FromString("globex")},
		{Want: "acme", Release: 1, Lock: digest.FromString("acme"), Tools: testTools()},
		{Want: "initech", Release: 1, Lock: digest.FromString("initech"),
			Tools: &ChosenTools{Wishes: []ChosenWish{{"make", "make", "4.3", "amd64", true}}}}}}
	golden := filepath.Join("testdata", "project.lock")
	text := l.text()
	if os.Getenv("UPDATE_GOLDEN") != "" {
		if err := errors.Join(os.MkdirAll("testdata", 0o755), os.WriteFile(golden, text, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil || string(text) != string(want) {
		t.Errorf("%v: got\n%s", err, text)
	}
	read, err := parseProjectLock(ProjectLockFile, text)
	if err != nil {
		t.Fatal(err)
	}
	if again := read.text(); string(again) != string(text) {
		t.Errorf("read and written again:\n%s", again)
	}
	for _, target := range []string{"acme", "globex", "initech"} {
		part, err := parseProjectLock(ProjectLockFile, onlyTargets(text, []string{target}))
		want, _ := read.find(target)
		if got, ok := part.find(target); err != nil || !ok || len(part.Targets) != 1 || !reflect.DeepEqual(got, want) {
			t.Errorf("%s alone: %+v %v", target, part, err)
		}
	}
	if none, err := parseProjectLock(ProjectLockFile, onlyTargets(text, []string{"other"})); err != nil || len(none.Targets) != 0 {
		t.Errorf("of a target that isn't there: %+v %v", none, err)
	}
	c, ok := read.find("acme")
	if !ok || !reflect.DeepEqual(c.Tools.Archives, testTools().Archives) || c.Tools.Packages[2].For[0] != "gcc-10" ||
		c.Tools.Delta != testTools().Delta {
		t.Errorf("got %+v", c.Tools)
	}
	// The first version of the format had no tools.
	old := "# What `stead update` chose. Not for editing.\nversion = 1\n\n[[target]]\nwant = \"acme\"\nrelease = 1\nlock = \"" +
		digest.FromString("acme").String() + "\"\n"
	if l, err := parseProjectLock(ProjectLockFile, []byte(old)); err != nil || l.Targets[0].Release != 1 {
		t.Errorf("got %+v %v", l, err)
	}
}

func TestProjectLockMistakes(t *testing.T) {
	text := string(projectLock{Targets: []chosen{{Want: "acme", Release: 1, Lock: digest.FromString("acme"), Tools: testTools()}}}.text())
	for _, test := range []struct{ old, now, want string }{
		{"version = 2", "version = 3", "its version is 3, and this stead knows up to 2"},
		{"version = 2", "<<<<<<< HEAD", "stead.lock:2"},
		{"pool/gcc.deb", "../gcc.deb", "impossible path"},
		{digest.FromString("gcc-1010.2.1-6").Encoded(), "abc", "no SHA-256"},
		{`archive = "debian-bullseye", path = "pool/gcc.deb"`, `archive = "x", path = "pool/gcc.deb"`, `unknown archive "x"`},
		{"tree1:", "tree9:", "is no digest"},
		{`wish = "make"`, `wish = "gcc"`, `wish "gcc" occurs twice`},
		{`wish = "make"`, `wish = "file:../x"`, "or is none"},
		{"for = ", "four = ", "unknown key"},
	} {
		damaged := strings.Replace(text, test.old, test.now, 1)
		_, err := parseProjectLock(ProjectLockFile, []byte(damaged))
		if err == nil || damaged == text || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s for %s: got %v, want %s", test.now, test.old, err, test.want)
		}
	}
}

// Whatever is wrong anywhere in stead.lock, --locked doesn't go by the rest of it, and
// there is a way out.
func TestDamagedProjectLock(t *testing.T) {
	p, f := toolsProject(t, "targets = [\"acme\", \"globex\"]\n[target.acme]\n"+wishesOfAll)
	addRelease(t, f, "globex", "make=4.4")
	if _, err := choose(t, p, f, false); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(p.Dir, ProjectLockFile)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := choose(t, p, f, true, "acme"); err != nil || got != "acme@1" {
		t.Fatalf("got %s %v", got, err)
	}
	text := string(whole)
	i := strings.Index(text, "\n[[target]]\nwant = \"globex\"")
	hint := func(text, target, want, way string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		_, err := choose(t, p, f, true, target)
		var hinted interface{ Hint() string }
		if err == nil || !strings.Contains(err.Error(), want) || !errors.As(err, &hinted) || !strings.Contains(hinted.Hint(), way) {
			t.Errorf("%s: got %v, want %s and a hint at %s\n%s", target, err, want, way, text)
		}
	}
	for _, target := range []string{"acme", "globex"} {
		hint(text[:i]+"\n<<<<<<< HEAD"+text[i:]+"=======\n>>>>>>> next\n", target, ":"+strconv.Itoa(strings.Count(text[:i], "\n")+2)+": a merge left a conflict", "git checkout --ours")
		hint("<<<<<<< HEAD\n"+text, target, "stead.lock:1: a merge left", "stead update")
		hint(strings.Replace(text, "version = 2", "version = 3\nnew = [1]", 1), target, "its version is 3", "newer stead")
		hint("", target, "its end is missing", "git checkout stead.lock")
		for _, cut := range []int{len(text) - 1, len(text) - 20, i + len("\n[[target]]\n"), strings.Index(text[i:], "release") + i} {
			hint(text[:cut], target, "(the file is damaged)", "git checkout stead.lock")
		}
		for _, line := range []string{"wishes = [\n", "packages = [\n", "shadows = [\n", "digest = ", "delta = "} {
			at := strings.Index(text, line) + len(line)
			hint(text[:at], target, "(the file is damaged)", "or remove it")
			hint(text[:at+10], target, "(the file is damaged)", "or remove it")
		}
	}
}

// toolsProject is a project whose stead.lock has tools for acme@1.
func toolsProject(t *testing.T, toml string) (*Project, *Fleet) {
	t.Helper()
	f := testFleet(t)
	rel := addRelease(t, f, "acme", "make=4.3-4.1")
	p := testProject(t, toml)
	id, err := rel.Identity()
	if err != nil {
		t.Fatal(err)
	}
	err = p.changeLock(func(l projectLock) projectLock {
		return l.with(chosen{Want: "acme", Release: 1, Lock: id, Tools: testTools()})
	})
	if err != nil {
		t.Fatal(err)
	}
	return p, f
}

func TestLockedTools(t *testing.T) {
	for toml, want := range map[string]string{
		`tools = ["gcc", "make", "file:/bin/sh"]`:                        "",
		`tools = ["file:/bin/sh", "make", "gcc", "gcc"]`:                 "",
		`tools = ["gcc", "make", "file:/bin/sh", "cmake", "gdb"]`:        "stead.toml asks for tools that aren't in it: cmake, gdb",
		`tools = ["gcc", "cmake"]`:                                       "aren't in it: cmake, and it has tools that stead.toml doesn't ask for: file:/bin/sh, make",
		"tools = [\"cmake\"]\n[target.acme]\ntools = [\"gcc\",\"make\"]": "doesn't ask for: file:/bin/sh",
		"": "doesn't ask for: file:/bin/sh, gcc, make",
	} {
		p, f := toolsProject(t, "targets = [\"acme\"]\n"+toml)
		got, err := choose(t, p, f, true)
		var locked *LockedError
		switch {
		case want == "" && (err != nil || got != "acme@1"):
			t.Errorf("%s: got %v", toml, err)
		case want != "" && (!errors.As(err, &locked) || !strings.Contains(err.Error(), want)):
			t.Errorf("%s: got %v, want %s", toml, err, want)
		}
	}
}

// What is still right stays, byte by byte, and needs no archive.
func TestUpdateKeeps(t *testing.T) {
	p, f := toolsProject(t, `targets = ["acme"]
tools = ["make", "gcc", "file:/bin/sh"]`)
	before, err := os.ReadFile(filepath.Join(p.Dir, ProjectLockFile))
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{Fleet: f, Store: testStore(t)}
	done, err := p.Update(t.Context(), cfg, nil, UpdateOptions{})
	if err != nil || len(done) != 1 || done[0].Tools != 3 || len(done[0].Change) != 0 {
		t.Errorf("got %+v %v", done, err)
	}
	if after, err := os.ReadFile(filepath.Join(p.Dir, ProjectLockFile)); err != nil || string(after) != string(before) {
		t.Errorf("%v: stead.lock became\n%s", err, after)
	}
	// Where there is no answer the others are chosen, and that one keeps what it had.
	addRelease(t, f, "acme", "make=4.4")
	addRelease(t, f, "globex", "make=4.4")
	p.Config.Targets = append(p.Config.Targets, "globex")
	p.Config.Target = map[string]TargetProject{"globex": {Tools: []string{}}}
	done, err = p.Update(t.Context(), cfg, nil, UpdateOptions{})
	if err == nil || len(done) != 2 || done[0].Error == "" || done[0].After != 1 || done[1].After != 1 {
		t.Errorf("got %+v %v", done, err)
	}
	l, err := p.readLock()
	if c, ok := l.find("acme"); err != nil || !ok || c.Release != 1 || len(c.Tools.Packages) != 3 {
		t.Errorf("got %+v %v", c, err)
	}
	if c, ok := l.find("globex"); !ok || c.Tools != nil {
		t.Errorf("got %+v", c)
	}
}

func TestListTools(t *testing.T) {
	p, f := toolsProject(t, `targets = ["acme"]
tools = ["gcc", "make", "cmake"]`)
	list, err := p.ListTools(nil)
	if err != nil || len(list) != 1 || len(list[0].Packages) != 3 {
		t.Fatalf("got %+v %v", list, err)
	}
	want := []GrantedWish{{Wish: "cmake", Open: true}, {Wish: "file:/bin/sh", Base: true, Stale: true},
		{Wish: "gcc", ToolPackage: ToolPackage{"gcc", "4:10.2.1-1", "amd64", 4096, "http://mirror.example/debian bullseye"}},
		{Wish: "make", ToolPackage: ToolPackage{Package: "make", Version: "4.3-4.1", Architecture: "amd64"}, Base: true}}
	if !reflect.DeepEqual(list[0].Wishes, want) {
		t.Errorf("got %+v", list[0].Wishes)
	}
	why, err := p.WhyTool(f, nil, "libc6-dev")
	if err != nil || len(why) != 1 || len(why[0].Chains) != 1 || why[0].Chains[0].String() != "gcc (asked for) → gcc → gcc-10 → libc6-dev" {
		t.Errorf("got %+v %v", why, err)
	}
	if why, err := p.WhyTool(f, nil, "make"); err != nil || len(why) != 1 || !why[0].Base {
		t.Errorf("got %+v %v", why, err)
	}
	var unknown *UnknownError
	if _, err := p.WhyTool(f, nil, "cmake"); !errors.As(err, &unknown) || !strings.Contains(err.Error(), "gcc, gcc-10, libc6-dev") {
		t.Errorf("got %v", err)
	}
}

// What is in the way of several targets in the same way is said once, with its way out.
func TestFailures(t *testing.T) {
	unknown := &UnknownError{Kind: "package", Name: "gccc", Of: "the archive", hint: "there is gcc"}
	done := []Updated{{want: "bull:next", cause: unknown}, {Target: "fine"}, {want: "acme", cause: errors.New("no room")},
		{want: "book", cause: fmt.Errorf("%w", unknown)}}
	got := Failures(done)
	var hinted *UnknownError
	if len(got) != 2 || got[0].Error() != "updating bull:next, book: "+unknown.Error() || !errors.As(got[0], &hinted) ||
		got[1].Error() != "updating acme: no room" {
		t.Errorf("got %q", got)
	}
}

func TestCompareChosen(t *testing.T) {
	after := testTools()
	after.Packages = append(after.Packages[1:], ChosenTool{Package: lock.Package{Name: "gdb", Version: "10", Architecture: "amd64"}})
	after.Packages[0].Version = "10.2.1-7"
	got := compareChosen(testTools(), after)
	want := []ToolChange{{"gcc-10", "amd64", "10.2.1-6", "10.2.1-7"}, {"gdb", "amd64", "", "10"}, {"libc6-dev", "amd64", "2.31-13", ""}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v", got)
	}
	if got := compareChosen(nil, nil); len(got) != 0 {
		t.Errorf("got %v", got)
	}
}

func TestWishes(t *testing.T) {
	for text, want := range map[string]wish{
		"gcc":                          {"gcc", wishPackage, "gcc"},
		"libstdc++-10-dev=10.2.1-6":    {"libstdc++-10-dev=10.2.1-6", wishPackage, "libstdc++-10-dev=10.2.1-6"},
		"libc6-dev:i386=2.31~1+x":      {"libc6-dev:i386=2.31~1+x", wishPackage, "libc6-dev:i386=2.31~1+x"},
		"gcc=4:10.2.1-1":               {"gcc=4:10.2.1-1", wishPackage, "gcc=4:10.2.1-1"},
		"pkgconfig:gtk+-3.0":           {"pkgconfig:gtk+-3.0", wishPkgConfig, "gtk+-3.0"},
		"file:/usr/bin/cmake":          {"file:/usr/bin/cmake", wishFile, "/usr/bin/cmake"},
		"file:/usr/lib/a b.so":         {"file:/usr/lib/a b.so", wishFile, "/usr/lib/a b.so"},
		"":                             {},
		"gcc make":                     {},
		"-gcc":                         {},
		"gcc:":                         {},
		"gcc=":                         {},
		"pkgconfig:":                   {},
		"pkgconfig:../x":               {},
		"file:usr/bin/cmake":           {},
		"file:/usr/../bin":             {},
		"file:/":                       {},
		"file:/usr/bin/*":              {},
		"file:/usr/bin/a\nb":           {},
		"gcc\n":                        {},
		strings.Repeat("a", maxWish+1): {},
	} {
		got, err := parseWish(text)
		var bad *WishError
		if want.text == "" && (!errors.As(err, &bad) || bad.Hint() == "") || want.text != "" && (err != nil || got != want) {
			t.Errorf("%q: got %+v %v", text, got, err)
		}
	}
	for text, want := range map[string]string{
		"pkg-config:openssl":    "perhaps pkgconfig:openssl",
		"pkg_config:openssl.pc": "perhaps pkgconfig:openssl",
		"path:/usr/bin/cmake":   "perhaps file:/usr/bin/cmake",
		"cmake:/usr/bin/cmake":  "perhaps file:/usr/bin/cmake",
		"apt:gcc=4:10.2.1-1":    "perhaps gcc=4:10.2.1-1",
		"libc6-dev:i368=2.31":   "perhaps libc6-dev:i386=2.31",
		"libc6-dev:amd65":       "perhaps libc6-dev:amd64",
		"npm:left-pad":          "a package (gcc,",
	} {
		_, err := parseWish(text)
		if bad := (*WishError)(nil); !errors.As(err, &bad) || !strings.HasPrefix(bad.Hint(), want) {
			t.Errorf("%q: got %v, want a hint at %s", text, err, want)
		}
	}
	for text, want := range map[string]string{"pkgconfig:libpngg": "such as libpngg-dev", "file:/usr/bin/cc": "alternatives"} {
		if hint := (&NoShipperError{text}).Hint(); !strings.Contains(hint, want) {
			t.Errorf("%s: got the hint %s", text, hint)
		}
	}
	for text, want := range map[string]string{
		"gcc": "", "file:/usr/bin/cmake": "usr/bin/cmake bin/cmake", "file:/lib/x.so": "lib/x.so usr/lib/x.so", "file:/opt/x": "opt/x",
		"pkgconfig:zlib": "usr/lib/pkgconfig/zlib.pc usr/lib64/pkgconfig/zlib.pc usr/share/pkgconfig/zlib.pc usr/lib/x86_64-linux-gnu/pkgconfig/zlib.pc",
	} {
		w, err := parseWish(text)
		if got := strings.Join(w.places("amd64"), " "); err != nil || got != want {
			t.Errorf("%s: got %s %v", text, got, err)
		}
	}
}

// Of two that change the tools at once neither loses what the other one wrote, whether or
// not they have the same store.
func TestTwoWriters(t *testing.T) {
	p, f := toolsProject(t, "targets = []\n")
	same := testStore(t)
	for name, stores := range map[string][2]*store.Store{"one store": {same, same}, "two stores": {testStore(t), testStore(t)}} {
		var g errgroup.Group
		for i, wish := range []string{"gcc", "make"} {
			other, err := OpenProject(p.Dir) // before any of them writes
			if err != nil {
				t.Fatal(err)
			}
			g.Go(func() error {
				_, err := other.ChangeTools(t.Context(), Config{Fleet: f, Store: stores[i]}, "",
					func(list []string) ([]string, error) { return WithWishes(list, []string{wish}) }, UpdateOptions{})
				return err
			})
		}
		if err := g.Wait(); err != nil {
			t.Fatal(err)
		}
		now, err := OpenProject(p.Dir)
		if err != nil || !sameWishes(now.Config.Tools, []string{"gcc", "make"}) {
			t.Errorf("%s: there is %q %v", name, now.Config.Tools, err)
		}
		if err := now.writeTools("", []string{}); err != nil {
			t.Fatal(err)
		}
	}
	// What was chosen for other wishes on the way in isn't written over it.
	if err := p.writeTools("", []string{"cmake"}); err != nil {
		t.Fatal(err)
	}
	if now := p.nowFor("acme"); !sameWishes(now, []string{"cmake"}) {
		t.Errorf("stead.toml asks for %q", now)
	}
	// A target that is chosen on the way in keeps tools that came meanwhile.
	p, f = toolsProject(t, "targets = [\"acme\"]\n"+wishesOfAll)
	for range 4 {
		before, err := os.ReadFile(filepath.Join(p.Dir, ProjectLockFile))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(filepath.Join(p.Dir, ProjectLockFile)); err != nil {
			t.Fatal(err)
		}
		done := make(chan error)
		err = p.exclusive(func() error {
			go func() {
				_, err := choose(t, p, f, false)
				done <- err
			}()
			return writeFile(filepath.Join(p.Dir, ProjectLockFile), before, 0o644)
		})
		if err := errors.Join(err, <-done); err != nil {
			t.Fatal(err)
		}
		if after, err := os.ReadFile(filepath.Join(p.Dir, ProjectLockFile)); err != nil || string(after) != string(before) {
			t.Errorf("%v: stead.lock became\n%s", err, after)
		}
	}
}
