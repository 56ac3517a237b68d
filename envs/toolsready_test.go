package envs

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/stead-env/stead/envs/image"
	"github.com/stead-env/stead/envs/store"
	"github.com/stead-env/stead/snapshot"
)

// chosenRoot is the root of acme@1 and a store that has the layer of its tools.
func chosenRoot(t *testing.T, p *Project, f *Fleet) (Config, *Root, string) {
	t.Helper()
	rel, err := f.Resolve(Ref{Target: "acme", Number: 1})
	if err != nil {
		t.Fatal(err)
	}
	id, err := rel.Identity()
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{Store: testStore(t), Fleet: f}
	layer := LayerName(id, testTools().Tools())
	putItem(t, cfg.Store, store.Layers, layer)
	return cfg, &Root{Release: rel, Identity: id}, layer
}

const wishesOfAll = `tools = ["gcc", "make", "file:/bin/sh"]`

func TestReadyTools(t *testing.T) {
	p, f := toolsProject(t, "targets = [\"acme\"]\n"+wishesOfAll)
	cfg, root, layer := chosenRoot(t, p, f)
	added, err := p.ReadyTools(t.Context(), cfg, root, ToolsConfig{Locked: true})
	if err != nil || added.Layer == nil || added.Layer.Name != layer || len(added.Tools.Packages) != 3 {
		t.Fatalf("got %+v %v", added, err)
	}
	if free, _, err := unused(filepath.Dir(added.Layer.Path)); err != nil || free {
		t.Errorf("gc could have the layer: %v", err)
	}
	forged := *testTools().Tools()
	if forged.Digest = "tree1:" + digest.FromString("forged").String(); LayerName(root.Identity, &forged) == layer {
		t.Error("a layer stands for one of another digest")
	}
	added.Release()
	if free, release, err := unused(filepath.Dir(added.Layer.Path)); err != nil || !free {
		t.Errorf("gc can't have the layer: %v", err)
	} else {
		release()
	}
	if added, err := p.ReadyTools(t.Context(), cfg, root, ToolsConfig{Without: true}); err != nil || added.Layer != nil {
		t.Errorf("without: got %+v %v", added, err)
	}
	// A release beside stead.lock's: the store remembers what was chosen for it.
	other := &Root{Release: Release{Target: "acme", Number: 2}, Identity: digest.FromString("other")}
	var locked *LockedError
	if _, err := p.ReadyTools(t.Context(), cfg, other, ToolsConfig{Locked: true}); !errors.As(err, &locked) || !strings.Contains(err.Error(), "no tools for acme@2") {
		t.Errorf("got %v", err)
	}
	if err := p.rememberTools(cfg, other, testTools()); err != nil {
		t.Fatal(err)
	}
	putItem(t, cfg.Store, store.Layers, LayerName(other.Identity, testTools().Tools()))
	if added, err := p.ReadyTools(t.Context(), cfg, other, ToolsConfig{}); err != nil || added.Layer == nil {
		t.Errorf("got %+v %v", added, err)
	}
	// What the base has needs no layer, and a changed wish another answer.
	p.Config.Tools = []string{"gcc", "cmake"}
	if _, err := p.ReadyTools(t.Context(), cfg, root, ToolsConfig{Locked: true}); !errors.As(err, &locked) || !strings.Contains(err.Error(), "cmake") {
		t.Errorf("got %v", err)
	}
	p.Config.Tools = nil
	if added, err := p.ReadyTools(t.Context(), cfg, root, ToolsConfig{Locked: true}); err != nil || added.Layer != nil {
		t.Errorf("no wishes: got %+v %v", added, err)
	}
}

// What stead.lock tells of tools that are here already is held to what is known of them:
// no digest does that.
func TestForgedTools(t *testing.T) {
	p, f := toolsProject(t, "targets = [\"acme\"]\n"+wishesOfAll)
	cfg, root, layer := chosenRoot(t, p, f)
	text, err := encode(madeLayer{Release: root.Identity, Tools: *testTools().Tools()})
	if err == nil {
		err = os.WriteFile(filepath.Join(cfg.Store.Dir(), store.Layers, layer, madeFile), text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(p.Dir, ProjectLockFile)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ old, now, want string }{
		{"", "", ""},
		{"suite = \"bullseye\"", "suite = \"oldstable\"", ""}, // the same by another name
		{`"etc/ld.so.cache",`, `"etc/passwd",`, "shadows is with /etc/passwd there, and in truth without"},
		{`  "etc/ld.so.cache",` + "\n", "", "shadows is without /etc/ld.so.cache there"},
		{"size = 4096", "size = 1", "size of gcc is 1 there, and in truth 4096"},
		{"size = 1024", "size = 1", "delta is 1 bytes of 3 files there, and in truth 1024 bytes of 3 files"},
		{"http://mirror.example/debian", "file:///srv/debian", "uri of archive debian-bullseye is file:///srv/debian there, and in truth http://mirror.example"},
		{"2024-08-31", "2025-08-31", "date of archive debian-bullseye"},
		{`name = "gcc-10", version = "10.2.1-6"`, `name = "gcc-10", version = "10.2.1-7"`, "gcc-10 10.2.1-7 amd64 there, and in truth gcc-10 10.2.1-6 amd64"},
	} {
		forged := strings.Replace(string(whole), test.old, test.now, 1)
		if forged == string(whole) && test.old != test.now {
			t.Errorf("there is no %s", test.old)
		}
		if err := os.WriteFile(path, []byte(forged), 0o644); err != nil {
			t.Fatal(err)
		}
		added, err := p.ReadyTools(t.Context(), cfg, root, ToolsConfig{Locked: true})
		added.Release()
		var claim *ClaimError
		if test.want == "" && err != nil || test.want != "" && (!errors.As(err, &claim) || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%s: got %v, want %s", test.now, err, test.want)
		}
	}
	below := image.Below{Manifest: store.Manifest{{Path: "etc/ld.so.cache", Type: snapshot.Regular, Digest: "a"}, {Path: "etc/passwd", Type: snapshot.Regular}}}
	made := store.Manifest{{Path: "etc/ld.so.cache", Type: snapshot.Regular, Digest: "b"}, {Path: "var/lib/dpkg/info/gcc.list", Type: snapshot.Regular}}
	for want, shadows := range map[string][]string{"": {"etc/ld.so.cache"}, "without /etc/ld.so.cache there": nil, "with /x there": {"etc/ld.so.cache", "x"}} {
		err := (&Tools{Shadows: shadows}).checkShadows(root.Release, below, made)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v", shadows, err)
		}
	}
}

