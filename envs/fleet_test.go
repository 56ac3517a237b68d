package envs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stead-env/stead/envs/lock"
)

// testLock is a small lock whose identity depends on its packages.
func testLock(target string, number int, packages ...string) *lock.Lock {
	l := &lock.Lock{
		Version: lock.Version,
		Release: lock.Release{Target: target, Number: number, Created: time.Unix(1700000000, 0).UTC(), Origin: lock.Observed},
		Host:    lock.Host{ID: "debian", Version: "11", Architecture: "amd64", Umask: "0022"},
		Delta:   lock.Delta{SHA256: strings.Repeat("d", 64), Size: 812332, Files: 412},
		Rootfs:  lock.Rootfs{Digest: "tree1:sha256:" + strings.Repeat("e", 64)},
	}
	for _, p := range packages {
		name, version, _ := strings.Cut(p, "=")
		l.Packages = append(l.Packages, lock.Package{Name: name, Version: version, Architecture: "amd64",
			Size: 100, SHA256: strings.Repeat("a", 64), Proof: lock.Repacked})
	}
	return l
}

func addRelease(t *testing.T, f *Fleet, target string, packages ...string) Release {
	t.Helper()
	r, added, err := f.AddRelease(target, func(n int, parent Release) ([]byte, error) {
		return testLock(target, n, packages...).Write(), nil
	})
	if err != nil || !added {
		t.Fatalf("adding a release of %s: added %v, %v", target, added, err)
	}
	return r
}

func testFleet(t *testing.T) *Fleet {
	t.Helper()
	f, err := OpenFleet(filepath.Join(t.TempDir(), "fleet"))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestAddRelease(t *testing.T) {
	f := testFleet(t)
	first := addRelease(t, f, "acme", "bash=5.1", "gone=1")
	same, added, err := f.AddRelease("acme", func(n int, parent Release) ([]byte, error) {
		if n != 2 || parent.String() != "acme@1" {
			t.Errorf("got number %d and parent %s", n, parent)
		}
		return testLock("acme", n, "bash=5.1", "gone=1").Write(), nil
	})
	if err != nil || added || same != first {
		t.Errorf("an unchanged host made a release: %v %v %v", same, added, err)
	}
	second := addRelease(t, f, "acme", "bash=5.2", "new=3")
	text, err := os.ReadFile(filepath.Join(f.Dir(), "acme", "2.changes"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"acme@2, compared with acme@1", "new 3", "gone 1", "bash 5.1 → 5.2"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("2.changes lacks %q:\n%s", want, text)
		}
	}
	id, err := first.Identity()
	if err != nil {
		t.Fatal(err)
	}
	if r, ok, err := f.FindIdentity("acme", id); err != nil || !ok || r != first {
		t.Errorf("got %v %v %v for the identity of %v", r, ok, err, first)
	}
	if names := leftovers(t, filepath.Join(f.Dir(), "acme")); len(names) > 0 {
		t.Errorf("left behind: %v", names)
	}
	_ = second
}

func leftovers(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".stead-") {
			names = append(names, e.Name())
		}
	}
	return names
}

func TestAddReleaseFailing(t *testing.T) {
	f := testFleet(t)
	boom := errors.New("boom")
	if _, _, err := f.AddRelease("acme", func(int, Release) ([]byte, error) { return nil, boom }); !errors.Is(err, boom) {
		t.Errorf("got %v", err)
	}
	if r, err := f.Releases("acme"); err != nil || len(r) > 0 {
		t.Errorf("got %v %v", r, err)
	}
}

func TestAddReleaseRacing(t *testing.T) {
	f := testFleet(t)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			_, added, err := f.AddRelease("acme", func(n int, _ Release) ([]byte, error) {
				return testLock("acme", n, fmt.Sprintf("p=%d", i)).Write(), nil
			})
			if err != nil || !added {
				t.Errorf("added %v, %v", added, err)
			}
		})
	}
	wg.Wait()
	releases, err := f.Releases("acme")
	if err != nil || len(releases) != 8 {
		t.Fatalf("got %v %v", releases, err)
	}
	for i, r := range releases {
		l, err := r.Lock()
		if err != nil || l.Release.Number != i+1 || r.Number != i+1 {
			t.Errorf("%s says %d: %v", r, l.Release.Number, err)
		}
	}
}

