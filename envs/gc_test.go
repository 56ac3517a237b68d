package envs

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/stead-env/stead/envs/image"
	"github.com/stead-env/stead/envs/lock"
	"github.com/stead-env/stead/envs/store"
)

func putBlob(t *testing.T, s *store.Store, text string) digest.Digest {
	t.Helper()
	d := digest.FromString(text)
	if err := s.PutBlob(t.Context(), d, int64(len(text)), strings.NewReader(text)); err != nil {
		t.Fatal(err)
	}
	return d
}

// putItem makes a finished folder of the store by hand.
func putItem(t *testing.T, s *store.Store, kind, name string) {
	t.Helper()
	tree(t, filepath.Join(s.Dir(), kind, name), map[string]string{"manifest": "tree1\n", "root/f": "x"})
}

// age makes everything in the store old enough for gc.
func age(t *testing.T, s *store.Store) {
	t.Helper()
	old := time.Now().Add(-2 * young)
	for _, pattern := range []string{"roots/*", "layers/*", "trees/*", "blobs/sha256/*", "views/*"} {
		names, err := filepath.Glob(filepath.Join(s.Dir(), pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			if err := os.Chtimes(name, old, old); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestGC(t *testing.T) {
	s, f := testStore(t), testFleet(t)
	cfg := Config{Store: s, Fleet: f}
	delta, pkg := putBlob(t, s, "delta"), putBlob(t, s, "package")
	stray, sole := putBlob(t, s, "stray"), putBlob(t, s, "sole")
	if err := s.Sole(sole); err != nil {
		t.Fatal(err)
	}
	l := testLock("acme", 1)
	l.Delta.SHA256 = delta.Encoded()
	l.Packages = []lock.Package{{Name: "p", Version: "1", Architecture: "amd64", Size: 7, SHA256: pkg.Encoded(), Proof: lock.Repacked}}
	rel, _, err := f.AddRelease("acme", func(int, Release) ([]byte, error) { return l.Write(), nil })
	if err != nil {
		t.Fatal(err)
	}
	id, err := rel.Identity()
	if err != nil {
		t.Fatal(err)
	}
	held := strings.Repeat("b", 64)
	for _, name := range []string{RootName(id), strings.Repeat("a", 64), held} {
		putItem(t, s, store.Roots, name)
	}
	for _, name := range []string{image.TreeName(l.Packages[0]), strings.Repeat("c", 64)} {
		putItem(t, s, store.Trees, name)
	}
	// Everything is young: something may be about to use it.
	if done, err := GC(t.Context(), cfg, false); err != nil || !reflect.DeepEqual(done, Collected{Sessions: []string{}}) {
		t.Errorf("young: got %+v %v", done, err)
	}
	age(t, s)
	letGo, err := Hold(&Root{Path: filepath.Join(s.Dir(), store.Roots, held, "root")})
	if err != nil {
		t.Fatal(err)
	}
	want := Collected{Roots: 1, Trees: 1, Blobs: 1, Sole: 1, Sessions: []string{}}
	for _, dry := range []bool{true, false} {
		if done, err := GC(t.Context(), cfg, dry); err != nil || !reflect.DeepEqual(done, want) {
			t.Errorf("dry %v: got %+v %v", dry, done, err)
		}
	}
	letGo()
	if done, err := GC(t.Context(), cfg, false); err != nil || !reflect.DeepEqual(done, Collected{Roots: 1, Sole: 1, Sessions: []string{}}) {
		t.Errorf("let go: got %+v %v", done, err)
	}
	if s.HasBlob(stray) || !s.HasBlob(sole) || !s.HasBlob(delta) || !s.HasBlob(pkg) {
		t.Error("the wrong blobs are gone")
	}
	if _, ok := s.Find(store.Roots, RootName(id)); !ok {
		t.Error("a root that the fleet names is gone")
	}
	if err := Forget(cfg, sole); err != nil || s.HasBlob(sole) || s.IsSole(sole) {
		t.Errorf("it isn't forgotten: %v", err)
	}
	var missing *store.MissingError
	if err := Forget(cfg, sole); !errors.As(err, &missing) {
		t.Errorf("got %v", err)
	}
}

// A lock that can't be read may need anything.
func TestGCWithBrokenLock(t *testing.T) {
	s, f := testStore(t), testFleet(t)
	stray := putBlob(t, s, "stray")
	age(t, s)
	tree(t, f.Dir(), map[string]string{"acme/1.lock": "version = 99\n"})
	if _, err := GC(t.Context(), Config{Store: s, Fleet: f}, false); err == nil || !s.HasBlob(stray) {
		t.Errorf("got %v", err)
	}
}

func TestGCViews(t *testing.T) {
	s, project := testStore(t), filepath.Join(t.TempDir(), "app")
	tree(t, project, map[string]string{"a": "a"})
	_, release, err := OpenView(t.Context(), s, project, "acme")
	if err != nil {
		t.Fatal(err)
	}
	release()
	age(t, s)
	cfg := Config{Store: s, Fleet: testFleet(t)}
	if done, err := GC(t.Context(), cfg, false); err != nil || done.Views != 0 {
		t.Errorf("got %+v %v", done, err)
	}
	if err := os.RemoveAll(project); err != nil {
		t.Fatal(err)
	}
	if done, err := GC(t.Context(), cfg, false); err != nil || done.Views != 1 {
		t.Errorf("got %+v %v", done, err)
	}
}

func TestPush(t *testing.T) {
	s, f := testStore(t), testFleet(t)
	cfg := Config{Store: s, Fleet: f}
	l := testLock("acme", 1)
	l.Delta.SHA256 = putBlob(t, s, "delta").Encoded()
	manifest := putBlob(t, s, "manifest")
	l.Rootfs.Digest = "tree1:" + manifest.String()
	l.Packages = []lock.Package{{Name: "p", Version: "1", Architecture: "amd64", Size: 7,
		SHA256: putBlob(t, s, "package").Encoded(), Proof: lock.Repacked}}
	rel, _, err := f.AddRelease("acme", func(int, Release) ([]byte, error) { return l.Write(), nil })
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Sole(manifest); err != nil {
		t.Fatal(err)
	}
	for _, want := range []Pushed{{"acme@1", 3, 0, false}, {"acme@1", 0, 3, false}} {
		if got, err := Push(t.Context(), cfg, rel); err != nil || got != want {
			t.Errorf("got %+v %v, want %+v", got, err, want)
		}
	}
	if s.IsSole(manifest) {
		t.Error("what was pushed still counts as the only copy")
	}
}
