package envs

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/stead-env/stead/envs/store"
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