func TestNewFileDoesNotReplace(t *testing.T) {
	path := filepath.Join(t.TempDir(), "1.lock")
	if err := writeNew(path, []byte("one"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := writeNew(path, []byte("two"), 0o644); !errors.Is(err, os.ErrExist) {
		t.Errorf("got %v", err)
	}
	if data, err := os.ReadFile(path); err != nil || string(data) != "one" {
		t.Errorf("got %q %v", data, err)
	}
}

func TestResolve(t *testing.T) {
	f := testFleet(t)
	for v := range 3 {
		addRelease(t, f, "acme", fmt.Sprintf("p=%d", v))
	}
	addRelease(t, f, "globex", "p=1")
	err := f.ChangeTarget("acme", func(t *Target) { t.Streams = map[string]int{"live": 2, "next": 3, "lost": 9} })
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ ref, want, err string }{
		{"acme", "acme@2", ""},
		{"acme:live", "acme@2", ""},
		{"acme:next", "acme@3", ""},
		{"acme@1", "acme@1", ""},
		{"globex", "globex@1", ""},
		{"globex:live", "globex@1", ""},
		{"acm", "", `unknown target "acm": the fleet has acme, globex`},
		{"acme@7", "", `unknown release "acme@7": acme has acme@1, acme@2, acme@3`},
		{"acme:lost", "", `unknown release "acme@9": acme has acme@1, acme@2, acme@3`},
		{"acme:old", "", `unknown stream "old": acme has live, lost, next`},
		{"acme@x", "", `bad release name "acme@x": after @ comes the number of a release`},
		{"acme@01", "", `bad release name "acme@01": after @ comes the number of a release`},
		{"acme:", "", `bad stream name "": it is empty`},
		{"../acme", "", `bad target name "../acme": it begins with .`},
	} {
		ref, err := ParseRef(test.ref)
		var r Release
		if err == nil {
			r, err = f.Resolve(ref)
		}
		switch {
		case test.err == "" && (err != nil || r.String() != test.want):
			t.Errorf("%s: got %s, %v; want %s", test.ref, r, err, test.want)
		case test.err != "" && (err == nil || err.Error() != test.err):
			t.Errorf("%s: got error %v; want %s", test.ref, err, test.err)
		}
	}
}

func TestCheckName(t *testing.T) {
	for _, name := range []string{"acme", "a", "Acme-2.prod_x", "9lives", strings.Repeat("a", 63)} {
		if err := CheckName(name); err != nil {
			t.Error(err)
		}
	}
	for _, name := range []string{"", ".", "..", ".git", "-x", "_x", "a/b", "a b", "a@1", "a:b", "ä", "a\n", "blobs", "x.",
		strings.Repeat("a", 64)} {
		if err := CheckName(name); err == nil {
			t.Errorf("%q passed", name)
		}
	}
}

func TestTargets(t *testing.T) {
	f := testFleet(t)
	addRelease(t, f, "globex", "p=1")
	addRelease(t, f, "acme", "p=1")
	for _, dir := range []string{"docs", ".git", "blobs/sha256"} {
		if err := os.MkdirAll(filepath.Join(f.Dir(), dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := f.Targets(); err != nil || !slices.Equal(got, []string{"acme", "globex"}) {
		t.Errorf("got %v %v", got, err)
	}
}

func TestChangeTarget(t *testing.T) {
	f := testFleet(t)
	change := func(t *Target) { t.Title = "Acme"; t.Notes = map[string]string{"3": "before the upgrade"} }
	if err := f.ChangeTarget("acme", change); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(f.Dir(), "acme", "target.toml")
	before, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.ChangeTarget("acme", change); err != nil {
		t.Fatal(err)
	}
	if after, err := os.Stat(path); err != nil || !os.SameFile(before, after) {
		t.Errorf("a target that says the same was written again: %v", err)
	}
	if err := os.WriteFile(path, []byte("title = \"x\"\n[streams]\nlive = 1\n\n[strems]\nnext = 3\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	_, err = f.Target("acme")
	if err == nil || !strings.HasSuffix(err.Error(), `target.toml:5: unknown key "strems"`) {
		t.Errorf("got %v", err)
	}
}

func TestKeyLine(t *testing.T) {
	text := "a = 1\n[build]\ncommand = [\n  \"x\",\n]\nfecth = []\n[target.\"globex\"]\ntols = []\n[[archive]]\nurl = 1\n"
	for key, want := range map[string]int{"a": 1, "build.fecth": 6, "target.globex.tols": 8, "archive.url": 10, "build": 2, "none": 0} {
		if got := keyLine(text, strings.Split(key, ".")); got != want {
			t.Errorf("%s: got line %d, want %d", key, got, want)
		}
	}
}

func TestBytes(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 999: "999 B", 1000: "1.0 kB", 9949: "9.9 kB", 812332: "812 kB",
		999499: "999 kB", 999500: "1.0 MB", 1_850_000_000: "1.9 GB"} {
		if got := Bytes(n); got != want {
			t.Errorf("%d: got %s, want %s", n, got, want)
		}
	}
}

// Snapshot archives are those of fleet.toml, then those of the environment, each once.
func TestSnapshots(t *testing.T) {
	dir := t.TempDir()
	text := "snapshots = [\"https://snapshot.mirror.example/\"]\n\n[[archive]]\nuri = \"http://mirror.example/debian\"\nmirrors = []\n"
	if err := os.WriteFile(filepath.Join(dir, "fleet.toml"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := OpenFleet(dir)
	if err != nil {
		t.Fatal(err)
	}
	for variable, want := range map[string]string{
		"": "https://snapshot.mirror.example",
		"https://snapshot.mirror.example http://two.mirror.example/s": "https://snapshot.mirror.example http://two.mirror.example/s",
	} {
		t.Setenv("STEAD_SNAPSHOT_ARCHIVE", variable)
		got, err := f.Snapshots()
		if err != nil || strings.Join(got, " ") != want {
			t.Errorf("%q: got %v, %v", variable, got, err)
		}
	}
	t.Setenv("STEAD_SNAPSHOT_ARCHIVE", "snapshot.mirror.example")
	if got, err := f.Snapshots(); err == nil {
		t.Errorf("an address without a scheme gives %v", got)
	}
}

func TestForecastLines(t *testing.T) {
	f := Forecast{Nowhere: []string{"one"}, Snapshots: strings.Fields("a b c d e f g h i j k l")}
	got := strings.Join(f.Lines(), "\n")
	want := "1 package is in no archive, and lost with the fleet's blobs: one\n" +
		"12 packages are held by a snapshot archive alone: a, b, c, d, e, f, g, h, i, j and 2 more"
	if got != want {
		t.Errorf("got %s", got)
	}
}