// Sessions go on with the tools that they were begun with.
func TestKeptTools(t *testing.T) {
	p, f := toolsProject(t, "targets = [\"acme\"]\n"+wishesOfAll)
	cfg, root, _ := chosenRoot(t, p, f)
	begin := func(name string, opts ToolsConfig) string {
		k, err := HoldKept(cfg.Store, name)
		if err != nil {
			t.Fatal(err)
		}
		added, note, err := k.Tools(t.Context(), cfg, root, p, opts)
		if err == nil {
			defer added.Release()
			err = k.Use(root.Release, "embedded", added)
		}
		if err := errors.Join(err, k.Close(true)); err != nil {
			t.Fatal(err)
		}
		return note
	}
	if note := begin("with", ToolsConfig{}); !strings.Contains(note, "with --no-tools another one can become a release") {
		t.Errorf("got %q", note)
	}
	if note := begin("without", ToolsConfig{Without: true}); note != "" {
		t.Errorf("got %q", note)
	}
	again := func(name string, opts ToolsConfig) (AddedTools, string, error) {
		k, err := HoldKept(cfg.Store, name)
		if err != nil {
			t.Fatal(err)
		}
		defer k.Close(true) //nolint:errcheck // it is only read
		added, note, err := k.Tools(t.Context(), cfg, root, p, opts)
		added.Release()
		return added, note, err
	}
	if added, note, err := again("with", ToolsConfig{}); err != nil || note != "" || added.Layer == nil {
		t.Errorf("got %+v %q %v", added, note, err)
	}
	if added, note, err := again("without", ToolsConfig{}); err != nil || !strings.Contains(note, "it was begun without") || added.Layer != nil {
		t.Errorf("got %+v %q %v", added, note, err)
	}
	_, _, err := again("with", ToolsConfig{Without: true})
	isKeptError(t, err, "begun with tools", "another name")
	p.Config.Tools = []string{"cmake"}
	if added, note, err := again("with", ToolsConfig{Locked: true}); err != nil || !strings.Contains(note, "the project has others by now") || added.Layer == nil {
		t.Errorf("got %+v %q %v", added, note, err)
	}
	k, err := ReadKept(cfg.Store, "with")
	if err != nil {
		t.Fatal(err)
	}
	_, err = k.Layers(t.Context(), cfg)
	isKeptError(t, errors.Join(err, k.Close(true)), "has a project's tools", "--no-tools")
	if err := os.WriteFile(filepath.Join(keptPath(cfg.Store, "with"), keptAdded), []byte("version = 2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := again("with", ToolsConfig{}); err == nil {
		t.Error("what is damaged was taken for no tools")
	}
}

// What a project needs that is worked with here stays.
func TestGCTools(t *testing.T) {
	p, f := toolsProject(t, "targets = [\"acme\"]\n"+wishesOfAll)
	cfg, root, layer := chosenRoot(t, p, f)
	putItem(t, cfg.Store, store.Layers, strings.Repeat("a", 64))
	putItem(t, cfg.Store, store.Trees, testTools().Packages[0].SHA256)
	gone := func(want ...int) {
		t.Helper()
		age(t, cfg.Store)
		done, err := GC(t.Context(), cfg, false)
		if err != nil || done.Layers != want[0] || done.Trees != want[1] {
			t.Errorf("got %+v %v, want %v", done, err, want)
		}
	}
	added, err := p.ReadyTools(t.Context(), cfg, root, ToolsConfig{})
	if err != nil {
		t.Fatal(err)
	}
	added.Release()
	gone(1, 0) // the stray one
	if _, ok := cfg.Store.Find(store.Layers, layer); !ok {
		t.Fatal("the project's own layer is gone")
	}
	if err := os.Remove(filepath.Join(p.Dir, ProjectLockFile)); err != nil {
		t.Fatal(err)
	}
	gone(1, 1)
}
